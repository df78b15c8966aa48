"""Dice and IoU as a metric of torchmetrics: statistics add up over batches and processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from rankseg_integrations._common import require

if TYPE_CHECKING:
    from torchmetrics import Metric
else:
    Metric = require("torchmetrics", "lightning").Metric

Level = Literal["samplewise", "global"]


class Overlap(Metric):
    """Dice and IoU of each class; NaN for a class that is nowhere, in truth or prediction.

    ``'samplewise'``: the mean over the images where the class is in truth or prediction, so an
    image without it scores 0 if it is predicted there and does not count if it is not. This is
    what torchmetrics' ``DiceScore(average="none")`` and ``MeanIoU(per_class=True)`` compute.
    ``'global'``: from counts summed over all images.

    State is a few numbers, whatever the number of images, and a process without any takes part.

    Parameters
    ----------
    classes : int
        C.
    level : {'samplewise', 'global'}
        As above.
    dtype : torch.dtype
        Of the sums.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, classes: int, level: Level, dtype: torch.dtype) -> None:
        super().__init__()
        self.level = level
        rows = {"samplewise": 3, "global": 2}[level]
        self.sums: Tensor
        self.add_state("sums", torch.zeros(rows, classes, dtype=dtype), dist_reduce_fx="sum")

    def update(self, both: Tensor, total: Tensor) -> None:
        """Add images: pixels in both masks, and in the one plus in the other, each (B, C)."""
        if self.level == "global":
            rows = [both, total]
        else:
            rows = [*(score.nan_to_num(0.0) for score in _dice_and_iou(both, total)), total > 0]
        self.sums += torch.stack([row.to(self.sums).sum(0) for row in rows])

    def compute(self) -> Tensor:
        """Dice and IoU, (2, C)."""
        if self.level == "global":
            return torch.stack(_dice_and_iou(*self.sums))
        return self.sums[:2] / self.sums[2]


def _dice_and_iou(both: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """0/0 is NaN."""
    return 2 * both / total, both / (total - both)
