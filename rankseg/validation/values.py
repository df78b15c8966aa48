"""The values of pixels, from the smallest and the largest of each row."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def probability_range(lowest: Tensor, peak: Tensor, activation: str = "none") -> None:
    """Check the values, from each row's smallest and largest; NaN in a row shows in both."""
    if lowest.numel() == 0:
        return
    low, high = torch.stack([lowest.min(), peak.max()]).tolist()  # one wait; both keep NaN
    if math.isnan(low) or math.isnan(high):
        bad = int((lowest.isnan() | peak.isnan()).sum().item())
        if activation == "softmax":
            raise ValueError(
                f"softmax of the logits is NaN in {bad} of {lowest.numel()} (image, class) pairs: "
                "logits may be finite or -inf, but a pixel needs a finite one"
            )
        raise ValueError(
            f"{'probs contains' if activation == 'none' else 'logits contain'} NaN, in {bad} of "
            f"{lowest.numel()} (image, class) pairs; "
            "check the model's output, or replace them before deciding"
        )
    if low < 0.0 or high > 1.0:
        rounding = low > -1e-3 and high < 1.001
        advice = (
            "clamp(0, 1) if this is rounding"
            if rounding
            else "apply softmax or sigmoid first, or say activation='softmax' or 'sigmoid'"
        )
        raise ValueError(f"probs must lie in [0, 1], got min={low:.9g}, max={high:.9g}; {advice}")
