"""Dice, IoU and accuracy of a prediction against the ground truth, from four counts a class.

Definitions are those of torchmetrics.segmentation, against which the tests compare them. These are
the achieved numbers; ``rankseg.objectives`` has the expected ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rankseg.validation import choice

NAMES = ("dice", "iou", "acc")
HIT, PREDICTED, TRUE, PIXELS = range(4)
"""Columns of the counts."""


@dataclass(frozen=True)
class Metric:
    """hit / (hit + alpha false positives + beta false negatives), or accuracy.

    Dice has 1/2 and 1/2, IoU 1 and 1, F-beta and Tversky as in ``RankSEG``.
    """

    name: str
    alpha: float = 0.5
    beta: float = 0.5
    unit: float = 0.5
    """What one pixel of smoothing adds to the numerator, written with one hit."""

    def of_classes(self, counts: Tensor, empty: float | str = "nan", smooth: float = 0.0) -> Tensor:
        """Score of every class.

        Parameters
        ----------
        counts : Tensor, float64 (..., C, 4)
            Pixels hit, predicted, true, and all, of each class.
        empty : {0, 1, 'nan'}
            Score of a class that is neither predicted nor true.
        smooth : float >= 0
            Pixels added to the numerator and the denominator.

        Returns
        -------
        Tensor, float64 (..., C)
        """
        hit, predicted, true, pixels = counts.unbind(-1)
        if self.name == "acc":
            return (pixels - predicted - true + 2 * hit) / pixels
        wrong = self.alpha * (predicted - hit) + self.beta * (true - hit)
        more = smooth * self.unit
        score = (hit + more) / (hit + wrong + more)
        if smooth > 0:
            return score
        neither = (predicted + true) == 0
        return score.masked_fill(neither, torch.nan if empty == "nan" else float(empty))

    def of_image(
        self, counts: Tensor, empty: float | str, include_background: bool, masks: bool
    ) -> Tensor:
        """Mean over the classes that count, or the accuracy of all pixels; NaN where none does.

        Parameters
        ----------
        counts : Tensor, float64 (..., C, 4)

        Returns
        -------
        Tensor, float64 (...)
        """
        if self.name == "acc":
            if masks or counts.shape[-2] == 1:  # the only channel of labels is a mask
                right = counts[..., PIXELS] - counts[..., PREDICTED] - counts[..., TRUE]
                right = right + 2 * counts[..., HIT]
                return right.sum(-1) / counts[..., PIXELS].sum(-1)
            return counts[..., HIT].sum(-1) / counts[..., TRUE].sum(-1)
        scores = self.of_classes(counts, empty)
        return (scores if include_background else scores[..., 1:]).nanmean(-1)


def metric_for(name: str, parameters: Mapping[str, float] | None = None) -> Metric:
    """Metric of a name, with the parameters of ``RankSEG``."""
    name = name if isinstance(name, str) else choice("metric", name, NAMES)  # which refuses it
    given = dict(parameters or {})
    if name == "iou":
        return Metric("iou", 1.0, 1.0, 1.0)
    if name == "fbeta":
        beta = given.get("beta", 1.0)
        share = 1 / (1 + beta**2)
        return Metric(f"fbeta({beta:g})", share, 1 - share, share)
    if name == "tversky":
        alpha, beta = given.get("alpha", 0.5), given.get("beta", 0.5)
        return Metric(f"tversky({alpha:g}, {beta:g})", alpha, beta, 1.0)
    return Metric(choice("metric", name, NAMES))


def metrics_for(names: Iterable[str], more: Iterable[Metric]) -> list[Metric]:
    """Metrics by name and those of configurations, each once."""
    found = {metric.name: metric for metric in [*map(metric_for, names), *more]}
    return list(found.values())


def counts(prediction: Tensor, truth: Tensor, counted: Tensor | None, classes: int) -> Tensor:
    """Pixels hit, predicted, true, and all, of each class of one image.

    Parameters
    ----------
    prediction, truth : Tensor
        Labels int64 (1, *spatial), or masks bool (1, C, *spatial). A predicted label that is no
        class is a prediction of none.
    counted : Tensor, bool, shaped like `truth`, optional
        Pixels to count.

    Returns
    -------
    Tensor, float64 (C, 4)
        Whole numbers.
    """
    if truth.dtype == torch.bool:
        return _of_masks(prediction, truth, counted)
    if counted is not None:
        prediction, truth = prediction[counted], truth[counted]
    predicted = prediction.flatten()
    predicted = torch.where((predicted < 0) | (predicted >= classes), classes, predicted)
    place = truth.flatten() * (classes + 1) + predicted
    table = torch.bincount(place, minlength=classes * (classes + 1))
    table = table.reshape(classes, classes + 1).double()
    square = table[:, :classes]
    found = [square.diagonal(), square.sum(0), table.sum(1), table.sum().expand(classes)]
    return torch.stack(found, -1).cpu()


def _of_masks(prediction: Tensor, truth: Tensor, counted: Tensor | None) -> Tensor:
    here = torch.ones_like(truth) if counted is None else counted
    found = (prediction & truth & here, prediction & here, truth & here, here)
    return torch.stack([mask[0].flatten(1).sum(1) for mask in found], -1).double().cpu()


def as_plain(values: Tensor) -> Any:
    """Lists of numbers, None for NaN, for JSON."""
    if values.ndim:
        return [as_plain(value) for value in values]
    number = values.item()
    return None if number != number else number
