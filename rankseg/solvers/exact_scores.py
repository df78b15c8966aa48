"""Exact expected Dice and IoU of masks under independent labels.

With x, s and t = exp(-x) as in `generating_function`, V = |A|, S = sum_A p, gamma = smooth, g over
all pixels and g_out over those outside A:

    Dice(A) = int_0^inf exp(-(V + gamma) x) g (2 t sum_A p/(1 - p s) + gamma) dx
    IoU(A)  = (S + gamma) int_0^inf exp(-(V + gamma) x) g_out dx

The inside and the outside of a mask are independent, hence the form of IoU. One or two passes
replace the pixels by a few weighted ones; after that no cost depends on their number.
"""

from __future__ import annotations

import numpy as np

from rankseg.generating_function import Quadrature, log_factor, quadrature, share
from rankseg.profile import Floats, Profile, join
from rankseg.solvers.row import Row


def mask_score(metric: str, inside: Row, outside: Row, volume: int, smooth: float) -> float:
    """Exact expected score of any mask, error about 1e-13; 0/0 counts as 0.

    ``inside`` and ``outside`` are the row with the pixels of the other side at probability 0.
    """
    if volume == 0:
        return empty_score(outside, smooth)
    counted = outside.mean + (inside.mean if metric == "dice" else 0.0)
    rule = quadrature(volume + smooth, counted)
    prefixes = PREFIXES[metric](
        profile(inside, rule, 0.0, 1.0), profile(outside, rule, 0.0, 1.0), rule, inside.mean, smooth
    )
    return float(prefixes.scores(np.array([float(volume)]), np.zeros(1), np.zeros(1))[0])


def empty_score(row: Row, smooth: float) -> float:
    """E[gamma/(gamma + G)] = 1 - sum_j p_j E[1/(gamma + 1 + G without j)].

    The complement keeps the rate of decay at 1 or more, however small gamma is.
    """
    if smooth == 0:
        return 0.0
    rule = quadrature(smooth + 1, row.mean)
    pixels = profile(row, rule, 0.0, 1.0)
    g = np.exp(pixels.weight @ log_factor(pixels.p, rule) - (smooth + 1) * rule.x)
    some = float(rule.weight @ (g * (pixels.weight @ share(pixels.p, rule))))
    return max(0.0, 1 - some)


def log_absent(row: Row) -> float:
    """Log of the probability that no pixel has the label, sum log(1 - p); -inf if one has for sure.

    Pixels above 1/2, at most 2 mu, are kept as they are (see `profile`).
    """
    few, many = row.profile(0.0, 0.5), row.pixels(0.5, 1.0)
    with np.errstate(divide="ignore"):
        return float(few.weight @ np.log1p(-few.p) + np.log1p(-many.p).sum())


def profile(row: Row, rule: Quadrature, low: float, high: float) -> Profile:
    """Weighted pixels of (low, high] on which log(1 - p s) and p/(1 - p s) are accurate.

    Both are singular at p = 1/s; up to p = 1/(2s) the Chebyshev error falls like 5.8^-n. Pixels
    beyond exist only if s > 1/2, that is if mu is below about 100, and then there are at most 2 mu
    of them: they are kept as they are.
    """
    limit = min(1.0, 0.5 / float(rule.s.max()))
    smooth_part = row.profile(low, min(high, limit))
    return smooth_part if high <= limit else join(smooth_part, row.pixels(max(low, limit), high))


class DicePrefixes:
    """Dice of a mask that grows by sorted pixels: keeps sum_A p/(1 - p s) at the nodes."""

    def __init__(
        self,
        inside: Profile,
        outside: Profile,
        rule: Quadrature,
        selected_sum: float,
        smooth: float,
    ) -> None:
        everything = join(inside, outside)
        self._rule, self._smooth = rule, smooth
        self._log_g = everything.weight @ log_factor(everything.p, rule)
        self._shares = inside.weight @ share(inside.p, rule)

    def scores(self, volumes: Floats, values: Floats, counts: Floats) -> Floats:
        """Scores after adding ``counts[n]`` pixels of ``values[n]``, n = 0, 1, ...."""
        rule = self._rule
        shares = self._shares + np.cumsum(counts[:, None] * share(values, rule), axis=0)
        self._shares = shares[-1]
        decay = np.exp(self._log_g - (volumes + self._smooth)[:, None] * rule.x)
        out: Floats = (decay * (2 * (1 - rule.s) * shares + self._smooth)) @ rule.weight
        return out


class IouPrefixes:
    """IoU of a mask that grows by sorted pixels: keeps S and log g_out at the nodes."""

    def __init__(
        self,
        inside: Profile,
        outside: Profile,
        rule: Quadrature,
        selected_sum: float,
        smooth: float,
    ) -> None:
        self._rule, self._smooth, self._inside = rule, smooth, selected_sum
        self._log_out = outside.weight @ log_factor(outside.p, rule)

    def scores(self, volumes: Floats, values: Floats, counts: Floats) -> Floats:
        """Scores after adding ``counts[n]`` pixels of ``values[n]``, n = 0, 1, ...."""
        rule = self._rule
        inside = self._inside + np.cumsum(counts * values)
        log_out = self._log_out - np.cumsum(counts[:, None] * log_factor(values, rule), axis=0)
        self._inside, self._log_out = float(inside[-1]), log_out[-1]
        decay = np.exp(log_out - (volumes + self._smooth)[:, None] * rule.x)
        out: Floats = (inside + self._smooth) * (decay @ rule.weight)
        return out


PREFIXES: dict[str, type[DicePrefixes] | type[IouPrefixes]] = {
    "dice": DicePrefixes,
    "iou": IouPrefixes,
}
