"""The refined normal approximation of a sum of independent labels (Poisson-binomial count).

cdf(k) = Phi(x) + skewness (1 - x^2) phi(x)/6 clipped to [0, 1], x = (k + 1/2 - mean)/sd, variance
at least 1e-16. It is used on its central 1 - eps interval: from the smallest k >= 0 with cdf >=
eps/2 to the smallest with cdf >= 1 - eps/2, at most the number of pixels; pmf(k) = max(cdf(k) -
cdf(k - 1), 0), renormalised. Should an interval hold no mass, the count sits at its point nearest
to the mean. So rows without uncertainty, of one pixel, or far too skewed are defined.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rankseg.profile import Floats

_MIN_VARIANCE = 1e-16


def refined_cdf(k: Floats, moments: Floats) -> Floats:
    """Cdf at integers k (n, K) for moments (n, 3): mean, variance, third central moment."""
    mean, variance, third = (
        moments[:, :1],
        np.maximum(moments[:, 1:2], _MIN_VARIANCE),
        moments[:, 2:],
    )
    x = (k + 0.5 - mean) / np.sqrt(variance)
    bell = np.exp(-x * x / 2)
    # not erf, erfc, ndtr: those call MKL, which wakes its threads for 300 numbers (8 ms if busy)
    tail = torch.special.erfcx(torch.from_numpy(np.abs(x) / math.sqrt(2))).numpy() * bell / 2
    cdf = np.where(x > 0, 1 - tail, tail)
    cdf += third / variance**1.5 * (1 - x * x) * bell / (6 * math.sqrt(2 * math.pi))
    clipped: Floats = np.clip(cdf, 0, 1)
    return clipped


@dataclass(frozen=True)
class Counts:
    """Distributions of n counts.

    Attributes
    ----------
    k, pmf : array, shape (n, K)
        Integers and their probabilities, zero outside the interval.
    low, high : array, shape (n, 1)
        The interval.
    """

    k: Floats
    pmf: Floats
    low: Floats
    high: Floats


def central_counts(moments: Floats, limit: Floats, eps: float) -> Counts:
    """Refined normal on its central interval, per row of ``moments``.

    ``limit``, shape (n,), is the largest possible count.
    """
    mean, sd = moments[:, 0], np.sqrt(np.maximum(moments[:, 1], 0))
    reach = (
        quantile(eps) + 2
    ) * sd + 3  # two sd more than the normal's interval: room for the skewness
    start = np.maximum(np.floor(mean - reach), 0)
    k = start[:, None] + np.arange(-1.0, np.ceil((mean + reach - start).max()) + 1)
    cdf = refined_cdf(k, moments)
    low, high = (_first_at_least(k[:, 1:], cdf[:, 1:], p, limit) for p in (eps / 2, 1 - eps / 2))
    return _renormalised(k[:, 1:], cdf, low, high, moments[:, :1])


def counts_on(moments: Floats, low: float, high: float) -> Counts:
    """Refined normal on the integers low..high."""
    k = np.arange(low - 1, high + 1)[None, :]
    cdf = refined_cdf(k, moments)
    k = np.broadcast_to(k[:, 1:], (moments.shape[0], k.shape[1] - 1))
    return _renormalised(k, cdf, np.full((1, 1), low), np.full((1, 1), high), moments[:, :1])


def quantile(eps: float) -> float:
    """Standard normal quantile of 1 - eps/2."""
    return -float(torch.special.ndtri(torch.tensor(eps / 2, dtype=torch.float64)))


def _first_at_least(k: Floats, cdf: Floats, level: float, limit: Floats) -> Floats:
    """Smallest k with cdf >= level, at most ``limit``, shape (n, 1)."""
    reached: NDArray[np.bool_] = np.asarray(cdf >= level)
    first = np.take_along_axis(k, reached.argmax(axis=1)[:, None], axis=1)
    first = np.where(reached.any(axis=1, keepdims=True), first, np.inf)
    out: Floats = np.minimum(first, limit[:, None])
    return out


def _renormalised(k: Floats, cdf: Floats, low: Floats, high: Floats, mean: Floats) -> Counts:
    """Counts with the differences of ``cdf`` (which starts one before k) on low..high."""
    inside: NDArray[np.bool_] = np.asarray((k >= low) & (k <= high))
    mass = np.where(inside, np.maximum(np.diff(cdf, axis=1), 0), 0)
    lost = np.flatnonzero(mass.sum(axis=1) == 0)
    mass[lost, np.where(inside, np.abs(k - mean), np.inf).argmin(axis=1)[lost]] = 1
    return Counts(k, mass / mass.sum(axis=1, keepdims=True), low, high)
