"""Nuclei of a fluorescence image: background, inside and a rim of one pixel.

Each half of the image is predicted by a network that was trained on the other half.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ._data_set import DataSet, Pair
from ._fetch import from_wheel
from ._images import read_stack, standardised, tiles
from ._unet import predict, train

PACKAGE = "stardist==0.9.2"
PLATFORM = "manylinux_2_28_x86_64"
FILES = {
    "stardist/data/images/img2d.tif": (
        "f9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750"
    ),
    "stardist/data/images/mask2d.tif": (
        "59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f"
    ),
}


def with_rim(instances: np.ndarray) -> np.ndarray:
    """Labels int64 of instance numbers: background 0, inside 1, rim 2."""
    number = torch.tensor(instances.astype(np.float32))[None, None]
    mixed = F.max_pool2d(number, 3, 1, 1) != -F.max_pool2d(-number, 3, 1, 1)
    inside = instances > 0
    return inside + (inside & mixed[0, 0].numpy()).astype(np.int64)


def make(folder: Path) -> Iterator[Pair]:
    image_path, mask_path = from_wheel(PACKAGE, FILES, folder, PLATFORM)
    image, labels = read_stack(image_path)[0], with_rim(read_stack(mask_path)[0])
    scaled, middle = standardised(image), len(image) // 2
    halves = {"upper half": slice(0, middle), "lower half": slice(middle, None)}
    for name, other in zip(halves, reversed(halves), strict=True):
        network = train(
            [scaled[halves[other]]],
            [labels[halves[other]]],
            classes=3,
            loss=F.cross_entropy,
            steps=150,
        )
        probs = predict(network, scaled[halves[name]])
        truth = torch.from_numpy(labels[halves[name]])[None]
        yield from tiles(probs, truth, name, rows=2, columns=4)


DATA_SET = DataSet(
    name="nuclei",
    title="nuclei in a fluorescence microscopy image",
    classes=("background", "nucleus", "rim"),
    output_mode="multiclass",
    model="small U-Net trained here, cross-entropy",
    truth="outlined by experts; the rim is the outermost pixel of each nucleus",
    split="each half predicted by a network trained on the other; 128 x 128 tiles of both",
    images=1,
    source="stardist 0.9.2 (wheel): 2018 Data Science Bowl, Caicedo et al., Nature Methods 2019",
    licence="package BSD-3-Clause; the challenge's images CC0",
    predict=make,
)
