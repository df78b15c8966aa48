"""Cost against size: labels of two classes, from a thumbnail to a whole slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rankseg.bench.times import Effort, Timing

SMALLEST, LARGEST, QUICK_LARGEST, STEP = 10, 26, 20, 2
STRAIGHT = 16
"""Powers of two from which a line is fitted: below, the cost of a call hides that of pixels."""

POINTS = 4
"""Sizes that a line needs: through fewer, a moment of other work changes it beyond belief."""

FULL = Effort(4, fewest=3, most=21)
SHORT = Effort(0.3, fewest=3, most=5)
BYTES_PER_PIXEL = 40
"""Both classes' probabilities, what it takes to make them, and two label maps, with some room."""


@dataclass(frozen=True)
class Growth:
    """Exponents of ``time ~ pixels ** exponent`` by contender; sizes that did not fit."""

    timings: list[Timing]
    exponents: dict[str, float]
    skipped: list[str]


def shapes(largest: int) -> list[tuple[int, ...]]:
    """Two-class maps of 2^10, 2^12, ... pixels."""
    powers = range(SMALLEST, largest + 1, STEP)
    return [(1, 2, 1 << power // 2, 1 << (power + 1) // 2) for power in powers]


def pixels(shape: str) -> int:
    """Pixels of one image."""
    height, width = shape.split("x")[2:]
    return int(height) * int(width)


def exponents(timings: Sequence[Timing]) -> dict[str, float]:
    """Slopes of straight lines through the logarithms, where there are sizes enough to fit one."""
    found = {}
    for name in dict.fromkeys(one.name for one in timings):
        points = [
            (pixels(one.shape), one.seconds.median)
            for one in timings
            if one.name == name and one.seconds and pixels(one.shape) >= 1 << STRAIGHT
        ]
        if len(points) >= POINTS:
            size, seconds = np.log(np.array(points).T)
            found[name] = float(np.polyfit(size, seconds, 1)[0])
    return found
