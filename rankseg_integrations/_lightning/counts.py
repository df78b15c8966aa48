"""Where predictions and truth overlap, counted for each image and class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def checked_truth(
    truth: Any, prediction: Tensor, classes: int, ignore_index: int | None, where: str
) -> Tensor:
    """Return the target as int64 in the shape of the prediction, on its device.

    Parameters
    ----------
    truth : Tensor
        For labels (B, *spatial) or (B, 1, *spatial), classes; for masks (B, C, *spatial), or
        (B, *spatial) if there is one, 0 and 1. Of any type.
    prediction : Tensor
        Labels int64 (B, *spatial) or masks bool (B, C, *spatial).
    classes : int
        C.
    ignore_index : int or None
        Value that is no class.
    where : str
        For messages.

    Raises
    ------
    TypeError, ValueError
        If it is no tensor, has another shape, or holds other values; these are said.
    """
    if not isinstance(truth, Tensor):
        raise TypeError(f"{where}: the target must be a tensor; got {type(truth).__name__}")
    shapes = _shapes(prediction)
    if tuple(truth.shape) not in shapes:
        raise ValueError(
            f"{where}: the target must have shape {' or '.join(map(str, shapes))}, as the "
            f"{'masks' if prediction.dtype == torch.bool else 'labels'} have; got "
            f"{tuple(truth.shape)}"
        )
    given = truth.detach().reshape(prediction.shape).to(prediction.device)
    integers = given.to(torch.int64)
    limit = 2 if prediction.dtype == torch.bool else classes
    wrong = (integers < 0) | (integers >= limit)
    if ignore_index is not None:
        wrong &= integers != ignore_index
    wrong |= integers != given  # fractions, NaN
    if wrong.any():
        values = ", ".join(map(str, sorted(set(given[wrong].tolist()))[:5]))
        also = "" if ignore_index is None else f" or ignore_index={ignore_index}"
        raise ValueError(
            f"{where}: the target must hold integers from 0 to {limit - 1}{also}; got {values}: "
            "give a value that is no class as ignore_index=..."
        )
    return integers


def _shapes(prediction: Tensor) -> list[tuple[int, ...]]:
    batch, *rest = prediction.shape
    if prediction.dtype != torch.bool:
        return [(batch, *rest), (batch, 1, *rest)]
    return [(batch, *rest), (batch, *rest[1:])] if rest[0] == 1 else [(batch, *rest)]


def counted(
    prediction: Tensor, truth: Tensor, classes: int, ignore_index: int | None
) -> tuple[Tensor, Tensor]:
    """Pixels in both, and pixels of the one plus pixels of the other, each int64 (B, C).

    Pixels whose truth is `ignore_index` are in neither; labels that are no class are in no class.
    """
    valid = torch.ones_like(truth, dtype=torch.bool)
    if ignore_index is not None:
        valid = truth != ignore_index
    if prediction.dtype == torch.bool:
        found, real = prediction & valid, truth.bool() & valid
        both, one, other = (mask.flatten(2).sum(2) for mask in (found & real, found, real))
        return both, one + other
    known = (prediction >= 0) & (prediction < classes)
    both = _by_class(truth, valid & (prediction == truth), classes)
    return both, _by_class(truth, valid, classes) + _by_class(prediction, valid & known, classes)


def _by_class(labels: Tensor, where: Tensor, classes: int) -> Tensor:
    """Pixels of each image (B) and class (C), among those chosen."""
    size = len(labels)
    first = torch.arange(size, device=labels.device).reshape(-1, 1) * classes
    bins = (labels.flatten(1) + first)[where.flatten(1)]
    return torch.bincount(bins, minlength=size * classes).reshape(size, classes)
