"""What deciding every row by itself gives, before labels are formed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rankseg.cached import cached_property
from rankseg.fields.base import Selection, choose
from rankseg.objectives import Objective


@dataclass(frozen=True)
class Rows:
    """Each class on its own: cut, region and objective, all (B, C).

    ``active`` is False for rows that were not searched: their region is empty and their cut claims
    nothing.
    """

    threshold: Tensor
    region: Selection
    active: Tensor
    find_score: Callable[[], Tensor]

    @cached_property
    def score(self) -> Tensor:
        """Objective of each region; found when it is asked for, since a prediction needs none."""
        return self.find_score()

    def where(self, rows: Tensor, other: Rows) -> Rows:
        """Itself in the given rows, the other elsewhere."""
        return Rows(
            torch.where(rows, self.threshold, other.threshold),
            self.region.where(rows, other.region),
            choose(rows, self.active, other.active),
            lambda: torch.where(rows, self.score, other.score),
        )


def as_rows(objective: Objective, threshold: Tensor, region: Selection, active: Tensor) -> Rows:
    """Rows whose score is the objective of {p > threshold}; inactive ones claim NOTHING."""
    return Rows(
        threshold, region, active, lambda: objective.value(region.selected_sum, region.volume)
    )
