"""RankSEG as a fixed number of plain tensor operations, which run without this package.

A decision asks a field (``decision.py``); here the field is a graph (``fields/static.py``), and the
few steps that look at values before they go on are replaced by ones that do not.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from rankseg import assignment, validation
from rankseg.cached import cached_property
from rankseg.decision import Decision, check_classes
from rankseg.fields import Field, LabelRule
from rankseg.fields.static import StaticField
from rankseg.head import Head, wide
from rankseg.objectives import FBeta
from rankseg.solvers import Settings, absence, rma
from rankseg.solvers.rows import Rows

PASSES = 8
"""Enough for all but rows of less than a pixel's expected volume; docs/deployment.md."""


class UnrolledHead(Head):
    """Last layer of a network that decides each image as ``RankSEG`` does; made by its ``head``.

    Plain tensor operations in float64, no loop or branch that depends on values, and no check of
    them: ``torch.export`` and ONNX take it, and what they save runs without this package.
    """

    def __init__(self, settings: Settings, passes: int) -> None:
        validation.can_be_unrolled(
            settings.solver, settings.metric, settings.aggregation, settings.backend
        )
        numbers = {"smooth": settings.smooth, **settings.metric_parameters}
        for name, number in numbers.items():
            validation.graph_number(name, number)
        for weight in settings.class_weights or ():
            validation.graph_number("class_weights", weight)
        super().__init__(settings.activation, settings.calibrator)
        self.passes = validation.at_least_one("passes", passes)
        self._settings = settings

    def forward(self, values: Tensor, valid_mask: Tensor | None = None) -> Tensor:
        """Labels int64 (B, *spatial) or masks bool (B, C, *spatial).

        Takes what ``RankSEG.predict`` takes. Values are not looked at: where one is NaN or no
        probability, its image's result means nothing.
        """
        pixels = validation.pixels(values, self.activation).detach()
        check_classes(self._settings, pixels.shape[1])
        if valid_mask is None:
            return self._decide(pixels, None)
        counts = validation.counted_pixels(valid_mask, pixels)
        prediction = self._decide(pixels, counts)
        if self._settings.output_mode == "multilabel":
            return prediction
        return torch.where(counts, prediction, self._settings.parameter("ignore_index"))

    def _decide(self, values: Tensor, counts: Tensor | None) -> Tensor:
        raw = self.activation == "none" and self.calibrator is None
        kind = values.dtype if raw else wide(values)
        field = StaticField(self.probabilities(values), kind, self.passes, counts)
        return Unrolled(self._settings, cast(Field, field)).prediction()

    def extra_repr(self) -> str:
        """What is decided, in how many passes."""
        return f"passes={self.passes}, {self._settings}"


class Unrolled(Decision):
    """A decision whose steps do not depend on values."""

    def _best_rows(self, active: Tensor) -> Rows:
        if isinstance(self.objective, FBeta) and self.objective.smooth > 0:
            return rma.smoothed_in_rounds(self.field, self.objective, active)
        return super()._best_rows(active)

    def _climb(self, start: LabelRule) -> LabelRule:
        return assignment.ascent(self.field, self._counted, start, may_stop=False)

    @cached_property
    def _log_absent(self) -> Tensor:
        return absence.log_probability_at_once(cast(StaticField, self.field).probs)
