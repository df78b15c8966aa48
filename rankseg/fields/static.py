"""The field as a graph: plain tensor operations, no block, no loop or branch on values.

Exporters record it as it is. Everything is in float64: sums of up to 2^13 float32 probabilities of
2^-16 and more are exact, others good to some 1e-16, which is no more than a compiled pass differs
from them.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from rankseg.cached import cached_property
from rankseg.fields import dinkelbach
from rankseg.fields.base import NOTHING, Field, LabelRule, Selection, Totals
from rankseg.objectives import LinearFractional

BELOW = 2.0**-53
"""So much of a float64 less is the next smaller one. ONNX holds plain numbers as float32, where
1 - 2**-53 would be 1.
"""

FROM_NEAR = 2
"""Passes from a start, which is the best cut of nearly the same ratio."""


class StaticField:
    """Field over probabilities (B, C, *spatial) that visits them a fixed number of times.

    ``kind`` is the type that cuts are meant in, ``passes`` those of Dinkelbach's iteration. Pixels
    that do not count, ``counts`` (B, *spatial) False, have probability 0 and no place in volumes.

    Masks become floats before they are summed: over 19 x 512 x 512 pixels onnxruntime 1.32 sums
    integers in 25 ms and float64 in 1; a ``where`` with a number takes it 22 ms, a product 4.
    """

    def __init__(
        self, probs: Tensor, kind: torch.dtype, passes: int = 0, counts: Tensor | None = None
    ) -> None:
        self.counts = None if counts is None else counts.unsqueeze(1)
        wide = probs.double()
        self.probs = wide if self.counts is None else torch.where(self.counts, wide, 0.0)
        self.kind = kind
        self.passes = passes
        self.classes = probs.shape[1]
        self.pixels = math.prod(probs.shape[2:])
        self.device = probs.device
        self.spatial = tuple(range(2, probs.ndim))

    def representable(self, number: float) -> float:
        """The number as the input's type holds it: cuts that users write are meant in that type."""
        if number == 0:
            return number
        kind = torch.finfo(self.kind)
        power = math.frexp(number)[1] - 1  # no tensor: a graph could not give its number back
        spacing = max(math.ldexp(kind.eps, power), kind.tiny * kind.eps)
        return round(number / spacing) * spacing

    def totals(self) -> Totals:
        """Expected volume, smallest and largest probability of each row; cached."""
        return self._totals

    @cached_property
    def _totals(self) -> Totals:
        peak = self.probs.amax(self.spatial)
        return Totals(self.probs.sum(self.spatial), torch.zeros_like(peak), peak)

    def above(self, threshold: Tensor) -> Selection:
        """Sum and count of {p > threshold} in each row."""
        return self.within(self.select(threshold))

    def maximise(
        self, ratio: LinearFractional, active: Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, Selection]:
        """Cut and region of the largest value that so many passes find."""
        if ratio.is_mean:  # the largest pixels, as in ``dinkelbach.py``
            peak = self._totals.peak
            cut = (peak - peak * BELOW).masked_fill(~active, NOTHING)
            return cut, self.above(cut)
        passes = self.passes if start is None else FROM_NEAR
        return dinkelbach.maximise_in_passes(cast(Field, self), ratio, active, start, passes)

    def claimed_once(self, threshold: Tensor) -> Selection:
        """As ``above``, over the pixels that exactly one class of the image claims."""
        claims = self.select(threshold)
        return self.within(claims & (_claimers(claims) == 1))

    def select(self, threshold: Tensor, dtype: torch.dtype = torch.bool) -> Tensor:
        """Masks {p > threshold}, (B, C, *spatial); as int64 they are labels of one channel."""
        return (self.probs > self._column(threshold)).to(dtype)

    def assign(self, rule: LabelRule) -> Tensor:
        """Labels under the rule, int64 (B, *spatial)."""
        claims = self.select(rule.claim)
        free = _claimers(claims) == 0
        eligible = self._column(rule.eligible)
        wins = claims | (eligible & free)
        slope, offset, bend = map(self._column, (rule.slope, rule.offset, rule.bend))
        score = (slope * self.probs - offset) / (1 - bend * self.probs)
        winner = score.masked_fill(~wins, -math.inf).argmax(1)
        return torch.where(~free[:, 0] | eligible.any(1), winner, rule.void_index)

    def regions(self, rule: LabelRule) -> Selection:
        """Sum and count of each class's region under the rule."""
        return self.measure(self.assign(rule))

    def measure(self, labels: Tensor) -> Selection:
        """Sum and count of each class's region in a label map."""
        numbers = self._column(torch.arange(self.classes, device=self.device)[None])
        return self.within(labels.unsqueeze(1) == numbers)

    def within(self, masks: Tensor) -> Selection:
        """Sum and count of each row's pixels in masks, bool (B, C, *spatial)."""
        if self.counts is not None:
            masks = masks & self.counts
        inside = masks.to(self.probs)
        volume = inside.sum(self.spatial).to(torch.int64)
        return Selection((self.probs * inside).sum(self.spatial), volume)

    def _column(self, numbers: Tensor) -> Tensor:
        """(B, C) numbers, or (1, C), ready to broadcast over the pixels."""
        return numbers.reshape(*numbers.shape, *[1] * len(self.spatial))


def _claimers(claims: Tensor) -> Tensor:
    """How many classes claim each pixel, (B, 1, *spatial)."""
    return claims.to(torch.float32).sum(1, keepdim=True)
