"""The mask with the largest BA, TRNA or BA+TRNA objective.

Only volumes in a band around the RMA answer can win (`_band`). In it, objective/ratio is computed
at some volumes and interpolated: it differs from 1 by O(1/D) and changes by O(1/D) of that per
pixel.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from rankseg.profile import Floats
from rankseg.refined_normal import quantile
from rankseg.solvers.normal_scores import Ba, Masks, a_score
from rankseg.solvers.row import Optimum, Row

_BLOCK = 65536  # band values per block of prefix weights


def best_mask(row: Row, terms: Ba) -> Optimum:
    """Mask of one row with the largest approximate expected score."""
    empty = Optimum(1.0, 0, terms.empty())
    if row.mean == 0:
        return empty
    found = _search(row, terms, *_band(row, terms))
    return found if found is not None and found.score > empty.score else empty


def _band(row: Row, terms: Ba) -> tuple[float, float]:
    """Bounds (low, high): a best non-empty mask holds all pixels above high and none up to low.

    With r = `ratio` and D = V + mu + gamma (IoU: V + mu outside + gamma), every method's objective
    f satisfies r D/(D + 2) <= f <= r `_excess`. As a function of the volume r rises, then falls; so
    once the upper bound at a threshold is below the lower bound at the best ratio, all volumes
    beyond that threshold are beaten.
    """
    best = row.best_ratio(terms.ratio_of_means)
    centre = float(terms.ratio_of_means.cut(torch.tensor(best, dtype=torch.float64)))
    union = terms.union(*row.above(centre))
    value = best * union / (union + 2)
    volume, union = (
        1,
        terms.union(min(row.mean, 1.0), 1),
    )  # the smallest volume and D not yet beaten
    while True:
        excess = _excess(terms, volume, union)
        high = _beaten_from(row, terms, centre, 1 - centre, best, value, excess)
        inside, volume = row.above(high)
        before, union = union, max(union, terms.union(inside, volume))
        if union < 4 * before:  # the bound would hardly tighten
            return _beaten_from(row, terms, centre, -centre, best, value, excess), high


def _beaten_from(
    row: Row, terms: Ba, centre: float, span: float, best: float, value: float, excess: float
) -> float:
    """First threshold from centre towards centre + span whose ratio is below value/excess.

    The far end if none is.

    Pixels of uniform density lose the ratio's slack within ``step`` of the centre; doubled until
    enough.
    """
    slack = max(best * excess / value - 1, 0.0)  # rounding can make it negative
    step = max(math.sqrt(slack * best * (terms.union(*row.above(centre)) / row.size)), 1e-12)
    while step < abs(span):
        threshold = centre + math.copysign(step, span)
        if terms.ratio(*row.above(threshold)) * excess < value:
            return threshold
        step *= 2
    return centre + span


def _excess(terms: Ba, volume: float, union: float) -> float:
    """Upper bound of f/r for volumes from ``volume`` on, where D >= union; infinite if unknown.

    1/E[X] <= E[1/X] <= (1 + var X/(E[X] min X))/E[X]. The mean of a count differs from the true one
    by at most one by rounding and one for the pixel left out; min X is at least V + gamma and near
    D - sd quantile(eps).
    """
    if union <= 3:
        return math.inf
    variance = float(terms.total[1])
    smallest = max(
        volume + terms.smooth, union - (quantile(terms.eps) + 1) * math.sqrt(variance) - 4
    )
    return (union + 1) / (union - 2) * (1 + (variance + 1) / (union - 2) / smallest)


def _search(row: Row, terms: Ba, low: float, high: float) -> Optimum | None:
    """Best mask among {p > high} and its extensions by pixels with low < p <= high.

    A run of equal probabilities is taken whole or not at all.
    """
    prefixes = _Prefixes(row, terms, low, high)
    band, volumes = prefixes.band, prefixes.volumes
    if volumes[-1] == 0:
        return None
    rough = terms.ratio(prefixes.inside, volumes)
    first = 0 if volumes[0] else 1
    knots = _knots(terms.union(prefixes.inside, volumes), first)
    factor = terms.scores(prefixes.masks(knots)) / rough[knots]
    estimate = rough * np.interp(volumes, volumes[knots], factor)
    run_end = np.append(band, low) != np.append(high, band)
    run_end[0] = True
    best = first + int(np.where(run_end, estimate, -np.inf)[first:].argmax())
    score = a_score(terms.scores(prefixes.masks(np.array([best]))))
    return Optimum(float(np.append(band, low)[best]), int(volumes[best]), score)


def _knots(union: Floats, first: int) -> NDArray[np.intp]:
    """Indices of the volumes at which the objective is computed, the first and the last among them.

    f/r - 1 changes by at most about 1/(4 D^2) a pixel (one pixel's share of var/D^2), so a distance
    of 1e-6 D^2 errs by 2.5e-7; D/64 keeps the smooth part, an error of second order, below that.
    """
    at, knots = first, []
    while at < union.size - 1:
        knots.append(at)
        size = min(float(union[at]), 1e100)  # whose square is a number
        at += max(1, int(min(1e-6 * size**2, size / 64)))
    return np.array([*knots, union.size - 1])


class _Prefixes:
    """The masks {p > high} plus the n = 0, 1, ... largest pixels with low < p <= high."""

    def __init__(self, row: Row, terms: Ba, low: float, high: float) -> None:
        self._terms, self._weight = terms, terms.weight(row.selected(high))
        self.band = row.between(low, high)
        inside, count = row.above(high)
        self.volumes = count + np.arange(self.band.size + 1.0)
        self.inside = inside + np.append(0.0, np.cumsum(self.band))
        self._outside = self._suffixes(row.moments(0.0, low))

    def masks(self, at: NDArray[np.intp]) -> Masks:
        """Masks with n = ``at`` (ascending) pixels of the band."""
        weights = self._weight + self._prefix_weights(at)
        return Masks(self.volumes[at], self.inside[at], self._outside[at], weights)

    def _suffixes(self, rest: Floats) -> Floats:
        """Moments outside each mask, summed from the small end: no differences of large numbers."""
        p = self.band
        variance = p * (1 - p)
        terms = np.stack([p, variance, variance * (1 - 2 * p)], axis=1)
        return np.append(np.cumsum(terms[::-1], axis=0)[::-1], np.zeros((1, 3)), axis=0) + rest

    def _prefix_weights(self, at: NDArray[np.intp]) -> Floats:
        """Node weights of the first ``at`` pixels of the band, shape (len(at), nodes)."""
        terms = self._terms
        carry, out = np.zeros((self._weight.size, 1)), []
        for start in range(0, int(at[-1]) + 1, _BLOCK):
            part = np.cumsum(terms.terms(self.band[start : start + _BLOCK]), axis=1)
            sums = np.concatenate([carry, carry + part], axis=1)
            out.append(sums[:, at[(at >= start) & (at < start + _BLOCK)] - start])
            carry = sums[:, -1:]
        weights: Floats = np.concatenate(out, axis=1).T @ terms.synthesis
        return weights
