"""Small pairs of probabilities and labels, in files of any format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import rasterio
import torch
from PIL import Image
from rasterio.transform import Affine

CLASSES, HEIGHT, WIDTH = 3, 12, 10
Pair = tuple[np.ndarray, np.ndarray]


def make(number: int, seed: int = 0, shape: tuple[int, ...] = (HEIGHT, WIDTH)) -> list[Pair]:
    """Pairs of softmax probabilities float32 (C, *shape) and labels drawn from them, uint8."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(number):
        logits = 2 * rng.normal(size=(CLASSES, *shape))
        probs = np.exp(logits) / np.exp(logits).sum(0)
        labels = (rng.uniform(size=shape) > probs.cumsum(0)).sum(0).clip(0, CLASSES - 1)
        pairs.append((probs.astype(np.float32), labels.astype(np.uint8)))
    return pairs


def save(folder: Path, pairs: list[Pair], probs: str, labels: str) -> tuple[Path, Path]:
    """Each pair in files of two folders; the suffix chooses the format."""
    found = (folder / "probs", folder / "labels")
    for one in found:
        one.mkdir(parents=True, exist_ok=True)
    for number, (p, y) in enumerate(pairs):
        WRITERS[probs](found[0] / f"case {number}{probs}", p)
        WRITERS[labels](found[1] / f"case {number}{labels}", y)
    return found


def to_nifti(path: Path, array: np.ndarray) -> None:
    """C, z, y, x as x, y, z, C; z, y, x as x, y, z."""
    moved = array.transpose()
    nibabel.save(nibabel.Nifti1Image(moved, np.diag([1.0, 2.0, 3.0, 1.0])), path)


def to_tif(path: Path, array: np.ndarray, **more: Any) -> None:
    bands = array if array.ndim == 3 else array[None]
    profile = {"crs": "EPSG:32632", "transform": Affine(10, 0, 4e5, 0, -10, 5e6), **more}
    profile |= {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    profile |= {"dtype": bands.dtype.name, "photometric": "minisblack"}
    with rasterio.open(path, "w", driver="GTiff", **profile) as dataset:
        dataset.write(bands)


WRITERS: dict[str, Callable[[Path, np.ndarray], Any]] = {
    ".npy": np.save,
    ".npz": lambda path, array: np.savez_compressed(path, only=array),
    ".pt": lambda path, array: torch.save(torch.from_numpy(array), path),
    ".png": lambda path, array: Image.fromarray(array).save(path),
    ".nii.gz": to_nifti,
    ".tif": to_tif,
}
