"""The mask with the largest exact expected Dice or IoU under independent labels.

Why the optimum is global (`_candidate_band`, `_dice_band`, `_iou_band`). The best mask of a volume
is a prefix of the sorted row, and a best volume V >= 1 cannot be improved by one step. The two
steps bound the probabilities of the last pixel taken and of the first one left, relative to the
best value, within O(1/(V + mu)). Only the few volumes between these bounds can win; each is
evaluated. A run of equal probabilities is never cut: along the run the score is quasi-convex (see
`_run_ends`). Hence the result is the optimum up to the error of the quadrature, about 1e-13.

The cost is about ten passes over the pixels and a sort of those near the threshold, usually a few
dozen.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np

from rankseg.generating_function import quadrature
from rankseg.objectives import Dice, IoU, LinearFractional
from rankseg.profile import Floats
from rankseg.solvers.exact_scores import PREFIXES, empty_score, profile
from rankseg.solvers.row import Optimum, Row

F = TypeVar("F", float, Floats)

_SLACK = 1e-12  # widens the candidate band against rounding
_CHUNK = 4096  # candidate volumes per block of (volumes, nodes) memory


def best_mask(row: Row, objective: Dice | IoU) -> Optimum:
    """Mask of one row with the largest exact expected score; the smallest if several have it.

    ``objective`` is the row's RMA objective; it tells the metric and starts the search.
    """
    metric, smooth = objective.metric, objective.smooth
    empty = Optimum(1.0, 0, empty_score(row, smooth))
    if row.mean == 0:
        return empty
    band = _candidate_band(row, metric, smooth, objective.ratio_of_means())
    found = _search(row, band, metric, smooth)
    return found if found is not None and found.score > empty.score else empty


class _Band(NamedTuple):
    """The best non-empty mask holds all pixels above ``high`` and none up to ``low``.

    ``best`` is the largest ratio of the means of numerator and denominator; by Jensen's inequality
    a lower bound of the best score.
    """

    low: float
    high: float
    best: float


def _candidate_band(row: Row, metric: str, smooth: float, ratio: LinearFractional) -> _Band:
    """Pixels that decide: those between the bounds of the smallest volume that can still win.

    The bounds tighten with that volume, which follows from ``high``: repeat until fixed.
    """
    bounds = _dice_band if metric == "dice" else _iou_band
    best, mean = row.best_ratio(ratio), row.mean
    volume, union = 1, max(mean, 1.0)  # union = V + mu outside: grows with the mask, at least mu
    while True:
        low, high = bounds(best, mean, volume + smooth, union + smooth)
        inside, count = row.above(high * (1 + _SLACK))
        if count <= volume:
            return _Band(low * (1 - _SLACK), high * (1 + _SLACK), best)
        volume, union = count, max(union, count + mean - inside)


def _dice_band(best: float, mean: float, rate: float, union: float) -> tuple[float, float]:
    """Bounds for a best mask with V >= 1 and V + gamma >= rate.

    Write M = V + gamma, N and G = labels inside and in all, D = E[(2N + gamma)/(M + G)], and use
    1/(M + mu) <= E[1/(M + G)] <= 1/max(M, M + mu - 1). The upper bound holds since a sum of
    independent labels is below Poisson(mu) in convex order and exp(-mu s) (1 - s)^(M - 1) is at
    most exp(-(M + mu - 1) s). It gives D <= (2S + gamma)/max(M, M + mu - 1).

    *Last pixel taken*, q, with share r = 2q E[1/(M + 1 + G without q)] of D. Without it the
    numerator leaves D - r; the denominator, smaller by one, adds E[R/(M + G)], R the Dice ratio of
    the smaller mask. Term by term E[1/(B(B + 1))] >= E[1/B]/(1 + E[B]) (both factors fall in B), so
    that is at least (D - r)/(M + mu + 1). Removal does not pay: r (M + mu + 2) >= D. With
    r <= 2q/max(M + mu - 1, M + 1) and D >= best follows ``low``.

    *First pixel left*, q. Adding it costs int s W(s) ds, where W(s) = (1 - s)^(M - 1) g (2 t
    sum_A p/(1 - p s) + gamma), int W = D. W is log-concave in s as M >= 1, so its mean is at most
    (int W)/W(0) (rising hazard) and the cost at most D^2/(2S + gamma) <= D/max(M, M + mu - 1). The
    gain is at least 2q/(M + mu + 2). Addition does not pay: ``high``.
    """
    tight = max(rate + mean - 1, rate)
    high = best / 2 * (rate + mean + 1) / tight * (rate + mean + 2) / tight
    return best * _dice_low(mean, rate), high


def _dice_low(mean: float, rate: F) -> F:
    """Bound ``low`` over ``best`` for Dice (see `_dice_band`); rises with rate = V + gamma."""
    return (rate + max(mean - 1, 1)) / (rate + mean + 2) / 2


def _iou_band(best: float, mean: float, rate: float, union: float) -> tuple[float, float]:
    """Bounds for a best mask with V >= 1, V + gamma >= rate and V + gamma + mu outside >= union.

    For a pixel q, G' = labels outside without q, a = V + gamma before it is added, E0 = E[1/(a +
    G')], E1 = E[1/(a + 1 + G')]: it pays to add q iff q/(1 - q) > (S + gamma)(E0 - E1)/E1.

    *Last pixel taken.* E0 - E1 = E[1/((a + G')(a + 1 + G'))] >= E0 E1, hence E0 >= E1/(1 - E1) and,
    with the score I = (S + q + gamma) E1, either q > I or q/(1 - q) >= I. As I >= best (Jensen) the
    pixel is above the RMA threshold: **the exact IoU mask is part of the RMA mask**.

    *First pixel left*, a >= 1. (1 - s)^(a - 1) g' is log-concave in s, so E0 - E1 <= E0^2 (as for
    Dice), and I = (S + gamma)(E0 - q (E0 - E1)) >= (S + gamma) E0 (1 - E0). No gain means q/(1 - q)
    <= I/(1 - E0)^2, where E0 <= 1/max(a, union - 2) and I <= best union/max(a, union - 1).
    """
    excess = 1 / max(rate, union - 2)
    if excess >= 1:
        return best / (1 + best), 1.0
    odds = best * union / max(rate, union - 1) / (1 - excess) ** 2
    return best / (1 + best), odds / (1 + odds)


def _run_ends(values: Floats) -> tuple[Floats, Floats]:
    """Distinct values, largest first, and how often each occurs: the volumes worth evaluating.

    Inside a run of n equal probabilities q the score is quasi-convex in the number k taken, so an
    end is best. IoU: f(k) = (c + q k) L(k), L the Laplace transform in l = log((1 - q s)/t) of a
    log-convex density; its coefficient of variation is at least 1, which makes f'' >= 0 wherever f'
    = 0. Dice: f'(k) = E[phi(G)/(c + k + G)^2], and phi changes sign once, from - to +, because
    E[Y_i | G]/E[Y_j | G] rises with G for p_i < p_j.
    """
    change = values[1:] != values[:-1]
    starts = np.flatnonzero(np.append(True, change)[: values.size])
    return values[starts], np.diff(np.append(starts, values.size)).astype(np.float64)


def _search(row: Row, band: _Band, metric: str, smooth: float) -> Optimum | None:
    """Best non-empty mask among {p > high} and its extensions by pixels of the band."""
    mean, (inside, base) = row.mean, row.above(band.high)
    values, counts = _run_ends(row.between(band.low, band.high))
    if base:  # the mask {p > high} itself is the first candidate
        values, counts = np.append(band.high, values), np.append(0, counts)
    volumes = base + np.cumsum(counts)
    used = _still_possible(values, volumes, mean, band, metric, smooth)
    if used == 0:
        return None
    counted = mean if metric == "dice" else max(mean - inside, 0.0)
    stretch = (volumes[used - 1] + smooth + mean) / (volumes[0] + smooth + mean)
    rule = quadrature(float(volumes[0]) + smooth, counted, float(stretch))
    prefixes = PREFIXES[metric](
        profile(row, rule, band.high, 1.0), profile(row, rule, 0.0, band.high), rule, inside, smooth
    )
    parts = [slice(start, min(start + _CHUNK, used)) for start in range(0, used, _CHUNK)]
    scores = np.concatenate([prefixes.scores(volumes[b], values[b], counts[b]) for b in parts])
    best = int(scores.argmax())
    threshold = float(np.append(values, band.low)[best + 1])
    return Optimum(threshold, int(volumes[best]), float(scores[best]))


def _still_possible(
    values: Floats, volumes: Floats, mean: float, band: _Band, metric: str, smooth: float
) -> int:
    """Number of leading candidates worth evaluating: ``low`` of Dice rises with the volume.

    It matters for many nearly equal tiny probabilities: at V = 1 their band is wide.
    """
    if metric == "iou":
        return values.size
    low = band.best * (1 - _SLACK) * _dice_low(mean, volumes + smooth)
    possible = np.flatnonzero(values >= low)
    return int(possible[-1]) + 1 if possible.size else 0
