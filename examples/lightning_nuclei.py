"""Lightning on real data: a U-Net is trained, judged and used, with RankSEG in the callbacks.

Training is on the upper half of a fluorescence microscopy image, validation and prediction on tiles
of the lower half. The classes are background, the inside of nuclei, and their rim: one pixel wide,
and never certain. The logger shows Dice and IoU of argmax and of RankSEG after every epoch;
prediction writes one PNG a tile. The image and its ground truth (Data Science Bowl 2018, CC0) are
part of PyPI's `stardist` package, whose wheel is downloaded once with pip and not installed.

    pip install ".[lightning]" pillow matplotlib
    python examples/lightning_nuclei.py                # less than a minute on two cores
    python examples/lightning_nuclei.py --data folder  # with your own img2d.tif and mask2d.tif
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import zipfile
from pathlib import Path

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from rankseg_integrations.lightning import RankSEGEvaluation, RankSEGWriter

NAMES = ("background", "nucleus", "rim")
CACHE = Path.home() / ".cache" / "rankseg" / "stardist"
FILES = ("img2d.tif", "mask2d.tif")
SIDE = 128
RANKSEG = {"metric": "dice", "pruning_prob": 0.0, "activation": "softmax"}
"""No class is skipped for being uncertain everywhere: the rim always is."""


def fetch(folder: Path) -> Path:
    """Put the two files into a folder, unless they are there."""
    if all((folder / name).is_file() for name in FILES):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    subprocess.run([*pip, "--only-binary", ":all:", "stardist"], check=True)
    (wheel,) = folder.glob("stardist-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in FILES:
            (folder / name).write_bytes(archive.read(f"stardist/data/images/{name}"))
    wheel.unlink()
    return folder


def load(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Image (1, H, W) of about 0 to 1, and labels (H, W): background 0, nucleus 1, rim 2."""
    image, instances = (np.asarray(Image.open(folder / name)) for name in FILES)
    gray = torch.tensor(image / np.percentile(image, 99.8), dtype=torch.float32)[None]
    number = torch.tensor(instances.astype(np.float32))[None, None]
    mixed = (F.max_pool2d(number, 3, 1, 1) != -F.max_pool2d(-number, 3, 1, 1))[0, 0]
    nucleus = number[0, 0] > 0
    return gray, nucleus.long() + (nucleus & mixed).long()


class Tiles(Dataset):
    """Tiles side by side; or, with `number`, so many random ones, turned and mirrored."""

    def __init__(self, image: torch.Tensor, labels: torch.Tensor, number: int = 0) -> None:
        self.image, self.labels, self.number = image, labels, number
        self.side = min(SIDE, *labels.shape)
        rows, columns = (range(0, n - self.side + 1, self.side) for n in labels.shape)
        self.corners = [(row, column) for row in rows for column in columns]

    def __len__(self) -> int:
        return self.number or len(self.corners)

    def __getitem__(self, index: int) -> dict:
        top, left = self.corners[index] if not self.number else self.anywhere()
        place = (..., slice(top, top + self.side), slice(left, left + self.side))
        image, target = self.image[place], self.labels[place]
        if self.number:
            turns = int(torch.randint(4, ()))
            image, target = image.rot90(turns, (-2, -1)), target.rot90(turns, (-2, -1))
        return {"image": image, "target": target, "name": f"tile_{top}_{left}"}

    def anywhere(self) -> list[int]:
        return [int(torch.randint(length - self.side + 1, ())) for length in self.labels.shape]


def block(before: int, after: int) -> nn.Sequential:
    layers = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(L.LightningModule):
    """Two levels; steps return logits, and know nothing of RankSEG."""

    def __init__(self, classes: int = 3, width: int = 8, steps: int = 100) -> None:
        super().__init__()
        self.steps = steps
        self.enter, self.down = block(1, width), block(width, 2 * width)
        self.deep = block(2 * width, 4 * width)
        self.up, self.leave = block(6 * width, 2 * width), block(3 * width, width)
        self.last = nn.Conv2d(width, classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        fine = self.enter(image)
        middle = self.down(F.max_pool2d(fine, 2))
        coarse = self.deep(F.max_pool2d(middle, 2))
        middle = self.up(torch.cat([F.interpolate(coarse, scale_factor=2), middle], 1))
        return self.last(self.leave(torch.cat([F.interpolate(middle, scale_factor=2), fine], 1)))

    def training_step(self, batch: dict, batch_idx: int) -> torch.Tensor:
        return F.cross_entropy(self(batch["image"]), batch["target"])

    def validation_step(self, batch: dict, batch_idx: int) -> dict:
        return {"logits": self(batch["image"])}

    def predict_step(self, batch: dict, batch_idx: int) -> dict:
        return {"logits": self(batch["image"])}

    def configure_optimizers(self) -> dict:
        optimiser = torch.optim.AdamW(self.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=self.steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def show(folder: Path) -> None:
    """What the logger has: one line an epoch."""
    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/dice_argmax"]]
    columns = ["dice_argmax", "dice_rankseg", "iou_argmax", "iou_rankseg"]
    print(f"{'epoch':10}" + "".join(f"{name:>14}" for name in columns))
    for row in rows:
        numbers = (float(row[f"val/{name}"]) for name in columns)
        print(f"{row['epoch']:10}" + "".join(f"{number:14.3f}" for number in numbers))
    print("\nlast epoch, each class:")
    for name in NAMES:
        numbers = (float(rows[-1][f"val/{column}/{name}"]) for column in columns)
        print(f"{name:10}" + "".join(f"{number:14.3f}" for number in numbers))


def draw(model: UNet, tiles: Tiles, folder: Path, path: Path) -> None:
    """Image, truth, argmax and the file that was written, for the tile with most rim."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import ListedColormap

    tile = max(tiles, key=lambda item: int((item["target"] == 2).sum()))
    with torch.no_grad():
        before = model.eval()(tile["image"][None]).argmax(1)[0]
    after = np.asarray(Image.open(folder / f"{tile['name']}.png"))
    colours = ListedColormap(["#10182b", "#3f8fd2", "#f2b134"])
    figure, axes = plt.subplots(2, 2, figsize=(9, 9.4), layout="constrained")
    axes[0, 0].imshow(tile["image"][0], cmap="gray")
    panels = {"truth": tile["target"], "argmax": before, "RankSEG, as written": after}
    for axis, (title, labels) in zip(axes.flat[1:], panels.items(), strict=True):
        axis.imshow(labels, cmap=colours, vmin=0, vmax=2, interpolation="nearest")
        axis.set_title(title)
    axes[0, 0].set_title("image")
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with img2d.tif and mask2d.tif")
    parser.add_argument("--epochs", type=int, default=5, help="of 20 steps (default 5)")
    parser.add_argument("--output", type=Path, default=Path("rankseg-lightning"))
    arguments = parser.parse_args()

    L.seed_everything(0, verbose=False)
    image, labels = load(arguments.data or fetch(CACHE))
    half = len(labels) // 2
    train = DataLoader(Tiles(image[:, :half], labels[:half], number=80), batch_size=4)
    tiles = Tiles(image[:, half:], labels[half:])
    judge = DataLoader(tiles, batch_size=2)

    masks = arguments.output / "masks"
    evaluation = RankSEGEvaluation("logits", per_class=NAMES, **RANKSEG)
    writer = RankSEGWriter(masks, "logits", "name", file_format="png", overwrite=True, **RANKSEG)
    logger = CSVLogger(arguments.output, "logs")
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=arguments.epochs,
        callbacks=[evaluation, writer],
        logger=logger,
        log_every_n_steps=20,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
    )
    model = UNet(len(NAMES), steps=20 * arguments.epochs)
    trainer.fit(model, train, judge)
    show(Path(logger.log_dir))

    trainer.predict(model, judge, return_predictions=False)
    print(f"\nmasks: {len(list(masks.glob('*.png')))} files in {masks}")
    draw(model, tiles, masks, arguments.output / "before-after.png")
    print(f"picture: {arguments.output / 'before-after.png'}")


if __name__ == "__main__":
    main()
