"""What ends a network in plain tensor operations, and how it reads logits."""

from __future__ import annotations

import math
from typing import NoReturn

import torch
from torch import Tensor, nn

from rankseg import validation
from rankseg.calibrator import Calibrator, line, log_probability, softmax_of_possible


class Head(nn.Module):
    """Last layer of a network.

    Its numbers are Python's: no part of the checkpoint, in float64 whatever the network is in, and
    wherever the pixels are, which may be nowhere (meta, fake).
    """

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
        self.line = (calibrator.slope, calibrator.offset) if calibrator else ((), ())

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
        if self.calibrator == "softmax":
            log = log_probability(values, self.activation)
            return softmax_of_possible(line(log, *self.line), log == -math.inf)
        if self.activation != "sigmoid":
            probs = values.softmax(1) if self.activation == "softmax" else values
            values = probs.log() - (1 - probs).log()  # infinite stays so: slopes are above 0
        return torch.sigmoid(line(values, *self.line))


def float64(numbers: object, like: Tensor) -> Tensor:
    """Numbers on the device of a tensor."""
    return torch.tensor(numbers, dtype=torch.float64, device=like.device)


def wide(values: Tensor) -> torch.dtype:
    """Type in which logits become probabilities."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32
