"""A small U-Net, for images or volumes, trained in a minute on two cores."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits (B, C, *spatial) and labels int64 (B, *spatial) to a number."""


class UNet(nn.Module):
    """Logits (B, classes, *spatial) of images (B, 1, *spatial), of any size.

    Volumes are halved in height and width only: those here have few slices.
    """

    def __init__(self, classes: int, dimensions: int, width: int, levels: int = 3) -> None:
        super().__init__()
        self.step = 2 if dimensions == 2 else (1, 2, 2)
        self.pool = (nn.MaxPool2d if dimensions == 2 else nn.MaxPool3d)(self.step)
        self.grow = nn.Upsample(scale_factor=self.step)
        widths = [width * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(
            _block(before, after, dimensions)
            for before, after in zip([1, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            _block(after + before, before, dimensions) for before, after in pairwise(widths)
        )
        self.last = _convolution(dimensions)(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        divisor = 2 ** len(self.up)
        padding = (0, -width % divisor, 0, -height % divisor)
        hidden = nn.functional.pad(images, padding)
        kept = []
        for block in self.down:
            hidden = block(self.pool(hidden) if kept else hidden)
            kept.append(hidden)
        kept.pop()
        for block in reversed(self.up):
            hidden = block(torch.cat([self.grow(hidden), kept.pop()], dim=1))
        return self.last(hidden)[..., :height, :width]


def _convolution(dimensions: int) -> type[nn.Module]:
    return nn.Conv2d if dimensions == 2 else nn.Conv3d


def _block(before: int, after: int, dimensions: int) -> nn.Sequential:
    norm = nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm3d
    layers: list[nn.Module] = []
    for inputs in (before, after):
        layers += [_convolution(dimensions)(inputs, after, 3, padding=1, bias=False)]
        layers += [norm(after), nn.ReLU()]
    return nn.Sequential(*layers)


def train(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    *,
    classes: int,
    loss: Loss,
    steps: int,
    side: int = 128,
    batch: int = 4,
    width: int = 8,
    around_objects: float = 0.0,
    seed: int = 0,
) -> UNet:
    """Train on random crops of ``side`` x ``side`` pixels, turned and mirrored at random.

    ``images`` are float32 and ``labels`` int64, (*spatial) of any size; the share
    ``around_objects`` of the crops has a labelled pixel at its middle. The same seed gives the
    same network on the same machine: on one thread, so that their number does not matter.
    """
    random = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(classes, images[0].ndim, width)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=5e-3, total_steps=steps)
    with _one_thread():
        for step in range(steps):
            crops = [_crop(images, labels, side, around_objects, random) for _ in range(batch)]
            inputs, targets = (torch.stack(list(parts)) for parts in zip(*crops, strict=True))
            value = loss(network(inputs[:, None]), targets)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
            if step % 20 == 0:
                print(f"step {step:3} of {steps}  loss {value.item():.3f}", file=sys.stderr)
    return network.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _crop(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    side: int,
    around_objects: float,
    random: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    number = random.integers(len(images))
    ends = [length - side for length in images[number].shape[-2:]]
    corner = [random.integers(end + 1) for end in ends]
    if random.random() < around_objects:
        object_ = random.choice(np.argwhere(labels[number]))[-2:]
        corner = np.clip(object_ - side // 2, 0, ends)
    window = (..., *(slice(start, start + side) for start in corner))
    turns, mirror = random.integers(4), random.choice([-1, 1])
    image, label = (
        np.rot90(source[number][window], turns, axes=(-2, -1))[..., ::mirror].copy()
        for source in (images, labels)
    )
    return torch.from_numpy(image), torch.from_numpy(label)


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """One minus the soft Dice of all classes but the first, over the whole batch."""
    probs = logits.softmax(1)
    truth = nn.functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)
    axes = [0, *range(2, logits.ndim)]
    overlap, volume = (probs * truth).sum(axes), (probs + truth).sum(axes)
    return 1 - ((2 * overlap + 1) / (volume + 1))[1:].mean()


@torch.no_grad()
def predict(network: UNet, image: np.ndarray) -> Tensor:
    """Softmax probabilities, float32 (1, C, *spatial), of one image."""
    return network(torch.from_numpy(image)[None, None]).softmax(1)
