"""Draw docs/why.png: why 0.5 is not the best cut for Dice (``python docs/why.py``).

A faint object has probabilities around one half and below. Dots are one truth, every pixel drawn
with its probability; the Dice is the average over thousands of such truths, a plain computation
and not RankSEG's own formula.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray

from rankseg import RankSEG

DRAWS = 4000
INK, PAPER, RED, BLUE = "#1b1f24", "#ffffff", "#c2410c", "#0369a1"


def faint_object() -> NDArray[np.float64]:
    """Probabilities (H, W): a blurred blob that peaks at 0.62."""
    y, x = np.mgrid[-1:1:40j, -1:1:40j]
    return 0.62 * np.exp(-((x / 0.55) ** 2 + (y / 0.48) ** 2))


def draw(probs: NDArray[np.float64], draws: int) -> NDArray[np.bool_]:
    """Truths (draws, H, W)."""
    return np.random.default_rng(7).random((draws, *probs.shape)) < probs


def dice(mask: NDArray[np.bool_], truths: NDArray[np.bool_]) -> float:
    """Mean Dice of a mask."""
    overlap = (truths & mask).sum((1, 2))
    return float((2 * overlap / (truths.sum((1, 2)) + mask.sum())).mean())


def show(
    axis: Axes,
    mask: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    colour: str,
    name: str,
    score: str,
) -> None:
    """The truth's pixels as dots, and the mask as an area that holds some of them."""
    axis.contourf(mask, levels=[0.5, 1.5], colors=[colour], alpha=0.22)
    axis.contour(mask, levels=[0.5], colors=[colour], linewidths=3)
    for pixels, ink in ((truth & mask, colour), (truth & ~mask, "#8b949e")):
        y, x = pixels.nonzero()
        axis.plot(x, y, ".", color=ink, ms=9, mec="none")
    axis.set_title(name, color=colour, fontsize=25, fontweight="bold", pad=12)
    axis.set_xlabel(score, color=colour, fontsize=25, fontweight="bold", labelpad=10)


def main() -> None:
    """Compute the masks and draw the picture."""
    probs = faint_object()
    truths = draw(probs, DRAWS)
    cut = probs > 0.5
    best = RankSEG("dice", "multilabel")(torch.from_numpy(probs)[None, None])[0, 0].numpy()
    for name, mask in (("cut at 0.5", cut), ("RankSEG", best)):
        found = (truths & mask).sum() / truths.sum()
        print(f"{name}: Dice {dice(mask, truths):.3f}, holds {found:.0%} of the object")

    plt.rcParams["font.family"] = "DejaVu Sans"
    figure, axes = plt.subplots(1, 3, figsize=(15, 5.9), facecolor=PAPER)
    axes[0].imshow(probs, cmap="Greys", vmin=0, vmax=0.8, origin="lower")
    axes[0].contour(probs, levels=[0.5], colors=[RED], linewidths=3)
    axes[0].text(25, 14, "0.5", color=RED, fontsize=23, fontweight="bold", ha="left", va="top")
    axes[1].text(1, 1, "dots: the object", color="#57606a", fontsize=19, va="bottom")
    axes[0].set_title("Your network is unsure", color=INK, fontsize=25, fontweight="bold", pad=12)
    axes[0].set_xlabel("probability of each pixel", color=INK, fontsize=21, labelpad=12)
    show(axes[1], cut, truths[0], RED, "Cut at 0.5", f"Dice {dice(cut, truths):.2f}")
    show(axes[2], best, truths[0], BLUE, "RankSEG", f"Dice {dice(best, truths):.2f}")
    for axis in axes:
        axis.set(xticks=[], yticks=[], xlim=(-0.5, 39.5), ylim=(-0.5, 39.5), aspect="equal")
        axis.spines[:].set(color="#c9d1d9", linewidth=1.5)
    figure.tight_layout(w_pad=2.5)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=80)


if __name__ == "__main__":
    main()
