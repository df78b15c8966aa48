"""Tiles, and what can be decided on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from rankseg.validation.choices import listed
from rankseg.validation.tensors import pixel_tensor


def tiles(tiles: object, once: bool) -> None:
    """Refuse what is no tiles, or gives them once where each visit starts from the beginning."""
    iterable = hasattr(tiles, "__iter__") or (
        hasattr(tiles, "__getitem__") and hasattr(tiles, "__len__")
    )
    if isinstance(tiles, (str, bytes, Mapping, type)) or not iterable:
        raise TypeError(
            "decide takes a tensor of shape (B, C, *spatial), or tiles: a list or another iterable "
            f"of such tensors; got {type(tiles).__name__}"
            + (": call it in the __iter__ of a small class" if callable(tiles) else "")
        )
    if isinstance(tiles, Iterator) and not once:
        raise TypeError(
            f"tiles are visited several times, and a {type(tiles).__name__} gives them once: pass "
            "a list, a DataLoader, or an object whose __iter__ starts anew"
        )


def each_tile(tiles: Any) -> Iterable[Tensor]:
    """Tiles one after the other; a data set in the style of torch has a length and no iterator."""
    if hasattr(tiles, "__iter__"):
        checked: Iterable[Tensor] = tiles
        return checked
    return map(tiles.__getitem__, range(len(tiles)))


def tile(values: object, activation: str) -> Tensor:
    """Check one tile as ``pixel_tensor`` does; says how to get at it in what a loader gives."""
    if isinstance(values, (tuple, list, Mapping)):
        raise TypeError(
            f"each tile must be a torch.Tensor of shape (B, C, *spatial); got a "
            f"{type(values).__name__}: give the probabilities alone, without labels or names"
        )
    return pixel_tensor(values, activation)


def some_pixels(number: int) -> None:
    """Refuse tiles, or a batch that is one image, without a pixel."""
    if not number:
        raise ValueError("there are no pixels to decide on")


def tiles_are_served(solver: str, metric: str, empty: float | str) -> None:
    """Refuse solvers that need all pixels of a class at once; accuracy needs one."""
    possible = ("RMA", "coupled", "argmax", "TR")
    if metric != "acc" and solver not in possible:
        raise ValueError(
            f"solver={solver!r} needs all pixels of a class in memory at once; possible for tiles "
            f"and data sets: {listed(possible)}"
        )
    if empty != 0:
        raise ValueError(
            f"empty={empty!r} needs the probability that a class is absent, for which all its "
            "pixels must be in memory at once; tiles and data sets take empty=0"
        )


def one_pass_is_enough(solver: str, output_mode: str, one_ratio: bool) -> None:
    """Refuse what one visit of the pixels cannot decide."""
    if output_mode != "multilabel":
        raise ValueError(
            "one_pass=True decides masks: labels take a second visit, for pixels that several "
            "classes claim; say output_mode='multilabel', or leave one_pass out"
        )
    if solver != "RMA" or not one_ratio:
        raise ValueError(
            "one_pass=True serves solver='RMA' with metric 'dice' or 'fbeta' without smoothing, "
            "'iou' or 'tversky'; leave one_pass out for the others"
        )
