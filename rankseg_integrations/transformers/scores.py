"""Full-size scores of one image after another, along the path that the official code takes.

Resizing logits and resizing probabilities differ, and families do one or the other, some after a
detour over a grid of their own. Each step here is the official one, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rankseg_integrations._common import parse_size, resize
from rankseg_integrations.transformers.families import Family, field, unwrapped

Size = tuple[int, ...]


def parse_sizes(target_sizes: Any, images: int) -> list[Size] | list[None]:
    """(height, width) of each image, from a list, tuple, tensor or array; None for none.

    Raises
    ------
    TypeError
        If a size holds something other than ints.
    ValueError
        If there is another number of sizes than images, or a size that is not two positive ints.
    """
    if target_sizes is None:
        return [None] * images
    try:
        number = len(target_sizes)
    except TypeError as error:
        raise TypeError(
            f"target_sizes must hold (height, width) of each image; got {target_sizes!r}"
        ) from error
    if number != images:
        raise ValueError(
            f"target_sizes must hold one (height, width) for each of {images} images; "
            f"got {number}: {target_sizes!r}"
        )
    return [_pair(index, size) for index, size in enumerate(target_sizes)]


def _pair(index: int, size: Any) -> Size:
    """(height, width) of one image."""
    wanted = f"target_sizes[{index}] must be (height, width) of image {index}, two positive ints"
    try:
        parsed = parse_size(size)
    except TypeError as error:
        raise TypeError(f"{wanted}; got {size!r}") from error
    except ValueError as error:
        raise ValueError(f"{wanted}; got {size!r}") from error
    if len(parsed) != 2:
        raise ValueError(f"{wanted}; got {size!r}")
    return parsed


def score_maps(
    outputs: Any, family: Family, processor: Any, target_sizes: Any, size: Any = None
) -> Iterator[Tensor]:
    """Scores of each image, (1, C, H, W), in at least float32; one at a time.

    Logits for 'dense' and 'prompt', probabilities for 'semantic', sums over the queries for
    'queries'.
    """
    if family.kind == "queries" and family.first_grid == "processor":
        patches = field(outputs, "patch_offsets")
        if patches is not None and len(patches):
            return _patched(outputs, family, processor, target_sizes, size)
    sizes = parse_sizes(target_sizes, len(field(outputs, family.masks)))
    return (
        _one_image(outputs, family, processor, index, wanted, size)
        for index, wanted in enumerate(sizes)
    )


def _one_image(
    outputs: Any, family: Family, processor: Any, index: int, wanted: Size | None, size: Any
) -> Tensor:
    if family.kind == "queries":
        sums = _sums(outputs, family, index, first_grid(family, processor, size))
        return resized(sums, wanted, family.antialias and by_torchvision(processor))
    logits = image_field(outputs, family.masks, index)
    if family.kind == "prompt":
        logits = logits[:, None]
    if family.kind == "semantic":
        # Resized weights may sum to 1 + 1e-7; clamping there moves no pixel over any cut.
        return resized(logits.sigmoid(), wanted).clamp(0, 1)
    return resized(logits, wanted)


def _sums(outputs: Any, family: Family, index: int, grid: Size | None) -> Tensor:
    """Sum over the queries of class probability times mask probability, (1, C, h, w)."""
    classes = image_field(outputs, family.classes, index).softmax(dim=-1)
    masks = resized(image_field(outputs, family.masks, index), grid).sigmoid()
    known = classes[..., :-1] if family.null_class else classes
    return torch.einsum("bqc,bqhw->bchw", known, masks)


def _patched(
    outputs: Any, family: Family, processor: Any, target_sizes: Any, size: Any
) -> Iterator[Tensor]:
    """EoMT's semantic models: a batch of patches, put together by their own processor."""
    offsets = [
        tuple(int(number) for number in offset) for offset in field(outputs, "patch_offsets")
    ]
    if len(offsets) != len(field(outputs, family.masks)):
        raise ValueError(
            f"patch_offsets must hold (image, start, end) of each of "
            f"{len(field(outputs, family.masks))} patches; got {len(offsets)}"
        )
    images = 1 + max(image for image, _, _ in offsets)
    if target_sizes is None:
        raise ValueError(
            "outputs in patches need target_sizes: the original (height, width) of each image "
            "says how its patches lie"
        )
    sizes = parse_sizes(target_sizes, images)
    grid = first_grid(family, processor, size)
    for image, wanted in enumerate(sizes):
        own = [place for place, offset in enumerate(offsets) if offset[0] == image]
        yield unwrapped(processor).merge_image_patches(
            torch.cat([_sums(outputs, family, place, grid) for place in own]),
            [(0, *offsets[place][1:]) for place in own],
            [wanted],
            _size(processor, size),
        )[0][None]


def first_grid(family: Family, processor: Any, size: Any = None) -> Size | None:
    """Grid that mask logits are resized to first."""
    if family.first_grid != "processor":
        return family.first_grid
    if processor is None:
        raise ValueError(
            f"{family.name} needs processor=: its size is the grid that masks are resized to first"
        )
    edges = _size(processor, size)
    return edges["shortest_edge"], edges["longest_edge"] or edges["shortest_edge"]


def _size(processor: Any, size: Any) -> Any:
    return unwrapped(processor).size if size is None else size


def image_field(outputs: Any, name: str, index: int) -> Tensor:
    """One image of a field, its batch axis kept, in at least float32; no NaN."""
    values: Tensor = field(outputs, name)[index : index + 1]
    if not _finite(values) and values.isnan().any():
        raise ValueError(
            f"{name} of image {index} holds NaN, {int(values.isnan().sum())} of {values.numel()} "
            "values: check the model's input and precision"
        )
    return values.to(torch.promote_types(values.dtype, torch.float32))


def resized(scores: Tensor, size: Size | None, antialias: bool = False) -> Tensor:
    """Bilinear, as the official code resizes; the scores themselves where nothing changes."""
    if size is None or tuple(scores.shape[2:]) == size:
        return scores
    if not antialias and not _finite(scores):  # a class ruled out: 0 times -inf is NaN
        return resize(scores, size)
    return F.interpolate(
        scores, size=size, mode="bilinear", align_corners=False, antialias=antialias
    )


def _finite(values: Tensor) -> bool:
    """Whether no value is infinite or NaN, in one pass: a sum keeps what is not finite.

    False also where finite values have a sum beyond their type: whoever asks looks closer then.
    """
    return bool(values.detach().sum().isfinite())


def by_torchvision(processor: Any) -> bool:
    """Whether a processor resizes with torchvision, as the default ones do."""
    own = unwrapped(processor)
    if own is None:
        return True
    return getattr(own, "backend", "") == "torchvision" or getattr(own, "is_fast", False)


def as_probs(sums: Tensor, rule: str) -> Tensor:
    """Sums over queries, which may exceed 1, in [0, 1]: the rules of `restore_semantic_probs`.

    ``'order'`` is for decisions that look at the order of a pixel's scores only: it divides by a
    power of two, which rounds nothing, so that ties stay ties and nothing else becomes one.
    Without gradients the sums are overwritten: at full size a second array is what costs.
    """
    if rule == "clip":
        return sums.clamp(max=1)
    if rule == "order":
        _, exponent = math.frexp(sums.max().item())
        divisor = torch.tensor(2.0 ** max(exponent, 0))
    else:
        total = sums.sum(dim=1, keepdim=True)
        divisor = total.clamp(min=1.0 if rule == "normalise" else torch.finfo(total.dtype).tiny)
    return sums / divisor if sums.requires_grad else sums.div_(divisor)
