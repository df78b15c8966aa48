"""The mixture of expectations, independent and comonotone, of any mask.

Given U = u the labels are {p > u}, N of them, M of them in the mask A; V = |A|:

    Dice(A) = int_0^1 (2 M + gamma)/(V + N + gamma) du
    IoU(A)  = int_0^1 (M + gamma)/(V + N - M + gamma) du

Both are sums over the steps of M and Q (N; for IoU, the N - M outside). Where pixels are not told
apart, M and Q fall between known ends with known means; with v their largest variances,
(mean - end)(other end - mean), the mean of 1/(V + Q + gamma) and its product with M are off by at
most what ``_ramps`` says. Bins that matter are counted anew, finer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rankseg.fields.base import Field, LabelRule, Selection
from rankseg.objectives import Dice, IoU
from rankseg.profile import Floats
from rankseg.solvers.bins import BINS as CLOSER
from rankseg.solvers.bins import Bins, Row, Window, counted, refined, whole, windows_of
from rankseg.solvers.comonotone import moderate
from rankseg.solvers.row import SORTED

BINS = 1 << 16
"""Bins that a large row is first cut into, most of them once and for all.

On 19 smooth or noisy maps of 512 x 1024 the bound was 1e-8 then, the error 5e-10.
"""

TOLERANCE = 2e-8
"""What bins that are not told apart may add to the error of a score, by a bound that is not met."""

PASSES, MOST = 12, 16
"""Times that bins are counted anew at most, and windows of a row that are each time."""


@dataclass(frozen=True)
class Mask:
    """What a mask has of its row's bins; kept in bins of the same edges."""

    bins: Bins
    inside: Bins

    def refined(self, windows: list[Window], finer: list[Mask]) -> Mask:
        """Mask in finer bins."""
        return Mask(
            refined(self.bins, windows, [mask.bins for mask in finer]),
            refined(self.inside, windows, [mask.inside for mask in finer]),
        )


class Masks(Protocol):
    """Masks of rows, which can be looked at more closely."""

    def first(self, rows: list[Row]) -> dict[Row, Mask]:
        """Masks in the bins one begins with."""
        ...

    def closer(self, masks: dict[Row, Mask], asked: dict[Row, list[Window]]) -> dict[Row, Mask]:
        """Masks whose bins in the windows are finer."""
        ...


@dataclass(frozen=True)
class LevelSets:
    """{p > threshold} of every row, of which sum and volume are known."""

    field: Field
    threshold: Tensor
    region: Selection

    def first(self, rows: list[Row]) -> dict[Row, Mask]:
        """Masks in the bins one begins with."""
        return {at: self._mask(at, bins) for at, bins in _row_bins(self.field, rows).items()}

    def closer(self, masks: dict[Row, Mask], asked: dict[Row, list[Window]]) -> dict[Row, Mask]:
        """Masks whose bins in the windows are finer."""
        found = iter(counted(self.field, _flat(asked)))
        return {
            at: self._mask(at, refined(masks[at].bins, some, [next(found) for _ in some]))
            for at, some in asked.items()
        }

    def _mask(self, at: Row, bins: Bins) -> Mask:
        """Whole bins are in the mask or not; the one that the threshold cuts has what is left."""
        threshold = float(self.threshold[at])
        chosen = np.where(bins.width > 0, bins.low >= threshold, bins.low > threshold)
        count, excess = bins.count * chosen, np.where(chosen, bins.excess, 0.0)
        left = int(self.region.volume[at]) - int(count.sum())
        if left:
            cut = int(chosen.sum())
            total = float(self.region.selected_sum[at]) - float((count * bins.low + excess).sum())
            count[cut], excess[cut] = left, total - left * bins.low[cut]
        return Mask(bins, Bins(bins.low, bins.width, count, excess))


@dataclass(frozen=True)
class Regions:
    """Pixels of every row in labels, masks, or under a rule."""

    field: Field
    where: Tensor | LabelRule

    def first(self, rows: list[Row]) -> dict[Row, Mask]:
        """Masks in the bins one begins with."""
        field = self.field
        if field.pixels <= SORTED:
            return {at: self._sorted(at) for at in rows}
        peak = field.totals().peak
        asked = [(at, whole(float(peak[at]))) for at in rows]
        return dict(zip(rows, self._counted(asked, BINS), strict=True))

    def closer(self, masks: dict[Row, Mask], asked: dict[Row, list[Window]]) -> dict[Row, Mask]:
        """Masks whose bins in the windows are finer."""
        found = iter(self._counted(_flat(asked), CLOSER))
        return {
            at: masks[at].refined(some, [next(found) for _ in some]) for at, some in asked.items()
        }

    def _sorted(self, at: Row) -> Mask:
        """Every different probability of a small row, and how often it is in the region."""
        value, count = _distinct(self.field, at, None)
        some, often = _distinct(self.field, at, self.where)
        inside = np.zeros_like(count)
        inside[np.searchsorted(value, some)] = often
        return Mask(Bins.of_values(value, count), Bins.of_values(value, inside))

    def _counted(self, asked: list[tuple[Row, Window]], bins: int) -> list[Mask]:
        """Windows of rows and what the region has of them, in the same bins."""
        everything = counted(self.field, asked, bins=bins, keep_empty=True)
        inside = counted(self.field, asked, self.where, bins=bins, keep_empty=True)
        return [
            Mask(all_.take(all_.count > 0), some.take(all_.count > 0))
            for all_, some in zip(everything, inside, strict=True)
        ]


def _row_bins(field: Field, rows: list[Row]) -> dict[Row, Bins]:
    if field.pixels <= SORTED:
        return {at: Bins.of_values(*_distinct(field, at, None)) for at in rows}
    peak = field.totals().peak
    asked = [(at, whole(float(peak[at]))) for at in rows]
    return dict(zip(rows, counted(field, asked, bins=BINS), strict=True))


def _distinct(field: Field, at: Row, where: Tensor | LabelRule | None) -> tuple[Any, Any]:
    value, count = field.distinct(at, 0.0, 1.0, where)
    return value.cpu().numpy(), count.cpu().numpy()


def _flat(asked: dict[Row, list[Window]]) -> list[tuple[Row, Window]]:
    return [(at, window) for at, windows in asked.items() for window in windows]


def scores(
    field: Field,
    objective: Dice | IoU,
    coupling: float,
    region: Selection,
    masks: Masks,
    wanted: Tensor,
) -> Tensor:
    """Mixture (B, C) of the expectations of masks with these sums and volumes, where wanted."""
    alone = objective.value(region.selected_sum, region.volume)
    together = _comonotone(field, objective, region, masks, wanted & (field.totals().peak > 0))
    return (1 - coupling) * alone + coupling * together


def _comonotone(
    field: Field, objective: Dice | IoU, region: Selection, masks: Masks, wanted: Tensor
) -> Tensor:
    """Comonotone expectations, bins refined until they are known.

    A row without probability has no labels: gamma/(V + gamma).
    """
    smooth = moderate(objective.smooth)
    volume = region.volume.to(objective.mu)  # with a number, integers would become float32
    score = smooth / (volume + smooth) if smooth else torch.zeros_like(objective.mu)
    pending = masks.first([(image, class_) for image, class_ in wanted.nonzero().tolist()])
    for number in range(PASSES + 1):
        asked: dict[Row, list[Window]] = {}
        for at, mask in pending.items():
            score[at], off = expected(mask, int(region.volume[at]), objective, field.spacing)
            if number < PASSES and off.sum() > TOLERANCE:
                asked[at] = _worst(mask.bins, off, field.spacing)
        pending = masks.closer(pending, asked)
    return score


def _worst(bins: Bins, off: Floats, spacing: float) -> list[Window]:
    """Windows of the bins that do most to the error, all that matter or as many as may be."""
    order = np.argsort(-off, kind="stable")
    needed = int(np.searchsorted(np.cumsum(off[order]), off.sum() - TOLERANCE / 2)) + 1
    while True:
        windows = windows_of(bins, np.sort(order[:needed]), spacing)
        if len(windows) <= MOST:
            return windows
        needed //= 2


def expected(
    mask: Mask, volume: int, objective: Dice | IoU, spacing: float
) -> tuple[float, Floats]:
    """Comonotone expectation of a mask, and how much each bin may be off at most."""
    metric, smooth = objective.metric, moderate(objective.smooth)
    bins, inside = mask.bins, mask.inside
    single = bins.single(spacing)
    low = np.where(single, bins.low + bins.excess / bins.count, bins.low)
    top = np.where(single, low, bins.low + bins.width)
    ramp = top - low
    m, n = (np.append(0, np.cumsum(b.count)).astype(np.float64) for b in (inside, bins))
    within, all_ = (
        np.divide(b.excess, ramp, out=np.zeros_like(ramp), where=ramp > 0) for b in (inside, bins)
    )
    flat = np.append(1.0, low) - np.append(top, 0.0)
    if metric == "iou":
        n, all_ = n - m, all_ - within
    factor = 2.0 if metric == "dice" else 1.0
    base = volume + smooth
    steady = _ratio(factor * m + smooth, base + n)
    sloping, off = _ramps(factor, smooth, base, m, n, within, all_)
    return float((flat * steady).sum() + (ramp * sloping).sum()), ramp * off


def _ramps(
    factor: float, smooth: float, base: float, m: Floats, n: Floats, within: Floats, all_: Floats
) -> tuple[Floats, Floats]:
    """Mean over each bin, and how much it may be off.

    1/x, x = base + Q, has a mean between 1/(mean x) and that plus v(Q)/(x1 x2 (mean x)); its
    covariance with M lies between -sqrt(v(M) v(Q))/x1^2 and 0, as both fall with u. Equal stairs
    have a third of either.
    """
    within, all_ = np.clip(within, 0, np.diff(m)), np.clip(all_, 0, np.diff(n))
    x1, x2, x = base + n[:-1], base + n[1:], base + n[:-1] + all_
    v_m, v_q = within * (np.diff(m) - within), all_ * (np.diff(n) - all_)
    numerator = factor * (m[:-1] + within) + smooth
    bend = _ratio(numerator * v_q, x1 * x2 * x)
    covariance = _ratio(factor * np.sqrt(v_m * v_q), x1 * x1)
    mean = _ratio(numerator, x) + (bend - _ratio(factor * np.sqrt(v_m * v_q), x * x)) / 3
    return mean, bend + covariance


def _ratio(a: Floats, b: Floats) -> Floats:
    """Divide, with 0/0 = 0."""
    return np.divide(a, b, out=np.zeros_like(b), where=b > 0)
