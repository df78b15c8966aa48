"""The protocol between solvers and pixels.

A solver works on small (B, C) arrays and asks a field; a field never knows a metric. All numbers a
field returns are independent of the order in which it visits the pixels: sums are taken over
integers (see ``tensor.py``), so threads, memory layout, batch and tiles cannot change a mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rankseg.objectives import LinearFractional, RatioFamily

NOTHING = 1.0
"""The threshold that selects no pixel: no probability is larger than 1."""


def choose(where: Tensor, these: Tensor, those: Tensor) -> Tensor:
    """``torch.where`` for bool, which onnxruntime does not have."""
    return (where & these) | (~where & those)


@dataclass(frozen=True)
class Totals:
    """Per row: expected volume and the extreme probabilities; float64 (B, C)."""

    mu: Tensor
    lowest: Tensor
    peak: Tensor


@dataclass(frozen=True)
class Whole:
    """What a part of an image must know of it: its totals, (1, C), and its number of pixels."""

    pixels: int
    totals: Totals


@dataclass(frozen=True)
class Selection:
    """Per row: selected sum S, float64, and volume V, int64; both (B, C)."""

    selected_sum: Tensor
    volume: Tensor

    def where(self, rows: Tensor, other: Selection) -> Selection:
        """Itself in the given rows, the other selection elsewhere."""
        return Selection(
            torch.where(rows, self.selected_sum, other.selected_sum),
            torch.where(rows, self.volume, other.volume),
        )


@dataclass(frozen=True)
class Best:
    """Per row: the best cut and its region, and whether the row was searched; masks if wanted.

    Rows that were not searched have the cut NOTHING and an empty region.
    """

    threshold: Tensor
    region: Selection
    active: Tensor
    masks: Tensor | None


@dataclass(frozen=True)
class LabelRule:
    """Per (image, class) numbers that turn the probabilities of a pixel into its label.

    A class claims a pixel when p > ``claim``. Among the claimers, or among the ``eligible``
    classes when there is none, the largest (slope p - offset) / (1 - bend p) wins; the first
    on a tie. Where nobody claims and nobody is eligible the label is ``void_index``.
    """

    claim: Tensor
    eligible: Tensor
    slope: Tensor
    offset: Tensor
    bend: Tensor
    void_index: int

    def expand(self, images: int, device: torch.device) -> LabelRule:
        """Rule of one image for so many, on a device."""
        numbers = {
            name: value.to(device).expand(images, -1).contiguous()
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return LabelRule(**numbers, void_index=self.void_index)

    def where(self, images: Tensor, other: LabelRule) -> LabelRule:
        """Itself in the given images, bool (B,), the other rule elsewhere."""
        mine = images.unsqueeze(1)
        return LabelRule(
            torch.where(mine, self.claim, other.claim),
            choose(mine, self.eligible, other.eligible),
            torch.where(mine, self.slope, other.slope),
            torch.where(mine, self.offset, other.offset),
            torch.where(mine, self.bend, other.bend),
            self.void_index,
        )


@dataclass(frozen=True)
class Windows:
    """Intervals (low, low + width] of rows, each to be cut into equal bins.

    Widths and ``bins`` are powers of two and each low end is a multiple of a power of two that is
    not finer than the pixels' own spacing there: which bin a pixel lies in is then free of
    rounding. Sums are integers in units of width / ``unit``.
    """

    row: tuple[tuple[int, int], ...]
    low: tuple[float, ...]
    width: tuple[float, ...]
    bins: int
    unit: float

    def of_images(self, images: int) -> Windows:
        """The windows of one image for so many, image after image."""
        row = tuple((image, class_) for image in range(images) for _, class_ in self.row)
        return Windows(row, self.low * images, self.width * images, self.bins, self.unit)

    def of_row(self, numbers: list[int]) -> Windows:
        """Windows of one row, given by number, where that row is the only one."""
        low, width = (tuple(n[at] for at in numbers) for n in (self.low, self.width))
        return Windows(((0, 0),) * len(numbers), low, width, self.bins, self.unit)


class Field(Protocol):
    """Pixels of a batch, (B, C, n), behind the reductions a solver needs.

    A row whose threshold is at or above its peak selects nothing and costs nothing: that is how a
    solver leaves out rows that are pruned or finished.
    """

    classes: int
    """Channels, C."""
    pixels: int
    """Pixels per row, n."""
    device: torch.device
    """Where the (B, C) arrays live."""
    spacing: float
    """Distance of neighbouring probabilities between 1 and 2, of the type that holds them."""

    def representable(self, number: float) -> float:
        """The number as the input's type holds it: cuts that users write are meant in that type."""
        ...

    def totals(self) -> Totals:
        """Expected volume, smallest and largest probability of each row; cached."""
        ...

    def above(self, threshold: Tensor) -> Selection:
        """Sum and count of {p > threshold} in each row."""
        ...

    def best(self, family: RatioFamily, limit: Tensor, masks: bool) -> Best:
        """Totals and, for rows whose peak is above the limit, the largest value of their ratio.

        The limit is one number for each class, float64 (C,). ``totals``, ``maximise`` and
        ``select`` at once, for a field that can do it in fewer visits. What is found in rows with
        values outside [0, 1] means nothing: check the totals.
        """
        ...

    def maximise(
        self, ratio: LinearFractional, active: Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, Selection]:
        """Cut and region of the largest value of a ratio of S and V, by Dinkelbach's iteration.

        ``start`` is only a first guess of the cut. Rows that are not ``active`` come back empty,
        their cut NOTHING.
        """
        ...

    def sample(self, every: int) -> Field:
        """Field of every so manieth pixel of each row."""
        ...

    def row(self, image: int, class_: int, mask: Tensor | None = None) -> Field:
        """Field of one row; pixels outside ``mask`` (bool, its shape) count as probability 0."""
        ...

    def between(self, low: float, high: float) -> Tensor:
        """Probabilities in (low, high], float64, in any order; fields of one row only."""
        ...

    def histogram(self, bins: int, unit: float) -> Tensor:
        """Pixels of each class, all images together, in equal bins of [0, 1], and their sums.

        int64 (2, C, bins), sums as integers in the unit given; a pixel at an edge lies under it.
        """
        ...

    def spread(self, windows: Windows, region: Tensor | LabelRule | None = None) -> Tensor:
        """Pixels in the bins of each window, and the sum of their distances from its low end.

        int64 (2, windows, bins); a pixel at an edge lies under it. With a ``region``, labels int64
        (B, *spatial), masks bool (B, C, *spatial) or the rule of labels, pixels outside the row's
        region are not counted.
        """
        ...

    def distinct(
        self,
        at: tuple[int, int],
        low: float,
        high: float,
        region: Tensor | LabelRule | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Different probabilities of a row in (low, high], rising, and how often each occurs.

        ``region`` is that of ``spread``; with one, ``low`` is at least 0.
        """
        ...

    def moments(self, low: float, high: float) -> Tensor:
        """Sums of p, p(1-p), p(1-p)(1-2p) over (low, high]; fields of one row only."""
        ...

    def chebyshev(self, low: float, high: float, degree: int) -> Tensor:
        """Sums of p T_k(p), k < degree, over (low, high], T_k the Chebyshev polynomials there.

        Fields of one row only.
        """
        ...

    def claimed_once(self, threshold: Tensor) -> Selection:
        """As ``above``, over the pixels that exactly one class of the image claims."""
        ...

    def select(self, threshold: Tensor, dtype: torch.dtype = torch.bool) -> Tensor:
        """Masks {p > threshold}, (B, C, *spatial); as int64 they are labels of one channel."""
        ...

    def assign(self, rule: LabelRule) -> Tensor:
        """Labels under the rule, int64 (B, *spatial)."""
        ...

    def regions(self, rule: LabelRule) -> Selection:
        """Sum and count of each class's region under the rule, whose labels are not kept."""
        ...

    def measure(self, labels: Tensor) -> Selection:
        """Sum and count of each class's region in a label map."""
        ...

    def within(self, masks: Tensor) -> Selection:
        """Sum and count of each row's pixels in masks, bool (B, C, *spatial)."""
        ...
