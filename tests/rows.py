"""Ways to call the row solvers from an array."""

from __future__ import annotations

import numpy as np
import torch

from rankseg.fields import TensorField
from rankseg.objectives import Dice, IoU
from rankseg.solvers.by_row import Method
from rankseg.solvers.row import Optimum, row_of

KINDS = {"dice": Dice, "iou": IoU}


def field_of(p):
    return TensorField(torch.as_tensor(np.ascontiguousarray(p)).reshape(1, 1, -1))


def best_mask(p, metric="dice", method="exact", smooth=0.0, eps=1e-4) -> Optimum:
    field = field_of(p)
    objective = KINDS[metric](field.totals().mu, smooth)
    return Method(method, eps).best_mask(row_of(field), objective)


def mask_score(p, mask, metric="dice", method="exact", smooth=0.0, eps=1e-4) -> float:
    field = field_of(p)
    objective = KINDS[metric](field.totals().mu, smooth)
    chosen = torch.as_tensor(np.ascontiguousarray(mask)).reshape(-1)
    return Method(method, eps).mask_score(field, (0, 0), chosen, objective)


def ratio_threshold(p, metric, smooth=0.0) -> float:
    """Cut of the largest ratio of means, which RMA takes where there is no smoothing."""
    field = field_of(p)
    row, ratio = row_of(field), KINDS[metric](field.totals().mu, smooth).ratio_of_means()
    return float(ratio.cut(torch.tensor([[row.best_ratio(ratio)]], dtype=torch.float64)))
