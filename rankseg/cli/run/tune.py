"""Tune, then print the verdict and write what was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankseg import validation
from rankseg.cli.groups import PairOptions, ScoreOptions
from rankseg.cli.run import tables
from rankseg.cli.run.evaluation import (
    check_background,
    check_outputs,
    checked,
    conclude,
    show,
    working,
    write,
)
from rankseg.cli.run.pairs import groups_of, open_pairs, typed
from rankseg.cli.terminal import USAGE, ends_with
from rankseg.cli.typed import numbers
from rankseg.evaluation.candidates import CALIBRATIONS, COUPLINGS, candidates
from rankseg.evaluation.file_pairs import NO_LABEL
from rankseg.evaluation.report import notes, write_report
from rankseg.evaluation.tuning import tune


def run_tune(
    asked: PairOptions,
    scores: ScoreOptions,
    *,
    lists: Mapping[str, str | None],
    thresholds: bool,
    folds: int,
    confidence: float,
    output: Path,
    report: Path | None,
    overwrite: bool,
) -> None:
    """Tune, then print the verdict and the results, and write what was chosen."""
    check_outputs({"--output": (output, ".json"), "--report": (report, ".html")}, overwrite)
    with ends_with(USAGE, ValueError, TypeError):
        metric, empty = checked(scores)
        validation.number_in_open_interval("--confidence", confidence)
        asked_for = {
            **_lists(lists),
            "thresholds": thresholds,
            "options": {"pruning_prob": numbers("--pruning-prob", scores.pruning_prob)},
        }
    opened = open_pairs(asked)
    with ends_with(USAGE, ValueError, TypeError):
        check_background(scores, opened)
        candidates(metric, opened.output_mode, scores.include_background, **asked_for)
    with working(opened, "visit {}") as (visits, written):
        found = tune(
            visits,
            metric,
            aggregation=scores.aggregation,
            output_mode=opened.output_mode,
            activation=asked.activation,
            **asked_for,
            ignore_index=NO_LABEL,
            include_background=scores.include_background,
            empty=empty,
            groups=groups_of(scores.group_by, opened.pairs),
            folds=folds,
            confidence=confidence,
            on_error=asked.on_error,
        )
        found.skipped_ = typed(found.skipped_)
        named = notes.of_files(opened.alone, opened.pairs.lacking)
        write(output, found.save, written)
        write(report, lambda path: write_report(found, path, named), written)
    show(tables.of_tuning(found), written)
    conclude(found.skipped_)


def _lists(given: Mapping[str, str | None]) -> dict[str, Any]:
    """Candidates of ``tune`` from lists with commas; 'none' is none."""
    found: dict[str, Any] = {}
    usual: dict[str, Any] = {
        "solvers": None,
        "couplings": COUPLINGS,
        "calibrations": CALIBRATIONS,
    }
    for name, text in given.items():
        if text is None:
            found[name] = usual[name]
            continue
        found[name] = [] if text == "none" else text.split(",")
    if given["couplings"] is not None and found["couplings"]:
        found["couplings"] = [float(part) for part in found["couplings"]]
    return found
