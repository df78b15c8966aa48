"""Median and quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """What a number was in half of the rounds, and in eight of ten."""

    median: float
    p10: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Spread of at least one number."""
        p10, median, p90 = np.quantile(values, (0.1, 0.5, 0.9)).tolist()
        return cls(median, p10, p90)

    @classmethod
    def of_ratios(cls, above: Sequence[float], below: Sequence[float]) -> Spread:
        """Spread of the rounds' own ratios: what slows a whole round cancels."""
        return cls.of([a / b for a, b in zip(above, below, strict=True)])
