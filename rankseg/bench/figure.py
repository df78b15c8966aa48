"""The run at a glance: every case's times, and cost against size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rankseg._require import require
from rankseg.bench import growth
from rankseg.bench.cases import LABELS, MASKS, OF_LOGITS, PEER, PEER_AUTO
from rankseg.bench.results import Results
from rankseg.files import atomic_write

# Okabe and Ito's palette, and a marker each: readable without colour.
YARDSTICK = ("#000000", "x")
STYLE = {
    LABELS: ("#0072B2", "o"),
    MASKS: ("#009E73", "s"),
    LABELS + OF_LOGITS: ("#56B4E9", "D"),
    PEER_AUTO: ("#E69F00", "^"),
    PEER: ("#D55E00", "v"),
}
SMALL, LARGE = 13, 16


def need() -> None:
    """ImportError, with the pip command, if nothing can be drawn."""
    require("matplotlib.figure", "bench")


def save_figure(path: Path, results: Results) -> None:
    """Write a PNG; replaced if it exists, whole or not at all."""
    sizes = results.growth and results.growth.timings
    panels = [draw for draw, there in ((_cases, results.times), (_growth, sizes)) if there]
    figure = require("matplotlib.figure", "bench").Figure(
        figsize=(8.2 * len(panels), 7.2), layout="constrained"
    )
    for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes, results)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=SMALL)
    figure.suptitle(_headline(results.setup), fontsize=SMALL, color="#555555")
    atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=90))


def _headline(setup: dict[str, Any]) -> str:
    device = setup["processor"] if setup["device"] == "cpu" else setup["device"]
    return f"{device}, torch {setup['versions']['torch']}, {setup['date'][:10]}"


def _cases(axes: Any, results: Results) -> None:
    threads = max(one.threads for one in results.times)
    rows = [one for one in results.times if one.threads == threads and one.seconds]
    shapes = list(dict.fromkeys(one.shape for one in rows))
    for name, (colour, marker) in STYLE.items():
        points = [
            (ratio.median, shapes.index(one.shape))
            for one in rows
            if one.name == name and (ratio := next(iter(one.ratios.values())))
        ]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, marker, color=colour, markersize=10, label=name)
    axes.axvline(1, color="black", linewidth=2)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(shapes)), [shape.replace("x", " x ") for shape in shapes])
    axes.set_ylim(len(shapes) - 0.5, -0.5)
    axes.set_xlabel("time, in units of torch.argmax (one channel: of the 0.5 cut)", fontsize=SMALL)
    counted = "" if results.setup["device"] != "cpu" else f" ({threads} threads)"
    axes.set_title(f"Left of the line: cheaper than argmax{counted}", fontsize=LARGE, loc="left")
    axes.legend(
        fontsize=SMALL, loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=3, frameon=False
    )


def _growth(axes: Any, results: Results) -> None:
    found = results.growth
    assert found is not None
    for name in dict.fromkeys(one.name for one in found.timings):
        colour, marker = STYLE.get(name, YARDSTICK)
        points = [
            (growth.pixels(one.shape), 1e3 * one.seconds.median)
            for one in found.timings
            if one.name == name and one.seconds
        ]
        slope = found.exponents.get(name)
        label = name if slope is None else f"{name}: time ~ pixels^{slope:.2f}"
        axes.plot(*zip(*points, strict=True), marker + "-", color=colour, markersize=9, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("pixels", fontsize=SMALL)
    axes.set_ylabel("milliseconds", fontsize=SMALL)
    axes.set_title("Cost against size, two classes", fontsize=LARGE, loc="left")
    axes.legend(fontsize=SMALL, loc="upper left", frameon=False)
