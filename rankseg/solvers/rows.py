"""What deciding every row by itself gives, before labels are formed."""

from __future__ import annotations

from dataclasses import dataclass

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


def as_rows(objective: Objective, threshold: Tensor, region: Selection, active: Tensor) -> Rows:
    """Rows from the region {p > threshold} of the active ones, empty elsewhere."""
    score = objective.value(region.selected_sum, region.volume)
    return Rows(threshold.masked_fill(~active, NOTHING), region, score, active)
