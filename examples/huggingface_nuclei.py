"""Hugging Face on real data: processor -> model -> outputs -> RankSEG, before and after.

A small SegFormer is trained from nothing on the upper half of a fluorescence microscopy image and
judged on the lower half. It tells apart background, the inside of nuclei, and their rim: one pixel
wide, and never certain. The image and its ground truth (Data Science Bowl 2018, CC0) are part of
PyPI's `stardist` package, whose wheel is downloaded once with pip and not installed.

    pip install ".[transformers]" matplotlib
    python examples/huggingface_nuclei.py                # less than a minute on two cores
    python examples/huggingface_nuclei.py --no-rim       # two classes: little is uncertain
    python examples/huggingface_nuclei.py --data folder  # with your own img2d.tif and mask2d.tif
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import (
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
)

from rankseg_integrations.transformers import (
    postprocess_semantic_segmentation,
    restore_semantic_probs,
)

NAMES = ("background", "nucleus", "rim")
CACHE = Path.home() / ".cache" / "rankseg" / "stardist"
FILES = ("img2d.tif", "mask2d.tif")


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


def load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 (H, W, 3), and labels int64 (H, W): background 0, nucleus 1, rim 2."""
    image, instances = (np.asarray(Image.open(folder / name)) for name in FILES)
    gray = np.clip(image / np.percentile(image, 99.8) * 255, 0, 255).astype(np.uint8)
    number = torch.tensor(instances.astype(np.float32))[None, None]
    mixed = F.max_pool2d(number, 3, 1, 1) != -F.max_pool2d(-number, 3, 1, 1)
    nucleus = instances > 0
    labels = nucleus + (nucleus & mixed[0, 0].numpy()).astype(np.int64)
    return np.stack([gray] * 3, axis=-1), labels


def crops(image: np.ndarray, labels: np.ndarray, side: int, random: np.random.Generator):
    """Two random crops, turned and mirrored at random."""
    pictures, truths = [], []
    for _ in range(2):
        top, left = (random.integers(0, length - side + 1) for length in labels.shape)
        turns, mirror = random.integers(4), random.choice([-1, 1])
        for source, crop in ((image, pictures), (labels, truths)):
            part = source[top : top + side, left : left + side]
            crop.append(np.ascontiguousarray(np.rot90(part, turns)[:, ::mirror]))
    return pictures, truths


def train(image: np.ndarray, labels: np.ndarray, classes: int, steps: int):
    """Train a small SegFormer; returns it with its processor."""
    processor = SegformerImageProcessor(do_resize=False)
    config = SegformerConfig(
        num_labels=classes,
        hidden_sizes=[16, 32, 64, 96],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 4, 4],
        decoder_hidden_size=64,
    )
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model = SegformerForSemanticSegmentation(config).train()
    optimiser = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    for step in range(steps):
        pictures, truths = crops(image, labels, min(128, *labels.shape), random)
        loss = model(**processor(pictures, truths, return_tensors="pt")).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step:3}  loss {loss.item():.3f}", file=sys.stderr)
    return processor, model.eval()


def scores(labels: torch.Tensor, truth: torch.Tensor, classes: int) -> list[tuple[float, float]]:
    """Dice and IoU of each class."""
    pairs = []
    for index in range(classes):
        mask, target = labels == index, truth == index
        overlap, union = (mask & target).sum().item(), (mask | target).sum().item()
        pairs.append((2 * overlap / max(1, overlap + union), overlap / max(1, union)))
    return pairs


def draw(image: np.ndarray, panels: dict[str, np.ndarray], path: Path) -> None:
    """Image, truth and decisions side by side: a part of each, enlarged."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import ListedColormap

    colours = ListedColormap(["#10182b", "#3f8fd2", "#f2b134"])
    figure, axes = plt.subplots(2, 2, figsize=(9, 9.4), layout="constrained")
    part = (slice(0, 192), slice(0, 192))
    for axis, (title, values) in zip(axes.flat, {"image": image, **panels}.items(), strict=True):
        axis.imshow(values[part], cmap=colours, vmin=0, vmax=2, interpolation="nearest")
        axis.set_title(title)
        axis.set_axis_off()
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with img2d.tif and mask2d.tif")
    parser.add_argument("--steps", type=int, default=120, help="of training (default 120)")
    parser.add_argument("--no-rim", action="store_true", help="count rims as nuclei")
    parser.add_argument("--output", type=Path, default=Path("rankseg-nuclei.png"))
    arguments = parser.parse_args()

    image, labels = load(arguments.data or fetch(CACHE))
    names = NAMES[:2] if arguments.no_rim else NAMES
    labels = labels.clip(max=len(names) - 1)
    half = len(labels) // 2
    processor, model = train(image[:half], labels[:half], len(names), arguments.steps)

    inputs = processor(image[half:], return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    size = [labels[half:].shape]
    truth = torch.from_numpy(labels[half:])

    decisions = {
        "argmax": processor.post_process_semantic_segmentation(outputs, target_sizes=size)[0],
        "Dice": postprocess_semantic_segmentation(outputs, target_sizes=size)[0],
        "Dice, no pruning": postprocess_semantic_segmentation(
            outputs, target_sizes=size, pruning_prob=0.0
        )[0],
        "IoU, no pruning": postprocess_semantic_segmentation(
            outputs, target_sizes=size, metric="iou", pruning_prob=0.0
        )[0],
    }
    peaks = restore_semantic_probs(outputs, target_sizes=size)[0].amax((1, 2))
    print("largest probability:", *(f"{n} {p:.2f}" for n, p in zip(names, peaks, strict=True)))
    print(f"{'Dice / IoU':18}" + "".join(f"{name:>16}" for name in (*names, "mean")))
    for name, decision in decisions.items():
        rows = scores(decision, truth, len(names))
        rows.append(tuple(sum(values) / len(values) for values in zip(*rows, strict=True)))
        print(f"{name:18}" + "".join(f"{dice:8.3f} / {iou:.3f}" for dice, iou in rows))

    shown = {name: decisions[name].numpy() for name in ("argmax", "Dice, no pruning")}
    draw(image[half:], {"truth": truth.numpy(), **shown}, arguments.output)
    print(f"picture: {arguments.output}")


if __name__ == "__main__":
    main()
