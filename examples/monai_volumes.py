"""MONAI with ground truth: a 3-D U-Net finds small balls in noise; AsDiscreted beside AsRankSEGd.

Images are MONAI's own, `monai.data.create_test_image_3d`: balls in a volume, with labels. Noise
almost hides them, so the U-Net, trained here for about a minute, is never sure. Then the same
volumes are decided slab by slab, without a buffer of probabilities.

    pip install ".[monai]" matplotlib
    python examples/monai_volumes.py                # about a minute on two cores
    python examples/monai_volumes.py --steps 100    # a network that is less sure
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from monai.data import DataLoader, Dataset, create_test_image_3d, decollate_batch
from monai.inferers import SlidingWindowInferer
from monai.metrics import DiceMetric
from monai.networks.nets import UNet
from monai.transforms import AsDiscreted, Compose, EnsureChannelFirstd, EnsureTyped
from monai.utils import set_determinism

from rankseg_integrations.monai import AsRankSEGd, SlidingWindowRankSEG

SIDE, NOISE = 48, 1.6


def volumes(number: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Images and labels: six balls of radius 3 to 6 in noise larger than their contrast."""
    random = np.random.RandomState(seed)
    found = []
    for _ in range(number):
        image, label = create_test_image_3d(
            *(SIDE,) * 3, num_objs=6, rad_min=3, rad_max=6, noise_max=0, random_state=random
        )
        noisy = (image > 0) + random.normal(0, NOISE, image.shape)
        found.append({"image": noisy.astype(np.float32), "label": (label > 0).astype(np.float32)})
    return found


def loader(number: int, seed: int, **options: object) -> DataLoader:
    keys = ["image", "label"]
    ready = Compose([EnsureChannelFirstd(keys, channel_dim="no_channel"), EnsureTyped(keys)])
    return DataLoader(Dataset(volumes(number, seed), ready), batch_size=2, **options)


def train(steps: int) -> UNet:
    """A small U-Net with two output channels."""
    network = UNet(3, 1, 2, channels=(8, 16, 32), strides=(2, 2), num_res_units=1)
    optimiser = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-2, total_steps=steps)
    loss_of = torch.nn.CrossEntropyLoss()
    batches = loader(16, seed=1, shuffle=True)
    step = 0
    while step < steps:
        for batch in batches:
            if step == steps:
                break
            loss = loss_of(network(batch["image"]), batch["label"][:, 0].long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if step % 20 == 0:
                print(f"step {step:3}  loss {loss.item():.4f}", file=sys.stderr)
            step += 1
    return network.eval()


POST = {  # the one line that changes
    "argmax": Compose([AsDiscreted("pred", argmax=True)]),
    "RankSEG": Compose([AsRankSEGd("pred", metric="dice", activation="softmax")]),
}


def judged(network: UNet, test: DataLoader, inferer: SlidingWindowInferer) -> dict[str, list]:
    """Labels of every test volume, by each decision."""
    found: dict[str, list] = {name: [] for name in POST}
    with torch.no_grad():
        for batch in test:
            batch["pred"] = inferer(batch["image"], network)
            for name, labels in found.items():
                labels += [item["pred"] for item in map(POST[name], decollate_batch(batch))]
    return found


def scores(labels: list, truth: list) -> torch.Tensor:
    """Dice of each volume."""
    metric = DiceMetric(include_background=False, reduction="none")
    return metric(labels, truth)[:, 0]


def report(found: dict[str, list], truth: list) -> None:
    print(f"{'':8}{'mean Dice':>11}{'lowest':>9}{'voxels':>9}   (truth: {voxels(truth):.0f})")
    for name, labels in found.items():
        dice = scores(labels, truth)
        line = f"{name:8}{dice.mean():11.3f}{dice.min():9.3f}{voxels(labels):9.0f}"
        if name != "argmax":
            gain = dice - scores(found["argmax"], truth)
            line += f"   better in {int((gain > 0).sum())} of {len(gain)}, worst {gain.min():+.3f}"
        print(line)


def voxels(labels: list) -> float:
    return sum(label.sum().item() for label in labels) / len(labels)


def draw(item: dict, decisions: dict[str, np.ndarray], path: Path) -> None:
    """One slice: image, truth, decisions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    truth = item["label"][0].numpy()
    place = int(truth.sum((0, 1)).argmax())
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
    axes[0].imshow(item["image"][0, :, :, place], cmap="Greys_r")
    axes[0].set_title("image, truth outlined")
    for axis, (name, labels) in zip(axes[1:], decisions.items(), strict=True):
        axis.imshow(labels[0, :, :, place], cmap="Greys_r", vmin=0, vmax=1.4)
        axis.set_title(name)
    for axis in axes:
        axis.contour(truth[:, :, place], levels=[0.5], colors=["#f2b134"], linewidths=1.5)
        axis.set_axis_off()
    figure.savefig(path, dpi=75)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="of training (default 300)")
    parser.add_argument("--volumes", type=int, default=20, help="to test on (default 20)")
    parser.add_argument("--output", type=Path, default=Path("rankseg-volumes.png"))
    arguments = parser.parse_args()
    set_determinism(0)

    network = train(arguments.steps)
    windows = {"roi_size": (32, 32, 32), "sw_batch_size": 4, "overlap": 0.5, "mode": "gaussian"}
    test = loader(arguments.volumes, seed=2)
    truth = [item["label"] for item in test.dataset]
    found = judged(network, test, SlidingWindowInferer(**windows))
    report(found, truth)

    slabs = SlidingWindowRankSEG(**windows, metric="dice", activation="softmax")
    image = test.dataset[0]["image"][None]
    same = bool((slabs(image, network)[0] == found["RankSEG"][0]).all())
    print(f"decided slab by slab, the first volume has the same labels: {same}")
    shown = {"argmax": found["argmax"][0], "RankSEG": found["RankSEG"][0]}
    draw(
        test.dataset[0], {name: labels.numpy() for name, labels in shown.items()}, arguments.output
    )
    print(f"picture: {arguments.output}")


if __name__ == "__main__":
    main()
