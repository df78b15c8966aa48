"""What the advice of best-practices.md is worth: ``python docs/best_practices.py``, two minutes.

Simulated images whose true probabilities are known: softmax of smooth random logits, labels drawn
pixel by pixel. A table has the mean Dice of its first rule (over classes, draws and images) and
how many points the others are ahead, with the standard error of the paired difference over images.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from rankseg import Calibrator, RankSEG
from rankseg.evaluation import fit_calibrator

PAGE = Path(__file__).with_name("best-practices.md")
CLASSES, SIZE, IMAGES, DRAWS = 4, 64, 60, 10
DICE = RankSEG("dice")
Found = tuple[dict[str, Tensor], Tensor]
"""Labels (1, H, W) of each way to decide, and truths (draws, H, W)."""


def smooth(generator: torch.Generator, scale: float, size: int = SIZE, cells: int = 6) -> Tensor:
    """Logits (1, C, size, size) that vary slowly."""
    coarse = torch.randn(1, CLASSES, cells, cells, generator=generator)
    return F.interpolate(scale * coarse, (size, size), mode="bicubic")


def draw(probs: Tensor, generator: torch.Generator, draws: int = DRAWS) -> Tensor:
    """Labels (draws, H, W)."""
    u = torch.rand(draws, 1, *probs.shape[2:], generator=generator)
    return (probs.cumsum(1) < u).sum(1).clamp(max=CLASSES - 1)


def one_hot(labels: Tensor) -> Tensor:
    """Masks (B, C, H, W), as probabilities."""
    return F.one_hot(labels, CLASSES).movedim(-1, 1).float()


def dice(labels: Tensor, truths: Tensor) -> float:
    """Mean over classes and draws."""
    mask, truth = one_hot(labels).flatten(2).double(), one_hot(truths).flatten(2).double()
    both, either = (mask * truth).sum(2), mask.sum(2) + truth.sum(2)
    return (2 * both / either).nanmean().item()


def compare(found: Callable[[torch.Generator], Found]) -> str:
    """Table of the ways to decide; the first is what the others are compared with."""
    scores: dict[str, list[float]] = {}
    for number in range(IMAGES):
        ways, truths = found(torch.Generator().manual_seed(number))
        for name, labels in ways.items():
            scores.setdefault(name, []).append(dice(labels, truths))
    usual, *others = scores
    rows = [f"| {usual} | {statistics.mean(scores[usual]):.4f} |"]
    rows += [f"| {name} | {points(scores[name], scores[usual])} |" for name in others]
    return "\n".join(["| | mean Dice, or points ahead of it |", "| --- | --- |", *rows])


def points(scores: list[float], usual: list[float]) -> str:
    """Mean difference in points and its standard error."""
    ahead = [100 * (one - other) for one, other in zip(scores, usual, strict=True)]
    return f"{statistics.mean(ahead):+.2f} ± {statistics.stdev(ahead) / len(ahead) ** 0.5:.2f}"


def levels(generator: torch.Generator) -> Found:
    """Probabilities stored with fewer and fewer levels."""
    probs = smooth(generator, 2).softmax(1)
    ways = {"argmax": probs.argmax(1), "RankSEG, float32": DICE(probs)}
    ways["float16"] = DICE(probs.half())
    for name, steps in (("256 levels (uint8)", 255), ("21 levels", 20), ("6 levels", 5)):
        ways[name] = DICE((probs * steps).round() / steps)
    ways["argmax as 0 and 1"] = DICE(one_hot(probs.argmax(1)))
    return ways, draw(probs, generator)


def members(generator: torch.Generator, draws: int = DRAWS) -> tuple[list[Tensor], Tensor]:
    """What five members, or five augmentations, say, each with an error of its own; truths."""
    logits = smooth(generator, 2)
    said = [(logits + smooth(generator, 1.5)).softmax(1) for _ in range(5)]
    return said, draw(logits.softmax(1), generator, draws)


def calibrated_mean() -> RankSEG:
    """RankSEG for the mean of the members, with a temperature from eight images."""

    def pair(number: int) -> tuple[Tensor, Tensor]:
        said, truth = members(torch.Generator().manual_seed(1000 + number), 1)
        return torch.stack(said).mean(0), truth

    calibrator = fit_calibrator([pair(number) for number in range(8)], "temperature")
    return RankSEG("dice", calibrator=calibrator)


def ensemble() -> str:
    """Average and decide, or decide and vote."""
    calibrated = calibrated_mean()

    def vote(labels: list[Tensor]) -> Tensor:
        return torch.stack([one_hot(one) for one in labels]).sum(0).argmax(1)

    def found(generator: torch.Generator) -> Found:
        said, truths = members(generator)
        mean, usual = torch.stack(said).mean(0), [one.argmax(1) for one in said]
        ways = {
            "argmax of the mean": mean.argmax(1),
            "RankSEG of the mean": DICE(mean),
            "RankSEG of the mean, calibrated": calibrated(mean),
            "RankSEG of each, then a vote": vote([DICE(one) for one in said]),
            "argmax of each, then a vote": vote(usual),
        }
        return ways, truths

    return compare(found)


def resize(generator: torch.Generator) -> Found:
    """A network sees a quarter of the resolution at which it is judged."""
    probs = smooth(generator, 3, cells=10).softmax(1)
    coarse = F.avg_pool2d(probs, 4)
    fine = F.interpolate(coarse, scale_factor=4, mode="bilinear")
    repeated = {"scale_factor": 4, "mode": "nearest"}
    usual, ours = coarse.argmax(1, keepdim=True).float(), DICE(coarse)[:, None].float()
    ways = {
        "argmax after resizing": fine.argmax(1),
        "RankSEG after resizing": DICE(fine),
        "RankSEG before, labels enlarged": F.interpolate(ours, **repeated)[:, 0].long(),
        "argmax before, labels enlarged": F.interpolate(usual, **repeated)[:, 0].long(),
    }
    return ways, draw(probs, generator)


def windows(generator: torch.Generator) -> Found:
    """An image of 128 x 128 decided whole, or in windows."""
    probs = smooth(generator, 2, size=128).softmax(1)
    ways = {"argmax": probs.argmax(1), "RankSEG, the whole image": DICE(probs)}
    for side in (64, 32, 16):
        rows = [
            torch.cat([DICE(window) for window in band.split(side, 3)], 2)
            for band in probs.split(side, 2)
        ]
        ways[f"each window of {side} x {side} by itself"] = torch.cat(rows, 1)
    return ways, draw(probs, generator)


class Network:
    """Logits ``sure`` times as large as they should be, class 1 raised by ``bias``."""

    def __init__(self, sure: float, bias: float) -> None:
        self.sure, self.shift = sure, torch.tensor([0, bias, 0, 0]).reshape(1, CLASSES, 1, 1)
        self.test = [self.image(number) for number in range(IMAGES)]

    def image(self, number: int, draws: int = DRAWS) -> tuple[Tensor, Tensor, Tensor]:
        """What it says, truths, and the true probabilities."""
        generator = torch.Generator().manual_seed(number)
        logits = smooth(generator, 1.5)
        probs = logits.softmax(1)
        return (self.sure * logits + self.shift).softmax(1), draw(probs, generator, draws), probs

    def scores(self, decide: Callable[[Tensor], Tensor], truly: bool = False) -> list[float]:
        """Of every test image, from what the network says or from the true probabilities."""
        return [dice(decide(true if truly else said), truths) for said, truths, true in self.test]

    def calibrator(self, method: str, images: int) -> Calibrator:
        """Fitted on other images, one truth each."""
        return fit_calibrator([self.image(1000 + n, 1)[:2] for n in range(images)], method)


def calibration() -> str:
    """A network that sees class 1 too often, repaired with so many labelled images."""
    network, options = Network(2, 1.5), {"pruning_prob": 0.0}
    usual = network.scores(RankSEG("acc"))
    raw = points(network.scores(RankSEG("dice", **options)), usual)
    best = points(network.scores(RankSEG("dice", **options), truly=True), usual)
    lines = ["| calibrated with | 1 image | 4 images | 16 images |", "| --- | --- | --- | --- |"]
    lines.append(f"| nothing | {raw} | | |")
    for method in ("temperature", "vector", "isotonic"):
        cells = []
        for count in (1, 4, 16):
            decide = RankSEG("dice", calibrator=network.calibrator(method, count), **options)
            cells.append(points(network.scores(decide), usual))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    lines.append(f"| the true probabilities | {best} | | |")
    return "\n".join([*lines, "", f"Points ahead of argmax, {statistics.mean(usual):.4f}."])


def sure() -> str:
    """A network that is twice as sure as it should be, and nothing else."""
    network = Network(2, 0)
    usual = network.scores(RankSEG("acc"))
    calibrator = network.calibrator("temperature", 4)
    lines = ["| points ahead of argmax | as it is | temperature |", "| --- | --- | --- |"]
    for name in ("published", "ascent"):
        cells = [
            points(network.scores(RankSEG("dice", assignment=name, pruning_prob=0, **more)), usual)
            for more in ({}, {"calibrator": calibrator})
        ]
        lines.append(f'| `assignment="{name}"` | {cells[0]} | {cells[1]} |')
    return "\n".join(lines)


def batches() -> str:
    """Processor time of 32 images together and one by one, in turns, on one thread."""
    torch.set_num_threads(1)
    lines = ["| 32 images of | one call, ms an image | 32 calls, ms an image | ratio |"]
    lines.append("| --- | --- | --- | --- |")
    for classes, side in ((2, 32), (2, 64), (2, 256), (19, 256)):
        probs = torch.randn(32, classes, side, side).softmax(1)
        for_all, for_each = [probs], probs.split(1)
        times = [[seconds(images) for images in (for_all, for_each)] for _ in range(13)][2:]
        once, many = (statistics.median(column) / 32 * 1e3 for column in zip(*times, strict=True))
        ratio = statistics.median(b / a for a, b in times)
        lines.append(f"| {classes} x {side} x {side} | {once:.2g} | {many:.2g} | {ratio:.1f} |")
    return "\n".join(lines)


def seconds(batches: Sequence[Tensor]) -> float:
    """Processor time of deciding them."""
    start = time.process_time()
    for batch in batches:
        DICE(batch)
    return time.process_time() - start


def processor() -> str:
    """Name the system gives it."""
    info = Path("/proc/cpuinfo")
    names = info.read_text().partition("model name")[2] if info.exists() else ""
    return names.partition(":")[2].partition("\n")[0].strip() or platform.processor()


def main() -> None:
    """Fill the page."""
    torch.manual_seed(0)
    version = torch.__version__.partition("+")[0]
    blocks = {
        "setup": f"Measured {date.today()}, {processor()}, shared with other work; "
        f"torch {version}, Python {platform.python_version()}.",
        "levels": compare(levels),
        "ensemble": ensemble(),
        "resize": compare(resize),
        "windows": compare(windows),
        "calibration": calibration(),
        "sure": sure(),
        "batches": batches(),
    }
    text = PAGE.read_text()
    for name, block in blocks.items():
        before, rest = text.split(f"<!-- {name} -->")
        _, after = rest.split(f"<!-- end {name} -->")
        text = f"{before}<!-- {name} -->\n\n{block}\n\n<!-- end {name} -->{after}"
        print(block, end="\n\n")
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
