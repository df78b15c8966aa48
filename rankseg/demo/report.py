"""The comparison in words: a table, a sentence, and the same for machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rankseg.api import RankSEG
from rankseg.demo.compare import Comparison, Outcome
from rankseg.demo.photo import Photo

METRIC_NAMES = {"dice": "Dice", "iou": "IoU", "acc": "accuracy"}


def show(comparison: Comparison, figure: Path) -> None:
    """Print the table, the sentence, and where the figure is."""
    console = Console()
    console.print(table(comparison))
    console.print(sentence(comparison), highlight=False)
    # Not wrapped: a path in two lines cannot be copied.
    console.print(f"Figure: {figure}", highlight=False, markup=False, soft_wrap=True)


def table(comparison: Comparison) -> Table:
    """One row per way to decide; larger is better but for the time."""
    grid = Table(title="Same probabilities, two masks", caption="time: median, on one thread")
    grid.add_column("Decision")
    expected = f"Expected {METRIC_NAMES[comparison.metric]}"
    for name in ("Dice", "IoU", expected, "Volume (pixels)", "Time (ms)"):
        grid.add_column(name, justify="right")
    for one in (comparison.cut, comparison.rankseg):
        scores = (f"{value:.3f}" for value in (one.dice, one.iou, one.expected))
        grid.add_row(one.name, *scores, f"{one.volume:,}", f"{one.milliseconds:.1f}")
    return grid


def sentence(comparison: Comparison) -> str:
    """Say what changed, losses like gains."""
    cut, new, count = comparison.cut, comparison.rankseg, comparison.changes()
    if not comparison.changed:
        return "Nothing changed: RankSEG chose the same pixels as the 0.5 cut."
    parts = [
        f"{verb} {count[kind + '_right'] + count[kind + '_wrong']:,} pixels "
        f"({count[kind + '_right']:,} rightly)"
        for verb, kind in (("added", "gained"), ("dropped", "lost"))
        if count[kind + "_right"] + count[kind + "_wrong"]
    ]
    before, after = cut.score(comparison.metric), new.score(comparison.metric)
    return (
        f"RankSEG cut at {new.threshold:.3f} instead of {cut.threshold:.1f}: it "
        f"{' and '.join(parts)}, and {comparison.score_name} went from {before:.3f} to {after:.3f}."
    )


def as_json(comparison: Comparison, photo: Photo, decide: RankSEG, figure: Path) -> dict[str, Any]:
    """Everything the table and the sentence say, as plain values."""
    height, width = photo.truth.shape
    return {
        "metric": comparison.metric,
        "solver": decide.settings.solver,
        "image": {
            "width": width,
            "height": height,
            "persons": photo.persons,
            "truth_volume": int(photo.truth.sum()),
        },
        "cut": _plain(comparison.cut),
        "rankseg": _plain(comparison.rankseg),
        "changed": comparison.changes(),
        "figure": str(figure),
    }


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "dice": outcome.dice,
        "iou": outcome.iou,
        "expected": outcome.expected,
        "threshold": outcome.threshold,
        "volume": outcome.volume,
        "time_ms": outcome.milliseconds,
    }
