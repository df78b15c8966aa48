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
    if prediction.dtype == torch.bool:
        real = truth.bool()
        if ignore_index is not None:
            valid = truth != ignore_index
            prediction, real = prediction & valid, real & valid
        masks = (prediction & real, prediction, real)
        both, found, there = (mask.flatten(2).sum(2) for mask in masks)
        return both, found + there
    # Pixels of each pair of classes, one count for all: "no class" stands behind the classes.
    side = classes + 1
    known = (prediction >= 0) & (prediction < classes)
    pairs = torch.where(known, prediction, classes)
    pairs += side * (truth if ignore_index is None else _renamed(truth, ignore_index, classes))
    pairs = pairs.flatten(1) + torch.arange(len(pairs), device=pairs.device).unsqueeze(1) * side**2
    table = torch.bincount(pairs.flatten(), minlength=len(pairs) * side**2)
    table = table.reshape(-1, side, side)[:, :classes]
    both = table.diagonal(dim1=1, dim2=2)[:, :classes]
    return both, table.sum(2) + table.sum(1)[:, :classes]


def _renamed(truth: Tensor, old: int, new: int) -> Tensor:
    return torch.where(truth == old, new, truth)
