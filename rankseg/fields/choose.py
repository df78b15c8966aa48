"""Which field answers for a tensor."""

from __future__ import annotations

import importlib.util
from functools import cache

from torch import Tensor

from rankseg.fields.base import Field
from rankseg.fields.tensor import TensorField


def field_for(probs: Tensor) -> Field:
    """Fastest field that serves the tensor; all give the same numbers."""
    if probs.device.type == "cpu" and _installed("numba"):
        from rankseg.fields.numba_cpu import NumbaField

        if NumbaField.serves(probs):
            return NumbaField(probs)
    return TensorField(probs)


@cache
def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
