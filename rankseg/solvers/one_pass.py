"""Masks from one visit of the pixels: counts and sums in bins, and how much that can lose.

At the edges of the bins S and V are known, and the best edge is taken. Between two edges a mask
has the S and V of the upper edge and j more pixels, whose sum is at most j times that edge and at
most the bin's sum s. The value rises with S and falls with V, and along (S + j edge, V + j) it is
monotone; so it is at most the larger of those at (S, V) and at (S + s, V + s / edge).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rankseg.fields.base import NOTHING
from rankseg.objectives import LinearFractional, RatioFamily


@dataclass(frozen=True)
class Coarse:
    """Per class: cut, and how much more the best mask's value is at most; float64 (1, C)."""

    threshold: Tensor
    regret: Tensor


def solve(
    volume: Tensor, selected_sum: Tensor, rounding: float, family: RatioFamily, active: Tensor
) -> Coarse:
    """Best edge of each class from its pixels in equal bins of [0, 1] and their sums, (C, bins).

    Bins are open below: a pixel exactly at an edge lies in the bin under it. Each pixel was rounded
    by at most ``rounding`` before it entered a sum. ``active`` is (1, C).
    """
    bins = volume.shape[1]
    edges = torch.arange(bins, -1, -1, dtype=torch.float64) / bins  # 1, ..., 0
    many = _from_the_top(volume.to(torch.float64))
    much = _from_the_top(selected_sum)
    top = family.of(much[:, -1:]).value(much, many).argmax(1, keepdim=True)
    off = many * rounding  # what the sums may be wrong by
    low, high = (much - off).clamp(min=0), much + off
    least = family.of(high[:, -1:]).value(low, many).gather(1, top)
    most = _between(family.of(low[:, -1:]), high, many, edges)
    regret = (most - least).clamp(min=0).where(active.mT, torch.zeros_like(least))
    threshold = edges[top].where(active.mT, torch.full_like(least, NOTHING))
    return Coarse(threshold.mT, regret.mT)


def _from_the_top(bins: Tensor) -> Tensor:
    """Sums over all bins above each edge, from 1 down to 0."""
    return torch.cat([torch.zeros_like(bins[:, :1]), bins.flip(1).cumsum(1)], 1)


def _between(ratio: LinearFractional, much: Tensor, many: Tensor, edges: Tensor) -> Tensor:
    """Bound on the value of all masks of each class, (C, 1)."""
    ends = ratio.value(much[:, 1:], many[:, :-1] + much.diff(dim=1) / edges[:-1])
    return torch.maximum(ratio.value(much, many).amax(1), ends.amax(1)).unsqueeze(1)
