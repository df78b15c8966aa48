"""A row as bins of its positive probabilities, counted and summed; finer where it matters.

Bins come from largest to smallest, empty ones are left out. A bin holds the pixels of
(low, low + width]; one of width 0 holds equal pixels. Widths are powers of two, so edges have no
rounding, and counts and sums are integers: bins are the same whoever counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankseg.fields.base import Field, LabelRule, Windows
from rankseg.fields.exact_sum import Scale
from rankseg.profile import Floats

BINS = 1 << 11
"""Bins of a window."""

RUN = 1 << 8
"""Neighbouring bins that share a window at most: each becomes at least 8."""

TOGETHER = 1 << 20
"""Bins of all windows counted in one pass: 16 MiB."""

NARROWEST = 2.0**-1000
"""Width up to which probabilities are not told apart; the inverse of any wider one is finite."""

Numbers = NDArray[Any]
Row = tuple[int, int]
"""Image and class."""


@dataclass(frozen=True)
class Bins:
    """Low end, width, count, and sum of the distances from the low end, of each bin."""

    low: Floats
    width: Floats
    count: NDArray[np.int64]
    excess: Floats

    @classmethod
    def of_values(cls, value: Floats, count: NDArray[np.int64]) -> Bins:
        """Bins of width 0 from different probabilities, rising, and how often each occurs."""
        nothing = np.zeros_like(value)
        return cls(value[::-1].copy(), nothing, count[::-1].copy(), nothing)

    def __len__(self) -> int:
        """Bins."""
        return self.low.size

    def take(self, which: Any) -> Bins:
        """Some of the bins."""
        return Bins(*(numbers[which] for numbers in vars(self).values()))

    def join(self, other: Bins) -> Bins:
        """Bins of both, which have none in common."""
        both = Bins(*(np.append(a, b) for a, b in zip(self._all(), other._all(), strict=True)))
        return both.take(np.argsort(-both.low, kind="stable"))

    def single(self, spacing: float) -> NDArray[np.bool_]:
        """Whether all pixels of a bin are equal for certain: one pixel, or room for one value.

        Probabilities above ``low`` are apart by at least spacing * 2^floor(log2 low).
        """
        room = np.maximum(_apart(self.low, spacing), NARROWEST)
        found: NDArray[np.bool_] = (self.count == 1) | (self.width <= room)
        return found

    def _all(self) -> list[Numbers]:
        return list(vars(self).values())


@dataclass(frozen=True)
class Window:
    """Interval (low, low + width] of a row, of which bins above ``top`` are not wanted."""

    low: float
    width: float
    top: float


def whole(peak: float) -> Window:
    """All positive probabilities of a row."""
    fraction, exponent = math.frexp(peak)
    width = max(math.ldexp(1.0, exponent - (fraction == 0.5)), NARROWEST)
    return Window(0.0, width, width)


def _apart(low: Any, spacing: float) -> Any:
    """Distance of neighbouring probabilities just above some numbers; 0 above 0."""
    return np.ldexp(np.where(low > 0, spacing, 0.0), np.frexp(low)[1] - 1)


def windows_of(bins: Bins, which: Numbers, spacing: float) -> list[Window]:
    """Windows that hold the bins given by index, rising; neighbours of one width share one.

    They are so wide that each new bin has room for a probability: edges between two of them
    could not be told from either.
    """
    found, places = [], np.asarray(which)
    ends = np.flatnonzero(
        (np.diff(places) != 1)
        | (np.diff(bins.width[places]) != 0)
        | (bins.low[places[1:]] + bins.width[places[1:]] != bins.low[places[:-1]])
    )
    for start, stop in pairwise([0, *(ends + 1).tolist(), places.size]):
        for first in range(start, stop, RUN):
            run = places[first : min(first + RUN, stop)]
            low, unit = float(bins.low[run[-1]]), float(bins.width[run[0]])
            width = max(
                unit * (1 << (run.size - 1).bit_length()), BINS * float(_apart(low, spacing))
            )
            found.append(Window(low, width, low + run.size * unit))
    return found


def refined(bins: Bins, windows: list[Window], finer: list[Bins]) -> Bins:
    """Bins with those in the windows replaced by finer ones."""
    for window, fine in zip(windows, finer, strict=True):
        inside = (bins.low >= window.low) & (bins.low < window.top)
        bins = bins.take(~inside).join(fine)
    return bins


def counted(
    field: Field,
    asked: list[tuple[Row, Window]],
    region: Tensor | LabelRule | None = None,
    *,
    bins: int = BINS,
    keep_empty: bool = False,
) -> list[Bins]:
    """Bins of windows of rows, in a pass over the rows asked about, or a few."""
    unit, _ = Scale.unit_and_limbs(field.pixels, torch.float32)
    found = []
    for first in range(0, len(asked), TOGETHER // bins):
        some = asked[first : first + TOGETHER // bins]
        windows = Windows(
            tuple(row for row, _ in some),
            tuple(window.low for _, window in some),
            tuple(window.width for _, window in some),
            bins,
            unit,
        )
        counts, sums = field.spread(windows, region).cpu().numpy()
        found += [
            _bins(window, counts[at], sums[at], unit, keep_empty)
            for at, (_, window) in enumerate(some)
        ]
    return found


def _bins(
    window: Window, count: NDArray[np.int64], total: NDArray[np.int64], unit: float, keep: bool
) -> Bins:
    size = count.size
    number = np.arange(size - 1, -1, -1)
    count, total = count[::-1], total[::-1]
    distance = total - count * number * int(unit / size)  # from each bin's own low end
    width = window.width / size
    excess: Floats = np.multiply(distance, window.width / unit, dtype=np.float64)
    low: Floats = np.multiply(number, width, dtype=np.float64) + window.low
    bins = Bins(low, np.full(size, width), count, excess)
    return bins.take((bins.low < window.top) & (keep | (count > 0)))
