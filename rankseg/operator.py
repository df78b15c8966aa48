"""The decision as an operator, for ``torch.compile``, ``torch.export`` and ``torch.func``.

Tracers cannot follow a search whose number of passes depends on the values; they need to know the
shapes and types of the results only. Settings travel as text, since operators take no objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from rankseg import validation
from rankseg.calibrator import Calibrator
from rankseg.result import Segmentation
from rankseg.solvers import Settings
from rankseg.valid_pixels import decision_for

# Of the modes that torch knows by name; others only watch.
_MODES = (
    torch._C._TorchDispatchModeKey.FAKE,
    torch._C._TorchDispatchModeKey.FUNCTIONAL,
    torch._C._TorchDispatchModeKey.PROXY,
)


def is_tracing(values: object) -> bool:
    """Whether what is called now is recorded or transformed, or the values are not there.

    That is so under a compiler, an exporter, ``torch.jit.trace``, the transforms of ``torch.func``
    (``vmap``, ``grad``), ``make_fx``, ``FakeTensorMode``, or for tensors that it made.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return True
    transformed = torch._C._are_functorch_transforms_active()
    return (
        transformed
        or isinstance(values, FakeTensor)
        or any(map(torch._C._get_dispatch_mode, _MODES))
    )


def as_text(settings: Settings) -> str:
    """Settings as the operators take them."""
    return json.dumps(asdict(settings))


def predict(values: Tensor, settings: str, valid_mask: Tensor | None = None) -> Tensor:
    """Masks or labels, as one node of a graph."""
    found: Tensor = _predict(values.detach(), settings, valid_mask)  # operators have no gradient
    return found


def solve(values: Tensor, settings: str, valid_mask: Tensor | None = None) -> Segmentation:
    """Masks or labels with their numbers, as one node of a graph."""
    return Segmentation(*_solve(values.detach(), settings, valid_mask))


# The schemas are written out: torch 2.4 reads none from annotations that are text.
_TAKEN = "(Tensor values, str settings, Tensor? valid_mask=None)"


@torch.library.custom_op("rankseg::predict", mutates_args=(), schema=f"{_TAKEN} -> Tensor")
def _predict(values: Tensor, settings: str, valid_mask: Tensor | None = None) -> Tensor:
    return decision_for(values, _settings(settings), valid_mask).prediction().contiguous()


@torch.library.custom_op("rankseg::solve", mutates_args=(), schema=f"{_TAKEN} -> Tensor[]")
def _solve(values: Tensor, settings: str, valid_mask: Tensor | None = None) -> list[Tensor]:
    found = decision_for(values, _settings(settings), valid_mask).segmentation()
    return [number.clone() for number in vars(found).values()]  # outputs may not share memory


@_predict.register_fake
def _(values: Tensor, settings: str, valid_mask: Tensor | None = None) -> Tensor:
    return _no_prediction(values, settings, valid_mask)


@_solve.register_fake
def _(values: Tensor, settings: str, valid_mask: Tensor | None = None) -> list[Tensor]:
    prediction = _no_prediction(values, settings, valid_mask)
    together = _settings(settings).aggregation == "dataset"
    images = 1 if together else values.shape[0]
    rows = (images, values.shape[1])
    kinds = (torch.float64, torch.float64, torch.int64, torch.bool, torch.bool)
    per_row = [values.new_empty(rows, dtype=kind) for kind in kinds]
    per_image = [values.new_empty(images, dtype=torch.float64) for _ in range(2)]
    return [prediction, *per_row, *per_image]


def _at(tensor: Tensor, dim: int | None, number: int) -> Tensor:
    return tensor if dim is None else tensor.select(dim, number)


def _batches(
    info: Any, in_dims: Any, values: Tensor, valid_mask: Tensor | None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Arguments of each call that ``vmap`` stands for: what is not mapped over goes into all."""
    by_values, _, by_mask = (*in_dims, None)[:3]
    for number in range(info.batch_size):
        yield (
            _at(values, by_values, number),
            None if valid_mask is None else _at(valid_mask, by_mask, number),
        )


def _map_predict(
    info: Any, in_dims: Any, values: Tensor, settings: str, valid_mask: Tensor | None = None
) -> tuple[Tensor, int]:
    batches = _batches(info, in_dims, values, valid_mask)
    return torch.stack([_predict(v, settings, m) for v, m in batches]), 0


def _map_solve(
    info: Any, in_dims: Any, values: Tensor, settings: str, valid_mask: Tensor | None = None
) -> tuple[list[Tensor], list[int]]:
    batches = _batches(info, in_dims, values, valid_mask)
    found = [
        torch.stack(n) for n in zip(*(_solve(v, settings, m) for v, m in batches), strict=True)
    ]
    return found, [0] * len(found)


if hasattr(torch.library, "register_vmap"):  # from torch 2.5 on
    _predict.register_vmap(_map_predict)
    _solve.register_vmap(_map_solve)


def _no_prediction(values: Tensor, settings: str, valid_mask: Tensor | None) -> Tensor:
    _refuse_onnx()
    given = _settings(settings)
    validation.pixels(values, given.activation)  # what is known without values
    if valid_mask is not None:
        validation.counted_pixels(valid_mask, values)
    if given.output_mode == "multilabel":
        return torch.empty(values.shape, dtype=torch.bool, device=values.device)
    shape = (values.shape[0], *values.shape[2:])
    return torch.empty(shape, dtype=torch.int64, device=values.device)


def _refuse_onnx() -> None:
    """Say what to export instead; the exporter would say that it knows no such operator."""
    if torch.onnx.is_in_onnx_export():
        raise RuntimeError(
            "ONNX has no operator for RankSEG's search: end the network in RankSEG(...).head(), "
            "which decides the same in a fixed number of plain operations (docs/deployment.md)"
        )


def _settings(text: str) -> Settings:
    given = {name: _tuples(value) for name, value in json.loads(text).items()}
    if given.get("calibrator"):
        given["calibrator"] = Calibrator(**given["calibrator"])
    return Settings(**given)


def _tuples(value: Any) -> Any:
    """JSON has lists only; settings are made of tuples."""
    if isinstance(value, dict):
        return {name: _tuples(entry) for name, entry in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
