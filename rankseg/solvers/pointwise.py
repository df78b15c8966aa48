"""Rules that look at one pixel at a time: a fixed cut. Nothing is pruned, nothing iterated."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rankseg.fields.base import Field
from rankseg.objectives import Objective
from rankseg.solvers.rows import Rows, as_rows


def solve(field: Field, objective: Objective, threshold: float | Sequence[float]) -> Rows:
    """Cut every row at its class's threshold; p > 0.5 maximises the expected accuracy."""
    mu = field.totals().mu
    cut = torch.as_tensor(threshold, dtype=mu.dtype, device=mu.device).expand_as(mu).contiguous()
    everyone = torch.ones_like(mu, dtype=torch.bool)
    return as_rows(objective, cut, field.above(cut), everyone)
