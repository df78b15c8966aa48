"""What every adapter needs: activation, resizing, and a plain error for a missing guest."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from rankseg._require import require
from rankseg.validation import (
    FLOAT_DTYPES,
    choice,
    each_tile,
    integer,
    not_dense,
    unusual,
    yes_or_no,
)
from rankseg.validation import tiles as check_tiles

__all__ = [
    "Activation",
    "activate",
    "check_activation",
    "check_tensor",
    "check_tiles",
    "choice",
    "describe",
    "each_image_alone",
    "each_tile",
    "integer",
    "parse_size",
    "require",
    "resize",
    "yes_or_no",
]

Activation = Literal["none", "softmax", "sigmoid"]

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}

# Weights that should be zero are rounded to 3e-5 at most in rows of 3,000 pixels (measured).
_NO_WEIGHT = 1e-4


def check_activation(activation: str) -> str:
    """Return the activation spelled in lower case; raise, listing the choices, if unknown."""
    return choice("activation", activation, get_args(Activation))


def each_image_alone(options: Mapping[str, Any]) -> None:
    """Refuse a metric over a data set, where an adapter decides one image at a time."""
    if str(options.get("aggregation", "image")).lower() == "dataset":
        raise ValueError(
            "aggregation='dataset' needs all images together, and here they are decided one at a "
            "time: find one rule with RankSEG(...).decide(probs of all images), and apply it"
        )


def check_tensor(name: str, tensor: Tensor) -> None:
    """Refuse what neither resizing nor an activation can take, before either is tried.

    Parameters
    ----------
    name : str
        What the message calls the tensor: ``'logits'`` or ``'probs'``.
    tensor : Tensor, shape (B, C, *spatial)
        Dense, float16, bfloat16, float32 or float64; only the batch may be empty.

    Raises
    ------
    TypeError
        If the tensor is sparse, quantized, without values (meta), or not floating-point.
    ValueError
        If the class axis or a spatial axis is empty.
    """
    kind = "" if torch.compiler.is_compiling() else unusual(tensor)  # compilers have no values
    if kind:
        raise TypeError(not_dense(name, kind))
    if tensor.dtype not in FLOAT_DTYPES:
        floats = ", ".join(_plain(dtype) for dtype in FLOAT_DTYPES)
        raise TypeError(
            f"{name} must be one of {floats}; got {_plain(tensor.dtype)}: "
            "pass what the network computed, not labels or 8-bit values"
        )
    if 0 in tensor.shape[1:]:
        raise ValueError(
            f"{name} must have no empty class or spatial axis; got shape {tuple(tensor.shape)}"
        )


def activate(logits: Tensor, activation: str) -> Tensor:
    """Probabilities of a network's logits.

    Half precision is widened first: float16 and bfloat16 would merge the values near 0 and 1
    that a threshold has to tell apart. With ``'none'`` the tensor is returned as it is.

    Parameters
    ----------
    logits : Tensor, shape (B, C, *spatial), floating-point
        Or probabilities, with ``activation='none'``.
    activation : {'none', 'softmax', 'sigmoid'}
        ``'softmax'`` over the classes, ``'sigmoid'`` for each class on its own.

    Returns
    -------
    Tensor, shape (B, C, *spatial)
        float32, or float64 where the logits are.

    Raises
    ------
    ValueError
        If a softmax is asked of a single channel, where it is 1 everywhere.
    """
    if activation == "none":
        return logits
    if activation == "sigmoid":
        return torch.sigmoid(_widen(logits))
    if logits.shape[1] == 1:
        raise ValueError("softmax over one channel is 1 everywhere; use activation='sigmoid'")
    return torch.softmax(_widen(logits), dim=1)


def parse_size(size: Sequence[int]) -> tuple[int, ...]:
    """Return `size` as a tuple of positive ints, one a spatial axis, e.g. (H, W)."""
    try:
        parsed = tuple(_length(value) for value in size)
    except TypeError as error:
        raise TypeError(f"size must be a sequence of ints such as (H, W), got {size!r}") from error
    if not parsed or min(parsed) < 1:
        raise ValueError(f"size must hold a positive int for each spatial axis, got {size!r}")
    return parsed


def resize(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """Logits on another grid: linear, bilinear or trilinear, ``align_corners=False``.

    An infinite logit, such as the -inf of a class ruled out, is taken at its word: each new pixel
    it contributes to is infinite as well, and the other pixels are as if it were not there.

    Parameters
    ----------
    logits : Tensor, shape (B, C, *spatial), floating-point
        One to three spatial axes. Resizing probabilities instead is another rule.
    size : tuple of int
        The spatial shape wanted.

    Returns
    -------
    Tensor, shape (B, C, *size)
        The same tensor if it has that size already; otherwise at least float32. NaN where the
        logits around are NaN, or infinite with both signs.

    Raises
    ------
    ValueError
        If `size` has another number of axes than the logits, or there are more than three.
    """
    spatial = tuple(logits.shape[2:])
    if len(size) != len(spatial) or len(size) not in _MODES:
        raise ValueError(
            f"cannot resize spatial shape {spatial} to {size}: "
            "both need the same number of axes, one to three"
        )
    if spatial == size:
        return logits
    wide = _widen(logits)
    return _resize_infinite(wide, size) if wide.numel() else _interpolate(wide, size)


def _resize_infinite(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize the finite part, then write the infinities: their product with weight 0 is NaN."""
    resized = _resize_finite(logits.nan_to_num(nan=math.nan, posinf=0.0, neginf=0.0), size)
    for infinity in (-math.inf, math.inf):
        here = logits == infinity
        if torch.compiler.is_compiling() or here.any():  # a compiler cannot look
            near = _interpolate(here.to(logits.dtype), size) > _NO_WEIGHT
            resized = torch.where(near, resized + infinity, resized)
    return resized


def _resize_finite(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize within the range of the values; a NaN stays in its class and neighbourhood."""
    low, high = logits.nan_to_num(nan=0.0).aminmax()
    # Weights that sum to 1 + 1e-7 push an interpolated probability of 1 out of range.
    return _interpolate(logits, size).clamp_(low, high)


def _interpolate(values: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(values, size=size, mode=_MODES[len(size)], align_corners=False)


def _widen(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def describe(value: Any) -> str:
    """Name a type and what is inside, one level deep: ``dict(loss: Tensor())``."""
    name = type(value).__name__
    if isinstance(value, Tensor):
        return f"{name}{tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"{name}({', '.join(f'{key}: {_brief(entry)}' for key, entry in value.items())})"
    if isinstance(value, (tuple, list)):
        return f"{name}({', '.join(_brief(entry) for entry in value)})"
    return name


def _brief(value: Any) -> str:
    return describe(value) if isinstance(value, Tensor) else type(value).__name__


def _length(value: object) -> int:
    """Return an int of any kind, but True and False, which Python counts as ints too."""
    if isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        raise TypeError(f"expected an int, got {value!r}")
    return operator.index(value)  # type: ignore[arg-type]  # raises TypeError for what is no int


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
