"""Integrals over the generating function of a label count, prod_j (1 - p_j (1 - t)).

With t = exp(-x) and s = 1 - t, E[1/(M + G)] = int_0^inf exp(-M x) prod_j (1 - p_j s) dx for the
count G of independent labels. Every factor is positive, so nothing cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rankseg.profile import Floats

_NODES = 64  # relative error below 1e-13 for every p, mu and rate >= 1 tried (test_exact.py)
_TAIL = 38.0  # exp(-38) = 3e-17 of the integral is left out


@dataclass(frozen=True)
class Quadrature:
    """Rule for int_0^inf F(x) dx: nodes x, s = 1 - exp(-x), weights."""

    x: Floats
    s: Floats
    weight: Floats


def quadrature(rate: float, mean: float, stretch: float = 1.0) -> Quadrature:
    """Gauss-Legendre in y = rate x + mean (1 - exp(-x)): a Poisson count gives exp(-y) exactly.

    Parameters
    ----------
    rate : float >= 1
        Smallest exponent M.
    mean : float >= 0
        Expected number of labels counted by the generating function.
    stretch : float >= 1
        Largest over smallest M + mean, if one rule serves several; nodes crowd towards 0 to serve
        the faster decay of the large ones.
    """
    y, weight = _stretched(2 * float(np.log(stretch)))
    x = y / (rate + mean)
    for _ in range(50):  # Newton from the left of the root of a concave function: monotone
        step = (y - rate * x + mean * np.expm1(-x)) / (rate + mean * np.exp(-x))
        x = x + step
        if np.all(np.abs(step) <= 1e-14 * x):
            break
    # s = 1 would make log(1 - p s) infinite at p = 1, where exp(-rate x) is below 1e-16 anyway
    s = np.minimum(-np.expm1(-x), 1 - 2.0**-53)
    return Quadrature(x, s, weight / (rate + mean * np.exp(-x)))


def log_factor(p: Floats, rule: Quadrature) -> Floats:
    """log(1 - p s), shape (pixels, nodes)."""
    out: Floats = np.log1p(-p[:, None] * rule.s)
    return out


def share(p: Floats, rule: Quadrature) -> Floats:
    """p/(1 - p s), shape (pixels, nodes)."""
    out: Floats = p[:, None] / (1 - p[:, None] * rule.s)
    return out


@lru_cache(maxsize=64)
def _legendre(n: int) -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    z, weight = np.polynomial.legendre.leggauss(n)
    return (z + 1) / 2, weight / 2


def _stretched(bend: float) -> tuple[Floats, Floats]:
    """Nodes and weights on [0, _TAIL]."""
    z, weight = _legendre(_NODES + int(12 * bend))
    if bend == 0:
        return _TAIL * z, _TAIL * weight
    scale = np.expm1(bend)
    slope = bend * np.exp(bend * z) / scale
    return _TAIL * np.expm1(bend * z) / scale, _TAIL * weight * slope
