"""Solvers that take one row at a time: run them over a field, and score given masks with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rankseg.fields.base import NOTHING, Field, Selection
from rankseg.objectives import Dice, IoU
from rankseg.solvers import exact, exact_scores, normal, normal_scores
from rankseg.solvers.row import Optimum, Row, row_of
from rankseg.solvers.rows import Rows

Kind = Dice | IoU


@dataclass(frozen=True)
class Method:
    """A way to compute the expected score of masks: 'exact', 'BA', 'TRNA' or 'BA+TRNA'.

    ``eps`` is the probability the normal approximations leave out; exact needs none.
    """

    name: str
    eps: float = 1e-4

    def best_mask(self, row: Row, objective: Kind) -> Optimum:
        """Mask of one row with the largest expected score."""
        if self.name == "exact":
            return exact.best_mask(row, objective)
        terms = normal_scores.approximation(row, objective, self.name, self.eps)
        return normal.best_mask(row, terms)

    def empty_score(self, row: Row, objective: Kind) -> float:
        """Expected score of the row's empty mask."""
        if self.name == "exact":
            return exact_scores.empty_score(row, objective.smooth)
        return normal_scores.approximation(row, objective, self.name, self.eps).empty()

    def mask_score(self, field: Field, at: tuple[int, int], mask: Tensor, objective: Kind) -> float:
        """Expected score of a mask (bool, spatial) of one row."""
        inside, outside = (row_of(field.row(*at, part)) for part in (mask, ~mask))
        volume = int(mask.sum())
        if self.name == "exact":
            metric, smooth = objective.metric, objective.smooth
            return exact_scores.mask_score(metric, inside, outside, volume, smooth)
        row = row_of(field.row(*at))
        terms = normal_scores.approximation(row, objective, self.name, self.eps)
        return normal_scores.mask_score(terms, inside, outside, volume)


def solve(field: Field, objective: Kind, active: Tensor, wanted: Tensor, method: Method) -> Rows:
    """Best region of every wanted row that is active; the wanted others score as empty."""
    threshold = torch.full_like(objective.mu, NOTHING)
    score = torch.zeros_like(objective.mu)
    region = Selection(torch.zeros_like(objective.mu), torch.zeros_like(score, dtype=torch.int64))
    for at in _indices(wanted & active):
        row = row_of(field.row(*at))
        best = method.best_mask(row, objective.at(at))
        threshold[at], score[at] = best.threshold, best.score
        region.selected_sum[at], region.volume[at] = row.above(best.threshold)
    if objective.smooth > 0:
        for at in _indices(wanted & ~active):
            score[at] = method.empty_score(row_of(field.row(*at)), objective.at(at))
    return Rows(threshold, region, active, lambda: score)


def scores(
    field: Field,
    objective: Kind,
    method: Method,
    mask_of: Callable[[tuple[int, int]], Tensor],
    wanted: Tensor,
) -> Tensor:
    """Expected score (B, C) of one mask per row, where ``wanted``; 0 elsewhere."""
    score = torch.zeros_like(objective.mu)
    for at in _indices(wanted):
        score[at] = method.mask_score(field, at, mask_of(at), objective.at(at))
    return score


def _indices(rows: Tensor) -> list[tuple[int, int]]:
    return [(image, class_) for image, class_ in rows.nonzero().tolist()]
