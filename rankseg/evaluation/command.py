"""``rankseg evaluate``, ``tune`` and ``calibrate``: check, run, print and write what was found."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from rankseg import validation
from rankseg.api import RankSEG
from rankseg.calibrator import Calibrator
from rankseg.evaluation import calibration, tables
from rankseg.evaluation.calibration import METHODS
from rankseg.evaluation.candidates import CALIBRATIONS, COUPLINGS, candidates
from rankseg.evaluation.comparison import evaluate, names_of_classes
from rankseg.evaluation.file_pairs import NO_LABEL
from rankseg.evaluation.images import Images
from rankseg.evaluation.metrics import NAMES
from rankseg.evaluation.opening import (
    Opened,
    Visits,
    groups_of,
    open_pairs,
    tell_skipped,
    typed,
)
from rankseg.evaluation.pairs import PairError
from rankseg.evaluation.report import notes, write_report
from rankseg.evaluation.tuned import TunedRankSEG
from rankseg.evaluation.tuning import tune
from rankseg.files import complete_or_absent
from rankseg.files.outputs import check_output
from rankseg.options import PairOptions, ScoreOptions
from rankseg.rule import DecisionRule
from rankseg.terminal import FAILED, USAGE, Passes, ends_with, fail, plain, printing, stoppable


def run_evaluate(
    asked: PairOptions,
    scores: ScoreOptions,
    *,
    solvers: Sequence[str] | None,
    couplings: Sequence[float],
    tuned: Sequence[Path],
    rules: Sequence[Path],
    calibrator: Path | None,
    class_names: str | None,
    report: Path | None,
    json_file: Path | None,
    overwrite: bool,
) -> None:
    """Evaluate, then print the verdict and the tables, and write what was asked for."""
    _check_outputs({"--report": (report, ".html"), "--json": (json_file, ".json")}, overwrite)
    with ends_with(USAGE, ValueError):
        metric, empty = _checked(scores)
    opened = open_pairs(asked)
    with ends_with(USAGE, ValueError, TypeError, OSError):
        _check_background(scores, opened)
        names = names_of_classes(class_names and class_names.split(","), opened.classes)
        contenders = _solvers(solvers, couplings, scores, opened, asked, calibrator)
        for kind, load, paths in (
            ("tuned", TunedRankSEG.load, tuned),
            ("rule", DecisionRule.load, rules),
        ):
            contenders |= _from_files(kind, load, paths, contenders)
    with _working(opened, "evaluating") as (visits, written):
        found = evaluate(
            visits,
            contenders,
            metric=metric,
            aggregation=scores.aggregation,
            output_mode=opened.output_mode,
            activation=asked.activation,
            ignore_index=NO_LABEL,
            include_background=scores.include_background,
            empty=empty,
            class_names=names,
            groups=groups_of(scores.group_by, opened.pairs),
            on_error=asked.on_error,
        )
        found = replace(found, skipped=typed(found.skipped))
        named = notes.of_files(opened.alone, opened.pairs.lacking)
        _write(report, lambda path: write_report(found, path, named), written)
        _write(json_file, found.save, written)
    _show(tables.of_evaluation(found), written)
    _conclude(found.skipped)


def run_tune(
    asked: PairOptions,
    scores: ScoreOptions,
    *,
    given: Mapping[str, str | None],
    thresholds: bool,
    folds: int,
    confidence: float,
    output: Path,
    report: Path | None,
    overwrite: bool,
) -> None:
    """Tune, then print the verdict and the results, and write what was chosen."""
    _check_outputs({"--output": (output, ".json"), "--report": (report, ".html")}, overwrite)
    with ends_with(USAGE, ValueError, TypeError):
        metric, empty = _checked(scores)
        validation.number_in_open_interval("--confidence", confidence)
        asked_for = {
            **_lists(given),
            "thresholds": thresholds,
            "options": {"pruning_prob": _numbers("--pruning-prob", scores.pruning_prob)},
        }
    opened = open_pairs(asked)
    with ends_with(USAGE, ValueError, TypeError):
        _check_background(scores, opened)
        candidates(metric, opened.output_mode, scores.include_background, **asked_for)
    with _working(opened, "visit {}") as (visits, written):
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
        _write(output, found.save, written)
        _write(report, lambda path: write_report(found, path, named), written)
    _show(tables.of_tuning(found), written)
    _conclude(found.skipped_)


def run_calibrate(asked: PairOptions, *, method: str, output: Path, overwrite: bool) -> None:
    """Fit a calibrator and write it."""
    _check_outputs({"--output": (output, ".json")}, overwrite)
    with ends_with(USAGE, ValueError):
        method = validation.choice("--method", method, METHODS)
    opened = open_pairs(asked)
    with _working(opened, "visit {}") as (visits, written):
        images = Images.of(visits, opened.output_mode, asked.activation, NO_LABEL, asked.on_error)
        found = calibration.fit(images, method, folds=0, fold_of=lambda name: -1)[0]
        _write(output, found.save, written)
    _show(tables.of_calibrator(found), written)
    _conclude(typed(images.skipped.reasons))


def _check_background(scores: ScoreOptions, opened: Opened) -> None:
    """Refuse at once what every image would be refused for."""
    if opened.output_mode == "multiclass":
        validation.background_leaves_a_class(scores.include_background, opened.classes)


def _check_outputs(outputs: Mapping[str, tuple[Path | None, str]], overwrite: bool) -> None:
    with ends_with(USAGE, ValueError, OSError):
        for option, (path, suffix) in outputs.items():
            check_output(option, path, (suffix,), overwrite)


@contextmanager
def _working(opened: Opened, title: str) -> Iterator[tuple[Visits, list[Path]]]:
    """Pairs that show progress, and a list for files that are complete.

    If the pairs, or Ctrl-C, end the work, one line says so.
    """
    written: list[Path] = []

    def so_far() -> str:
        names = ", ".join(str(path) for path in written)
        return f"{names} is written and complete" if names else "nothing was written"

    trouble = (ValueError, TypeError, OSError, ImportError, RuntimeError, MemoryError)
    with ends_with(FAILED, *trouble), stoppable(so_far), Passes() as passes:
        try:
            yield Visits(opened.pairs, passes, title), written
        except PairError as error:
            ((name, reason),) = typed({error.name: error.reason}).items()
            raise PairError(name, reason) from error


def _solvers(
    given: Sequence[str] | None,
    couplings: Sequence[float],
    scores: ScoreOptions,
    opened: Opened,
    asked: PairOptions,
    calibrator: Path | None,
) -> dict[str, Any]:
    """A RankSEG for each solver and, if there is a calibrator, each with that as well."""
    metric, _ = _checked(scores)
    labels = opened.output_mode == "multiclass"
    options: dict[str, dict[str, Any]] = {}
    usual = ("argmax", "argmax") if labels else ("0.5", "TR")
    for name in given if given is not None else [] if metric == "acc" else ["RMA"]:
        options[name] = {"solver": name}
    for number in couplings:
        options[f"coupled {number:g}"] = {"solver": "coupled", "coupling": number}
    for one in options.values():
        one |= {"metric": metric}
        one |= {"pruning_prob": _numbers("--pruning-prob", scores.pruning_prob)}
        if labels and not scores.include_background:
            one |= {"include_background": False}
    if calibrator is not None:
        fitted = Calibrator.load(calibrator)
        for name, raw in [(usual[0], {"metric": "acc", "solver": usual[1]}), *options.items()]:
            options[f"{name}, calibrated"] = {**raw, "calibrator": fitted}
    common: dict[str, Any] = {
        "output_mode": opened.output_mode,
        "activation": asked.activation,
    }
    return {name: RankSEG(**one, **common) for name, one in options.items()}


def _from_files(
    kind: str, load: Callable[[Path], Any], paths: Sequence[Path], taken: Container[str]
) -> dict[str, Any]:
    """What was saved, called by its kind, or by its file if there are several."""
    names = [kind] if len(paths) == 1 else [path.stem for path in paths]
    found: dict[str, Any] = {}
    for name, path in zip(names, paths, strict=True):
        if name in taken or name in found:
            raise ValueError(f"--{kind}: two contenders are called {name!r}: rename {path}")
        found[name] = load(path)
    return found


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


def _numbers(option: str, text: str) -> float | list[float]:
    """One number, or one for each class."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        fail(f"{option} must be a number or numbers with commas between; got {text!r}", USAGE)
    return numbers if "," in text else numbers[0]


def _checked(scores: ScoreOptions) -> tuple[str, float | str]:
    """Metric, and what an absent class scores."""
    empty = validation.empty(
        int(scores.empty) if scores.empty in ("0", "1") else scores.empty, metric="", smooth=0
    )
    return validation.choice("--metric", scores.metric, NAMES), empty


def _write(path: Path | None, write: Callable[[Path], None], written: list[Path]) -> None:
    """Write a file, whole or not at all."""
    if path is not None:
        with complete_or_absent(path) as temporary:
            write(temporary)
        written.append(path)


def _show(parts: Sequence[Any], written: Sequence[Path]) -> None:
    """Print sentences and tables, and where the files are."""
    with printing():
        console = Console()
        for part in parts:
            console.print(part, highlight=False)
        for path in written:
            typer.echo(plain(f"wrote {path}"))


def _conclude(skipped: Mapping[str, str]) -> None:
    if tell_skipped(skipped):
        raise typer.Exit(FAILED)
