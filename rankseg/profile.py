"""A few weighted probabilities that stand for all pixels of a row.

``sum(weight * f(p))`` equals the sum of f over the pixels for every smooth f with f(0) = 0. f(p)/p
is interpolated at Chebyshev nodes, so a million pixels of 1e-6 keep full relative accuracy. The
weights are linear in the sums of p T_k(p) over the pixels, which add over blocks, tiles and
workers. Where f/p is analytic beyond the interval by half its length, the error falls like
5.83^-DEGREE.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DEGREE = 18
"""Nodes per interval: 5.83^-18 = 2e-14."""


class Profile(NamedTuple):
    """Weighted probabilities, both of shape (n,)."""

    p: Floats
    weight: Floats


def from_sums(sums: Floats, low: float, high: float) -> Profile:
    """Profile of the pixels in (low, high], from their sums of p T_k(p), shape (DEGREE,)."""
    nodes, synthesis = interval_nodes(low / high, 1.0)  # in units of high: 1e-300 is a number too
    return Profile(nodes * high, (sums / high) @ synthesis)


def join(*parts: Profile) -> Profile:
    """Profile of the union of disjoint sets of pixels."""
    return Profile(np.concatenate([p.p for p in parts]), np.concatenate([p.weight for p in parts]))


def interval_nodes(low: float, high: float) -> tuple[Floats, Floats]:
    """Chebyshev nodes of (low, high], and the matrix (DEGREE, nodes) from sums to weights."""
    angle = (np.arange(DEGREE) + 0.5) * np.pi / DEGREE
    nodes = (low + high) / 2 + (high - low) / 2 * np.cos(angle)
    synthesis = 2 * np.cos(np.arange(DEGREE)[:, None] * angle) / DEGREE
    synthesis[0] /= 2
    return nodes, synthesis / nodes


def chebyshev_terms(values: Floats, low: float, high: float) -> Floats:
    """P T_k(p) of single values, 0 outside (low, high]; shape (DEGREE, n)."""
    z = np.clip((2 * values - low - high) / (high - low), -1, 1)
    inside = np.where((values > low) & (values <= high), values, 0.0)
    terms: Floats = inside * np.polynomial.chebyshev.chebvander(z, DEGREE - 1).T
    return terms
