"""From a field and a configuration to a prediction: decide per class, form labels, report."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from rankseg import assignment
from rankseg.fields.base import Field, LabelRule
from rankseg.objectives import Accuracy, objective_for
from rankseg.result import Segmentation
from rankseg.solvers import Settings, pointwise, rma
from rankseg.solvers.rows import Rows


class Decision:
    """One batch under one configuration."""

    def __init__(self, settings: Settings, field: Field) -> None:
        self.settings = settings
        self.field = field
        self.totals = field.totals()
        self.objective = objective_for(
            settings.metric, self.totals.mu, settings.smooth, field.pixels
        )

    def prediction(self) -> Tensor:
        """Masks or labels, as configured."""
        if self.rule is not None:
            return self.field.assign(self.rule)
        masks = self.field.select(self.rows.threshold)
        return masks if self.settings.output_mode == "multilabel" else masks[:, 0].long()

    def segmentation(self) -> Segmentation:
        """Prediction, with the objective of every region and a bound on their sum."""
        prediction = self.prediction()
        region = self.rows.region if self.rule is None else self.field.measure(prediction)
        score = self.objective.value(region.selected_sum, region.volume)
        threshold = self.rows.threshold
        if self.rule is not None and self._every_pixel_alone:
            threshold = torch.full_like(threshold, torch.nan)
        return Segmentation(
            prediction=prediction,
            expected_score=score,
            threshold=threshold,
            volume=region.volume,
            active=self.rows.active,
            objective=score.sum(1),
            bound=self._bound(),
        )

    @cached_property
    def rows(self) -> Rows:
        """Every class decided on its own."""
        if self.settings.solver == "TR":
            return pointwise.solve(self.field, self.objective, self.settings.parameter("threshold"))
        if self._every_pixel_alone:
            return pointwise.solve(self.field, self.objective, 0.5)
        return self._best_rows(self.totals.peak > self.settings.pruning_prob)

    @cached_property
    def rule(self) -> LabelRule | None:
        """How labels are formed; None where the masks are the answer (multilabel, one channel)."""
        if self.settings.output_mode == "multilabel" or self.totals.mu.shape[1] == 1:
            return None
        if self._every_pixel_alone:
            return assignment.argmax(self.field)
        if self.settings.parameter("unassigned_policy") == "void":
            void_index = self.settings.parameter("void_index")
            return assignment.published(self.field, self.objective, self.rows, void_index)
        return assignment.published(self.field, self.objective, self.rows)

    @property
    def _every_pixel_alone(self) -> bool:
        """Accuracy is a sum over pixels, so argmax or the 0.5 cut already maximises it."""
        return self.settings.solver == "argmax" or self.settings.metric == "acc"

    def _best_rows(self, active: Tensor) -> Rows:
        """Largest objective each active row can have."""
        if isinstance(self.objective, Accuracy):
            return pointwise.solve(self.field, self.objective, 0.5)
        return rma.solve(self.field, self.objective, active)

    def _bound(self) -> Tensor:
        """Sum over classes of the best score: what no prediction with these classes exceeds.

        A skipped class keeps the score of its empty mask, unless all of an image's classes were
        skipped and its pixels are still given to them.
        """
        searched = self.settings.solver == "RMA"
        best = self.rows if searched else self._best_rows(self.rows.active)
        if self.rule is None:
            return best.score.sum(1)
        idle = ~best.active.any(1, keepdim=True) & self.rule.eligible
        return torch.where(idle, self.objective.ceiling(self.totals.peak), best.score).sum(1)
