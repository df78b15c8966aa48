"""The field over a tensor in plain torch: defines every reduction and runs on any device.

The pixels are walked in blocks, so extra memory does not grow with the image.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from rankseg.fields.base import LabelRule, Selection, Totals
from rankseg.fields.blocks import BLOCK, Classes, pixel_blocks, row_blocks, spans
from rankseg.fields.exact_sum import ExactSum


class TensorField:
    """Field over a dense tensor ``probs`` (B, C, *spatial) that passed validation."""

    def __init__(self, probs: Tensor) -> None:
        self.spatial = probs.shape[2:]
        self.rows = probs.flatten(2)  # a view, channels_last included; one copy where it cannot be
        self.batch, self.classes, self.pixels = self.rows.shape
        wide = probs.device.type != "mps"  # MPS has no float64: there the small arrays stay on CPU
        self.device = probs.device if wide else torch.device("cpu")
        self.score_dtype = torch.float64 if wide else torch.float32
        self.block_dtype = torch.float64 if probs.dtype == torch.float64 else torch.float32

    def totals(self) -> Totals:
        """Expected volume, smallest and largest probability of each row; cached."""
        return self._totals

    def above(self, threshold: Tensor) -> Selection:
        """Sum and count of {p > threshold} in each row."""
        return self._above(threshold, self._totals.peak)

    def between(self, image: int, class_: int, low: float, high: float) -> Tensor:
        """Probabilities of one row in (low, high], float64, in any order."""
        row = self.rows[image, class_]
        pieces = (row[p].to(self.device, torch.float64) for p in spans(self.pixels, BLOCK))
        return torch.cat([piece[(piece > low) & (piece <= high)] for piece in pieces])

    def claimed_once(self, threshold: Tensor) -> Selection:
        """As ``above``, over the pixels that exactly one class of the image claims."""
        sums, volume = self._accumulators(self._totals.peak)
        cut = self._cut(threshold)
        for b, c, p in pixel_blocks(self._shape, self._live(threshold)):
            block = self._block(b, c, p)
            once = block > _column(cut, b, c)
            once &= once.sum(1, keepdim=True) == 1
            volume[b, c] += once.sum(-1).to(self.device)
            sums.add((b, c), block.mul_(once))
        return Selection(sums.value(), volume)

    def select(self, threshold: Tensor) -> Tensor:
        """Masks {p > threshold}, bool (B, C, *spatial)."""
        masks = torch.zeros(self._shape, dtype=torch.bool, device=self.rows.device)
        cut = self._cut(threshold)
        for b, c, p in row_blocks(self._shape, self._live(threshold)):
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
        for b, c, p in pixel_blocks(self._shape, self._live(rule.claim) | rule.eligible.cpu()):
            block = self._block(b, c, p)
            claims = block > _column(cut, b, c)
            wins = claims | (_column(eligible, b, c) & ~claims.any(1, keepdim=True))
            score = self._score(rule, b, c, block).masked_fill_(~wins, -math.inf)
            winner = numbers[c][score.argmax(1)]
            labels[b, p] = torch.where(wins.any(1), winner, labels[b, p])
        return labels.reshape(self.batch, *self.spatial)

    def measure(self, labels: Tensor) -> Selection:
        """Sum and count of each class's region in a label map."""
        sums, volume = self._accumulators(self._totals.peak)
        flat = labels.flatten(1)
        numbers = torch.arange(self.classes, device=self.rows.device).unsqueeze(-1)
        for b, c, p in pixel_blocks(self._shape, torch.ones_like(volume, dtype=torch.bool).cpu()):
            block = self._block(b, c, p)
            region = flat[b, p].unsqueeze(1) == numbers[c]
            volume[b, c] += region.sum(-1).to(self.device)
            sums.add((b, c), block.mul_(region))
        return Selection(sums.value(), volume)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.batch, self.classes, self.pixels

    @cached_property
    def _totals(self) -> Totals:
        shape = (self.batch, self.classes)
        lowest = torch.full(shape, math.inf, dtype=torch.float64, device=self.device)
        peak = -lowest
        for b, c, p in row_blocks(self._shape, torch.ones(shape, dtype=torch.bool)):
            low, high = torch.aminmax(self._block(b, c, p), dim=-1)  # keeps NaN, as does minimum
            lowest[b, c] = torch.minimum(lowest[b, c], low.to(lowest))
            peak[b, c] = torch.maximum(peak[b, c], high.to(peak))
        everything = torch.full_like(peak, -1.0)
        return Totals(self._above(everything, peak).selected_sum, lowest, peak)

    def _above(self, threshold: Tensor, peak: Tensor) -> Selection:
        sums, volume = self._accumulators(peak)
        cut = self._cut(threshold)
        for b, c, p in row_blocks(self._shape, (threshold < peak).cpu()):
            block = self._block(b, c, p)
            chosen = block > _column(cut, b, c)
            volume[b, c] += chosen.sum(-1).to(self.device)
            sums.add((b, c), block.mul_(chosen))
        return Selection(sums.value(), volume)

    def _accumulators(self, peak: Tensor) -> tuple[ExactSum, Tensor]:
        volume = torch.zeros_like(peak, dtype=torch.int64)
        return ExactSum(peak, self.pixels, self.block_dtype), volume

    def _live(self, threshold: Tensor) -> Tensor:
        return (threshold < self._totals.peak).cpu()

    def _block(self, b: slice, c: Classes, p: slice) -> Tensor:
        """Fresh copy in the block's dtype: callers overwrite it."""
        return self.rows[b, :, p][:, c].to(self.block_dtype, copy=True)

    def _cut(self, threshold: Tensor) -> Tensor:
        """Largest number of the block's dtype that is <= threshold: p > either is the same set."""
        rounded = threshold.to(self.block_dtype)
        below = torch.nextafter(rounded, torch.full_like(rounded, -math.inf))
        return torch.where(rounded.double() > threshold, below, rounded).to(self.rows.device)

    def _score(self, rule: LabelRule, b: slice, c: Classes, block: Tensor) -> Tensor:
        """Gain of every pixel and class; separate products and sums, so no fused rounding."""
        slope, offset, width, bend = (
            _column(numbers.to(self.rows.device, self.score_dtype), b, c)
            for numbers in (rule.slope, rule.offset, rule.width, rule.bend)
        )
        values = block.to(self.score_dtype)
        return (slope * values).sub_(offset).div_(width - bend * values)


def _column(numbers: Tensor, b: slice, c: Classes) -> Tensor:
    """(B, C) numbers at a block's images and classes, ready to broadcast over its pixels."""
    return numbers[b][:, c].unsqueeze(-1)
