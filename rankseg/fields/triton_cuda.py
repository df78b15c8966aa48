"""The field over a tensor on an NVIDIA GPU: the numbers of ``tensor.py``, bit for bit.

Each reduction is one launch for all rows, and no pixel leaves the device. Dinkelbach's iteration
keeps its state there: a pass over the pixels, then a tiny kernel that turns what it found into the
next cuts.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rankseg.cached import cached_property
from rankseg.fields import dinkelbach
from rankseg.fields import triton_kernels as kernels
from rankseg.fields.base import LabelRule, Selection, Totals, Whole
from rankseg.fields.blocks import BLOCK, spans
from rankseg.fields.exact_sum import LARGEST_LIFT, Scale
from rankseg.fields.tensor import TensorField
from rankseg.objectives import LinearFractional

LEAST, LARGEST = kernels.LEAST.value, kernels.LARGEST.value
CONTIGUOUS = torch.contiguous_format

OPTIONS = {"enable_fp_fusion": False}
"""A product and the sum it enters are rounded apart, as in plain torch."""

OLDEST = (8, 0)
"""Compute capability that Triton asks for: Ampere."""

PASSES_AHEAD = 3
"""Passes queued before the host asks whether a row still rises.

Asking empties the queue: some 10 to 20 us without work for the GPU. A pass that has no row left to
visit costs two launches of some 5 us and next to nothing on the GPU. Four to six passes, the usual
number, take two questions and at most two idle passes so. Estimates: nothing was measured.
"""

TILE = 1024
"""Elements that a program holds at a time, 8 to a thread; twice as many would not fit the registers
of ``assign``."""

STEPS = 8
"""Tiles of a row that a program takes one after the other before it adds to the row's sums."""

TOGETHER = 4
"""Classes in a tile where the pixels of a row lie side by side but all classes are needed."""

MOST_TOGETHER = 32
"""Classes in a tile where the classes of a pixel lie side by side: 128 bytes of float32."""

SMALL_ROWS = 128
"""Rows to a program of the kernels that touch no pixel."""


class TritonField(TensorField):
    """Field over a CUDA tensor (B, C, *spatial) that passed validation.

    Logits become probabilities in each pass, in at least float32; for a softmax of more than two
    classes two numbers a pixel are kept.
    """

    def __init__(
        self, values: Tensor, activation: str = "none", whole: Whole | None = None
    ) -> None:
        if not (values.is_cuda or kernels.INTERPRETED):
            raise ValueError(f"the Triton field needs values on a GPU; got {values.device}")
        if whole is not None:
            raise ValueError("the Triton field makes no tallies of parts")
        super().__init__(values, activation)
        self.shape = (self.batch, self.classes)
        self.unit, self.limbs = Scale.unit_and_limbs(self.pixels, self.block_dtype)
        self.rule, self.norm = self._activation()

    @staticmethod
    def obstacle(values: Tensor) -> str:
        """Why kernels cannot run where the tensor is; interpreted they do on the CPU, only."""
        if kernels.INTERPRETED:
            return "" if values.device.type == "cpu" else "is interpreted, on the CPU only"
        if not values.is_cuda:
            return f"runs on NVIDIA GPUs, and the tensor is on {str(values.device)!r}"
        return "" if _runs_on(values.device) else "does not run on this GPU"

    def above(self, threshold: Tensor) -> Selection:
        """Sum and count of {p > threshold} in each row."""
        sums = self._integers()
        self._add_above(threshold.contiguous(), self._totals.peak, self._lift, sums)
        return self._finish(sums, self._lift)

    def within(self, masks: Tensor) -> Selection:
        """Sum and count of each row's pixels in masks, bool (B, C, *spatial)."""
        flat, sums = masks.flatten(2).view(torch.uint8), self._integers()
        where = (flat, *flat.stride())
        self._rows_apart(kernels.within, *where, self._lift, self.unit, sums, LIMBS=self.limbs)
        return self._finish(sums, self._lift)

    def claimed_once(self, threshold: Tensor) -> Selection:
        """As ``above``, over the pixels that exactly one class of the image claims."""
        sums = self._integers()
        arguments = (threshold.contiguous(), self._totals.peak, self._lift, self.unit, sums)
        self._classes_together(kernels.claimed_once, *arguments, LIMBS=self.limbs)
        return self._finish(sums, self._lift)

    def measure(self, labels: Tensor) -> Selection:
        """Sum and count of each class's region in a label map."""
        flat, sums = labels.flatten(1).contiguous(), self._integers()
        scale = (self._lift, self.unit, sums)
        self._pixels(TILE, kernels.measure, flat, *scale, RULE=self.rule, LIMBS=self.limbs)
        return self._finish(sums, self._lift)

    def maximise(
        self, ratio: LinearFractional, active: Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, Selection]:
        """Cut and region of the largest value of a ratio; the device steers itself."""
        if ratio.is_mean:
            return dinkelbach.largest_pixels(self, active)
        terms = self._new(torch.float64, 5)
        numbers = (ratio.base, ratio.gain, ratio.width, ratio.price, ratio.overlap)
        for place, number in zip(terms, numbers, strict=True):
            place.copy_(number) if isinstance(number, Tensor) else place.fill_(number)
        threshold = self._new() if start is None else start.clone(memory_format=CONTIGUOUS)
        best, chosen, selected_sum = self._new(), self._new(), self._new()
        state, volume = self._new(torch.int32), self._new(torch.int64)
        sums, peak, lift = self._integers(), self._totals.peak, self._lift
        self._small(
            kernels.set_out,
            *(terms, self._totals.mu, peak, self.pixels, _bytes(active)),
            *(threshold, best, state, chosen, selected_sum, volume),
            STARTED=start is not None,
        )
        rising = True
        while rising:
            for _ in range(PASSES_AHEAD):
                self._add_above(threshold, peak, lift, sums)
                self._small(
                    kernels.advance,
                    *(terms, lift, self.unit),
                    *(threshold, best, state, chosen, selected_sum, volume, sums),
                )
            rising = bool(state.any())
        return chosen, Selection(selected_sum, volume)

    def select(self, threshold: Tensor, dtype: torch.dtype = torch.bool) -> Tensor:
        """Masks {p > threshold}, (B, C, *spatial); as int64 they are labels of one channel."""
        masks = self.rows.new_empty(*self.shape, *self.spatial, dtype=dtype)
        numbers = (threshold.contiguous(), self._totals.peak)
        to = _bytes(masks) if dtype == torch.bool else masks
        self._rows_apart(kernels.select, *numbers, to)
        return masks

    def assign(self, rule: LabelRule) -> Tensor:
        """Labels under the rule, int64 (B, *spatial)."""
        labels = self.rows.new_empty(self.batch, *self.spatial, dtype=torch.int64)
        gain = (rule.slope.contiguous(), rule.offset.contiguous(), rule.bend.contiguous())
        claim = (rule.claim.contiguous(), _bytes(rule.eligible))
        peak = self._totals.peak
        self._classes_together(kernels.assign, *claim, *gain, rule.void_index, peak, labels)
        return labels

    def row(self, image: int, class_: int, mask: Tensor | None = None) -> TensorField:
        """Field of one row; pixels outside ``mask`` (bool, its shape) count as probability 0."""
        return TritonField(super().row(image, class_, mask).rows)

    def _row_values(self, image: int, class_: int) -> Tensor:
        if self.activation == "none":
            return super()._row_values(image, class_)
        out = self.rows.new_empty(self.pixels, dtype=self.block_dtype)
        memory = (self.rows, *self.rows.stride(), self.pixels, self.norm)
        constants = {"RULE": self.rule, "PIXELS": TILE}
        blocks = _blocks(self.pixels, TILE)
        self._launch(kernels.copy_row, blocks, *memory, image, class_, out, **constants)
        return out

    def _pieces(self, low: float, high: float) -> Iterator[Tensor]:
        for p in spans(self.pixels, BLOCK):  # few calls count for more here than a small cache
            piece = self.rows[0, 0, p].double()
            yield piece[(piece > low) & (piece <= high)]

    @property
    def _totals(self) -> Totals:
        return self._first_look[0]

    @property
    def _lift(self) -> Tensor:
        return self._first_look[1]

    @cached_property
    def _first_look(self) -> tuple[Totals, Tensor]:
        """Totals and lifts; rows with a small peak are summed again, the others at once."""
        low = torch.full(self.shape, LARGEST, dtype=torch.int64, device=self.device)
        high, sums = torch.full_like(low, LEAST), self._integers()
        self._rows_apart(kernels.totals, self.unit, low, high, sums, LIMBS=self.limbs)
        lift, again = self._new(), self._new()
        largest = LARGEST_LIFT[self.block_dtype]
        self._small(kernels.extremes, low, high, sums, lift, again, largest)
        lowest, peak = low.view(torch.float64), high.view(torch.float64)
        self._add_above(again, peak, lift, sums)
        return Totals(self._finish(sums, lift).selected_sum, lowest, peak), lift

    def _activation(self) -> tuple[int, Tensor]:
        """How values become probabilities, and what softmax needs at each pixel."""
        if self.activation == "none":
            return kernels.PLAIN.value, self.rows
        if self.activation == "sigmoid":
            return kernels.SIGMOID.value, self.rows
        if self.classes == 2:
            return kernels.SOFTMAX_OF_TWO.value, self.rows
        norm = self.rows.new_empty(self.batch, 2, self.pixels, dtype=self.block_dtype)
        self.norm = norm
        self._pixels(TILE, kernels.normalise)
        return kernels.SOFTMAX.value, norm

    def _new(self, dtype: torch.dtype = torch.float64, *more: int) -> Tensor:
        """Room for a number per row."""
        return torch.empty(*more, *self.shape, dtype=dtype, device=self.device)

    def _integers(self) -> Tensor:
        """Per row: two integers that make the sum, and the count."""
        return torch.zeros(*self.shape, 3, dtype=torch.int64, device=self.device)

    def _add_above(self, threshold: Tensor, peak: Tensor, lift: Tensor, sums: Tensor) -> None:
        arguments = (threshold, peak, lift, self.unit, sums)
        self._rows_apart(kernels.above, *arguments, LIMBS=self.limbs)

    def _finish(self, sums: Tensor, lift: Tensor) -> Selection:
        selected_sum, volume = self._new(), self._new(torch.int64)
        self._small(kernels.finish, sums, lift, self.unit, selected_sum, volume)
        return Selection(selected_sum, volume)

    @property
    def _side_by_side(self) -> bool:
        """Whether the classes of a pixel lie closer together than the pixels of a row."""
        _, per_class, step = self.rows.stride()
        return self.classes > 1 and per_class < step

    def _rows_apart(self, kernel: Any, *arguments: Any, **constants: int) -> None:
        """Launch a kernel whose programs take parts of rows."""
        classes = min(MOST_TOGETHER, _power(self.classes)) if self._side_by_side else 1
        pixels = TILE // classes
        constants |= {"CLASSES": classes, "PIXELS": pixels, "SPAN": STEPS * pixels}
        groups = _blocks(self.classes, classes) * _blocks(self.pixels, STEPS * pixels)
        memory = self._memory
        self._launch(kernel, self.batch * groups, *memory, *arguments, RULE=self.rule, **constants)

    def _classes_together(self, kernel: Any, *arguments: Any, **constants: int) -> None:
        """Launch a kernel whose programs take all classes of some pixels."""
        most = MOST_TOGETHER if self._side_by_side else TOGETHER
        classes = min(most, _power(self.classes))
        constants |= {"RULE": self.rule, "CLASSES": classes}
        self._pixels(TILE // classes, kernel, *arguments, **constants)

    def _pixels(self, pixels: int, kernel: Any, *arguments: Any, **constants: int) -> None:
        """Launch a kernel whose programs take so many pixels of an image."""
        programs = self.batch * _blocks(self.pixels, pixels)
        self._launch(kernel, programs, *self._memory, *arguments, PIXELS=pixels, **constants)

    def _small(self, kernel: Any, *arguments: Any, **constants: int) -> None:
        """Launch a kernel on numbers per row."""
        rows = self.batch * self.classes
        programs = _blocks(rows, SMALL_ROWS)
        self._launch(kernel, programs, *arguments, rows, ROWS=SMALL_ROWS, **constants)

    @property
    def _memory(self) -> tuple[Any, ...]:
        """Where the values lie, as kernels take it."""
        return (self.rows, *self.rows.stride(), self.classes, self.pixels, self.norm)

    def _launch(self, kernel: Any, programs: int, *arguments: Any, **constants: int) -> None:
        """Run a kernel on the tensor's device, in its current stream."""
        with torch.cuda.device_of(self.rows):  # type: ignore[no-untyped-call]
            kernel[(programs,)](*arguments, **constants, **OPTIONS)  # no program, no launch


@cache
def _runs_on(device: torch.device) -> bool:
    """Whether a kernel runs there: Triton wants a C compiler and a folder to write to, too."""
    if torch.version.hip is not None or torch.cuda.get_device_capability(device) < OLDEST:
        return False
    try:
        TritonField(torch.ones(1, 1, 1, device=device)).totals()
    except Exception as error:  # of the compiler, the driver or the file system
        reason = f"Triton does not run on {device} ({error}): plain torch decides, more slowly"
        warnings.warn(reason, RuntimeWarning, stacklevel=2)
        return False
    return True


def _blocks(length: int, size: int) -> int:
    return -(-length // size)


def _power(number: int) -> int:
    """Smallest power of two that is not less."""
    return 1 << (number - 1).bit_length()


def _bytes(masks: Tensor) -> Tensor:
    return masks.contiguous().view(torch.uint8)
