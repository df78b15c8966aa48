"""The expected score of any prediction: a quality estimate without ground truth."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rankseg import validation
from rankseg.fields import Field, Selection, field_for
from rankseg.objectives import Dice, IoU, objective_for
from rankseg.solvers import METRICS, absence, by_row, coupled_scores, metric_parameters
from rankseg.solvers.by_row import Method
from rankseg.valid_pixels import valid_images

METHODS = ("exact", "RMA", "BA", "TRNA", "coupled")


def expected_score(
    probs: Tensor,
    prediction: Tensor,
    metric: str = "dice",
    method: str = "exact",
    smooth: float = 0.0,
    *,
    coupling: float | None = None,
    empty: float | str = 0,
    valid_mask: Tensor | None = None,
    **metric_params: float,
) -> Tensor:
    """Expected Dice, IoU or accuracy of a mask or label map, for each image and class.

    The expectation is over labels drawn independently from ``probs``. It says how good the mask
    should be if the probabilities are calibrated and label errors unrelated; where they are not,
    it is off by as much. Compare it with the achieved score on data with ground truth before
    trusting it.

    Parameters
    ----------
    probs : Tensor, shape (B, C, *spatial), float in [0, 1]
        Probability of each class at each pixel.
    prediction : Tensor
        Labels, an integer type (B, *spatial); or masks, bool (B, C, *spatial). Any origin will
        do. Labels outside 0..C-1 belong to no class; with one channel, label 1 is the mask.
    metric : {'dice', 'iou', 'acc', 'fbeta', 'tversky'}, default 'dice'
        F-beta and Tversky with ``method='RMA'`` only.
    method : {'exact', 'RMA', 'BA', 'TRNA', 'coupled'}, default 'exact'
        'exact' integrates the generating function of the label count, to about 1e-12 (absolute).
        The others are what the solvers of these names maximise; 'coupled' (Dice, IoU) takes labels
        to move together. Accuracy is exact under the others.
    smooth : float >= 0, default 0
        Pixels added to numerator and denominator. With 0 an empty mask scores 0.
    coupling : float in [0, 1], optional
        Of 'coupled', 0.5 if not given: the share of the expectation under comonotone labels (one
        uniform U for an image, labels where p > U); the rest is RMA's.
    empty : {0, 1, 'nan'}, default 0
        Score of a class that is absent from the labels and has an empty mask. With 'nan' it does
        not count there, and the expectation is that given that the class is present.
    valid_mask : Tensor, bool (B, *spatial) or (B, 1, *spatial), optional
        False where pixels count for nothing; NaN may stand there.
    **metric_params
        ``beta`` of F-beta (default 1); ``alpha`` and ``beta`` of Tversky (default 0.5).

    Returns
    -------
    Tensor, float64 (B, C)

    Raises
    ------
    TypeError, ValueError
        For what :class:`rankseg.RankSEG` refuses, and predictions whose type or shape do not fit.

    Notes
    -----
    Cost: a few passes over the pixels for each image and class ('RMA': one for all).

    Examples
    --------
    >>> import torch
    >>> probs = torch.tensor([[[0.5, 0.5]]])
    >>> both = torch.tensor([[[True, True]]])
    >>> round(expected_score(probs, both).item(), 12)  # (0 + 2/3 + 2/3 + 1) / 4
    0.583333333333
    """
    metric = validation.choice("metric", metric, METRICS)
    method = validation.choice("method", method, METHODS)
    validation.combination("method", method, "metric", metric, _serve(metric))
    coupling = validation.coupling_of(method, coupling)
    parameters = metric_parameters(metric, metric_params)
    smooth = validation.smooth(smooth, metric)
    empty = validation.empty(empty, metric, smooth)
    probs = validation.pixel_tensor(probs)
    validation.classes_axis(probs)
    prediction = validation.prediction_tensor(prediction, probs)
    if valid_mask is None:
        return _scores(probs, prediction, metric, (method, coupling), smooth, empty, parameters)
    valid = validation.valid_mask(valid_mask, probs)
    images = zip(valid_images(probs, valid), valid_images(prediction, valid), strict=True)
    scores = [
        _scores(*_some(*image), metric, (method, coupling), smooth, empty, parameters)
        for image in images
    ]
    if not scores:
        return torch.empty(0, probs.shape[1], dtype=torch.float64, device=probs.device)
    return torch.cat(scores)


def _serve(metric: str) -> tuple[str, ...]:
    if metric in ("dice", "iou"):
        return METHODS
    return tuple(name for name in METHODS if name != "coupled") if metric == "acc" else ("RMA",)


def _some(probs: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """An image as it is, or a pixel of no probability and no class where it has none."""
    if probs.shape[-1]:
        return probs, prediction
    pixel, nobody = (*prediction.shape[:-1], 1), 0 if prediction.dtype == torch.bool else -1
    return probs.new_zeros(1, probs.shape[1], 1), prediction.new_full(pixel, nobody)


def _scores(
    probs: Tensor,
    prediction: Tensor,
    metric: str,
    how: tuple[str, float],
    smooth: float,
    empty: float | str,
    parameters: Mapping[str, float],
) -> Tensor:
    """Expected score of a checked prediction."""
    method, coupling = how
    field = field_for(probs)
    totals = field.totals()
    validation.probability_range(totals.lowest, totals.peak, pixels=field.pixels)
    masks = _Masks(prediction, field)
    objective = objective_for(metric, totals.mu, smooth, field.pixels, parameters)
    if method == "RMA" or not isinstance(objective, (Dice, IoU)):
        region = masks.measure()
        score = objective.value(region.selected_sum, region.volume)
    elif method == "coupled":
        score = masks.coupled(objective, coupling)
    else:
        everyone = torch.ones_like(totals.mu, dtype=torch.bool)
        score = by_row.scores(field, objective, Method(method), masks.mask, everyone)
    return score if empty == 0 else _where_empty(score, masks, field, empty, coupling)


def _where_empty(
    score: Tensor, masks: _Masks, field: Field, empty: float | str, coupling: float
) -> Tensor:
    """Scores under another convention for absent classes than 0."""
    alone = absence.log_probability(field)
    absent = absence.coupled(alone, field.totals().peak, coupling)
    if empty == "nan":
        return absence.given_present(score, absent)
    return absence.empty_scores(score, masks.measure().volume, absent.exp())


class _Masks:
    """Masks of a checked prediction, labels or masks alike."""

    def __init__(self, prediction: Tensor, field: Field) -> None:
        self.prediction = prediction
        self.field = field
        self.labels = prediction.dtype != torch.bool
        self.first = 1 if field.totals().mu.shape[1] == 1 else 0  # one channel: label 1 is the mask

    def mask(self, at: tuple[int, int]) -> Tensor:
        image, class_ = at
        if self.labels:
            return self.prediction[image] == class_ + self.first
        return self.prediction[image, class_]

    def coupled(self, objective: Dice | IoU, coupling: float) -> Tensor:
        """Scores of every mask where labels are coupled."""
        everyone = torch.ones_like(objective.mu, dtype=torch.bool)
        regions = coupled_scores.Regions(self.field, self.prediction)
        return coupled_scores.scores(
            self.field, objective, coupling, self.measure(), regions, everyone
        )

    def measure(self) -> Selection:
        """Selected sum and volume of every mask."""
        if self.labels:
            return self.field.measure(self.prediction - self.first)
        return self.field.within(self.prediction)
