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


def solve(volume: Tensor, selected_sum: Tensor, family: RatioFamily, active: Tensor) -> Coarse:
    """Best edge of each class from its pixels in equal bins of [0, 1] and their sums, (C, bins).

    Bins are open below: a pixel exactly at an edge lies in the bin under it. ``active`` is (1, C).
    """
    bins = volume.shape[1]
    edges = torch.arange(bins, -1, -1, dtype=torch.float64) / bins  # 1, ..., 0
    many = _from_the_top(volume.to(torch.float64))
    much = _from_the_top(selected_sum)
    ratio = family.of(much[:, -1:])
    value = ratio.value(much, many)
    top = value.argmax(1, keepdim=True)
    best = value.gather(1, top)
    most = _between(ratio, much, many, edges)
    regret = (most - best).clamp(min=0).where(active.mT, torch.zeros_like(best))
    threshold = edges[top].where(active.mT, torch.full_like(best, NOTHING))
    return Coarse(threshold.mT, regret.mT)


def _from_the_top(bins: Tensor) -> Tensor:
    """Sums over all bins above each edge, from 1 down to 0."""
    return torch.cat([torch.zeros_like(bins[:, :1]), bins.flip(1).cumsum(1)], 1)


def _between(ratio: LinearFractional, much: Tensor, many: Tensor, edges: Tensor) -> Tensor:
    """Bound on the value of all masks of each class, (C, 1)."""
    ends = ratio.value(much[:, 1:], many[:, :-1] + much.diff(dim=1) / edges[:-1])
    return torch.maximum(ratio.value(much, many).amax(1), ends.amax(1)).unsqueeze(1)
