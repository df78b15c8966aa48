"""What was found, for the terminal."""

from __future__ import annotations

import math
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from rankseg.calibrator import Calibrator
from rankseg.evaluation.bootstrap import Estimate
from rankseg.evaluation.result import NAMES, Difference, Evaluation, points
from rankseg.evaluation.tuned import TunedRankSEG

SIGNS = "+ / = / - are images better, the same and worse."
SHOWN = 15
"""Candidates of a tuning that the terminal shows; the report and the JSON have all."""


def of_evaluation(found: Evaluation) -> list[Any]:
    """The verdict, then a table of means over images and one of the whole data set."""
    images = f"{found.images} {'image' if found.images == 1 else 'images'}"
    if found.groups != found.images:
        images += f" in {found.groups} groups"
    means, together = (_scores(found, by_image) for by_image in (True, False))
    means.title, together.title = f"\nMean over {images}", "\nAll images together"
    foot = "Differences are in hundredths, with 95 % intervals; " + SIGNS
    return [f"[bold]{escape(found.verdict)}", means, together, f"[dim]{foot}"]


def _scores(found: Evaluation, by_image: bool) -> Table:
    metrics = list(found.baseline.per_image)
    grid = _table("", *(NAMES.get(name, name) for name in metrics))
    name = NAMES.get(found.metric, found.metric)
    grid.add_column(f"difference in {name}", no_wrap=True)
    if by_image:
        grid.add_column("+ / = / -", justify="right", no_wrap=True)
    for one in found.contenders.values():
        scores = one.per_image if by_image else one.per_dataset
        ahead = (one.difference if by_image else one.dataset_difference)[found.metric]
        cells = [escape(one.title), *(score(scores[metric].value) for metric in metrics)]
        if one is found.baseline:
            grid.add_row(*cells, "")
            continue
        cells.append(interval(ahead.estimate))
        grid.add_row(*cells, *([counts(ahead)] if by_image else []))
    return grid


def of_tuning(found: TunedRankSEG) -> list[Any]:
    """The verdict, and the candidates, best first."""
    name = NAMES.get(found.metric, found.metric)
    grid = _table("", name, title=f"\nCross-validated {name} on {found.images_} images")
    grid.add_column("difference", no_wrap=True)
    grid.add_column("+ / = / -", justify="right", no_wrap=True)
    ranked = sorted(enumerate(found.results_), key=lambda entry: -_number(entry[1].score.value))
    shown = ranked[:SHOWN] + [entry for entry in ranked[SHOWN:] if entry[0] in (0, found.chosen_)]
    for place, one in shown:
        style = "bold" if place == found.chosen_ else ""
        numbers = f"{one.wins} / {one.ties} / {one.losses}"
        cells = ("", "") if place == 0 else (interval(one.difference), numbers)
        grid.add_row(escape(one.title), score(one.score.value), *cells, style=style)
    rest = len(ranked) - len(shown)
    foot = (
        f"Differences are in hundredths; their intervals hold all at once, "
        f"{100 * found.confidence:g} % of the time; {SIGNS}"
    )
    if rest:
        foot += f" {rest} more candidates are in the file and the report."
    return [f"[bold]{escape(found.verdict)}", grid, f"[dim]{foot}"]


def of_calibrator(found: Calibrator) -> list[Any]:
    """What it does, in a sentence."""
    if found.kind == "isotonic":
        sizes = ", ".join(str(len(curve)) for curve in found.points)
        return [f"Isotonic: rising lines through {sizes} points, one number for each class."]
    slopes, offsets = set(found.slope), set(found.offset)
    if len(slopes) == 1 and offsets == {0.0}:
        return [f"[bold]Temperature {1 / found.slope[0]:.3f}: the model {_sure(found.slope[0])}."]
    grid = _table("class", "temperature", "offset")
    for number, (slope, offset) in enumerate(zip(found.slope, found.offset, strict=True)):
        grid.add_row(str(number), f"{1 / slope:.3f}", f"{offset:+.3f}")
    return [grid]


def _sure(slope: float) -> str:
    if abs(slope - 1) < 0.02:
        return "is about as sure as it is right"
    return "is surer than it is right" if slope < 1 else "is less sure than it is right"


def score(value: float) -> str:
    """Four digits, or that there is none."""
    return "none" if math.isnan(value) else f"{value:.4f}"


def interval(one: Estimate) -> str:
    """A difference in hundredths, with its interval if there is one."""
    if math.isnan(one.value):
        return "none"
    if math.isnan(one.low):
        return points(one.value)
    return f"{points(one.value)} ({points(one.low)} to {points(one.high)})"


def counts(one: Difference) -> str:
    """Wins, ties and losses."""
    return f"{one.wins} / {one.ties} / {one.losses}"


def _number(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _table(first: str, *others: str, title: str | None = None) -> Table:
    grid = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # names fit beside the numbers in 80 columns
        pad_edge=False,
    )
    grid.add_column(first, overflow="fold")
    for name in others:
        grid.add_column(name, justify="right")
    return grid
