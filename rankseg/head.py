"""What ends a network in plain tensor operations: how it reads logits, and where numbers live."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NoReturn, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankseg import validation
from rankseg.calibrator import Calibrator, softmax_of_possible

Self = TypeVar("Self", bound="Head")


class Head(nn.Module):
    """Last layer of a network: its numbers are no part of the checkpoint and stay in float64."""

    def __init__(self, activation: str, calibrator: Calibrator | None) -> None:
        super().__init__()
        if calibrator is not None and calibrator.kind == "isotonic":
            raise ValueError(
                "isotonic calibration is a table, which no head holds: fit 'temperature' or "
                "'vector', or apply the calibrator before the head"
            )
        self.activation = activation
        self.calibrator = calibrator.kind if calibrator else None
        self.calibrated_classes = calibrator.classes if calibrator else None
        self.line: Tensor
        line = (calibrator.slope, calibrator.offset) if calibrator else ((), ())
        self.keep("line", torch.tensor(line, dtype=torch.float64))

    def keep(self, name: str, number: Tensor) -> None:
        """Hold numbers that move with the network."""
        self.register_buffer(name, number, persistent=False)

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow the network to a device, not to half precision: rounded numbers move pixels."""

        def move(number: Tensor) -> Tensor:
            return number.to(fn(number).device)

        super()._apply(move, recurse)  # type: ignore[no-untyped-call]
        return self

    def __prepare_scriptable__(self) -> NoReturn:
        """Called by ``torch.jit.script``."""
        validation.refuse_script(self)

    def probabilities(self, values: Tensor) -> Tensor:
        """What the decision is made on; in at least float32 where something is computed."""
        if self.calibrated_classes is not None:
            validation.number_of_classes(values.shape[1], self.calibrated_classes, "the calibrator")
            return self._calibrated(values.to(wide(values)).double())
        if self.activation == "softmax":
            return values.to(wide(values)).softmax(1)
        if self.activation == "sigmoid":
            return values.to(wide(values)).sigmoid()
        return values

    def _calibrated(self, values: Tensor) -> Tensor:
        column = (1, -1, *(1 for _ in values.shape[2:]))
        slope, offset = (numbers.reshape(column) for numbers in self.line.unbind())
        if self.calibrator == "softmax":
            log = _log(values, self.activation)
            return softmax_of_possible(log * slope + offset, log == -math.inf)
        if self.activation != "sigmoid":
            probs = values.softmax(1) if self.activation == "softmax" else values
            values = probs.log() - (1 - probs).log()  # infinite stays so: slopes are above 0
        return torch.sigmoid(values * slope + offset)


def wide(values: Tensor) -> torch.dtype:
    """Type in which logits become probabilities."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _log(values: Tensor, activation: str) -> Tensor:
    if activation == "none":
        return values.log()
    return values.log_softmax(1) if activation == "softmax" else F.logsigmoid(values)
