"""From a field and a configuration to a prediction: decide per class, form labels, report."""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor

from rankseg import assignment, validation
from rankseg.cached import cached_property
from rankseg.fields import Best, Field, LabelRule, Selection, field_for
from rankseg.fields.tiles import UNIT, Here, How, Source, TiledField, representable, sketch
from rankseg.objectives import Accuracy, Dice, IoU, objective_for, ratio_family
from rankseg.result import Segmentation
from rankseg.rule import DecisionRule
from rankseg.solvers import Settings, by_row, one_pass, pointwise, rma
from rankseg.solvers.by_row import Method
from rankseg.solvers.rows import Rows, as_rows

AUTO_MU = 128.0
"""``solver='auto'`` decides rows of a smaller expected volume exactly.

From there on the worst of 900 random rows lost 5e-5 of its best score by RMA; regions of flat,
nearly tied probability can lose more (docs/choosing-a-solver.md).
"""


def decision_on(values: object, settings: Settings) -> Decision:
    """Decision on a tensor that has yet to be checked: its images each alone, or as one."""
    tensor = validation.pixel_tensor(values, settings.activation)
    if settings.aggregation == "dataset" and len(tensor) > 1:
        return Together(tensor, settings)
    field = field_for(tensor, settings.activation, settings.backend)
    best = _best_at_once(field, settings)
    totals = field.totals()
    validation.probability_range(totals.lowest, totals.peak, settings.activation)
    return Decision(settings, field, best)


def decision_on_tiles(source: Source, settings: Settings) -> Decision:
    """Decision on all pixels of a source of tiles as one image."""
    validation.tiles_are_served(settings.solver, settings.metric)
    return Decision(settings, _tiled(source, settings))


def rule_of_one_pass(source: Source, settings: Settings) -> DecisionRule:
    """Masks' rule from one visit of the tiles, with what it can lose."""
    family = ratio_family(settings.metric, settings.smooth, settings.metric_parameters)
    validation.one_pass_is_enough(settings.solver, settings.output_mode, family is not None)
    assert family is not None
    how = _how(settings)
    found = source.reduce(partial(sketch, how))
    extent = found.extent
    validation.some_pixels(extent.pixels)
    validation.probability_range(extent.lowest, extent.peak, settings.activation)
    active = extent.peak > representable(settings.pruning_prob, extent, how)
    volume, selected_sum = found.bins[0], found.bins[1] / UNIT
    coarse = one_pass.solve(volume, selected_sum, 0.5 / UNIT, family, active)
    threshold, regret = (tuple(row[0].tolist()) for row in (coarse.threshold, coarse.regret))
    return DecisionRule(settings.output_mode, settings.activation, threshold, regret=regret)


def _how(settings: Settings) -> How:
    check = partial(validation.tile, activation=settings.activation)
    return How(check, settings.activation, settings.backend)


def _tiled(source: Source, settings: Settings) -> Field:
    field = TiledField(source, _how(settings))
    validation.some_pixels(field.pixels)
    validation.probability_range(field.extent.lowest, field.extent.peak, settings.activation)
    return cast(Field, field)  # the solvers served ask it for sums only


def _best_at_once(field: Field, settings: Settings) -> Best | None:
    """Every class decided on its own while its totals are found, where one search does that."""
    parameters = settings.metric_parameters
    family = ratio_family(settings.metric, settings.smooth, parameters)
    if settings.solver != "RMA" or family is None:
        return None
    limit = field.representable(settings.pruning_prob)
    return field.best(family, limit, masks=settings.output_mode == "multilabel")


class Decision:
    """One batch under one configuration."""

    def __init__(self, settings: Settings, field: Field, best: Best | None = None) -> None:
        self.settings = settings
        self.field = field
        self.best = best
        self.totals = field.totals()
        self.objective = objective_for(
            settings.metric,
            self.totals.mu,
            settings.smooth,
            field.pixels,
            settings.metric_parameters,
        )

    def prediction(self) -> Tensor:
        """Masks or labels, as configured."""
        if self.rule is not None:
            return self.field.assign(self.rule)
        if self.settings.output_mode == "multiclass":
            return self.field.select(self.rows.threshold, torch.int64)[:, 0]
        if self.best is not None and self.best.masks is not None:
            return self.best.masks
        return self.field.select(self.rows.threshold)

    def segmentation(self) -> Segmentation:
        """Prediction, with the objective of every region and a bound on their sum."""
        if self.settings.aggregation == "dataset":
            validation.some_pixels(self.totals.mu.shape[0])
        prediction = self.prediction()
        region = self.rows.region if self.rule is None else self._measure(self.rule, prediction)
        score = self.rows.score if self.rule is None else self._label_scores(prediction, region)
        threshold = self.rows.threshold
        if self.rule is not None and self._every_pixel_alone:
            threshold = torch.full_like(threshold, torch.nan)
        return Segmentation(
            prediction=prediction,
            expected_score=score,
            threshold=threshold,
            volume=region.volume,
            exact=self._exact,
            active=self.rows.active,
            objective=score.sum(1),
            bound=self._bound(),
        )

    def _measure(self, rule: LabelRule, labels: Tensor) -> Selection:
        return self.field.measure(labels)

    def decision_rule(self) -> DecisionRule:
        """The numbers of a single image that decide its pixels, or any others."""
        mode, activation = self.settings.output_mode, self.settings.activation
        if self.rule is None:
            return DecisionRule(mode, activation, tuple(self.rows.threshold[0].tolist()))
        rule = self.rule
        claim, eligible, slope, offset, bend = (
            tuple(numbers[0].tolist())
            for numbers in (rule.claim, rule.eligible, rule.slope, rule.offset, rule.bend)
        )
        return DecisionRule(mode, activation, claim, eligible, slope, offset, bend, rule.void_index)

    @cached_property
    def rows(self) -> Rows:
        """Every class decided on its own."""
        if self.best is not None:
            return as_rows(self.objective, self.best.threshold, self.best.region, self.best.active)
        if self.settings.solver == "TR":
            cut = self.field.representable(self.settings.parameter("threshold"))
            return pointwise.solve(self.field, self.objective, cut)
        if self._every_pixel_alone:
            return pointwise.solve(self.field, self.objective, 0.5)
        limit = self.field.representable(self.settings.pruning_prob)
        return self._best_rows(self.totals.peak > limit)

    @cached_property
    def rule(self) -> LabelRule | None:
        """How labels are formed; None where the masks are the answer (multilabel, one channel)."""
        if self.settings.output_mode == "multilabel" or self.totals.mu.shape[1] == 1:
            return None
        if self._every_pixel_alone:
            return assignment.argmax(self.field)
        void_index = None
        if self.settings.parameter("unassigned_policy") == "void":
            void_index = self.settings.parameter("void_index")
            validation.void_index_is_no_class(void_index, self.totals.mu.shape[1])
        published = assignment.published(self.field, self.objective, self.rows, void_index)
        if self.settings.parameter("assignment") == "published":
            return published
        return self._not_below(published, assignment.ascent(self.field, self.objective, published))

    def _not_below(self, first: LabelRule, second: LabelRule) -> LabelRule:
        """The second rule, in images whose objective it does not lower.

        It climbed the RMA objective; a solver that scores rows in another way has the last word.
        """
        if self._method is None:
            return second
        score = [self._score_of(rule).sum(1) for rule in (first, second)]
        return second.where(score[1] > score[0], first)

    def _score_of(self, rule: LabelRule) -> Tensor:
        labels = self.field.assign(rule)
        return self._label_scores(labels, self.field.measure(labels))

    @property
    def _every_pixel_alone(self) -> bool:
        """Accuracy is a sum over pixels, so argmax or the 0.5 cut already maximises it."""
        return self.settings.solver == "argmax" or self.settings.metric == "acc"

    @cached_property
    def _method(self) -> Method | None:
        """How rows are scored one at a time; None where the RMA objective serves all."""
        solver = self.settings.solver
        if self._every_pixel_alone or solver in ("RMA", "TR"):
            return None
        if solver in ("exact", "auto"):
            return Method("exact")
        return Method(solver, self.settings.parameter("eps"))

    @cached_property
    def _one_by_one(self) -> Tensor:
        """Rows that are decided and scored by ``_method``, bool (B, C)."""
        if self.settings.solver == "auto":
            return self.totals.mu < AUTO_MU
        return torch.full_like(self.totals.mu, self._method is not None, dtype=torch.bool)

    @property
    def _exact(self) -> Tensor:
        if isinstance(self.objective, Accuracy):
            return torch.ones_like(self._one_by_one)
        exact = self._method is not None and self._method.name == "exact"
        return self._one_by_one & exact

    def _best_rows(self, active: Tensor) -> Rows:
        """Region with the largest objective, of each active row."""
        if isinstance(self.objective, Accuracy):
            return pointwise.solve(self.field, self.objective, 0.5)
        if self._method is None or not isinstance(self.objective, (Dice, IoU)):
            return rma.solve(self.field, self.objective, active)
        wanted = self._one_by_one
        alone = by_row.solve(self.field, self.objective, active, wanted, self._method)
        if self.settings.solver != "auto":
            return alone
        together = rma.solve(self.field, self.objective, active & ~self._one_by_one)
        return alone.where(self._one_by_one, together)

    def _label_scores(self, labels: Tensor, region: Selection) -> Tensor:
        """Objective of every class's region in a label map."""
        score = self.objective.value(region.selected_sum, region.volume)
        if self._method is None or not isinstance(self.objective, (Dice, IoU)):
            return score
        alone = by_row.scores(
            self.field,
            self.objective,
            self._method,
            lambda at: labels[at[0]] == at[1],
            self._one_by_one,
        )
        return torch.where(self._one_by_one, alone, score)

    def _bound(self) -> Tensor:
        """Sum over classes of the best score: what no prediction with these classes exceeds.

        A skipped class keeps the score of its empty mask, unless all of an image's classes were
        skipped and its pixels are still given to them.
        """
        pointwise_rule = self.settings.solver in ("argmax", "TR")
        best = self._best_rows(self.rows.active) if pointwise_rule else self.rows
        idle = ~best.active.any(1, keepdim=True)
        if self.rule is not None and bool((idle & self.rule.eligible).any()):
            best = self._best_rows(idle & self.rule.eligible).where(idle, best)
        return best.score.sum(1)


class Together(Decision):
    """The images of one batch, decided as one; numbers per row are (1, C)."""

    def __init__(self, values: Tensor, settings: Settings) -> None:
        self.values = values
        super().__init__(settings, _tiled(Here([values]), settings))

    def prediction(self) -> Tensor:
        """Masks or labels of every image, by the rule of all."""
        return self.decision_rule().on(self.values, self.settings.backend)

    def _measure(self, rule: LabelRule, labels: Tensor) -> Selection:
        return self.field.regions(rule)  # of all images together
