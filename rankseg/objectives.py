"""Expected Dice, IoU and accuracy as functions of a region's selected sum S and volume V.

The one home of these formulas. Everything is elementwise over rows, shape (B, C), float64.
The reciprocal moment approximation (RMA; Wang and Dai, NeurIPS 2025) replaces the
mean of a reciprocal by the reciprocal of the mean, so each objective is a ratio of functions that
are affine in S and V. 0/0 counts as 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide, with 0/0 = 0."""
    safe = torch.where(denominator == 0, torch.ones_like(denominator), denominator)
    return numerator / safe


@dataclass(frozen=True)
class LinearFractional:
    """(base + gain S) / (width + V - overlap S): what Dinkelbach's iteration maximises."""

    base: Tensor
    gain: float
    width: Tensor
    overlap: float

    def value(self, selected_sum: Tensor, volume: Tensor) -> Tensor:
        """Value of a region."""
        numerator = self.base + self.gain * selected_sum
        return _ratio(numerator, self.width + volume - self.overlap * selected_sum)

    def cut(self, value: Tensor) -> Tensor:
        """Probability above which a pixel raises numerator - value * denominator.

        A pixel of probability p adds gain p - value (1 - overlap p), positive for p above this.
        """
        return value / (self.gain + self.overlap * value)


@dataclass(frozen=True)
class Gain:
    """Change of an objective when a pixel of probability p joins a region.

    gain(p) = (slope p - offset) / (width - bend p), increasing in p. In this form nothing cancels:
    the difference of two nearly equal objectives would lose the answer in rounding.
    """

    slope: Tensor
    offset: Tensor
    width: Tensor
    bend: Tensor


class Objective(Protocol):
    """What solvers and label assignment ask of a metric."""

    def value(self, selected_sum: Tensor, volume: Tensor) -> Tensor:
        """Objective of a region with this selected sum and volume."""
        ...

    def gain(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """Gain of adding one pixel to a region with this selected sum and volume."""
        ...


@dataclass(frozen=True)
class Dice:
    """RMA of E[(2 |A and Y| + smooth) / (|A| + |Y| + smooth)].

    2 S / (V + mu + 1 + smooth) + smooth / (V + mu + smooth).
    """

    mu: Tensor
    smooth: float = 0.0
    metric: ClassVar[str] = "dice"

    def at(self, index: tuple[int, int]) -> Dice:
        """Objective of one row, (1, 1)."""
        return Dice(self.mu[index].reshape(1, 1), self.smooth)

    def ratio_of_means(self) -> LinearFractional:
        """Mean numerator over mean denominator, a lower bound of the expected score (Jensen)."""
        return self.ratio(torch.full_like(self.mu, self.smooth))

    def ratio(self, base: Tensor | None = None) -> LinearFractional:
        """(2 S + base) / (V + mu + 1 + smooth); base 0 is the first term of the objective."""
        zero = torch.zeros_like(self.mu)
        return LinearFractional(zero if base is None else base, 2.0, self.mu + 1 + self.smooth, 0.0)

    def value(self, selected_sum: Tensor, volume: Tensor) -> Tensor:
        """Objective of a region."""
        smoothing = torch.full_like(self.mu, self.smooth)
        rest = _ratio(smoothing, volume + self.mu + self.smooth)
        return self.ratio().value(selected_sum, volume) + rest

    def gain(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """Gain of one more pixel; affine in p.

        With D = V + mu + 1 + smooth: (2 p - 2 S/D - smooth (D+1) / (D (D-1))) / (D + 1). D - 1 is
        formed first: 1 would swallow a tiny smooth; the quotients keep a huge one finite.
        """
        inner = volume + self.mu + self.smooth
        width = inner + 1
        lost = _ratio(torch.full_like(inner, self.smooth), inner) * ((width + 1) / width)
        offset = 2 * selected_sum / width + lost
        two = torch.full_like(width, 2.0)
        return Gain(two, offset, width + 1, torch.zeros_like(width))


@dataclass(frozen=True)
class IoU:
    """RMA of E[(|A and Y| + smooth) / (|A or Y| + smooth)].

    (S + smooth) / (V + mu - S + smooth).
    """

    mu: Tensor
    smooth: float = 0.0
    metric: ClassVar[str] = "iou"

    def at(self, index: tuple[int, int]) -> IoU:
        """Objective of one row, (1, 1)."""
        return IoU(self.mu[index].reshape(1, 1), self.smooth)

    def ratio_of_means(self) -> LinearFractional:
        """Mean numerator over mean denominator, a lower bound of the expected score (Jensen)."""
        return self.ratio()

    def ratio(self) -> LinearFractional:
        """The objective itself is linear-fractional, smoothed or not."""
        base = torch.full_like(self.mu, self.smooth)
        return LinearFractional(base, 1.0, self.mu + self.smooth, 1.0)

    def value(self, selected_sum: Tensor, volume: Tensor) -> Tensor:
        """Objective of a region."""
        return self.ratio().value(selected_sum, volume)

    def gain(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """Gain of one more pixel: (p - r (1 - p)) / (D + 1 - p), r = value, D its denominator."""
        union = volume + self.mu - selected_sum + self.smooth
        value = self.value(selected_sum, volume)
        return Gain(1 + value, value, union + 1, torch.ones_like(union))


@dataclass(frozen=True)
class Accuracy:
    """Expected share of pixels where region and label agree: (n + 2 S - V - mu) / n. Exact."""

    mu: Tensor
    pixels: int

    def value(self, selected_sum: Tensor, volume: Tensor) -> Tensor:
        """Objective of a region."""
        return (self.pixels + 2 * selected_sum - volume - self.mu) / self.pixels

    def gain(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """(2 p - 1) / n, whatever the region."""
        one = torch.ones_like(self.mu)
        return Gain(2 * one, one, self.pixels * one, torch.zeros_like(one))


def objective_for(metric: str, mu: Tensor, smooth: float, pixels: int) -> Dice | IoU | Accuracy:
    """Objective of a validated metric name for rows of this expected volume."""
    if metric == "dice":
        return Dice(mu, smooth)
    if metric == "iou":
        return IoU(mu, smooth)
    return Accuracy(mu, pixels)
