"""Fit a calibrator and write it."""

from __future__ import annotations

from pathlib import Path

from rankseg import validation
from rankseg.cli.groups import PairOptions
from rankseg.cli.run import tables
from rankseg.cli.run.evaluation import check_outputs, conclude, show, working, write
from rankseg.cli.run.pairs import open_pairs, typed
from rankseg.cli.terminal import USAGE, ends_with
from rankseg.evaluation import calibration
from rankseg.evaluation.calibration import METHODS
from rankseg.evaluation.file_pairs import NO_LABEL
from rankseg.evaluation.images import Images


def run_calibrate(asked: PairOptions, *, method: str, output: Path, overwrite: bool) -> None:
    """Fit a calibrator and write it."""
    check_outputs({"--output": (output, ".json")}, overwrite)
    with ends_with(USAGE, ValueError):
        method = validation.choice("--method", method, METHODS)
    opened = open_pairs(asked)
    with working(opened, "visit {}") as (visits, written):
        images = Images.of(visits, opened.output_mode, asked.activation, NO_LABEL, asked.on_error)
        found = calibration.fit(images, method, folds=0, fold_of=lambda name: -1)[0]
        write(output, found.save, written)
    show(tables.of_calibrator(found), written)
    conclude(typed(images.skipped.reasons))
