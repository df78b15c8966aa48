"""Isotonic calibration from one visit: pooled blocks of a fine histogram of each class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rankseg._require import require
from rankseg.calibrator import Calibrator
from rankseg.evaluation.images import Images
from rankseg.evaluation.pairs import Image

BINS = 2048
FURTHEST = 16.0
"""Logit of the outermost bins: probabilities of 1e-7 are told apart from 0."""

Curve = tuple[tuple[float, float], ...]


def fit(images: Images, folds: int, fold_of: Callable[[str], int]) -> list[Calibrator]:
    """As ``calibration.fit``."""
    whole: Tensor | None = None
    parts: dict[int, Tensor] = {}
    for image, probs in images.with_probabilities():
        table = _histogram(image, probs)
        whole = table if whole is None else whole + table
        if folds:
            fold = fold_of(image.name)
            parts[fold] = parts[fold] + table if fold in parts else table
    if whole is None:
        raise ValueError("there is no image to fit a calibrator on")
    tables = [whole, *(whole - parts[fold] if fold in parts else whole for fold in range(folds))]
    return [
        Calibrator("isotonic", points=tuple(_curve(rows) for rows in table.unbind(1)))
        for table in tables
    ]


def _histogram(image: Image, probs: Tensor) -> Tensor:
    """Pixels, sum of probabilities and sum of labels of each bin, float64 (3, C, BINS)."""
    p = probs[0].flatten(1)
    classes = len(p)
    if image.masks or classes == 1:
        y = image.truth[0].reshape(p.shape)
        weight = None if image.counts is None else image.counts[0].reshape(p.shape)
    else:
        y = image.truth.flatten() == torch.arange(classes, device=p.device)[:, None]
        weight = None if image.counts is None else image.counts.flatten()[None].expand(p.shape)
    one = torch.ones_like(p) if weight is None else weight.to(p)
    place = ((torch.logit(p).clamp(-FURTHEST, FURTHEST) / FURTHEST + 1) * (BINS / 2)).long()
    place = place.clamp_(max=BINS - 1) + torch.arange(classes, device=p.device)[:, None] * BINS
    sums = [
        torch.bincount(place.flatten(), numbers.double().flatten(), classes * BINS)
        for numbers in (one, p * one, y * one)
    ]
    return torch.stack(sums).reshape(3, classes, BINS).cpu()


def _curve(rows: Tensor) -> Curve:
    """Rising lines through the centres of the pooled blocks of one class, rows (3, BINS)."""
    count, sum_of_probs, sum_of_labels = rows[:, rows[0] > 0.5].numpy()
    if sum_of_labels.sum() < 0.5 or (count - sum_of_labels).sum() < 0.5:
        return ((0.0, 0.0), (1.0, 1.0))
    p = np.maximum.accumulate(sum_of_probs / count)  # rounding may turn neighbours round
    pool = require("sklearn.isotonic", "evaluate").isotonic_regression
    level = pool(sum_of_labels / count, sample_weight=count, y_min=0.0, y_max=1.0)
    block = np.concatenate([[0], np.cumsum(np.diff(level) > 0)])
    weight = np.bincount(block, count)
    centre = np.bincount(block, p * count) / weight
    height = np.bincount(block, level * count) / weight
    apart = np.concatenate([[True], np.diff(centre) > 0])
    points = zip(centre[apart].clip(0, 1).tolist(), height[apart].clip(0, 1).tolist(), strict=True)
    return tuple(points)
