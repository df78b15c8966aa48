"""The field over a tensor in plain torch: defines every reduction and runs on any device.

The pixels are walked in blocks, so extra memory does not grow with the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from rankseg.cached import cached_property
from rankseg.fields import dinkelbach
from rankseg.fields.base import Best, LabelRule, Selection, Totals, Whole, Windows
from rankseg.fields.blocks import BLOCK, Classes, pixel_blocks, row_blocks, spans
from rankseg.fields.exact_sum import ExactSum, Scale, Tally
from rankseg.objectives import LinearFractional, RatioFamily

PIECE = 1 << 13
"""Pixels of one row looked at together where each has many terms: 18 x 64 KiB."""


class TensorField:
    """Field over a dense tensor (B, C, *spatial) that passed validation.

    With an ``activation``, 'softmax' over the classes or 'sigmoid', the values are logits; they
    become probabilities block by block, in at least float32.
    """

    def __init__(
        self, values: Tensor, activation: str = "none", whole: Whole | None = None
    ) -> None:
        self.activation = activation
        self.spatial = values.shape[2:]
        self.rows = values.flatten(2)  # a view, channels_last included; one copy where it cannot be
        self.batch, self.classes, self.pixels = self.rows.shape
        wide = values.device.type != "mps"  # MPS has no float64: there the small arrays stay on CPU
        self.device = values.device if wide else torch.device("cpu")
        self.score_dtype = torch.float64 if wide else torch.float32
        self.block_dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
        self.spacing = torch.finfo(values.dtype if activation == "none" else self.block_dtype).eps
        self.counted = self.pixels
        if whole is not None:
            self._be_part_of(whole)

    def _be_part_of(self, whole: Whole) -> None:
        """Sum in the units of the whole, whose totals are known."""
        self.counted = whole.pixels
        rows = (self.batch, self.classes)
        totals = Totals(*(n.expand(rows).contiguous() for n in vars(whole.totals).values()))
        vars(self).update(_totals=totals, _range=(totals.lowest, totals.peak))

    @staticmethod
    def obstacle(values: Tensor) -> str:
        """Why this kind of field cannot take the tensor; plain torch takes all."""
        return ""

    def representable(self, number: float) -> float:
        """The number as the input's type holds it: cuts that users write are meant in that type."""
        kind = self.rows.dtype if self.activation == "none" else self.block_dtype
        return torch.tensor(number, dtype=kind, device="cpu").item()  # whatever the default

    def totals(self) -> Totals:
        """Expected volume, smallest and largest probability of each row; cached."""
        return self._totals

    def above(self, threshold: Tensor) -> Selection:
        """Sum and count of {p > threshold} in each row."""
        return self._selection(self.tally_above(threshold))

    def tally_above(self, threshold: Tensor) -> Tally:
        """What ``above`` is made of."""
        sums, volume = self._accumulators()
        cut = self._cut(threshold)
        for b, c, p in self._row_blocks(self._live(threshold)):
            block = self._block(b, c, p)
            chosen = block > _column(cut, b, c)
            volume[b, c] += chosen.sum(-1).to(self.device)
            sums.add((b, c), block.mul_(chosen))
        return sums.tally(volume)

    def best(self, family: RatioFamily, limit: Tensor, masks: bool) -> Best:
        """Totals and, for rows whose peak is above the limit, the largest value of their ratio."""
        totals = self.totals()
        active = totals.peak > limit
        cut, region = self.maximise(family.of(totals.mu), active)
        return Best(cut, region, active, self.select(cut) if masks else None)

    def maximise(
        self, ratio: LinearFractional, active: Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, Selection]:
        """Cut and region of the largest value of a ratio, among {p > t} of each row."""
        return dinkelbach.maximise(self, ratio, active, start)

    def sample(self, every: int) -> TensorField:
        """Field of every so manieth pixel of each row."""
        return type(self)(self.rows[:, :, ::every], self.activation)

    def row(self, image: int, class_: int, mask: Tensor | None = None) -> TensorField:
        """Field of one row; pixels outside ``mask`` (bool, its shape) count as probability 0."""
        pixels = self._row_values(image, class_)
        chosen = pixels if mask is None else pixels * mask.flatten()
        return TensorField(chosen[None, None])

    def _row_values(self, image: int, class_: int) -> Tensor:
        """Probabilities of one row."""
        if self.activation == "none":
            return self.rows[image, class_]
        b, c = slice(image, image + 1), slice(class_, class_ + 1)
        pieces = spans(self.pixels, BLOCK // self.classes)
        return torch.cat([self._block(b, c, p).flatten() for p in pieces])

    def between(self, low: float, high: float) -> Tensor:
        """Probabilities in (low, high], float64, in any order; fields of one row only."""
        return torch.cat(list(self._pieces(low, high)))

    def distinct(
        self,
        at: tuple[int, int],
        low: float,
        high: float,
        region: Tensor | LabelRule | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Different probabilities of a row in (low, high], rising, and how often each occurs."""
        if isinstance(region, LabelRule):
            region = self.assign(region)
        row = self.row(*at) if region is None else self._row_in_region(at, region)
        value, count = torch.unique(row.between(low, high), return_counts=True)
        return value, count

    def histogram(self, bins: int, unit: float) -> Tensor:
        """Pixels of each class, all images together, in equal bins of [0, 1], and their sums.

        int64 (2, C, bins), sums as integers in the unit given; a pixel at an edge lies under it.
        """
        found = torch.zeros(2, self.classes * bins, dtype=torch.int64, device=self.rows.device)
        first = bins * torch.arange(self.classes, device=self.rows.device)
        for b, c, p in self._row_blocks(self._everyone):
            block = self._block(b, c, p)
            place = (block * bins).ceil_().to(torch.int64).sub_(1).clamp_(0, bins - 1)
            place = place.add_(first[c].unsqueeze(-1)).flatten()
            found[0] += torch.bincount(place, minlength=found.shape[1])
            found[1].index_add_(0, place, (block * unit).round_().to(torch.int64).flatten())
        return found.reshape(2, self.classes, bins)

    def spread(self, windows: Windows, region: Tensor | LabelRule | None = None) -> Tensor:
        """Pixels in the bins of each window, and the sum of their distances from its low end."""
        if region is not None:
            return self._spread_within(windows, region)
        found = torch.zeros(
            2, len(windows.row), windows.bins, dtype=torch.int64, device=self.rows.device
        )
        wanted: dict[tuple[int, int], list[int]] = {}
        for number, row in enumerate(windows.row):
            wanted.setdefault(row, []).append(number)
        live = torch.zeros(self._shape[:2], dtype=torch.bool)
        for row in wanted:
            live[row] = True
        names = torch.arange(self.classes)
        for b, c, p in self._row_blocks(live):
            block = self._block(b, c, p)
            for i, image in enumerate(range(b.start, min(b.stop, self.batch))):
                for k, class_ in enumerate(names[c].tolist()):
                    for number in wanted.get((image, class_), ()):
                        _put_in_bins(block[i, k], windows, number, found[:, number])
        return found.to(self.device)

    def _spread_within(self, windows: Windows, region: Tensor | LabelRule) -> Tensor:
        """Row by row, pixels outside the region at probability 0, which no window holds."""
        if isinstance(region, LabelRule):
            region = self.assign(region)
        found: list[Tensor] = [torch.empty(0)] * len(windows.row)
        for row in dict.fromkeys(windows.row):
            mine = [number for number, other in enumerate(windows.row) if other == row]
            alone = self._row_in_region(row, region).spread(windows.of_row(mine))
            for number, bins in zip(mine, alone.unbind(1), strict=True):
                found[number] = bins
        return torch.stack(found, 1)

    def _row_in_region(self, row: tuple[int, int], region: Tensor) -> TensorField:
        image, class_ = row
        first = 1 if self.classes == 1 else 0  # one channel: label 1 is the mask
        masks = region.dtype == torch.bool
        mask = region[image, class_] if masks else region[image] == class_ + first
        return type(self)((self._row_values(image, class_) * mask.flatten())[None, None])

    def moments(self, low: float, high: float) -> Tensor:
        """Sums of p, p(1-p), p(1-p)(1-2p) over (low, high]; fields of one row only."""
        return self._sums(3, low, high, _moment_terms)

    def chebyshev(self, low: float, high: float, degree: int) -> Tensor:
        """Sums of p T_k(p), k < degree, over (low, high]; fields of one row only."""
        return self._sums(degree, low, high, partial(_chebyshev_terms, low, high, degree))

    def claimed_once(self, threshold: Tensor) -> Selection:
        """As ``above``, over the pixels that exactly one class of the image claims."""
        return self._selection(self.tally_claimed_once(threshold))

    def tally_claimed_once(self, threshold: Tensor) -> Tally:
        """What ``claimed_once`` is made of."""
        sums, volume = self._accumulators()
        cut = self._cut(threshold)
        for b, c, p in self._pixel_blocks(self._live(threshold)):
            block = self._block(b, c, p)
            once = block > _column(cut, b, c)
            once &= once.sum(1, keepdim=True) == 1
            volume[b, c] += once.sum(-1).to(self.device)
            sums.add((b, c), block.mul_(once))
        return sums.tally(volume)

    def select(self, threshold: Tensor, dtype: torch.dtype = torch.bool) -> Tensor:
        """Masks {p > threshold}, (B, C, *spatial); as int64 they are labels of one channel."""
        masks = torch.zeros(self._shape, dtype=dtype, device=self.rows.device)
        cut = self._cut(threshold)
        for b, c, p in self._row_blocks(self._live(threshold)):
            masks[b, c, p] = self._block(b, c, p) > _column(cut, b, c)
        return masks.reshape(*masks.shape[:2], *self.spatial)

    def assign(self, rule: LabelRule) -> Tensor:
        """Labels under the rule, int64 (B, *spatial)."""
        labels = torch.full(
            (self.batch, self.pixels), rule.void_index, dtype=torch.int64, device=self.rows.device
        )
        cut = self._cut(rule.claim)
        eligible = rule.eligible.to(self.rows.device)
        numbers = torch.arange(self.classes, device=self.rows.device)
        for b, c, p in self._pixel_blocks(self._live(rule.claim) | rule.eligible.cpu()):
            block = self._block(b, c, p)
            claims = block > _column(cut, b, c)
            wins = claims | (_column(eligible, b, c) & ~claims.any(1, keepdim=True))
            score = self._score(rule, b, c, block).masked_fill_(~wins, -math.inf)
            winner = numbers[c][score.argmax(1)]
            labels[b, p] = torch.where(wins.any(1), winner, labels[b, p])
        return labels.reshape(self.batch, *self.spatial)

    def regions(self, rule: LabelRule) -> Selection:
        """Sum and count of each class's region under the rule."""
        return self.measure(self.assign(rule))

    def tally_regions(self, rule: LabelRule) -> Tally:
        """What ``regions`` is made of."""
        return self._tally_measure(self.assign(rule))

    def measure(self, labels: Tensor) -> Selection:
        """Sum and count of each class's region in a label map."""
        return self._selection(self._tally_measure(labels))

    def _tally_measure(self, labels: Tensor) -> Tally:
        sums, volume = self._accumulators()
        flat = labels.flatten(1)
        numbers = torch.arange(self.classes, device=self.rows.device).unsqueeze(-1)
        for b, c, p in self._pixel_blocks(torch.ones_like(volume, dtype=torch.bool).cpu()):
            block = self._block(b, c, p)
            region = flat[b, p].unsqueeze(1) == numbers[c]
            volume[b, c] += region.sum(-1).to(self.device)
            sums.add((b, c), block.mul_(region))
        return sums.tally(volume)

    def within(self, masks: Tensor) -> Selection:
        """Sum and count of each row's pixels in masks, bool (B, C, *spatial)."""
        sums, volume = self._accumulators()
        flat = masks.flatten(2)
        for b, c, p in self._row_blocks(torch.ones_like(volume, dtype=torch.bool).cpu()):
            region = flat[b, c, p]
            volume[b, c] += region.sum(-1).to(self.device)
            sums.add((b, c), self._block(b, c, p).mul_(region))
        return Selection(sums.value(), volume)

    def _pieces(self, low: float, high: float) -> Iterator[Tensor]:
        """Pixels of a single row in (low, high], piece by piece."""
        for p in spans(self.pixels, PIECE):
            piece = self.rows[0, 0, p].to(self.device, torch.float64)
            yield piece[(piece > low) & (piece <= high)]

    def _sums(
        self, count: int, low: float, high: float, terms: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Order-free sums of terms (count, pixels), each at most p in size."""
        peak = self._totals.peak.expand(count, 1)
        sums = ExactSum(Scale(peak, self.pixels, torch.float64))
        for piece in self._pieces(low, high):
            sums.add((slice(None), slice(None)), terms(piece).unsqueeze(1))
        return sums.value().squeeze(1)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.batch, self.classes, self.pixels

    @cached_property
    def _totals(self) -> Totals:
        sums = ExactSum(self._units)
        for b, c, p in self._row_blocks(self._everyone):
            sums.add((b, c), self._block(b, c, p))
        return Totals(sums.value(), *self._range)

    @cached_property
    def _range(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest probability of each row."""
        lowest = torch.full(self._shape[:2], math.inf, dtype=torch.float64, device=self.device)
        peak = -lowest
        for b, c, p in self._row_blocks(self._everyone):
            low, high = torch.aminmax(self._block(b, c, p), dim=-1)  # keeps NaN, as does minimum
            lowest[b, c] = torch.minimum(lowest[b, c], low.to(lowest))
            peak[b, c] = torch.maximum(peak[b, c], high.to(peak))
        return lowest, peak

    @cached_property
    def _units(self) -> Scale:
        """Integers that every sum over this field is made of."""
        return Scale(self._range[1], self.counted, self.block_dtype)

    @property
    def _everyone(self) -> Tensor:
        return torch.ones(self._shape[:2], dtype=torch.bool, device="cpu")

    def _selection(self, tally: Tally) -> Selection:
        return Selection(self._units.numbers(list(tally.limbs)), tally.volume)

    def _accumulators(self) -> tuple[ExactSum, Tensor]:
        shape = (self.batch, self.classes)
        volume = torch.zeros(shape, dtype=torch.int64, device=self.device)
        return ExactSum(self._units), volume

    def _live(self, threshold: Tensor) -> Tensor:
        return (threshold < self._totals.peak).cpu()

    def _row_blocks(self, live: Tensor) -> Iterator[tuple[slice, Classes, slice]]:
        if self.activation == "softmax":
            return self._pixel_blocks(live)
        return row_blocks(self._shape, live)

    def _pixel_blocks(self, live: Tensor) -> Iterator[tuple[slice, Classes, slice]]:
        if self.activation == "softmax":  # takes all classes, or none
            live = live.any(1, keepdim=True).expand_as(live)
        return pixel_blocks(self._shape, live)

    def _block(self, b: slice, c: Classes, p: slice) -> Tensor:
        """Fresh probabilities in the block's dtype: callers overwrite them."""
        values = self.rows[b, :, p]
        if self.activation == "softmax":
            return values.to(self.block_dtype).softmax(1)[:, c]
        block = values[:, c].to(self.block_dtype, copy=True)
        return block.sigmoid_() if self.activation == "sigmoid" else block

    def _cut(self, threshold: Tensor) -> Tensor:
        """Largest number of the block's dtype that is <= threshold: p > either is the same set."""
        rounded = threshold.to(self.block_dtype)
        below = torch.nextafter(rounded, torch.full_like(rounded, -math.inf))
        return torch.where(rounded.double() > threshold, below, rounded).to(self.rows.device)

    def _score(self, rule: LabelRule, b: slice, c: Classes, block: Tensor) -> Tensor:
        """Gain of every pixel and class; separate products and sums, so no fused rounding."""
        slope, offset, bend = (
            _column(numbers.to(self.rows.device, self.score_dtype), b, c)
            for numbers in (rule.slope, rule.offset, rule.bend)
        )
        values = block.to(self.score_dtype)
        return (slope * values).sub_(offset).div_(1 - bend * values)


def _put_in_bins(pixels: Tensor, windows: Windows, number: int, found: Tensor) -> None:
    """Count the pixels of a row in the bins of one of its windows and add up their integers."""
    place = (pixels - windows.low[number]) * (1 / windows.width[number])  # exact, see Windows
    place = place[(place > 0) & (place <= 1)]
    integers = (place * windows.unit).round_().to(torch.int64)
    bin_ = (place * windows.bins).ceil_().to(torch.int64).sub_(1)
    found[0] += torch.bincount(bin_, minlength=windows.bins)
    found[1].index_add_(0, bin_, integers)


def _moment_terms(p: Tensor) -> Tensor:
    variance = p * (1 - p)
    return torch.stack([p, variance, variance * (1 - 2 * p)])


def _chebyshev_terms(low: float, high: float, degree: int, p: Tensor) -> Tensor:
    """P T_k by the recurrence; separate products and sums, so no fused rounding."""
    z = ((2 * p - low - high) / (high - low)).clamp_(-1, 1)
    terms = torch.empty(degree, p.numel(), dtype=p.dtype, device=p.device)
    terms[0], terms[1] = p, p * z
    for k in range(2, degree):
        torch.mul(terms[k - 1], z, out=terms[k]).mul_(2).sub_(terms[k - 2])
    return terms


def _column(numbers: Tensor, b: slice, c: Classes) -> Tensor:
    """(B, C) numbers at a block's images and classes, ready to broadcast over its pixels."""
    return numbers[b][:, c].unsqueeze(-1)
