"""Smooth random probabilities, and labels drawn from them under a dependence that is known."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def smooth_logits(
    generator: torch.Generator, classes: int, size: int = 32, scale: float = 2.0, cells: int = 5
) -> Tensor:
    """Logits (1, C, size, size) that vary slowly."""
    coarse = torch.randn(1, classes, cells, cells, generator=generator)
    return F.interpolate(coarse * scale, size=(size, size), mode="bilinear", align_corners=False)


def labels_of(probs: Tensor, generator: torch.Generator) -> Tensor:
    """Labels int64 (B, *spatial), each pixel drawn on its own."""
    u = torch.rand(probs.shape[0], 1, *probs.shape[2:], generator=generator)
    return (probs.cumsum(1) < u).sum(1).clamp(max=probs.shape[1] - 1)


def masks_of(probs: Tensor, generator: torch.Generator, dependence: str = "independent") -> Tensor:
    """Masks bool (B, C, *spatial): p > u, with a u for each pixel, block of pixels, or image."""
    batch, classes, height, width = probs.shape
    cells = {"independent": (height, width), "block": (4, 4), "comonotone": (1, 1)}[dependence]
    u = torch.rand(batch, classes, *cells, generator=generator)
    return probs > F.interpolate(u, size=(height, width), mode="nearest")
