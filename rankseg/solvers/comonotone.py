"""Expected Dice and IoU of level sets when the labels of a class move together.

Comonotone labels are Y_j = 1{U < p_j} with one uniform U for the image: given U = u the labels are
{p > u}, N(u) of them. So is a level set of volume V, and of two level sets one holds the other:

    Dice(V) = int_0^1 (2 min(V, N) + gamma)/(V + N + gamma) du
    IoU(V)  = int_0^1 (min(V, N) + gamma)/(max(V, N) + gamma) du

N is a staircase. Where the stairs of a stretch of u are not told apart, N falls there from k2 to k1
and its mean is known, so that m = (mean - k1)(k2 - mean) bounds its variance. Both integrands are
2 - (2V + gamma)/x or (2V + gamma)/x of x = V + N + gamma (IoU: linear, or (V + gamma)/x of
x = N + gamma), and by convexity the mean of 1/x exceeds 1/(mean x) by
m/((x at k1)(x at k2)(x at the mean)) at most. A third of that is what stairs of equal width need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankseg.profile import Floats
from rankseg.solvers.bins import Bins

Places = NDArray[np.intp]

MODERATE = (1e-60, 1e60)
"""Smoothing beyond is taken for these: its cubes leave float64, and beside N, which counts pixels,
it changes no score by more than 1e-50."""


def moderate(smooth: float) -> float:
    """Smoothing as it is added to N."""
    return min(max(smooth, MODERATE[0]), MODERATE[1]) if smooth else 0.0


@dataclass(frozen=True)
class Steps:
    """N(u) from u = 1 down to 0: candidates for a mask, and what N does between them.

    Candidate n is the mask of the ``volume[n]`` pixels above ``level[n]``, with the sum
    ``selected_sum[n]`` and the threshold ``cut[n]``. ``area[n]`` is the integral of N from 1 down
    to ``level[n]``. ``bin[n]`` is the bin that ends at the candidate and ``unknown[n]`` tells that
    its pixels are not told apart.
    """

    level: Floats
    volume: Floats
    selected_sum: Floats
    cut: Floats
    area: Floats
    bin: Places
    unknown: NDArray[np.bool_]


def steps_of(bins: Bins, spacing: float) -> Steps:
    """Steps of a row; a bin of several values is a ramp between two candidates."""
    single = bins.single(spacing)
    low = np.where(single, bins.low + bins.excess / bins.count, bins.low)
    top = np.where(single, low, bins.low + bins.width)
    number = np.repeat(np.arange(len(bins)), 1 + ~single)
    ends = np.append(np.diff(number) != 0, True)[: number.size]  # of its bin; else its upper end
    count = np.where(ends, bins.count[number], 0).astype(np.float64)
    added = np.where(ends, (bins.count * bins.low + bins.excess)[number], 0.0)
    following = np.append(bins.low[1:], 0.0) if not bins.width.any() else bins.low
    level = np.concatenate([[1.0], np.where(ends, low[number], top[number]), [0.0]])
    volume = np.concatenate([[0.0], np.cumsum(count)])
    volume = np.append(volume, volume[-1])
    ramp = np.where(ends & ~single[number], bins.excess[number], 0.0)
    area = np.cumsum(-np.diff(level) * volume[:-1] + np.append(ramp, 0.0))
    selected_sum = np.concatenate([[0.0], np.cumsum(added)])
    return Steps(
        level,
        volume,
        np.append(selected_sum, selected_sum[-1]),
        np.concatenate([[1.0], np.where(ends, following[number], top[number]), [0.0]]),
        np.append(0.0, area),
        np.concatenate([[-1], number, [-1]]),
        np.concatenate([[False], ends & ~single[number], [False]]),
    )


class Stretches(NamedTuple):
    """N between neighbours of some of the candidates."""

    height: Floats
    least: Floats
    most: Floats
    mean: Floats
    variance: Floats


def stretches(steps: Steps, bounds: Places) -> Stretches:
    """Stretches between the candidates given, rising."""
    level, volume, area = steps.level[bounds], steps.volume[bounds], steps.area[bounds]
    height, least, most = level[:-1] - level[1:], volume[:-1], volume[1:]
    mean = np.divide(area[1:] - area[:-1], height, out=least.copy(), where=height > 0)
    mean = np.minimum(np.maximum(mean, least), most)
    return Stretches(height, least, most, mean, (mean - least) * (most - mean))


class Scores(NamedTuple):
    """Expected scores of candidates, and what they may be off by at most."""

    value: Floats
    gap: Floats


def expected(metric: str, smooth: float, parts: Stretches, volume: Floats, place: Places) -> Scores:
    """Scores of masks of some volumes, the ``place``-th stretch being the first below each.

    Volumes are at least 1, or there is smoothing.
    """
    if metric == "iou":
        return _expected_iou(smooth, parts, volume, place)
    height, _, _, mean, variance = parts
    reciprocal = 1 / ((volume + smooth)[:, None] + mean)
    below = np.arange(height.size) >= place[:, None]
    numerator = (2 * volume + smooth)[:, None]
    value = (np.where(below, numerator, 2 * mean + smooth) * height * reciprocal).sum(1)
    if not variance.any():
        return Scores(value, np.zeros_like(value))
    sign = np.where(below, height, -height) * variance
    value += numerator[:, 0] * np.einsum("ij,ij,ij,ij->i", sign, *[reciprocal] * 3) / 3
    least = volume.min() + smooth
    wider = (least + mean) ** 2 / ((least + parts.least) * (least + parts.most))
    weight = height * variance * np.maximum(wider, 1)  # which falls to 1 as V grows, or rises to it
    cubes = np.einsum("ij,ij,ij,j->i", reciprocal, reciprocal, reciprocal, weight)
    return Scores(value, numerator[:, 0] * cubes)


def _expected_iou(smooth: float, parts: Stretches, volume: Floats, place: Places) -> Scores:
    """Sums from above and from below: no stretch asks for the volume but as a factor."""
    v = volume + smooth
    reciprocal, bend = _outside_iou(smooth, parts)
    inside = np.append(0.0, np.cumsum(parts.height * (parts.mean + smooth)))[place]
    outside = np.append(np.cumsum((reciprocal + bend / 3)[::-1])[::-1], 0.0)[place]
    gap = np.append(np.cumsum(bend[::-1])[::-1], 0.0)[place]
    return Scores(inside / v + v * outside, v * gap)


def _outside_iou(smooth: float, parts: Stretches) -> tuple[Floats, Floats]:
    """Integrals of 1/(N + gamma) for N = mean, and what they may be short of."""
    real = parts.least + smooth > 0  # no mask is above the others
    least, most, mean = (np.where(real, n + smooth, 1.0) for n in parts[1:4])
    reciprocal = np.where(real, parts.height / mean, 0.0)
    return reciprocal, reciprocal * parts.variance / (least * most)


class Doubt(NamedTuple):
    """How much scores may be off against that of one candidate, and by which stretches."""

    off: Floats
    by: Floats


def doubt(
    metric: str,
    smooth: float,
    parts: Stretches,
    volume: Floats,
    place: Places,
    gap: Floats,
    best: int,
) -> Doubt:
    """How sure the differences of scores from one of them are; ``gap`` is theirs.

    An error is at most two thirds of the gap. Of the difference of two scores it is less: between
    the two masks, both gaps; elsewhere the error changes with V as the integrand does, whose
    derivative has a second derivative in N of at most 8/x^3 (IoU: 2/x^3 outside, none inside).
    Half of that times the variance, and a third more for the correction, is ``slow``.
    """
    change = np.abs(volume - volume[best])
    spread = parts.height * parts.variance
    if metric == "dice":
        low, high = volume.min() + smooth + parts.least, volume.min() + smooth + parts.most
        slow, near = 16 / 3 * spread / low**3, 2 * spread / (low * high)
    else:
        outside = np.arange(spread.size) >= place.min()
        bend = np.where(outside, _outside_iou(smooth, parts)[1], 0.0)
        low = np.where(outside, parts.least + smooth, np.inf)
        slow, near = 4 / 3 * spread / low**3, (volume.max() + smooth) * bend
    between = np.append(0.0, np.cumsum(near))[place]
    drift = change * slow.sum() + 4 / 3 * np.abs(between - between[best])
    off = np.minimum(drift, 2 / 3 * (gap + gap[best]))
    return Doubt(off, np.minimum(slow * change.max(), 4 / 3 * near))


def slack(metric: str, smooth: float, parts: Stretches, lower: Floats) -> Floats:
    """How much a mask that ends inside a stretch may score above the better of its two ends.

    Below the stretch, u < ``lower``, the integrand is (2V + gamma)/(V + N + gamma), concave in V,
    and exceeds its chord by n^2/(4 (k2 + N + gamma) (k1 + k2 + gamma)) times 2 or less (IoU: it is
    linear); above, it is convex; in the stretch it is at most 1, and at the ends at least
    (2 k1 + gamma)/(k1 + k2 + gamma).
    """
    n = parts.most - parts.least
    most, least = parts.most + smooth, parts.least
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric == "iou":
            found = parts.height * n / most
        else:
            concave = lower * n * n / (2 * (most + parts.most) * (most + least))
            found = concave + parts.height * n / (most + least)
    return np.where(n > 0, found, 0.0)
