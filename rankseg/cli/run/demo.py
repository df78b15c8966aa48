"""Compare on one photograph; print and draw what was found."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from rankseg import demo as show
from rankseg.cli.terminal import FAILED, USAGE, ends_with, fail, printing
from rankseg.cli.typed import decider
from rankseg.demo import report


def run_demo(metric: str, solver: str, output: Path, *, as_json: bool) -> None:
    """Compare, draw, then print a table or JSON."""
    if output.suffix.lower() != ".png":
        fail(f"--output must end in .png, got {str(output)!r}", USAGE)
    if not output.parent.is_dir():
        fail(f"--output: there is no folder {output.parent}", USAGE)
    decide = decider(metric=metric, output_mode="multilabel", solver=solver)
    if decide.settings.metric not in report.METRIC_NAMES:
        fail(f"the demo shows {', '.join(report.METRIC_NAMES)}; got --metric {metric}", USAGE)
    with ends_with(FAILED, OSError, ImportError):
        photo = show.load_photo()
        probs = show.person_probabilities(photo.rgb)
        comparison = show.compare(probs, photo.truth, decide)
        show.save_figure(output, photo, probs, comparison)
    with printing():
        if as_json:
            typer.echo(json.dumps(report.as_json(comparison, photo, decide, output.resolve())))
        else:
            report.show(comparison, output.resolve())
