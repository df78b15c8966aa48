"""Which field answers for a tensor."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.util import find_spec

from torch import Tensor

from rankseg.fields.base import Field
from rankseg.fields.tensor import TensorField


def field_for(values: Tensor, activation: str = "none") -> Field:
    """Fastest field that serves the tensor; from probabilities all give the same numbers."""
    kind = _compiled(values.device.type)
    return kind(values, activation) if kind.serves(values) else TensorField(values, activation)


@cache
def _compiled(device: str) -> type[TensorField]:
    """Field in compiled passes for a device; plain torch where there is none."""
    if device != "cpu" or find_spec("numba") is None:
        return TensorField
    try:
        from rankseg.fields.numba_cpu import NumbaField
    except ImportError as error:
        reason = f"numba cannot be imported ({error}): plain torch decides, more slowly"
        warnings.warn(reason, RuntimeWarning, stacklevel=2)
        return TensorField
    return NumbaField
