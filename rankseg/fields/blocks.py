"""Walk (B, C, n) pixels in blocks of bounded size, leaving out rows that need no visit."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

BLOCK = 1 << 18
"""Elements in a block: 2 MiB of int64. Smaller ones cost calls, larger ones miss the cache."""

Classes = slice | Tensor


def spans(length: int, step: int) -> Iterator[slice]:
    """Slices of at most ``step`` that cover ``range(length)`` in order."""
    step = max(1, step)
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def row_blocks(shape: tuple[int, int, int], live: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Blocks of whole rows, or of pieces of one row; those without a live row are skipped.

    ``live`` is bool (B, C) on the CPU. A row's pieces come in order, the first starting at 0.
    """
    batch, classes, pixels = shape
    images = BLOCK // (classes * pixels)
    for b in spans(batch, images):
        for c in spans(classes, classes if images else BLOCK // pixels):
            if live[b, c].any():
                for p in spans(pixels, BLOCK):
                    yield b, c, p


def pixel_blocks(
    shape: tuple[int, int, int], live: Tensor
) -> Iterator[tuple[slice, Classes, slice]]:
    """Blocks that hold every live class of their pixels.

    Several small images come together with all classes; a large image comes with its live classes
    only, and not at all when there is none.
    """
    batch, classes, pixels = shape
    for b in spans(batch, BLOCK // (classes * pixels)):
        chosen: Classes = slice(None)
        count = classes
        if b.stop - b.start == 1 and not bool(live[b].all()):
            chosen = live[b.start].nonzero().flatten()
            count = chosen.numel()
        if count:
            for p in spans(pixels, BLOCK // count):
                yield b, chosen, p
