"""Small pictures of an image, its truth and two decisions, kept for the report."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rankseg.evaluation.pairs import Image

SIDE = 192
"""Pixels of the longer side: kept images are few kilobytes each."""
UNCOUNTED = 255


def maps(
    image: Image, probs: Tensor, baseline: Tensor, decided: Tensor
) -> dict[str, npt.NDArray[np.uint8]]:
    """Pictures uint8 (h, w) of one image; of a volume, the slice where the decisions differ most.

    Parameters
    ----------
    image : Image
    probs : Tensor, shape (1, C, *spatial)
    baseline, decided : Tensor
        Labels (1, *spatial) or masks (1, C, *spatial).
    """
    foreground = probs[0, 0] if probs.shape[1] == 1 or image.masks else 1 - probs[0, 0]
    if image.masks:
        foreground = probs[0].amax(0)
    truth, first, second = (_labels(one, image.masks) for one in (image.truth, baseline, decided))
    if image.counts is not None:
        counted = image.counts[0].any(0) if image.masks else image.counts[0]
        truth = truth.masked_fill(~counted, UNCOUNTED)
    shown = {
        "truth": truth,
        "baseline": first,
        "decided": second,
        "probability": (foreground * 255).round(),
    }
    if image.canvas is not None:
        shown = {name: _put_back(one, image.canvas, name) for name, one in shown.items()}
    where = _where(shown["baseline"] != shown["decided"])
    return {name: _small(one[where]) for name, one in shown.items()}


def _put_back(pixels: Tensor, canvas: Tensor, name: str) -> Tensor:
    """Pixels (n,) where they lay; there are no data elsewhere."""
    whole = pixels.new_full(canvas.shape, 0 if name == "probability" else UNCOUNTED)
    whole[canvas] = pixels
    return whole


def _labels(prediction: Tensor, masks: bool) -> Tensor:
    """Labels (*spatial); of masks 1 + the first class, 0 where there is none."""
    if not masks:
        return prediction[0].clamp(0, UNCOUNTED)
    found = prediction[0]
    first = found.to(torch.uint8).argmax(0) + 1
    return first.masked_fill(~found.any(0), 0).clamp(0, UNCOUNTED)


def _where(differs: Tensor) -> tuple[int | slice, ...]:
    """Index of the 2-D slice that shows most; a 1-D image becomes one line."""
    if differs.ndim <= 2:
        return (slice(None),) * differs.ndim
    most = differs.flatten(0, -3).flatten(1).sum(1).argmax().item()
    place = np.unravel_index(int(most), tuple(differs.shape[:-2]))
    return (*map(int, place), slice(None), slice(None))


def _small(picture: Tensor) -> npt.NDArray[np.uint8]:
    flat = picture if picture.ndim == 2 else picture[None]
    step = max(1, -(-max(flat.shape) // SIDE))
    found: npt.NDArray[np.uint8] = flat[::step, ::step].cpu().to(torch.uint8).numpy()
    return found
