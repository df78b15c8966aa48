"""The field over a CPU tensor in compiled passes: the numbers of ``tensor.py``, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankseg.fields import numba_kernels as kernels
from rankseg.fields.base import NOTHING, LabelRule, Selection, Totals
from rankseg.fields.dinkelbach import ROUNDING
from rankseg.fields.exact_sum import SMALL_PEAK, Scale
from rankseg.fields.tensor import TensorField
from rankseg.fields.threads import run
from rankseg.objectives import LinearFractional

Array = NDArray[Any]
Span = tuple[int, int]

ENOUGH = 1 << 16
"""Elements worth a thread's while; fewer are done where they are asked for."""

MOST = 1 << 24
"""Elements of a piece of work at most: Ctrl-C waits for the end of one."""


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

    def __init__(self, values: Tensor, activation: str = "none") -> None:
        super().__init__(values, activation)
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
    def serves(values: Tensor) -> bool:
        """Whether the compiled passes can take this tensor."""
        return values.device.type == "cpu" and values.shape[1] <= kernels.MOST_CLASSES

    def above(self, threshold: Tensor) -> Selection:
        """Sum and count of {p > threshold} in each row."""
        return self._sum(kernels.above, self._rows_apart(), _numbers(threshold))

    def within(self, masks: Tensor) -> Selection:
        """Sum and count of each row's pixels in masks, bool (B, C, *spatial)."""
        return self._sum(kernels.within, self._rows_apart(), _bytes(masks.flatten(2)))

    def claimed_once(self, threshold: Tensor) -> Selection:
        """As ``above``, over the pixels that exactly one class of the image claims."""
        return self._sum(kernels.claimed_once, self._classes_together(), _numbers(threshold))

    def measure(self, labels: Tensor) -> Selection:
        """Sum and count of each class's region in a label map."""
        flat = labels.flatten(1).contiguous().numpy()
        return self._sum(kernels.measure, self._classes_together(), flat)

    def maximise(
        self, ratio: LinearFractional, active: Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, Selection]:
        """Cut and region of the largest value of a ratio; each row's passes follow each other."""
        rows = self.batch * self.classes
        threads = torch.get_num_threads() if rows * self.pixels > ENOUGH else 1
        if self.memory[2] != 1 or rows < 2 * threads:
            return super().maximise(ratio, active, start)  # all rows and threads in every pass
        cut, selected_sum = np.full(self.shape, NOTHING), np.zeros(self.shape)
        volume = np.zeros(self.shape, np.int64)
        first = np.full(self.shape, np.nan) if start is None else _numbers(start)
        base, width = (np.full(self.shape, number) for number in (ratio.base, ratio.width))
        terms = (base, ratio.gain, width, ratio.price, ratio.overlap, ROUNDING)
        known = (self._totals.mu.numpy(), _bytes(active))
        room = max(kernels.PIECE, min(self.pixels, rows * self.pixels // (16 * threads)))
        out = (cut, selected_sum, volume)
        Pieces([(0, self.pixels)], _spans(rows, ENOUGH // self.pixels)).run(
            lambda _, part, group: kernels.maximise(
                self.memory, part, group, terms, known, first, self._scale, room, out
            )
        )
        return torch.from_numpy(cut), _selection(selected_sum, volume)

    def select(self, threshold: Tensor) -> Tensor:
        """Masks {p > threshold}, bool (B, C, *spatial)."""
        masks = torch.empty(*self.shape, self.pixels, dtype=torch.bool)
        self._write(kernels.select, self._rows_apart(), _numbers(threshold), _bytes(masks))
        return masks.reshape(*self.shape, *self.spatial)

    def assign(self, rule: LabelRule) -> Tensor:
        """Labels under the rule, int64 (B, *spatial)."""
        labels = torch.empty(self.batch, self.pixels, dtype=torch.int64)
        claim, slope, offset, bend = map(_numbers, (rule.claim, rule.slope, rule.offset, rule.bend))
        numbers = (claim, _bytes(rule.eligible), slope, offset, bend, rule.void_index)
        self._write(kernels.assign, self._classes_together(), numbers, labels.numpy())
        return labels.reshape(self.batch, *self.spatial)

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
            everything = np.full(self.shape, -1.0)
            scale = (*self._unit_and_limbs, self._lift(peak), peak)
            mu, _ = self._numbers(kernels.above, self._rows_apart(), everything, scale)
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
        return Scale.unit_and_limbs(self.pixels, self.block_dtype)

    @cached_property
    def _scale(self) -> tuple[float, int, Array, Array]:
        """Unit, limbs, and each row's lift and peak, as kernels take them."""
        peak = self._totals.peak.numpy()
        return *self._unit_and_limbs, self._lift(peak), peak

    def _lift(self, peak: Array) -> Array:
        lift = None
        if peak.size and peak.min() < SMALL_PEAK:
            lift = Scale(torch.from_numpy(peak), self.pixels, self.block_dtype).lift
        return np.ones(self.shape) if lift is None else lift.numpy()

    def _sum(self, kernel: Any, pieces: Pieces, argument: Any) -> Selection:
        return _selection(*self._numbers(kernel, pieces, argument, self._scale))

    def _numbers(
        self, kernel: Any, pieces: Pieces, argument: Any, scale: Any
    ) -> tuple[Array, Array]:
        """Sum and count of each row."""
        sums = np.zeros((len(pieces.parts), *self.shape, 3), np.int64)
        pieces.run(
            lambda at, part, group: kernel(self.memory, part, group, argument, scale, sums[at])
        )
        selected_sum, volume = np.empty(self.shape), np.empty(self.shape, np.int64)
        kernels.finish(sums, scale, selected_sum, volume)
        return selected_sum, volume

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


def _bytes(masks: Tensor) -> Array:
    numbers: Array = masks.contiguous().view(torch.uint8).numpy()
    return numbers


def _selection(selected_sum: Array, volume: Array) -> Selection:
    return Selection(torch.from_numpy(selected_sum), torch.from_numpy(volume))
