"""RMA: the mask with the largest reciprocal-moment objective, without sorting the image.

F-beta (Dice) without smoothing and Tversky (IoU) are linear-fractional in the mask's selected sum
and volume: the field maximises them exactly by Dinkelbach's iteration (``fields/dinkelbach.py``).
Smoothed F-beta is a sum of two ratios; see ``_smoothed``.

Pixels exactly at the cut change nothing and are left out, so a row's answer depends on its
probabilities alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankseg.fields.base import NOTHING, Field, Selection
from rankseg.objectives import FBeta, Tversky
from rankseg.solvers.rows import Rows, as_rows


def solve(field: Field, objective: FBeta | Tversky, active: Tensor) -> Rows:
    """Best region of every active row, each on its own; exact up to rounding."""
    if isinstance(objective, FBeta) and objective.smooth > 0:
        return _smoothed(field, objective, active)
    threshold, region = field.maximise(objective.ratio, active)
    return as_rows(objective, threshold, region, active)


def _smoothed(field: Field, objective: FBeta, active: Tensor) -> Rows:
    """Best region under a ratio and smooth/(V + b), b = w mu + smooth: bracket, then compare.

    Growing the region of volume V by its next pixel, of probability p, raises the objective iff
    (1 + w)(p (V + b + w) - S) > c(V), c the smoothing price. The left side falls with V, and for
    a constant c this is the sign of growing ((1 + w) S + c)/(V + b + w). c(V) falls as well, which
    is why the objective can have several maxima; but c(0) >= c(V) >= c(inf) puts them all between
    the best regions for those two constants, and c at the volumes found tightens both ends
    further. The ends meet except in small or flat rows, where the few pixels that remain are
    compared one by one.
    """
    none = torch.zeros_like(objective.mu)
    high, few = _tighten(field, objective, none, active, None)
    low, many = _tighten(field, objective, none + torch.inf, active, high)
    threshold = low.clone()
    for image, class_ in (active & (few.volume < many.volume)).nonzero().tolist():
        row = (image, class_)
        undecided = field.distinct(row, float(low[row]), float(high[row]))
        start = Selection(few.selected_sum[row], few.volume[row])
        alone = FBeta(objective.mu[row], objective.smooth, objective.beta)
        threshold[row] = _compare(alone, start, undecided, high[row], low[row])
    region = field.above(threshold.masked_fill(~active, NOTHING))
    return as_rows(objective, threshold.masked_fill(~active, NOTHING), region, active)


def _tighten(
    field: Field, objective: FBeta, volume: Tensor, active: Tensor, start: Tensor | None
) -> tuple[Tensor, Selection]:
    """Best region for c(V), V its own volume: the fixed point nearest the volume given."""
    pending, threshold = active, torch.full_like(volume, NOTHING)
    found = Selection(torch.zeros_like(volume), torch.zeros_like(volume, dtype=torch.int64))
    while bool(pending.any()):
        ratio = objective.first(objective.smoothing_price(volume))
        cut, now = field.maximise(ratio, pending, start)
        threshold, found = cut.where(pending, threshold), now.where(pending, found)
        pending = pending & (found.volume != volume)
        volume = torch.where(pending, found.volume.to(volume), volume)
        start = threshold
    return threshold, found


def smoothed_in_rounds(field: Field, objective: FBeta, active: Tensor) -> Rows:
    """``_smoothed`` for graphs: the better end after two rounds, and nothing between the ends."""
    none = torch.zeros_like(objective.mu)
    ends = [_after_rounds(field, objective, v, active) for v in (none, none + torch.inf)]
    (high, few), (low, many) = ends
    scores = [objective.value(found.selected_sum, found.volume) for found in (few, many)]
    larger = scores[1] > scores[0]
    return as_rows(objective, torch.where(larger, low, high), many.where(larger, few), active)


def _after_rounds(
    field: Field, objective: FBeta, volume: Tensor, active: Tensor
) -> tuple[Tensor, Selection]:
    """Where ``_tighten`` is after two rounds; of 3,306 random rows all stood still there."""
    cut, found = field.maximise(objective.first(objective.smoothing_price(volume)), active)
    price = objective.smoothing_price(found.volume.to(volume))
    return field.maximise(objective.first(price), active, cut)


Distinct = tuple[Tensor, Tensor]


def _compare(
    objective: FBeta, start: Selection, undecided: Distinct, high: Tensor, low: Tensor
) -> Tensor:
    """Best cut from ``high``, where ``start`` is selected, down through the undecided pixels.

    Only cuts between different probabilities count: along equal ones the objective falls before it
    rises (c(V) falls, the other side stands still), so its maximum is at an end.
    """
    value, count = (numbers.flip(0) for numbers in undecided)
    gained, added = (value * count).cumsum(0), count.cumsum(0)
    cuts = torch.cat([high.reshape(1), value[1:], low.reshape(1)])
    score = torch.cat(
        [
            objective.value(start.selected_sum, start.volume).reshape(1),
            objective.value(start.selected_sum + gained, start.volume + added),
        ]
    )
    return cuts[score.argmax()]
