"""Which field answers for a tensor."""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module

from torch import Tensor

from rankseg.fields.base import Field, Whole
from rankseg.fields.tensor import TensorField

COMPILED = {
    "numba": ("cpu", "numba_cpu", "NumbaField"),
    "triton": ("cuda", "triton_cuda", "TritonField"),
}
"""Backends in compiled passes: for which device, in which module, under which name."""


def field_for(values: Tensor, activation: str = "none", backend: str = "auto") -> Field:
    """Field of a backend; by default the fastest that serves the tensor, else plain torch.

    From probabilities all give the same numbers.

    Raises
    ------
    ImportError
        If the named backend cannot be imported.
    ValueError
        If it does not serve the tensor.
    """
    return _kind(values, backend)(values, activation)


def part_of(whole: Whole, values: Tensor, activation: str, backend: str) -> TensorField:
    """Field of a part of an image, for tallies. On a GPU plain torch makes them.

    Raises
    ------
    ImportError, ValueError
        As ``field_for``.
    """
    kind = _kind(values, backend)
    return (kind if values.device.type == "cpu" else TensorField)(values, activation, whole)


def _kind(values: Tensor, backend: str) -> type[TensorField]:
    if backend == "auto":
        kind = _fastest(values.device.type)
        return TensorField if kind.obstacle(values) else kind
    named = _named(backend)
    obstacle = named.obstacle(values)
    if obstacle:
        raise ValueError(f"backend={backend!r} {obstacle}; use backend='auto'")
    return named


@cache
def _fastest(device: str) -> type[TensorField]:
    """Field in compiled passes for a device; plain torch where there is none."""
    for backend, (serves, _, _) in COMPILED.items():
        if serves == device:
            try:
                return _named(backend)
            except ModuleNotFoundError:
                return TensorField
            except ImportError as error:
                reason = f"{error}: plain torch decides, more slowly"
                warnings.warn(reason, RuntimeWarning, stacklevel=2)
    return TensorField


def _named(backend: str) -> type[TensorField]:
    if backend == "torch":
        return TensorField
    _, module, name = COMPILED[backend]
    try:
        kind: type[TensorField] = getattr(import_module(f"rankseg.fields.{module}"), name)
    except ImportError as error:
        reason = f"backend={backend!r} needs {backend}, which cannot be imported ({error})"
        raise type(error)(reason) from error
    return kind
