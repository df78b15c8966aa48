"""One picture of a comparison, for reading at a glance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rankseg._require import require
from rankseg.demo.compare import Comparison, Outcome
from rankseg.demo.photo import Photo
from rankseg.demo.scores import Mask
from rankseg.files import atomic_write

# Okabe and Ito's palette, which stays distinct for colour-blind readers: right is blue, wrong red
# or yellow, whatever the panel.
TRUTH, MASK, KEPT = "#E69F00", "#009E73", "#999999"
CHANGES = {  # key of Comparison.changes: colour, words
    "gained_right": ("#0072B2", "gained, right"),
    "gained_wrong": ("#D55E00", "gained, wrong"),
    "lost_right": ("#56B4E9", "lost, right"),
    "lost_wrong": ("#F0E442", "lost, wrong"),
}
SIZE = (16, 11.2)  # inches: three 4:3 panels side by side, room for titles and legends
MARGINS = {"left": 0.012, "right": 0.988, "top": 0.865, "bottom": 0.1}
GAPS = {"wspace": 0.04, "hspace": 0.31}  # of a panel

RGB = npt.NDArray[np.float64]


def save_figure(
    path: Path, photo: Photo, probs: npt.NDArray[np.float32], comparison: Comparison
) -> None:
    """Write a PNG: photo, ground truth, both masks, what changed, and the probabilities.

    Parameters
    ----------
    path : Path
        Replaced if it exists; whole or not at all.
    photo : Photo
        What the network saw.
    probs : ndarray, float32 (H, W)
        What it said.
    comparison : Comparison
        What was made of it.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    OSError
        If the file cannot be written.
    """
    figure = require("matplotlib.figure", "demo").Figure(figsize=SIZE)
    figure.suptitle(_headline(comparison), fontsize=27, fontweight="bold", y=0.975)
    axes = figure.subplots(2, 3, gridspec_kw={**MARGINS, **GAPS}).ravel()
    grey = _pale(photo.rgb)
    _show(axes[0], "Photo", photo.rgb)
    _probabilities(axes[1], probs, comparison)
    _show(axes[2], f"Ground truth: {photo.persons} persons", _tint(grey, photo.truth, TRUTH))
    _mask(axes[3], grey, comparison, comparison.cut)
    _mask(axes[4], grey, comparison, comparison.rankseg)
    _changes(axes[5], grey, comparison)
    atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=110))


def _headline(comparison: Comparison) -> str:
    before, after = (one.score(comparison.metric) for one in (comparison.cut, comparison.rankseg))
    name = comparison.score_name
    if not comparison.changed:
        return f"Same probabilities, same mask: {name} {before:.3f}"
    return f"Same probabilities, another mask: {name} {before:.3f} → {after:.3f}"


def _show(axes: Any, title: str, image: npt.NDArray[Any]) -> None:
    axes.imshow(image)
    axes.set_title(title, fontsize=22, pad=9)
    axes.set_axis_off()


def _pale(rgb: npt.NDArray[np.uint8]) -> RGB:
    """Light grey copy, on which colours stand out."""
    grey: RGB = 0.45 + 0.55 * rgb.mean(axis=2, keepdims=True) / 255
    pale: RGB = np.repeat(grey, 3, axis=2)
    return pale


def _tint(image: RGB, mask: Mask, colour: str, strength: float = 0.65) -> RGB:
    paint = np.array(require("matplotlib.colors", "demo").to_rgb(colour))
    tinted: RGB = image.copy()
    tinted[mask] = (1 - strength) * image[mask] + strength * paint
    return tinted


def _mask(axes: Any, grey: RGB, comparison: Comparison, outcome: Outcome) -> None:
    score = outcome.score(comparison.metric)
    title = f"{outcome.name}: {comparison.score_name} {score:.3f}"
    _show(axes, title, _tint(grey, outcome.mask, MASK))
    axes.contour(comparison.truth, [0.5], colors="black", linewidths=1.3)
    line = require("matplotlib.lines", "demo").Line2D
    _legend(axes, [line([], [], color="black", label="outline of the ground truth")])


def _legend(axes: Any, handles: list[Any]) -> None:
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=2,
        fontsize=15,
        frameon=False,
        handlelength=1.0,
        columnspacing=1.0,
    )


def _changes(axes: Any, grey: RGB, comparison: Comparison) -> None:
    patch = require("matplotlib.patches", "demo").Patch
    kept, truth = comparison.cut.mask & comparison.rankseg.mask, comparison.truth
    parts = {
        "gained_right": comparison.gained & truth,
        "gained_wrong": comparison.gained & ~truth,
        "lost_right": comparison.lost & ~truth,
        "lost_wrong": comparison.lost & truth,
    }
    image = _tint(grey, kept, KEPT, 0.6)
    handles = []
    for name, count in comparison.changes().items():
        colour, words = CHANGES[name]
        image = _tint(image, parts[name], colour, 1.0)
        if count:
            handles.append(patch(color=colour, label=f"{words} {count:,}"))
    _show(axes, "What changed, in pixels", image)
    _legend(axes, [*handles, patch(color=KEPT, label="in both")])


def _probabilities(axes: Any, probs: npt.NDArray[np.float32], comparison: Comparison) -> None:
    _show(axes, "Probability of a person", probs)
    picture = axes.get_images()[0]
    picture.set(cmap="cividis", clim=(0, 1))
    bar = axes.figure.colorbar(
        picture, cax=axes.inset_axes((0.06, -0.075, 0.88, 0.045)), orientation="horizontal"
    )
    bar.set_ticks([])
    for end, side in ((-0.01, "right"), (1.01, "left")):
        bar.ax.text(end, 0.5, round(end), ha=side, va="center", fontsize=15)
    _thresholds(bar.ax, comparison)


def _thresholds(axes: Any, comparison: Comparison) -> None:
    """Mark both cuts on the colour bar; the labels point away from each other."""
    low, high = sorted((comparison.cut, comparison.rankseg), key=lambda one: one.threshold)
    for outcome, side, shift in ((low, "right", -0.008), (high, "left", 0.008)):
        known = outcome is comparison.cut
        label = outcome.name if known else f"{outcome.name} {outcome.threshold:.2f}"
        axes.axvline(outcome.threshold, color="black", linewidth=5)
        axes.axvline(outcome.threshold, color="white", linewidth=2)
        axes.text(outcome.threshold + shift, -0.35, label, ha=side, va="top", fontsize=15)
