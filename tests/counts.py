"""Slow, independent truths for tests: float64 numpy, nothing shared with the solvers.

Exact scores (dynamic programme, all subsets, Monte Carlo) and the published normal approximations
at every volume.

Definition of the refined normal used here and by the fast solver, so that degenerate rows mean
something:

* cdf(k) = Phi(x) + skewness (1 - x^2) phi(x) / 6 clipped to [0, 1], x = (k + 1/2 - mean) / sd,
  where the variance is at least 1e-16: a row without uncertainty is a point at its volume.
* The interval runs from the smallest k >= 0 with cdf(k) >= eps/2 to the smallest k with cdf(k) >= 1
  - eps/2, at most the number of pixels counted. pmf(k) = max(cdf(k) - cdf(k - 1), 0) there,
  renormalised.
* Without pixel j, G is at most one smaller: the interval of G, begun one earlier (but not below 0).
* For IoU the labels outside the mask have their own moments and interval at each volume.
* If no mass falls into an interval, G sits at the point of the interval nearest to the mean.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def count_pmf(p: Floats) -> Floats:
    """P(G = k), k = 0..d, of a sum of independent labels: the O(d^2) dynamic programme."""
    pmf = np.ones(1)
    for q in p:
        pmf = np.append(pmf * (1 - q), 0.0) + np.append(0.0, pmf * q)
    return pmf


def _ratio(numerator: Floats, denominator: NDArray[np.floating]) -> Floats:
    """Quotient with 0/0 = 0."""
    out = np.zeros_like(numerator)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def _score(inside: Floats, outside: Floats, volume: int, metric: str, smooth: float) -> float:
    """Expected score from the count distributions inside and outside a mask."""
    i = np.arange(inside.size, dtype=np.float64)
    if metric == "dice":
        weight = np.convolve(inside * (2 * i + smooth), outside)
        return float(_ratio(weight, volume + smooth + np.arange(weight.size)).sum())
    o = np.arange(outside.size, dtype=np.float64)
    return float((inside * (i + smooth)).sum() * _ratio(outside, volume + smooth + o).sum())


def dp_score(p: Floats, mask: Bools, metric: str, smooth: float = 0.0) -> float:
    """Exact expected Dice or IoU of any mask."""
    return _score(count_pmf(p[mask]), count_pmf(p[~mask]), int(mask.sum()), metric, smooth)


def dp_prefix_scores(p: Floats, metric: str, smooth: float = 0.0) -> Floats:
    """Exact score of the V most probable pixels, V = 0..d."""
    p = np.sort(p)[::-1]
    mask = np.arange(p.size)[None, :] < np.arange(p.size + 1)[:, None]
    return np.array([dp_score(p, row, metric, smooth) for row in mask])


def best_subset_score(p: Floats, metric: str, smooth: float = 0.0) -> float:
    """Largest exact score over all 2^d masks."""
    masks = np.array(list(product([False, True], repeat=p.size)))
    return max(dp_score(p, mask, metric, smooth) for mask in masks)


def monte_carlo(
    p: Floats, mask: Bools, metric: str, smooth: float = 0.0, draws: int = 400, seed: int = 0
) -> tuple[float, float]:
    """Mean score over drawn labels and the standard error of that mean."""
    rng = np.random.default_rng(seed)
    volume, scores = int(mask.sum()), np.empty(draws)
    for n in range(draws):
        label = rng.random(p.size) < p
        both, total = int(label[mask].sum()), volume + int(label.sum())
        top, bottom = (2 * both, total) if metric == "dice" else (both, total - both)
        scores[n] = (top + smooth) / (bottom + smooth) if bottom + smooth > 0 else 0.0
    return float(scores.mean()), float(scores.std(ddof=1) / math.sqrt(draws))


def refined_cdf(k: Floats, mean: float, variance: float, third: float) -> Floats:
    """Refined normal cdf at integers k; ``third`` is the third central moment."""
    sd = math.sqrt(max(variance, 1e-16))
    x = (k + 0.5 - mean) / sd
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    cdf = _erfc(-x / math.sqrt(2)) / 2 + third / sd**3 * (1 - x * x) * density / 6
    clipped: Floats = np.clip(cdf, 0, 1)
    return clipped


def interval(p: Floats, eps: float) -> tuple[int, int]:
    """Central 1 - eps interval of the refined normal of sum(labels)."""
    cdf = refined_cdf(np.arange(p.size + 1.0), *_moments(p))
    first = [np.flatnonzero(cdf >= level) for level in (eps / 2, 1 - eps / 2)]
    low, high = (int(found[0]) if found.size else p.size for found in first)
    return low, high


def interval_pmf(p: Floats, low: int, high: int) -> tuple[Floats, Floats]:
    """Integers low..high and their refined-normal probabilities, summing to one."""
    mean, variance, third = _moments(p)
    k = np.arange(low, high + 1.0)
    cdf = refined_cdf(np.arange(low - 1, high + 1.0), mean, variance, third)
    mass = np.clip(np.diff(cdf), 0, None)
    if mass.sum() == 0:
        mass[np.argmin(abs(k - mean))] = 1
    return k, mass / mass.sum()


def _moments(p: Floats) -> tuple[float, float, float]:
    """Mean, variance, third central moment of sum(labels)."""
    return p.sum(), (p * (1 - p)).sum(), (p * (1 - p) * (1 - 2 * p)).sum()


def _mean_reciprocal(k: Floats, pmf: Floats, shift: Floats, top: float = 1.0) -> Floats:
    """E[top/(shift + G)] for each shift."""
    return np.array([pmf @ _ratio(np.full_like(k, top), c + k) for c in shift])


def _empty_terms(k: Floats, pmf: Floats, volumes: Floats, smooth: float) -> Floats:
    """Smoothing term gamma E[1/(V + gamma + G)]."""
    return _mean_reciprocal(k, pmf, volumes + smooth, top=smooth)


def ba_dice(p: Floats, smooth: float = 0.0, eps: float = 1e-4) -> Floats:
    """BA objective of the V most probable pixels, V = 0..d."""
    p = np.sort(p)[::-1]
    volumes, total = np.arange(p.size + 1.0), np.append(0.0, np.cumsum(p))
    k, pmf = interval_pmf(p, *interval(p, eps))
    first = 2 * total * _mean_reciprocal(k, pmf, volumes + 1 + smooth)
    return first + _empty_terms(k, pmf, volumes, smooth)


def trna_dice(p: Floats, smooth: float = 0.0, eps: float = 1e-4) -> Floats:
    """TRNA objective of the V most probable pixels, V = 0..d."""
    p = np.sort(p)[::-1]
    volumes = np.arange(p.size + 1.0)
    low, high = interval(p, eps)
    start, stop = max(low - 1, 0), min(high, p.size - 1)
    value = _empty_terms(*interval_pmf(p, low, high), volumes, smooth)
    for j, q in enumerate(p):
        k, pmf = interval_pmf(np.delete(p, j), start, max(start, stop))
        value[j + 1 :] += 2 * q * _mean_reciprocal(k, pmf, volumes[j + 1 :] + 1 + smooth)
    return value


def normal_iou(p: Floats, smooth: float = 0.0, eps: float = 1e-4) -> Floats:
    """IoU objective with refined-normal labels outside the V most probable pixels, V = 0..d."""
    p = np.sort(p)[::-1]
    value = np.zeros(p.size + 1)
    for volume in range(p.size + 1):
        outside = p[volume:]
        k, pmf = interval_pmf(outside, *interval(outside, eps))
        top = p[:volume].sum() + smooth
        value[volume] = _mean_reciprocal(k, pmf, np.array([volume + smooth]), top)[0]
    return value


def normal_scores(
    p: Floats, metric: str, method: str, smooth: float = 0.0, eps: float = 1e-4
) -> Floats:
    """Objective of ``method`` ('BA', 'TRNA', 'BA+TRNA') at every volume."""
    if metric == "iou":
        return normal_iou(p, smooth, eps)
    variance = _moments(p)[1]
    wide = variance > 0 and 1 / math.sqrt(variance) < 0.2
    use_ba = method == "BA" or (method == "BA+TRNA" and wide)
    return (ba_dice if use_ba else trna_dice)(p, smooth, eps)
