"""The best fixed cut: a threshold for each class, or a factor on the background for labels.

All cuts of a grid are scored in one visit, from histograms of each image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rankseg.calibrator import Calibrator
from rankseg.evaluation.contest import Conventions
from rankseg.evaluation.images import Images
from rankseg.evaluation.metrics import Metric
from rankseg.evaluation.pairs import Image

GRID = torch.arange(1, 100, dtype=torch.float64) / 100
"""Cuts that are tried."""

Cut = tuple[float, ...] | Calibrator


@dataclass
class Table:
    """Scores of every cut: their sum and number, and counts; (G, C) or (G,), and (G, C, 4)."""

    score: Tensor
    images: Tensor
    counts: Tensor

    def plus(self, other: Table, sign: int = 1) -> Table:
        """Add another part, or take it away."""
        return Table(*(getattr(self, name) + sign * getattr(other, name) for name in vars(self)))


def fit(
    images: Images,
    metric: Metric,
    how: Conventions,
    aggregation: str,
    folds: int,
    fold_of: Callable[[str], int],
) -> list[Cut]:
    """Best cut on all images, and without each fold."""
    whole: Table | None = None
    parts: dict[int, Table] = {}
    alone = True
    for image, probs in images.with_probabilities():
        alone = image.masks or probs.shape[1] == 1
        part = _table(image, probs, metric, how, alone)
        whole = part if whole is None else whole.plus(part)
        fold = fold_of(image.name)
        parts[fold] = parts[fold].plus(part) if fold in parts else part
    if whole is None:
        raise ValueError("there is no image to tune on")
    tables = [whole, *(whole.plus(parts[f], -1) if f in parts else whole for f in range(folds))]
    return [_best(table, metric, how, aggregation, alone) for table in tables]


def _table(image: Image, probs: Tensor, metric: Metric, how: Conventions, alone: bool) -> Table:
    counts = _of_masks(image, probs) if alone else _of_labels(image, probs)
    if alone:
        score = metric.of_classes(counts, how.empty)
    else:
        score = metric.of_image(counts, how.empty, how.include_background, masks=False)
    return Table(score.nan_to_num(0.0), (~score.isnan()).double(), counts)


def _of_masks(image: Image, probs: Tensor) -> Tensor:
    """Counts of p > cut for every cut and class, (G, C, 4)."""
    p = probs[0].flatten(1)
    classes = len(p)
    truth = image.truth[0].reshape(p.shape).bool()
    here = torch.ones_like(truth) if image.counts is None else image.counts[0].reshape(p.shape)
    cuts = GRID.to(p)  # the cut is meant in the type of the probabilities
    place = torch.searchsorted(cuts, p.contiguous())  # number of cuts below p
    place += torch.arange(classes, device=p.device)[:, None] * (len(GRID) + 1)

    def above(selected: Tensor) -> Tensor:
        table = torch.bincount(place[selected], minlength=classes * (len(GRID) + 1))
        table = table.reshape(classes, -1).cpu().double()
        return table.flip(1).cumsum(1).flip(1)[:, 1:].T  # at least one more cut below

    hit, predicted = above(truth & here), above(here)
    true, pixels = ((truth & here).sum(1).cpu().double(), here.sum(1).cpu().double())
    return torch.stack([hit, predicted, true.expand_as(hit), pixels.expand_as(hit)], -1)


def _of_labels(image: Image, probs: Tensor) -> Tensor:
    """Counts of labels where the background's odds against the best other are cut, (G, C, 4)."""
    p = probs[0].flatten(1)
    classes = len(p)
    best, winner = p[1:].max(0)
    share = best / (best + p[0]).clamp_min(torch.finfo(p.dtype).tiny)
    truth, winner = image.truth[0].flatten(), winner + 1
    if image.counts is not None:
        here = image.counts[0].flatten()
        share, truth, winner = share[here], truth[here], winner[here]
    place = torch.searchsorted(GRID.to(p), share.contiguous())
    size = len(GRID) + 1
    table = torch.bincount(
        (place * classes + truth) * classes + winner, minlength=size * classes**2
    )
    table = table.reshape(size, classes, classes).cpu().double()  # cuts below, true, winner
    foreground = table.flip(0).cumsum(0).flip(0)[1:]  # pixels that are no background, by cut
    hit = foreground.diagonal(dim1=1, dim2=2).clone()
    predicted = foreground.sum(1)
    true = table.sum((0, 2)).expand_as(hit)
    pixels = table.sum().expand_as(hit)
    hit[:, 0] = true[:, 0] - foreground[:, 0].sum(1)
    predicted[:, 0] = pixels[:, 0] - predicted[:, 1:].sum(1)
    return torch.stack([hit, predicted, true, pixels], -1)


def _best(table: Table, metric: Metric, how: Conventions, aggregation: str, alone: bool) -> Cut:
    """Best cut; of equally good ones that nearest to 0.5."""
    if aggregation == "image":
        score = table.score / table.images
    elif alone:
        score = metric.of_classes(table.counts, how.empty)
    else:
        score = metric.of_image(table.counts, how.empty, how.include_background, masks=False)
    score = score.nan_to_num(-1.0)
    ties = score >= score.amax(0) - 1e-12
    distance = (GRID - 0.5).abs().reshape(-1, *(1 for _ in score.shape[1:]))
    chosen = GRID[torch.where(ties, distance, math.inf).argmin(0)]
    if how.masks:
        return tuple(chosen.tolist())
    if alone:  # labels of one channel are cut at 0.5, so its logit is moved there
        cut = chosen.item()
        return Calibrator("sigmoid", (1.0,), (-math.log(cut / (1 - cut)),))
    cut, classes = chosen.item(), table.counts.shape[1]
    background = math.log(cut / (1 - cut))
    return Calibrator("softmax", (1.0,) * classes, (background, *(0.0,) * (classes - 1)))
