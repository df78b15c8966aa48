"""What every adapter needs: activation, resizing, and a plain error for a missing guest."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from rankseg._require import require
from rankseg.validation import choice

__all__ = ["Activation", "activate", "check_activation", "parse_size", "require", "resize"]

Activation = Literal["none", "softmax", "sigmoid"]

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def check_activation(activation: str) -> str:
    """Return the activation spelled in lower case; raise, listing the choices, if unknown."""
    return choice("activation", activation, get_args(Activation))


def activate(scores: Tensor, activation: str) -> Tensor:
    """Probabilities of what a network returned.

    Half precision is widened first: float16 and bfloat16 would merge the values near 0 and 1
    that a threshold has to tell apart. With ``'none'`` the tensor is returned as it is.

    Parameters
    ----------
    scores : Tensor, shape (B, C, *spatial)
        Logits, or probabilities with ``activation='none'``.
    activation : {'none', 'softmax', 'sigmoid'}
        ``'softmax'`` over the classes, ``'sigmoid'`` for each class on its own.

    Returns
    -------
    Tensor, shape (B, C, *spatial)
        float32, or float64 where the scores are.

    Raises
    ------
    TypeError
        If an activation is asked of integers or booleans.
    ValueError
        If a softmax is asked of a single channel, where it is 1 everywhere.
    """
    if activation == "none":
        return scores
    if not scores.is_floating_point():
        raise TypeError(f"{activation} needs floating-point logits, got {scores.dtype}")
    if activation == "sigmoid":
        return torch.sigmoid(_widen(scores))
    if scores.shape[1] == 1:
        raise ValueError("softmax over one channel is 1 everywhere; use activation='sigmoid'")
    return torch.softmax(_widen(scores), dim=1)


def parse_size(size: Sequence[int]) -> tuple[int, ...]:
    """Return `size` as a tuple of positive ints, one a spatial axis, e.g. (H, W)."""
    try:
        parsed = tuple(operator.index(length) for length in size)
    except TypeError as error:
        raise TypeError(f"size must be a sequence of ints such as (H, W), got {size!r}") from error
    if not parsed or min(parsed) < 1:
        raise ValueError(f"size must hold a positive int for each spatial axis, got {size!r}")
    return parsed


def resize(scores: Tensor, size: tuple[int, ...]) -> Tensor:
    """Scores on another grid: linear, bilinear or trilinear, ``align_corners=False``.

    Parameters
    ----------
    scores : Tensor, shape (B, C, *spatial)
        One to three spatial axes. Give logits: resizing probabilities is another rule.
    size : tuple of int
        The spatial shape wanted.

    Returns
    -------
    Tensor, shape (B, C, *size)
        The same tensor if it has that size already; otherwise at least float32.

    Raises
    ------
    ValueError
        If `size` has another number of axes than the scores, or there are more than three.
    """
    spatial = tuple(scores.shape[2:])
    if len(size) != len(spatial) or len(size) not in _MODES:
        raise ValueError(
            f"cannot resize scores of spatial shape {spatial} to {size}: "
            "both need the same number of axes, one to three"
        )
    if spatial == size:
        return scores
    wide = _widen(scores)
    resized = F.interpolate(wide, size=size, mode=_MODES[len(size)], align_corners=False)
    if not scores.numel():
        return resized
    # Weights that sum to 1 + 1e-7 push an interpolated probability of 1 out of range.
    return resized.clamp_(*torch.aminmax(wide))


def _widen(scores: Tensor) -> Tensor:
    return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
