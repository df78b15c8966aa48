"""Images and their parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence
from torch import Tensor

from ._data_set import Pair


def read_stack(path: Path) -> np.ndarray:
    """Pages of a TIFF, (pages, H, W)."""
    with Image.open(path) as pages:
        return np.stack([np.asarray(page) for page in ImageSequence.Iterator(pages)])


def standardised(image: np.ndarray) -> np.ndarray:
    """Float32 of median 0; the brightest 0.2 % are cut off at 1."""
    low, high = np.percentile(image, (50, 99.8))
    return ((image.astype(np.float32) - low) / (high - low)).clip(-1, 1).astype(np.float32)


def tiles(probs: Tensor, labels: Tensor, name: str, rows: int, columns: int) -> Iterator[Pair]:
    """Equal parts of one image, named by their place; what is left at the ends is not used."""
    height, width = probs.shape[-2] // rows, probs.shape[-1] // columns
    for row in range(rows):
        for column in range(columns):
            top, left = row * height, column * width
            part = (..., slice(top, top + height), slice(left, left + width))
            place = f"{name}, row {top}, column {left}"
            yield probs[part].contiguous(), labels[part].contiguous(), place
