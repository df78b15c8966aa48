"""The field over a CPU tensor in compiled passes: the numbers of ``tensor.py``, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankseg.cached import cached_property
from rankseg.fields import numba_kernels as kernels
from rankseg.fields.base import NOTHING, Best, LabelRule, Selection, Totals, Whole, Windows
from rankseg.fields.exact_sum import SMALL_PEAK, Scale, Tally
from rankseg.fields.tensor import TensorField
from rankseg.fields.threads import run
from rankseg.objectives import RatioFamily

Array = NDArray[Any]
Span = tuple[int, int]

ENOUGH = 1 << 16
"""Elements worth a thread's while; fewer are done where they are asked for."""

MOST = 1 << 24
"""Elements of a piece of work at most: Ctrl-C waits for the end of one."""

ALONE = 1 << 22
"""Pixels of a row that one thread decides as soon as all threads in step, at least.

A pass in step takes some 0.3 ms to set going, and a search takes some ten, samples included.
Measured with two threads, one row of 2^20 pixels: 1.7 ms, against 6.3 in step.
"""


class Pieces(NamedTuple):
    """Work cut up: every part of the pixels with every group of rows or images."""

    parts: list[Span]
    groups: list[Span]

    def run(self, work: Callable[[int, Span, Span], None]) -> None:
        """Call ``work(number of the part, part, group)`` for each piece, on torch's threads."""
        count = len(self.parts)

        def piece(number: int) -> None:
            part = number % count
            work(part, self.parts[part], self.groups[number // count])

        run(piece, count * len(self.groups))


class NumbaField(TensorField):
    """Field over a CPU tensor (B, C, *spatial) that passed validation.

    Logits become probabilities in each pass, in at least float32; for a softmax two numbers a pixel
    are kept.
    """

    def __init__(
        self, values: Tensor, activation: str = "none", whole: Whole | None = None
    ) -> None:
        super().__init__(values, activation, whole)
        self.shape = (self.batch, self.classes)
        flat, offsets, step = _memory(self.rows)
        self.memory: tuple[Array, Array, int, Any] = (flat, offsets, step, None)
        wide = np.float64 if flat.dtype == np.float64 else np.float32
        self.stored = flat.dtype.type if activation == "none" else wide
        if activation != "none":
            self.memory = (flat, offsets, step, self._rule(wide))

    def _rule(self, wide: Any) -> tuple[int, Array, Array]:
        """How kernels turn logits into probabilities: a softmax of two needs nothing beforehand."""
        softmax = self.activation == "softmax"
        if not softmax or self.classes == 2:
            rule = kernels.SOFTMAX_OF_TWO if softmax else kernels.SIGMOID
            return rule, np.empty((0, 0), wide), np.empty((0, 0), wide)
        top: Array = np.empty((self.batch, self.pixels), wide)
        share = np.empty_like(top)
        self._classes_together().run(
            lambda _, part, images: kernels.normalise(self.memory, part, images, (top, share))
        )
        return kernels.SOFTMAX, top, share

    @staticmethod
    def obstacle(values: Tensor) -> str:
        """Why the compiled passes cannot take this tensor; empty if they can."""
        if values.device.type != "cpu":
            return f"runs on the CPU, and the tensor is on {str(values.device)!r}"
        most = kernels.MOST_CLASSES
        return f"takes {most} classes at most, got {values.shape[1]}" * (values.shape[1] > most)

    def above(self, threshold: Tensor) -> Selection:
        """Sum and count of {p > threshold} in each row."""
        return self._sum(kernels.above, self._rows_apart(), _numbers(threshold))

    def tally_above(self, threshold: Tensor) -> Tally:
        """What ``above`` is made of."""
        return self._tally(kernels.above, self._rows_apart(), _numbers(threshold))

    def within(self, masks: Tensor) -> Selection:
        """Sum and count of each row's pixels in masks, bool (B, C, *spatial)."""
        return self._sum(kernels.within, self._rows_apart(), _bytes(masks.flatten(2)))

    def claimed_once(self, threshold: Tensor) -> Selection:
        """As ``above``, over the pixels that exactly one class of the image claims."""
        return self._sum(kernels.claimed_once, self._classes_together(), _numbers(threshold))

    def tally_claimed_once(self, threshold: Tensor) -> Tally:
        """What ``claimed_once`` is made of."""
        return self._tally(kernels.claimed_once, self._classes_together(), _numbers(threshold))

    def regions(self, rule: LabelRule) -> Selection:
        """Sum and count of each class's region under the rule, whose labels are not kept."""
        return self._sum(kernels.regions, self._classes_together(), _rule(rule))

    def histogram(self, bins: int, unit: float) -> Tensor:
        """Pixels of each class in equal bins of [0, 1], and their sums; int64 (2, C, bins)."""
        found = np.zeros((2, self.classes, bins), np.int64)
        counts, sums = found
        run(
            lambda c: kernels.histogram(self.memory, (c, c + 1, self.pixels), unit, counts, sums),
            self.classes,
        )
        return torch.from_numpy(found)

    def spread(self, windows: Windows, region: Tensor | LabelRule | None = None) -> Tensor:
        """Pixels in the bins of each window, and the sum of their distances from its low end."""
        if region is not None:
            return self._spread_within(windows, region)
        count, size = len(windows.row), max(MOST // 16, self.pixels // torch.get_num_threads())
        parts = _spans(self.pixels, size if count < torch.get_num_threads() else MOST)
        found = np.zeros((len(parts), count, windows.bins, 2), np.int64)

        def piece(number: int) -> None:
            part, at = divmod(number, count)
            window = (windows.low[at], 1 / windows.width[at], windows.unit)
            kernels.spread(self.memory, parts[part], windows.row[at], window, found[part, at])

        run(piece, len(parts) * count)
        return torch.from_numpy(found[0] if len(parts) == 1 else found.sum(0)).movedim(-1, 0)

    def tally_regions(self, rule: LabelRule) -> Tally:
        """What ``regions`` is made of."""
        return self._tally(kernels.regions, self._classes_together(), _rule(rule))

    def measure(self, labels: Tensor) -> Selection:
        """Sum and count of each class's region in a label map."""
        flat = labels.flatten(1).contiguous().numpy()
        return self._sum(kernels.measure, self._classes_together(), flat)

    def best(self, family: RatioFamily, limit: Tensor, masks: bool) -> Best:
        """Totals and, for rows whose peak is above the limit, the largest value of their ratio."""
        if not self._row_by_row():
            return super().best(family, limit, masks)  # all rows and threads in every pass
        rows = self.batch * self.classes
        numbers, cut, selected_sum = np.empty((3, *self.shape)), *np.empty((2, *self.shape))
        volume, valid = np.empty(self.shape, np.int64), np.empty(self.shape, np.bool_)
        chosen = np.empty((*self.shape, self.pixels if masks else 0), np.bool_)
        ratio = (*family, _numbers(limit))
        out = (numbers, cut, selected_sum, volume, chosen, valid)
        Pieces([(0, self.pixels)], _spans(rows, ENOUGH // self.pixels)).run(
            lambda _, part, group: kernels.search(
                self.memory, part, group, ratio, self._unit_and_limbs, out
            )
        )
        if not valid.all():
            return super().best(family, limit, masks)
        self._totals = Totals(*map(torch.from_numpy, numbers))
        return Best(
            torch.from_numpy(cut),
            _selection(selected_sum, volume),
            self._totals.peak > limit,
            self._spatial(chosen) if masks else None,
        )

    def _row_by_row(self) -> bool:
        """Whether each row is best decided by one thread while it is near, others idle or not."""
        threads, rows = torch.get_num_threads(), self.batch * self.classes
        if self.memory[2] != 1 or self.pixels > MOST:
            return False
        if self.activation != "none" and rows * self.pixels > ENOUGH:
            return rows >= 8 * threads  # the probabilities of a row for each thread take room
        return self.pixels <= ALONE or rows >= 2 * threads

    def select(self, threshold: Tensor, dtype: torch.dtype = torch.bool) -> Tensor:
        """Masks {p > threshold}, (B, C, *spatial); as int64 they are labels of one channel."""
        kind = np.bool_ if dtype == torch.bool else np.int64
        masks = np.empty((*self.shape, self.pixels), kind)
        self._write(kernels.select, self._rows_apart(), _numbers(threshold), masks)
        return self._spatial(masks)

    def assign(self, rule: LabelRule) -> Tensor:
        """Labels under the rule, int64 (B, *spatial)."""
        labels = np.empty((self.batch, self.pixels), np.int64)
        self._write(kernels.assign, self._classes_together(), _rule(rule), labels)
        return self._spatial(labels)

    def _spatial(self, result: Array) -> Tensor:
        """Result with its spatial dimensions. NumPy's memory comes in huge pages, torch's not.

        Measured: 39 MB written for the first time in 8 ms, against 22 ms.
        """
        return torch.from_numpy(result).reshape(*result.shape[:-1], *self.spatial)

    def representable(self, number: float) -> float:
        """The number as the input's type holds it: cuts that users write are meant in that type."""
        if self.stored in (np.float32, np.float64):
            return float(self.stored(number))
        return super().representable(number)

    def _row_values(self, image: int, class_: int) -> Tensor:
        if self.activation == "none":
            return super()._row_values(image, class_)
        values = np.empty(self.pixels, self.stored)
        kernels.copy_row(self.memory, (0, self.pixels), (image, class_), values)
        return torch.from_numpy(values)

    @cached_property
    def _totals(self) -> Totals:
        parts = self._first_look()
        mu, lowest, peak = numbers = tuple(np.empty(self.shape) for _ in range(3))
        if not kernels.finish_totals(self.memory, parts, self._unit_and_limbs[0], numbers):
            return super()._totals  # NaN, out of range, or a negative zero: the slow way tells
        if peak.size and peak.min() < SMALL_PEAK:  # sums of what was lifted lose nothing
            everything = np.where(peak < SMALL_PEAK, -1.0, NOTHING)
            scale = (*self._unit_and_limbs, self._lift(peak), peak)
            lifted, _ = self._numbers(kernels.above, self._rows_apart(), everything, scale)
            mu = np.where(peak < SMALL_PEAK, lifted, mu)
        return Totals(torch.from_numpy(mu), torch.from_numpy(lowest), torch.from_numpy(peak))

    def _first_look(self) -> tuple[Array, Array, Array]:
        """Each part's smallest and largest orders and integers, as if no peak were small."""
        pieces = self._rows_apart()
        shape = (len(pieces.parts), *self.shape)
        orders: Any = kernels.ORDER[self.stored]
        low, high = (np.full(shape, x, orders.dtype) for x in (orders.max, orders.min))
        sums = np.zeros((*shape, 3), np.int64)
        pieces.run(
            lambda at, part, group: kernels.totals(
                self.memory, part, group, self._unit_and_limbs, (low[at], high[at], sums[at])
            )
        )
        return low, high, sums

    @cached_property
    def _unit_and_limbs(self) -> tuple[float, int]:
        return Scale.unit_and_limbs(self.counted, self.block_dtype)

    @cached_property
    def _scale(self) -> tuple[float, int, Array, Array]:
        """Unit, limbs, and each row's lift and peak, as kernels take them."""
        peak = self._totals.peak.numpy()
        return *self._unit_and_limbs, self._lift(peak), peak

    def _lift(self, peak: Array) -> Array:
        lift = None
        if peak.size and peak.min() < SMALL_PEAK:
            lift = Scale(torch.from_numpy(peak), self.counted, self.block_dtype).lift
        return np.ones(self.shape) if lift is None else lift.numpy()

    def _sum(self, kernel: Any, pieces: Pieces, argument: Any) -> Selection:
        return _selection(*self._numbers(kernel, pieces, argument, self._scale))

    def _numbers(
        self, kernel: Any, pieces: Pieces, argument: Any, scale: Any
    ) -> tuple[Array, Array]:
        """Sum and count of each row."""
        sums = self._integers(kernel, pieces, argument, scale)
        selected_sum, volume = np.empty(self.shape), np.empty(self.shape, np.int64)
        kernels.finish(sums, scale, selected_sum, volume)
        return selected_sum, volume

    def _tally(self, kernel: Any, pieces: Pieces, argument: Any) -> Tally:
        sums = torch.from_numpy(self._integers(kernel, pieces, argument, self._scale).sum(0))
        limbs = sums[..., : self._unit_and_limbs[1]].movedim(-1, 0)
        return Tally(limbs, sums[..., 2])

    def _integers(self, kernel: Any, pieces: Pieces, argument: Any, scale: Any) -> Array:
        """Each part's integers of each row: two for the sum, and the count."""
        sums = np.zeros((len(pieces.parts), *self.shape, 3), np.int64)
        pieces.run(
            lambda at, part, group: kernel(self.memory, part, group, argument, scale, sums[at])
        )
        return sums

    def _write(self, kernel: Any, pieces: Pieces, argument: Any, out: Array) -> None:
        peak = self._scale[3]
        pieces.run(lambda at, part, group: kernel(self.memory, part, group, argument, peak, out))

    def _rows_apart(self) -> Pieces:
        """Pieces whose groups are ranges of rows."""
        if self.memory[2] == 1:
            return self._cut_up(self.batch * self.classes, 1)
        by_image = self._classes_together()  # all rows use what one visit of the memory brought
        groups = [(start * self.classes, stop * self.classes) for start, stop in by_image.groups]
        return Pieces(by_image.parts, groups)

    def _classes_together(self) -> Pieces:
        """Pieces whose groups are ranges of images."""
        return self._cut_up(self.batch, self.classes)

    def _cut_up(self, units: int, width: int) -> Pieces:
        """Pieces of units that have ``width`` elements at each pixel."""
        threads = torch.get_num_threads()
        elements = units * width * self.pixels
        size = MOST if threads == 1 else max(ENOUGH, min(MOST, elements // (16 * threads)))
        parts = _spans(self.pixels, size // width)
        return Pieces(parts, _spans(units, size // (width * self.pixels)))


def _memory(rows: Tensor) -> tuple[Array, Array, int]:
    """The tensor's memory as one flat array, each row's offset, and the step between pixels."""
    batch, classes, pixels = rows.shape
    if rows.is_contiguous():
        offsets = np.arange(0, batch * classes * pixels, pixels).reshape(batch, classes)
        return _values(rows.view(-1)), offsets, 1
    per_image, per_class, step = rows.stride()
    extent = sum(
        (size - 1) * stride for size, stride in zip(rows.shape, rows.stride(), strict=True)
    )
    offsets = np.add.outer(np.arange(batch) * per_image, np.arange(classes) * per_class)
    return _values(rows.as_strided((extent + 1,), (1,))), offsets, step


def _values(flat: Tensor) -> Array:
    """Array that kernels can read, without a copy."""
    bits = kernels.STORED.get(flat.dtype)
    values: Array = flat.numpy() if bits is None else flat.view(torch.int16).numpy().view(bits)
    return values


def _spans(length: int, size: int) -> list[Span]:
    size = max(1, size)
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def _numbers(rows: Tensor) -> Array:
    numbers: Array = rows.contiguous().numpy()
    return numbers


def _rule(rule: LabelRule) -> tuple[Array, Array, Array, Array, Array, int]:
    """Label rule as kernels take it."""
    claim, slope, offset, bend = map(_numbers, (rule.claim, rule.slope, rule.offset, rule.bend))
    return claim, _bytes(rule.eligible), slope, offset, bend, rule.void_index


def _bytes(masks: Tensor) -> Array:
    numbers: Array = masks.contiguous().view(torch.uint8).numpy()
    return numbers


def _selection(selected_sum: Array, volume: Array) -> Selection:
    return Selection(torch.from_numpy(selected_sum), torch.from_numpy(volume))
