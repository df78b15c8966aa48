"""What deciding every row by itself gives, before labels are formed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rankseg.fields.base import NOTHING, Selection
from rankseg.objectives import Objective


@dataclass(frozen=True)
class Rows:
    """Each class on its own: cut, region and objective, all (B, C).

    ``active`` is False for rows that were not searched: their region is empty and their cut claims
    nothing.
    """

    threshold: Tensor
    region: Selection
    score: Tensor
    active: Tensor

    def where(self, rows: Tensor, other: Rows) -> Rows:
        """Itself in the given rows, the other elsewhere."""
        return Rows(
            torch.where(rows, self.threshold, other.threshold),
            self.region.where(rows, other.region),
            torch.where(rows, self.score, other.score),
            torch.where(rows, self.active, other.active),
        )


def as_rows(objective: Objective, threshold: Tensor, region: Selection, active: Tensor) -> Rows:
    """Rows from the region {p > threshold} of the active ones, empty elsewhere."""
    score = objective.value(region.selected_sum, region.volume)
    return Rows(threshold.masked_fill(~active, NOTHING), region, score, active)
