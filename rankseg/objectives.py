"""Expected Dice, IoU and their relatives as functions of a region's selected sum S and volume V.

The one home of these formulas. Everything is elementwise over rows, shape (B, C), float64.
The reciprocal moment approximation (RMA; Wang and Dai, NeurIPS 2025) replaces the
mean of a reciprocal by the reciprocal of the mean, so each objective is a ratio of functions that
are affine in S and V. 0/0 counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from rankseg.cached import cached_property

BELOW_ONE = 1 - 2.0**-53
"""The float64 just below 1."""


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide, with 0/0 = 0."""
    return (numerator / denominator).nan_to_num_(nan=0.0, posinf=math.inf, neginf=-math.inf)


@dataclass(frozen=True)
class LinearFractional:
    """(base + gain S) / (width + price V - overlap S): what Dinkelbach's iteration maximises."""

    base: Tensor | float
    gain: float
    width: Tensor | float
    price: float
    overlap: float

    @property
    def is_mean(self) -> bool:
        """Whether it is a mean over the region (precision), largest over the largest pixels."""
        return isinstance(self.width, float) and self.width == 0

    def terms(self, selected_sum: Any, volume: Any) -> tuple[Any, Any]:
        """Numerator and denominator; tensors, arrays or numbers."""
        denominator = self.width + self.price * volume - self.overlap * selected_sum
        return self.base + self.gain * selected_sum, denominator

    def value(self, selected_sum: Tensor, volume: Tensor) -> Tensor:
        """Value of a region."""
        # int64 times a plain number would be float32
        return _ratio(*self.terms(selected_sum, volume.to(selected_sum)))

    def tangent(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """Change of the value for each pixel that joins, to first order in S and V."""
        numerator, denominator = self.terms(selected_sum, volume.to(selected_sum))
        value = _ratio(numerator, denominator)
        slope = _ratio(self.gain + self.overlap * value, denominator)
        offset = _ratio(self.price * value, denominator)
        # of an empty region of nothing (IoU): infinite, and times a pixel's 0 that would be NaN;
        # in float32, as ONNX holds plain numbers
        largest = torch.finfo(torch.float32).max
        return Gain(slope.clamp(max=largest), offset.clamp(max=largest), torch.zeros_like(slope))

    def scaled(self, share: float) -> LinearFractional:
        """Ratio with the same values when S and V count a share of the pixels only."""
        return replace(self, base=self.base * share, width=self.width * share)

    def of_row(self) -> LinearFractional:
        """Itself in plain numbers, for one row: small tensors are slow."""
        width, base = float(self.width), float(self.base)
        return LinearFractional(base, self.gain, width, self.price, self.overlap)

    def cut(self, value: Tensor) -> Tensor:
        """Probability above which a pixel raises numerator - value * denominator.

        A pixel of probability p adds gain p - value (price - overlap p), positive above this.
        """
        return self.price * value / (self.gain + self.overlap * value)


class RatioFamily(NamedTuple):
    """Ratios of rows whose expected volume is not known yet: width = weight (mu + shift) + extra.

    In plain numbers, so that a field can look for the largest value while it finds mu.
    """

    base: float
    gain: float
    weight: float
    shift: float
    extra: float
    price: float
    overlap: float

    def of(self, mu: Tensor) -> LinearFractional:
        """Ratio of rows of this expected volume."""
        width = self.weight * (mu + self.shift) + self.extra if self.weight else self.extra
        return LinearFractional(self.base, self.gain, width, self.price, self.overlap)


@dataclass(frozen=True)
class Gain:
    """Change of an objective when a pixel of probability p joins a region.

    gain(p) = (slope p - offset) / (1 - bend p), increasing in p. In this form nothing cancels:
    the difference of two nearly equal objectives would lose the answer in rounding.
    """

    slope: Tensor
    offset: Tensor
    bend: Tensor

    def times(self, weight: Tensor) -> Gain:
        """Gain of an objective that counts so much; nothing, of one that does not count."""
        slope, offset = (
            (weight * numbers).masked_fill(weight == 0, 0.0)
            for numbers in (self.slope, self.offset)
        )  # 0 times an infinite gain would be NaN
        return Gain(slope, offset, self.bend)


class Objective(Protocol):
    """What solvers and label assignment ask of a metric."""

    def value(self, selected_sum: Tensor, volume: Tensor) -> Tensor:
        """Objective of a region with this selected sum and volume."""
        ...

    def gain(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """Gain of adding one pixel to a region with this selected sum and volume."""
        ...

    def tangent(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """Gain of a pixel to first order, affine in p: what many pixels change together."""
        ...


@dataclass(frozen=True)
class Weighted:
    """An objective of which each class counts so much, weights (C,): what labels maximise."""

    objective: Objective
    weight: Tensor

    def value(self, selected_sum: Tensor, volume: Tensor) -> Tensor:
        """Objective of a region, as much as it counts."""
        return self.weight * self.objective.value(selected_sum, volume)

    def gain(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """Gain of one more pixel, as much as it counts."""
        return self.objective.gain(selected_sum, volume).times(self.weight)

    def tangent(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """First-order gain, as much as it counts."""
        return self.objective.tangent(selected_sum, volume).times(self.weight)


@dataclass(frozen=True)
class WithEmpty:
    """An objective whose empty region has a score of its own, (B, C)."""

    objective: Objective
    empty: Tensor

    def value(self, selected_sum: Tensor, volume: Tensor) -> Tensor:
        """Objective of a region, or the score of the empty one."""
        value = self.objective.value(selected_sum, volume)
        return torch.where(volume == 0, self.empty, value)

    def gain(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """Gain of one more pixel, in a region that is not empty."""
        return self.objective.gain(selected_sum, volume)

    def tangent(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """First-order gain, in a region that is not empty."""
        return self.objective.tangent(selected_sum, volume)


@dataclass(frozen=True)
class Coupled:
    """Dice or IoU in part under comonotone labels (``solvers/comonotone.py``), for label rules.

    Given the labels {p > u} of N(u) pixels, a pixel of probability p that joins A changes Dice by
    2/(V + N + 1 + smooth) for all u < p, and by a loss whatever its p is. At the class's own mask,
    {p > ``threshold``} of so many pixels, gain and loss of both parts cancel at the threshold; from
    there the gain is taken to rise as it does there, by 2/(V1 + N + 1 + smooth) in the coupled part
    (IoU: 1/(N + smooth) and (V1 + smooth)/((N + smooth)(N + 1 + smooth))), N the mask's volume, V1
    that of the region. ``value`` and ``tangent`` are those of independent labels.
    """

    objective: Dice | IoU
    coupling: float
    threshold: Tensor
    mask_sum: Tensor
    mask_volume: Tensor

    def value(self, selected_sum: Tensor, volume: Tensor) -> Tensor:
        """Objective of a region under independent labels."""
        return self.objective.value(selected_sum, volume)

    def tangent(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """First-order gain under independent labels."""
        return self.objective.tangent(selected_sum, volume)

    def gain(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """Gain of one more pixel, nothing at the threshold of the class's own mask.

        A class without a mask has the gain under independent labels.
        """
        alone = self.objective.gain(selected_sum, volume)
        own = self.objective.gain(self.mask_sum, self.mask_volume)
        cut, share = self.threshold, self.coupling
        start = (own.slope * cut - own.offset) / (1 - own.bend * cut)
        rise = share * self._rise(volume.to(cut), self.mask_volume.to(cut))
        slope = (1 - share) * (alone.slope + start * alone.bend) + rise
        offset = (1 - share) * (alone.offset + start) + rise * cut
        none = self.mask_volume == 0
        return Gain(
            torch.where(none, alone.slope, slope),
            torch.where(none, alone.offset, offset),
            alone.bend,
        )

    def _rise(self, volume: Tensor, labels: Tensor) -> Tensor:
        """Slope of the comonotone gain at the threshold."""
        smooth = self.objective.smooth
        if self.objective.metric == "dice":
            return 2 / (volume + labels + 1 + smooth)
        labels = (labels + smooth).clamp(min=1)
        return (1 + (volume + smooth) / (labels + 1)) / labels


@dataclass(frozen=True)
class FBeta:
    """RMA of E[((1 + w) |A and Y| + smooth) / (|A| + w |Y| + smooth)], w = beta^2.

    (1 + w) S / (V + w (mu + 1) + smooth) + smooth / (V + w mu + smooth): a pixel that counts in the
    numerator is a label for certain, hence mu + 1 there. Larger beta favours larger masks.
    """

    mu: Tensor
    smooth: float = 0.0
    beta: float = 1.0

    @property
    def weight(self) -> float:
        """Weight of a missed pixel against a wrong one, w."""
        return self.beta**2

    def ratio_of_means(self) -> LinearFractional:
        """Mean numerator over mean denominator, a lower bound of the expected score (Jensen)."""
        return self.first(self.smooth)

    @property
    def family(self) -> RatioFamily:
        """First term of the objective, and all of it where there is no smoothing."""
        return RatioFamily(0.0, 1 + self.weight, self.weight, 1.0, self.smooth, 1.0, 0.0)

    @cached_property
    def ratio(self) -> LinearFractional:
        """First term of the objective."""
        return self.family.of(self.mu)

    def first(self, base: Tensor | float) -> LinearFractional:
        """First term of the objective with another constant in the numerator."""
        return replace(self.ratio, base=base)

    def value(self, selected_sum: Tensor, volume: Tensor) -> Tensor:
        """Objective of a region."""
        value = self.ratio.value(selected_sum, volume)
        if self.smooth == 0:
            return value
        return value + self.smooth / (volume + self.weight * self.mu + self.smooth)

    def smoothing_price(self, volume: Tensor) -> Tensor:
        """What a pixel more costs the second term, in units of the first.

        Multiplying out the change of the objective from volume V to V + 1, with x the second
        denominator: (1 + w)(p (x + w) - S) > smooth (1 + w/x)(1 + w/(x + 1)). Falls with V.
        """
        x = volume + self.weight * self.mu + self.smooth
        share = self.smooth / x  # finite where smooth and x are both tiny
        return (self.smooth + self.weight * share) * (1 + self.weight / (x + 1))

    def gain(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """Gain of one more pixel; affine in p.

        With D and E the two denominators: ((1 + w)(p - S/D) - smooth (D + 1)/(E (E + 1)))/(D + 1).
        E is formed first: adding w would swallow a tiny smooth; the quotients keep a huge one
        finite.
        """
        width = self.ratio.width + volume
        slope = (1 + self.weight) / (width + 1)
        offset = _ratio(slope * selected_sum, width)
        if self.smooth > 0:
            inner = volume + self.weight * self.mu + self.smooth
            offset = offset + self.smooth / inner / (inner + 1)
        return Gain(slope, offset, torch.zeros_like(slope))

    def tangent(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """First-order gain: that of the ratio, less what the smoothing term loses."""
        first = self.ratio.tangent(selected_sum, volume)
        if self.smooth == 0:
            return first
        inner = volume + self.weight * self.mu + self.smooth
        return replace(first, offset=first.offset + self.smooth / inner / inner)


@dataclass(frozen=True)
class Dice(FBeta):
    """F-beta with beta = 1: 2 S / (V + mu + 1 + smooth) + smooth / (V + mu + smooth)."""

    beta: float = field(default=1.0, init=False)
    metric: ClassVar[str] = "dice"

    def at(self, index: tuple[int, int]) -> Dice:
        """Objective of one row, (1, 1)."""
        return Dice(self.mu[index].reshape(1, 1), self.smooth)


@dataclass(frozen=True)
class Tversky:
    """RMA of E[(TP + smooth) / (TP + alpha FP + beta FN + smooth)].

    (S + smooth) / (alpha V + beta mu + (1 - alpha - beta) S + 1 - alpha + smooth): as for F-beta, a
    pixel that counts in the numerator is a label for certain, which adds 1 - alpha. With alpha in
    [0, 1] the denominator is positive.
    """

    mu: Tensor
    smooth: float = 0.0
    alpha: float = 0.5
    beta: float = 0.5

    @property
    def overlap(self) -> float:
        """Weight by which counting V and mu counts their overlap too often."""
        return self.alpha + self.beta - 1

    def ratio_of_means(self) -> LinearFractional:
        """Mean numerator over mean denominator, a lower bound of the expected score (Jensen)."""
        return self.ratio

    @property
    def family(self) -> RatioFamily:
        """The objective itself, smoothed or not."""
        extra = 1 - self.alpha + self.smooth
        return RatioFamily(self.smooth, 1.0, self.beta, 0.0, extra, self.alpha, self.overlap)

    @cached_property
    def ratio(self) -> LinearFractional:
        """The objective itself is linear-fractional, smoothed or not."""
        return self.family.of(self.mu)

    def value(self, selected_sum: Tensor, volume: Tensor) -> Tensor:
        """Objective of a region."""
        return self.ratio.value(selected_sum, volume)

    def gain(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """Gain of one more pixel, r the value and D its denominator.

        (p (1 + overlap r) - alpha r) / (D + alpha - overlap p).
        """
        ratio = self.ratio
        width = ratio.terms(selected_sum, volume.to(selected_sum))[1]
        value = ratio.value(selected_sum, volume)
        scale = 1 / (width + self.alpha)
        bend = self.overlap * scale
        if (
            self.overlap <= 1
        ):  # then 1 where D is 0, as p is: below it, other pixels' gain is finite
            bend = bend.clamp(max=BELOW_ONE)
        return Gain((1 + self.overlap * value) * scale, self.alpha * value * scale, bend)

    def tangent(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """First-order gain, that of the ratio."""
        return self.ratio.tangent(selected_sum, volume)


@dataclass(frozen=True)
class IoU(Tversky):
    """Tversky with alpha = beta = 1: (S + smooth) / (V + mu - S + smooth)."""

    alpha: float = field(default=1.0, init=False)
    beta: float = field(default=1.0, init=False)
    metric: ClassVar[str] = "iou"

    def at(self, index: tuple[int, int]) -> IoU:
        """Objective of one row, (1, 1)."""
        return IoU(self.mu[index].reshape(1, 1), self.smooth)


@dataclass(frozen=True)
class Accuracy:
    """Expected share of pixels where region and label agree: (n + 2 S - V - mu) / n. Exact."""

    mu: Tensor
    pixels: int

    def value(self, selected_sum: Tensor, volume: Tensor) -> Tensor:
        """Objective of a region."""
        right = self.pixels + 2 * selected_sum - volume - self.mu
        return right.clamp(0, self.pixels) / self.pixels  # beyond is rounding

    def gain(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """(2 p - 1) / n, whatever the region."""
        one = torch.full_like(self.mu, 1 / self.pixels)
        return Gain(2 * one, one, torch.zeros_like(one))

    def tangent(self, selected_sum: Tensor, volume: Tensor) -> Gain:
        """The gain itself, which is affine."""
        return self.gain(selected_sum, volume)


def objective_for(
    metric: str, mu: Tensor, smooth: float, pixels: int, parameters: Mapping[str, float]
) -> FBeta | Tversky | Accuracy:
    """Objective of a validated metric name for rows of this expected volume."""
    if metric == "acc":
        return Accuracy(mu, pixels)
    return _KINDS[metric](mu, smooth, **parameters)


def ratio_family(metric: str, smooth: float, parameters: Mapping[str, float]) -> RatioFamily | None:
    """What the objective is for every mu, where it is a single ratio of S and V; None elsewhere."""
    if metric == "acc":
        return None
    objective = _KINDS[metric](torch.empty(0), smooth, **parameters)
    return objective.family if smooth == 0 or isinstance(objective, Tversky) else None


_KINDS: dict[str, type[FBeta] | type[Tversky]] = {
    "dice": Dice,
    "iou": IoU,
    "fbeta": FBeta,
    "tversky": Tversky,
}
