"""From a field and a configuration to a prediction: decide per class, form labels, report."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from rankseg import assignment, validation
from rankseg.cached import cached_property
from rankseg.fields import Best, Field, LabelRule, Selection, field_for
from rankseg.fields.tiles import UNIT, Here, How, Source, TiledField, representable, sketch
from rankseg.objectives import (
    Accuracy,
    Coupled,
    Dice,
    IoU,
    Objective,
    Weighted,
    WithEmpty,
    objective_for,
    ratio_family,
)
from rankseg.result import Segmentation
from rankseg.rule import DecisionRule
from rankseg.solvers import (
    Settings,
    absence,
    by_row,
    coupled,
    coupled_scores,
    one_pass,
    pointwise,
    rma,
)
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
    check_classes(settings, tensor.shape[1])
    if settings.activation == "none":
        validation.classes_axis(tensor)
    if settings.aggregation == "dataset" and len(tensor) > 1:
        return Together([tensor], settings)
    field = field_for(settings.calibrated(tensor), settings.read_with, settings.backend)
    best = _best_at_once(field, settings)
    totals = field.totals()
    validation.probability_range(totals.lowest, totals.peak, settings.read_with, field.pixels)
    return Decision(settings, field, best)


def decision_on_tiles(source: Source, settings: Settings) -> Decision:
    """Decision on all pixels of a source of tiles as one image."""
    validation.tiles_are_served(settings.solver, settings.metric, settings.empty)
    return Decision(settings, _tiled(source, settings))


def rule_of_one_pass(source: Source, settings: Settings) -> DecisionRule:
    """Masks' rule from one visit of the tiles, with what it can lose."""
    family = ratio_family(settings.metric, settings.smooth, settings.metric_parameters)
    validation.one_pass_is_enough(settings.solver, settings.output_mode, family is not None)
    validation.tiles_are_served(settings.solver, settings.metric, settings.empty)
    assert family is not None
    how = _how(settings)
    found = source.reduce(partial(sketch, how))
    extent = found.extent
    validation.some_pixels(extent.pixels)
    validation.probability_range(extent.lowest, extent.peak, settings.read_with, extent.pixels)
    check_classes(settings, extent.peak.shape[1])
    limits = [
        representable(number, extent, how) for number in _pruning(settings, extent.peak.shape[1])
    ]
    active = extent.peak > torch.tensor(limits, dtype=torch.float64)
    volume, selected_sum = found.bins[0], found.bins[1] / UNIT
    coarse = one_pass.solve(volume, selected_sum, 0.5 / UNIT, family, active)
    threshold, regret = (tuple(row[0].tolist()) for row in (coarse.threshold, coarse.regret))
    return _rule(settings, threshold, regret=regret)


def _how(settings: Settings) -> How:
    return How(partial(_tile, settings), settings.read_with, settings.backend)


def _tile(settings: Settings, tile: object) -> Tensor:
    """A tile, checked and calibrated."""
    return settings.calibrated(validation.tile(tile, settings.activation))


def _rule(settings: Settings, threshold: tuple[float, ...], **numbers: Any) -> DecisionRule:
    """Numbers together with what is done to pixels before they are compared with them."""
    return DecisionRule(
        settings.output_mode,
        settings.activation,
        threshold,
        calibrator=settings.calibrator,
        **numbers,
    )


def _tiled(source: Source, settings: Settings) -> Field:
    field = TiledField(source, _how(settings))
    check_classes(settings, field.classes)
    validation.some_pixels(field.pixels)
    extent = field.extent
    validation.probability_range(extent.lowest, extent.peak, settings.read_with, extent.pixels)
    return cast(Field, field)  # the solvers served ask it for sums only


def _best_at_once(field: Field, settings: Settings) -> Best | None:
    """Every class decided on its own while its totals are found, where one search does that."""
    parameters = settings.metric_parameters
    family = ratio_family(settings.metric, settings.smooth, parameters)
    if settings.solver not in ("RMA", "coupled") or settings.coupling or family is None:
        return None
    masks = settings.output_mode == "multilabel" and settings.empty != 1  # which empties some
    return field.best(family, _limit(settings, field), masks)


def check_classes(settings: Settings, classes: int) -> None:
    """Refuse numbers for each class that are not as many as there are classes."""
    validation.one_for_each_class("pruning_prob", settings.pruning_prob, classes)
    validation.one_for_each_class("class_weights", settings.class_weights, classes)
    if settings.solver == "TR":
        validation.one_for_each_class("threshold", settings.parameter("threshold"), classes)
    validation.background_leaves_a_class(settings.include_background, classes)


def _weights(settings: Settings, field: Field) -> Tensor | None:
    """How much each class counts, float64 (C,); None where all count alike."""
    if settings.class_weights is None and settings.include_background:
        return None
    weights = list(settings.class_weights or (1.0,) * field.classes)
    if not settings.include_background:
        weights[0] = 0.0
    return torch.tensor(weights, dtype=torch.float64, device=field.device)


def _limit(settings: Settings, field: Field) -> Tensor:
    """Peak of each class up to which it is skipped, float64 (C,)."""
    limits = [field.representable(number) for number in _pruning(settings, field.classes)]
    return torch.tensor(limits, dtype=torch.float64, device=field.device)


def _pruning(settings: Settings, classes: int) -> tuple[float, ...]:
    return _for_each_class(settings.pruning_prob, classes)


def _for_each_class(given: float | tuple[float, ...], classes: int) -> tuple[float, ...]:
    return given if isinstance(given, tuple) else (given,) * classes


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
        self.weights = _weights(settings, field)

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
        return self.report(self.prediction())

    def report(self, prediction: Tensor) -> Segmentation:
        """The prediction with its numbers."""
        region = self.rows.region if self.rule is None else self._measure(self.rule, prediction)
        score = self.rows.score
        if self.rule is not None:
            score = self._label_scores(self._where(prediction, self.rule), region)
        threshold = self.rows.threshold
        if self.settings.empty == "nan":
            expected = absence.given_present(score, self._log_absent)
        else:
            expected = score
        if self.rule is not None and self._every_pixel_alone:
            threshold = torch.full_like(threshold, torch.nan)
        return Segmentation(
            prediction=prediction,
            expected_score=expected,
            threshold=threshold,
            volume=region.volume,
            exact=self._exact,
            active=self.rows.active,
            objective=self._total(score),
            bound=self._bound(),
        )

    def _measure(self, rule: LabelRule, labels: Tensor) -> Selection:
        return self.field.measure(labels)

    def _where(self, labels: Tensor, rule: LabelRule) -> Tensor | LabelRule:
        """The label map as the field can see it."""
        return labels

    def decision_rule(self) -> DecisionRule:
        """The numbers of a single image that decide its pixels, or any others."""
        if self.rule is None:
            return _rule(self.settings, tuple(self.rows.threshold[0].tolist()))
        rule = self.rule
        numbers = {
            name: tuple(getattr(rule, name)[0].tolist())
            for name in ("eligible", "slope", "offset", "bend")
        }
        claim = tuple(rule.claim[0].tolist())
        return _rule(self.settings, claim, void_index=rule.void_index, **numbers)

    @cached_property
    def rows(self) -> Rows:
        """Every class decided on its own."""
        if self.best is not None:
            cut, region, active = self.best.threshold, self.best.region, self.best.active
            return self._or_empty(as_rows(self.objective, cut, region, active))
        if self.settings.solver == "TR":
            cuts = _for_each_class(self.settings.parameter("threshold"), self.field.classes)
            return self._cut_at([self.field.representable(cut) for cut in cuts])
        if self._every_pixel_alone:
            return self._cut_at(0.5)
        return self._best_rows(self.totals.peak > _limit(self.settings, self.field))

    @cached_property
    def rule(self) -> LabelRule | None:
        """How labels are formed; None where the masks are the answer (multilabel, one channel)."""
        if self.settings.output_mode == "multilabel" or self.totals.mu.shape[1] == 1:
            return None
        if self._every_pixel_alone:
            return self._label_of_every_pixel()
        void_index = None
        if self.settings.parameter("unassigned_policy") == "void":
            void_index = self.settings.parameter("void_index")
            validation.void_index_is_no_class(void_index, self.totals.mu.shape[1])
        rows = self.rows if self._absent is None else absence.claimers(self.rows)
        published = assignment.published(self.field, self._counted, rows, void_index)
        if self.settings.parameter("assignment") == "published":
            return published
        return self._not_below(published, self._climb(published))

    def _climb(self, start: LabelRule) -> LabelRule:
        return assignment.ascent(self.field, self._counted, start)

    def _cut_at(self, threshold: float | list[float]) -> Rows:
        rows = pointwise.solve(self.field, self.objective, threshold)
        return rows if self._absent is None else absence.empty_scored(rows, self._absent)

    def _or_empty(self, rows: Rows) -> Rows:
        """Best rows, the empty mask among them where it has a score."""
        return rows if self._absent is None else absence.empty_if_better(rows, self._absent)

    @cached_property
    def _absent(self) -> Tensor | None:
        """Score of every row's empty mask; None where that is the objective's own."""
        return self._log_absent.exp() if self.settings.empty == 1 else None

    @cached_property
    def _log_absent(self) -> Tensor:
        """Log of the probability that a class is absent."""
        alone = absence.log_probability(self.field)
        return absence.coupled(alone, self.totals.peak, self.settings.coupling)

    def _label_of_every_pixel(self) -> LabelRule:
        if self.weights is None or self.settings.solver == "argmax":
            return assignment.argmax(self.field)
        return assignment.most_accurate(self.field, self.weights / self.weights.max())

    @property
    def _counted(self) -> Objective:
        """Objective that labels maximise the sum of; the largest weight is 1, whatever the unit."""
        counted: Objective = self.objective
        if self.settings.coupling and isinstance(counted, (Dice, IoU)):
            found = self.rows
            counted = Coupled(
                counted,
                self.settings.coupling,
                found.threshold,
                found.region.selected_sum,
                found.region.volume,
            )
        if self._absent is not None:
            counted = WithEmpty(counted, self._absent)
        if self.weights is not None:
            counted = Weighted(counted, self.weights / self.weights.max())
        return counted

    def _total(self, score: Tensor) -> Tensor:
        """Sum over the classes, each as much as it counts."""
        return (score if self.weights is None else score * self.weights).sum(1)

    def _not_below(self, first: LabelRule, second: LabelRule) -> LabelRule:
        """The second rule, in images whose objective it does not lower.

        It climbed the RMA objective; a solver that scores rows in another way has the last word.
        """
        if self._method is None and not self.settings.coupling:
            return second
        score = [self._total(self._score_of(rule)) for rule in (first, second)]
        return second.where(score[1] > score[0], first)

    def _score_of(self, rule: LabelRule) -> Tensor:
        if self.settings.coupling:  # pixels may be in tiles, which make the labels themselves
            return self._label_scores(rule, self.field.regions(rule))
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
        if self._every_pixel_alone or solver in ("RMA", "TR", "coupled"):
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
        share = self.settings.coupling
        if share and isinstance(self.objective, (Dice, IoU)):
            return self._or_empty(coupled.solve(self.field, self.objective, active, share))
        if self._method is None or not isinstance(self.objective, (Dice, IoU)):
            return self._or_empty(rma.solve(self.field, self.objective, active))
        wanted = self._one_by_one
        alone = by_row.solve(self.field, self.objective, active, wanted, self._method)
        if self.settings.solver != "auto":
            return self._or_empty(alone)
        together = rma.solve(self.field, self.objective, active & ~self._one_by_one)
        return self._or_empty(alone.where(self._one_by_one, together))

    def _label_scores(self, where: Tensor | LabelRule, region: Selection) -> Tensor:
        """Objective of every class's region in a label map, or under a rule if labels are coupled.

        The region's sums and volumes are known.
        """
        score = self._scores_of_regions(where, region)
        if self._absent is None:
            return score
        return absence.empty_scores(score, region.volume, self._absent)

    def _scores_of_regions(self, where: Tensor | LabelRule, region: Selection) -> Tensor:
        objective, share = self.objective, self.settings.coupling
        if share and isinstance(objective, (Dice, IoU)):
            masks = coupled_scores.Regions(self.field, where)
            everyone = torch.ones_like(self.rows.active)
            return coupled_scores.scores(self.field, objective, share, region, masks, everyone)
        score = objective.value(region.selected_sum, region.volume)
        if self._method is None or not isinstance(objective, (Dice, IoU)):
            return score
        assert isinstance(where, Tensor)
        alone = by_row.scores(
            self.field,
            objective,
            self._method,
            lambda at: where[at[0]] == at[1],
            self._one_by_one,
        )
        return torch.where(self._one_by_one, alone, score)

    def _bound(self) -> Tensor:
        """Weighted sum of the classes' best scores: no prediction with these classes exceeds it.

        A skipped class keeps the score of its empty mask, unless all of an image's classes were
        skipped and its pixels are still given to them.
        """
        pointwise_rule = self.settings.solver in ("argmax", "TR")
        best = self._best_rows(self.rows.active) if pointwise_rule else self.rows
        idle = ~best.active.any(1, keepdim=True)
        if self.rule is not None and bool((idle & self.rule.eligible).any()):
            best = self._best_rows(idle & self.rule.eligible).where(idle, best)
        return self._total(best.score)


class Together(Decision):
    """Tensors of any shape, the images of a batch say, as one; numbers per row are (1, C)."""

    def __init__(self, tiles: list[Tensor], settings: Settings) -> None:
        self.tiles = tiles
        super().__init__(settings, _tiled(Here(lambda: tiles), settings))

    def predictions(self) -> list[Tensor]:
        """Masks or labels of every tile, by the rule of all."""
        rule = self.decision_rule()
        return [rule.on(tile, self.settings.backend) for tile in self.tiles]

    def prediction(self) -> Tensor:
        """Masks or labels of every image."""
        return torch.cat(self.predictions())

    def _measure(self, rule: LabelRule, labels: Tensor) -> Selection:
        return self.field.regions(rule)  # of all images together

    def _where(self, labels: Tensor, rule: LabelRule) -> Tensor | LabelRule:
        return rule  # tiles make their own labels
