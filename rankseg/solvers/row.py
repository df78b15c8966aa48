"""One row of a field as plain numbers, for solvers that work on one row at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rankseg.fields.base import Field
from rankseg.objectives import LinearFractional
from rankseg.profile import DEGREE, Floats, Profile, chebyshev_terms, from_sums

SORTED = 1 << 14
"""Rows of up to so many pixels are sorted once; at 64 x 64 that is four times as fast."""


class Optimum(NamedTuple):
    """Best mask of a row: {p > threshold}, its volume and its score."""

    threshold: float
    volume: int
    score: float


def row_of(field: Field) -> Row:
    """Row of a field of one image and one class; small ones are sorted once."""
    return SortedRow(_sorted(field, -1.0, 1.0)) if field.pixels <= SORTED else FieldRow(field)


class Row(ABC):
    """One row; ``mean`` is its expected volume mu, ``size`` its number of pixels."""

    mean: float
    size: int

    @abstractmethod
    def above(self, threshold: float) -> tuple[float, int]:
        """Sum and count of the pixels with p > threshold."""

    @abstractmethod
    def between(self, low: float, high: float) -> Floats:
        """Probabilities in (low, high], largest first."""

    @abstractmethod
    def moments(self, low: float = 0.0, high: float = 1.0) -> Floats:
        """Sums of p, p(1-p), p(1-p)(1-2p) over (low, high]: mean, variance, third moment."""

    @abstractmethod
    def chebyshev(self, low: float, high: float) -> Floats:
        """Sums of p T_k(p) over (low, high], shape (DEGREE,)."""

    @abstractmethod
    def selected(self, threshold: float) -> Row:
        """The row with all pixels up to the threshold at probability 0."""

    @abstractmethod
    def best_ratio(self, ratio: LinearFractional) -> float:
        """Largest value over non-empty masks of a row with mu > 0."""

    def profile(self, low: float, high: float) -> Profile:
        """Pixels in (low, high] on Chebyshev nodes; empty where the interval is."""
        if low >= high:
            return Profile(np.zeros(0), np.zeros(0))
        return from_sums(self.chebyshev(low, high), low, high)

    def pixels(self, low: float, high: float) -> Profile:
        """Pixels in (low, high] as they are; meant for a handful of them."""
        values = self.between(low, high)
        return Profile(values, np.ones(values.size))


class SortedRow(Row):
    """A row held as its probabilities, largest first."""

    def __init__(self, p: Floats) -> None:
        self.p, self.size = p, p.size
        self._rising = -p
        self._sums = np.append(0.0, np.cumsum(p))
        self.mean = float(self._sums[-1])

    def _count(self, threshold: float) -> int:
        return int(np.searchsorted(self._rising, -threshold, side="left"))

    def above(self, threshold: float) -> tuple[float, int]:
        """Sum and count of the pixels with p > threshold."""
        count = self._count(threshold)
        return float(self._sums[count]), count

    def between(self, low: float, high: float) -> Floats:
        """Probabilities in (low, high], largest first."""
        return self.p[self._count(high) : self._count(low)]

    def moments(self, low: float = 0.0, high: float = 1.0) -> Floats:
        """Sums of p, p(1-p), p(1-p)(1-2p) over (low, high]."""
        p = self.between(low, high)
        variance = p * (1 - p)
        return np.array([p.sum(), variance.sum(), (variance * (1 - 2 * p)).sum()])

    def chebyshev(self, low: float, high: float) -> Floats:
        """Sums of p T_k(p) over (low, high], shape (DEGREE,)."""
        sums: Floats = chebyshev_terms(self.between(low, high), low, high).sum(axis=1)
        return sums

    def selected(self, threshold: float) -> Row:
        """The row with all pixels up to the threshold at probability 0."""
        chosen = np.zeros_like(self.p)
        count = self._count(threshold)
        chosen[:count] = self.p[:count]
        return SortedRow(chosen)

    def best_ratio(self, ratio: LinearFractional) -> float:
        """Largest value over non-empty masks: of all volumes."""
        sums = torch.from_numpy(self._sums[1:])
        return float(ratio.value(sums, torch.arange(1, self.size + 1)).max())


class FieldRow(Row):
    """A row that stays in its field and is asked for reductions."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.size = field.pixels
        self.mean = float(field.totals().mu)

    def above(self, threshold: float) -> tuple[float, int]:
        """Sum and count of the pixels with p > threshold."""
        found = self.field.above(self._tensor(threshold))
        return float(found.selected_sum), int(found.volume)

    def between(self, low: float, high: float) -> Floats:
        """Probabilities in (low, high], largest first."""
        return _sorted(self.field, low, high)

    def moments(self, low: float = 0.0, high: float = 1.0) -> Floats:
        """Sums of p, p(1-p), p(1-p)(1-2p) over (low, high]."""
        sums: Floats = self.field.moments(low, high).cpu().numpy()
        return sums

    def chebyshev(self, low: float, high: float) -> Floats:
        """Sums of p T_k(p) over (low, high], shape (DEGREE,)."""
        sums: Floats = self.field.chebyshev(low, high, DEGREE).cpu().numpy()
        return sums

    def selected(self, threshold: float) -> Row:
        """The row with all pixels up to the threshold at probability 0."""
        mask = self.field.select(self._tensor(threshold))
        return FieldRow(self.field.row(0, 0, mask))

    def best_ratio(self, ratio: LinearFractional) -> float:
        """Largest value over non-empty masks, by Dinkelbach's iteration."""
        best, threshold = -1.0, self._tensor(0.25)
        while True:
            found = self.field.above(threshold)
            value = ratio.value(found.selected_sum, found.volume)
            if float(value) <= best:
                return best
            best, threshold = float(value), ratio.cut(value)

    def _tensor(self, number: float) -> Tensor:
        return torch.full((1, 1), number, dtype=torch.float64, device=self.field.device)


def _sorted(field: Field, low: float, high: float) -> Floats:
    values: Floats = np.sort(field.between(low, high).cpu().numpy())[::-1].copy()
    return values
