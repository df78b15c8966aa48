"""RMA: the mask with the largest reciprocal-moment objective, without sorting the image.

F-beta (Dice) without smoothing and Tversky (IoU) are linear-fractional in the mask's selected sum
and volume. Dinkelbach's iteration ("On nonlinear fractional programming", Management Science 13(7),
1967) maximises them exactly: cut where a pixel stops to pay at the best value seen so far, measure
what lies above, repeat while the value rises. The value rises strictly over finitely many masks,
and stops only at the maximum. Smoothed F-beta is a sum of two ratios; see ``_smoothed``.

Pixels exactly at the cut change nothing and are left out, so a row's answer depends on its
probabilities alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankseg.fields.base import NOTHING, Field, Selection
from rankseg.objectives import FBeta, LinearFractional, Tversky
from rankseg.solvers.rows import Rows, as_rows

ROUNDING = 2.0**-50
"""Two values closer than this, relatively, may be the same number in exact arithmetic."""


def solve(field: Field, objective: FBeta | Tversky, active: Tensor) -> Rows:
    """Best region of every active row, each on its own; exact up to rounding."""
    if isinstance(objective, FBeta) and objective.smooth > 0:
        return _smoothed(field, objective, active)
    threshold, region = _maximise(field, objective.ratio(), field.totals().peak / 2, active)
    return as_rows(objective, threshold, region, active)


def _maximise(
    field: Field, ratio: LinearFractional, start: Tensor, active: Tensor
) -> tuple[Tensor, Selection]:
    """Cut and region of the largest value of the ratio, by Dinkelbach's iteration.

    ``start`` is only a first guess. Inactive rows come back empty.
    """
    region = Selection(torch.zeros_like(start), torch.zeros_like(start, dtype=torch.int64))
    best = ratio.value(region.selected_sum, region.volume)
    chosen, cut = torch.full_like(start, NOTHING), start
    rising, first = active, True
    while bool(rising.any()):
        found = field.above(cut.masked_fill(~rising, NOTHING))
        value = ratio.value(found.selected_sum, found.volume)
        # the region at the best value's own cut is preferred, unless rounding has emptied it
        keep = rising & (value >= best * (1 - ROUNDING))
        region, chosen = found.where(keep, region), cut.where(keep, chosen)
        rising = rising & ((value > best) | first)  # the guess may lie below the empty mask
        best = torch.where(keep, torch.maximum(best, value), best)
        cut, first = ratio.cut(best), False
    return chosen, region


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
    high, few = _tighten(field, objective, none, active, field.totals().peak / 2)
    low, many = _tighten(field, objective, none + torch.inf, active, high)
    threshold = low.clone()
    for image, class_ in (active & (few.volume < many.volume)).nonzero().tolist():
        row = (image, class_)
        undecided = field.row(image, class_).between(float(low[row]), float(high[row]))
        start = Selection(few.selected_sum[row], few.volume[row])
        alone = FBeta(objective.mu[row], objective.smooth, objective.beta)
        threshold[row] = _compare(alone, start, undecided, high[row], low[row])
    region = field.above(threshold.masked_fill(~active, NOTHING))
    return as_rows(objective, threshold, region, active)


def _tighten(
    field: Field, objective: FBeta, volume: Tensor, active: Tensor, threshold: Tensor
) -> tuple[Tensor, Selection]:
    """Best region for c(V), V its own volume: the fixed point nearest the volume given."""
    pending = active
    found = Selection(torch.zeros_like(volume), torch.zeros_like(volume, dtype=torch.int64))
    while bool(pending.any()):
        ratio = objective.first(objective.smoothing_price(volume))
        cut, now = _maximise(field, ratio, threshold, pending)
        threshold, found = cut.where(pending, threshold), now.where(pending, found)
        pending = pending & (found.volume != volume)
        volume = torch.where(pending, found.volume.to(volume), volume)
    return threshold, found


def _compare(
    objective: FBeta, start: Selection, undecided: Tensor, high: Tensor, low: Tensor
) -> Tensor:
    """Best cut from ``high``, where ``start`` is selected, down through the undecided pixels.

    Only cuts between different probabilities count: along equal ones the objective falls before it
    rises (c(V) falls, the other side stands still), so its maximum is at an end.
    """
    value, count = torch.unique(undecided, sorted=True, return_counts=True)
    value, count = value.flip(0), count.flip(0)
    gained, added = (value * count).cumsum(0), count.cumsum(0)
    cuts = torch.cat([high.reshape(1), value[1:], low.reshape(1)])
    score = torch.cat(
        [
            objective.value(start.selected_sum, start.volume).reshape(1),
            objective.value(start.selected_sum + gained, start.volume + added),
        ]
    )
    return cuts[score.argmax()]
