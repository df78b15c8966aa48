"""Draw docs/why.png: why 0.5 is not the best cut for Dice (``python docs/why.py``).

A small, faint object has probabilities around one half. Labels are drawn from them thousands of
times, so the Dice shown for every threshold is a plain average, not RankSEG's own formula.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from rankseg import RankSEG

DRAWS = 4000
BLUE, ORANGE = "#0072b2", "#d55e00"


def faint_object(size: int = 96) -> np.ndarray:
    """Probabilities (H, W): a blurred blob that peaks at 0.62, and a fainter neighbour."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    main = 0.62 * np.exp(-(((x + 0.1) / 0.42) ** 2 + ((y - 0.05) / 0.34) ** 2))
    side = 0.40 * np.exp(-(((x - 0.48) / 0.20) ** 2 + ((y + 0.42) / 0.22) ** 2))
    return np.maximum(main, side)


def mean_dice(probs: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Dice of {p > threshold}, averaged over drawn label maps."""
    random = np.random.default_rng(0)
    row = np.sort(probs.ravel())[::-1]
    volumes = (row[None, :] > thresholds[:, None]).sum(1)
    total = np.zeros(len(thresholds))
    for _ in range(DRAWS):
        labels = random.random(row.size) < row
        overlap = np.concatenate([[0], np.cumsum(labels)])[volumes]
        total += 2 * overlap / np.maximum(volumes + labels.sum(), 1)
    return total / DRAWS


def main() -> None:
    """Compute the masks and draw the picture."""
    probs = faint_object()
    found = RankSEG("dice", "multilabel").solve(torch.from_numpy(probs)[None, None])
    cut = found.threshold.item()
    at_half, at_cut = mean_dice(probs, np.array([0.5, cut]))
    thresholds = np.linspace(0.02, 0.6, 117)

    plt.rcParams.update({"font.size": 13, "axes.titlesize": 15})
    figure, axes = plt.subplots(1, 4, figsize=(17, 4.6), width_ratios=[1, 1, 1, 1.35])
    image = axes[0].imshow(probs, cmap="cividis", vmin=0, vmax=1)
    axes[0].set_title("What the network says")
    figure.colorbar(image, ax=axes[0], orientation="horizontal", label="probability", pad=0.05)
    masks = ((probs > 0.5, f"Cut at 0.5: Dice {at_half:.2f}", ORANGE),)
    masks += ((found.prediction[0, 0].numpy(), f"RankSEG: Dice {at_cut:.2f}", BLUE),)
    for axis, (mask, title, colour) in zip(axes[1:3], masks, strict=True):
        axis.imshow(probs, cmap="Greys", vmin=0, vmax=1.2)
        axis.contourf(mask, levels=[0.5, 1.5], colors=[colour], alpha=0.55)
        axis.set_title(title, color=colour, fontweight="bold")
    for axis in axes[:3]:
        axis.set_xticks([])
        axis.set_yticks([])
    curve = axes[3]
    curve.plot(thresholds, mean_dice(probs, thresholds), color="black", lw=2)
    curve.plot(0.5, at_half, "o", ms=11, color=ORANGE)
    curve.plot(cut, at_cut, "o", ms=11, color=BLUE)
    curve.annotate("0.5", (0.5, at_half), (8, 6), textcoords="offset points", color=ORANGE)
    curve.annotate(
        f"RankSEG, {cut:.2f}", (cut, at_cut), (-30, 12), textcoords="offset points", color=BLUE
    )
    curve.set(
        xlabel="threshold",
        ylabel="mean Dice",
        ylim=(0, at_cut * 1.2),
        title=f"Dice over {DRAWS:,} possible truths",
    )
    curve.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=90)


if __name__ == "__main__":
    main()
