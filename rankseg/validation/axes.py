"""Which axis is the classes': softmax output betrays it, because it sums to 1 along that one."""

from __future__ import annotations

import torch
from torch import Tensor

from rankseg.validation.notices import notice

MANY = 32
"""Classes from which on a batch is looked at: more are as probably rows of a volume."""

ENOUGH = 16
"""Pixels that tell: fewer sum to 1 by chance, or were made up for a test."""

WIDE, NARROW = 16, 6
"""Places looked at along one axis, and along each of several."""


def classes_lie_along(values: Tensor, axis: int) -> bool:
    """Whether values sum to 1 along an axis and not along the second, at places all over.

    Pixels that are all alike tell nothing: so are those of an image of ones and one of zeros.
    """
    if not values.numel() or values.shape[axis] == 1:  # ones along it are no sign
        return False
    pixels = _pixels(values, axis)
    if pixels.shape[1] < ENOUGH or bool((pixels == pixels[:, :1]).all()):
        return False
    return _ones(pixels) and not _ones(_pixels(values, 1))


def _pixels(values: Tensor, axis: int) -> Tensor:
    """Numbers along the axis of some pixels, (length, pixels).

    These are far apart: neighbours are alike at a border, and where maps were enlarged.
    """
    others = [other for other in range(values.ndim) if other != axis % values.ndim]
    most = WIDE if len(others) < 3 else NARROW
    for other in others:
        length = values.shape[other]
        places = torch.linspace(0, length - 1, min(length, most), device=values.device)
        values = values.index_select(other, places.round().long())
    return values.movedim(axis, 0).flatten(1).double()


def _ones(pixels: Tensor) -> bool:
    return bool(((pixels.sum(0) - 1).abs() < 1e-2).all())  # float16 sums of 100 classes


def classes_axis(probs: Tensor) -> None:
    """Warn where probabilities of a suspicious shape sum to 1 along another axis than the classes'.

    Suspicious are shapes of one image without its batch axis (three axes, or a great many classes)
    and those whose last axis is shorter than the classes'. Others cost nothing here.
    """
    batch, classes = probs.shape[:2]
    if batch > 1 and (probs.ndim == 3 or classes > MANY) and classes_lie_along(probs, 0):
        _not_the_classes(0, probs.shape[0], "for one image (C, *spatial) pass probs[None]")
    elif probs.shape[-1] < classes and classes_lie_along(probs, -1):
        image = "; one image (H, W, C) is probs.movedim(-1, 0)[None]" if probs.ndim == 3 else ""
        last = f"for channels-last images pass probs.movedim(-1, 1){image}"
        _not_the_classes(probs.ndim - 1, probs.shape[-1], last)


def _not_the_classes(axis: int, length: int, advice: str) -> None:
    notice(
        f"probs sum to 1 along axis {axis}, of length {length}, and not along axis 1, which is "
        f"read as the classes': {advice}"
    )
