"""One row of a field as plain numbers, for solvers that work on one row at a time."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rankseg.fields.base import Field
from rankseg.objectives import LinearFractional
from rankseg.profile import DEGREE, Floats, Profile, from_sums


class Optimum(NamedTuple):
    """Best mask of a row: {p > threshold}, its volume and its score."""

    threshold: float
    volume: int
    score: float


class Row:
    """A field of one image and one class."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.size = field.pixels

    @cached_property
    def mean(self) -> float:
        """Expected volume mu."""
        return float(self.field.totals().mu)

    def above(self, threshold: float) -> tuple[float, int]:
        """Sum and count of the pixels with p > threshold."""
        found = self.field.above(self._tensor(threshold))
        return float(found.selected_sum), int(found.volume)

    def between(self, low: float, high: float) -> Floats:
        """Probabilities in (low, high], largest first."""
        values: Floats = np.sort(self.field.between(low, high).cpu().numpy())[::-1].copy()
        return values

    def moments(self, low: float = 0.0, high: float = 1.0) -> Floats:
        """Sums of p, p(1-p), p(1-p)(1-2p) over (low, high]: mean, variance, third moment."""
        sums: Floats = self.field.moments(low, high).cpu().numpy()
        return sums

    def profile(self, low: float, high: float) -> Profile:
        """Pixels in (low, high] on Chebyshev nodes; empty where the interval is."""
        if low >= high:
            return Profile(np.zeros(0), np.zeros(0))
        return from_sums(self.field.chebyshev(low, high, DEGREE).cpu().numpy(), low, high)

    def pixels(self, low: float, high: float) -> Profile:
        """Pixels in (low, high] as they are; meant for a handful of them."""
        values = self.between(low, high)
        return Profile(values, np.ones(values.size))

    def best_ratio(self, ratio: LinearFractional) -> float:
        """Largest value over non-empty masks of a row with mu > 0, by Dinkelbach's iteration."""
        best, threshold = -1.0, self._tensor(0.25)
        while True:
            found = self.field.above(threshold)
            value = ratio.value(found.selected_sum, found.volume)
            if float(value) <= best:
                return best
            best, threshold = float(value), ratio.cut(value)

    def selected(self, threshold: float) -> Row:
        """The row with all pixels up to the threshold at probability 0."""
        mask = self.field.select(self._tensor(threshold))
        return Row(self.field.row(0, 0, mask))

    def _tensor(self, number: float) -> Tensor:
        return torch.full((1, 1), number, dtype=torch.float64, device=self.field.device)
