"""Evaluate ways to decide, then print the verdict and write what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankseg.api import RankSEG
from rankseg.calibrator import Calibrator
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
from rankseg.cli.run.pairs import Opened, groups_of, open_pairs, typed
from rankseg.cli.terminal import USAGE, ends_with
from rankseg.cli.typed import numbers
from rankseg.evaluation.comparison import evaluate, names_of_classes
from rankseg.evaluation.file_pairs import NO_LABEL
from rankseg.evaluation.report import notes, write_report
from rankseg.evaluation.tuned import TunedRankSEG
from rankseg.rule import DecisionRule


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
    check_outputs({"--report": (report, ".html"), "--json": (json_file, ".json")}, overwrite)
    with ends_with(USAGE, ValueError):
        metric, empty = checked(scores)
    opened = open_pairs(asked)
    with ends_with(USAGE, ValueError, TypeError, OSError):
        check_background(scores, opened)
        names = names_of_classes(class_names and class_names.split(","), opened.classes)
        contenders = _solvers(solvers, couplings, scores, opened, asked, calibrator)
        for kind, load, paths in (
            ("tuned", TunedRankSEG.load, tuned),
            ("rule", DecisionRule.load, rules),
        ):
            contenders |= _from_files(kind, load, paths, contenders)
    with working(opened, "evaluating") as (visits, written):
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
        write(report, lambda path: write_report(found, path, named), written)
        write(json_file, found.save, written)
    show(tables.of_evaluation(found), written)
    conclude(found.skipped)


def _solvers(
    given: Sequence[str] | None,
    couplings: Sequence[float],
    scores: ScoreOptions,
    opened: Opened,
    asked: PairOptions,
    calibrator: Path | None,
) -> dict[str, Any]:
    """A RankSEG for each solver and, if there is a calibrator, each with that as well."""
    metric, _ = checked(scores)
    labels = opened.output_mode == "multiclass"
    options: dict[str, dict[str, Any]] = {}
    usual = ("argmax", "argmax") if labels else ("0.5", "TR")
    for name in given if given is not None else [] if metric == "acc" else ["RMA"]:
        options[name] = {"solver": name}
    for number in couplings:
        options[f"coupled {number:g}"] = {"solver": "coupled", "coupling": number}
    for one in options.values():
        one |= {"metric": metric}
        one |= {"pruning_prob": numbers("--pruning-prob", scores.pruning_prob)}
        if labels and not scores.include_background:
            one |= {"include_background": False}
    if calibrator is not None:
        fitted = _loaded(Calibrator.load, calibrator)
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
        found[name] = _loaded(load, path)
    return found


def _loaded(load: Callable[[Path], Any], path: Path) -> Any:
    with ends_with(USAGE, ValueError, TypeError, OSError, of_options=False):
        return load(path)
