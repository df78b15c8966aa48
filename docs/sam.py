"""Draw docs/sam.png: what over-confidence costs, and what the temperature gives back.

No trained network is used: an object gets probabilities, truths are drawn from them, and the
logits handed to RankSEG are three times too large, as those of an over-confident model are. Run:
python docs/sam.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from rankseg_integrations.sam import RankSEGThreshold

EXCESS = 3.0
DRAWS = 400
BLUE, ORANGE = "#0072b2", "#d55e00"


def honest_logits(size: int = 96) -> torch.Tensor:
    """A body with a hazy end, (H, W); its sigmoid is the share of truths that hold a pixel."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    body = 9 * (0.4 - ((x + 0.45) ** 2 + y**2).sqrt())
    haze = -0.7 - 6 * (((x - 0.35) / 1.6) ** 2 + y**2)
    return torch.maximum(body, haze)


def mean_dice(mask: torch.Tensor, truths: torch.Tensor) -> float:
    """Dice of one mask (H, W), averaged over truths (N, H, W)."""
    overlap = (mask & truths).sum((1, 2))
    return (2 * overlap / (mask.sum() + truths.sum((1, 2)))).mean().item()


def main() -> None:
    """Draw truths, fit the temperature on half of them, score on the other half."""
    generator = torch.Generator().manual_seed(0)
    probs = honest_logits().sigmoid()
    truths = torch.rand(DRAWS, *probs.shape, generator=generator) < probs
    fitted_on, scored_on = truths.chunk(2)
    logits = EXCESS * honest_logits()

    temperatures = torch.linspace(0.5, 6, 111).tolist()
    losses = [
        F.binary_cross_entropy_with_logits(
            (logits / value).expand_as(fitted_on), fitted_on.float()
        ).item()
        for value in temperatures
    ]
    best = temperatures[losses.index(min(losses))]
    masks = [logits > RankSEGThreshold("dice", temperature=value) for value in temperatures]
    scores = [mean_dice(mask, scored_on) for mask in masks]
    shown = {
        "cut at 0": logits > 0,
        "RankSEG, temperature 1": logits > RankSEGThreshold("dice"),
        f"RankSEG, temperature {best:.2f}": logits > RankSEGThreshold("dice", temperature=best),
    }
    for name, mask in shown.items():
        print(f"{name:26} mean Dice {mean_dice(mask, scored_on):.3f}, {mask.sum():,} pixels")

    plt.rcParams.update({"font.size": 12})
    figure, axes = plt.subplots(
        1, 5, figsize=(18, 4.4), width_ratios=[1, 1, 1, 1, 1.6], layout="compressed"
    )
    axes[0].imshow(truths[0], cmap="Greys_r")
    axes[0].set_title("one of the truths")
    for axis, (name, mask), colour in zip(
        axes[1:4], shown.items(), (ORANGE, BLUE, BLUE), strict=True
    ):
        axis.imshow(probs, cmap="Greys", vmin=0, vmax=1.3)
        axis.contourf(mask, levels=[0.5, 1.5], colors=[colour], alpha=0.55)
        axis.set_title(f"{name}\nmean Dice {mean_dice(mask, scored_on):.3f}", color=colour)
    for axis in axes[:4]:
        axis.set_xticks([])
        axis.set_yticks([])
    axes[4].plot(temperatures, scores, color=BLUE, lw=3, label="RankSEG")
    axes[4].axhline(mean_dice(logits > 0, scored_on), color=ORANGE, lw=3, label="cut at 0")
    axes[4].axvline(best, color="0.4", ls=":", label="fitted")
    axes[4].set(xlabel="temperature", ylabel="mean Dice")
    axes[4].spines[["top", "right"]].set_visible(False)
    axes[4].legend(frameon=False, loc="lower left")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=70)


if __name__ == "__main__":
    main()
