"""Decide files: check the options against each other, then one result for each input."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import typer

from rankseg import batch, files
from rankseg.api import RankSEG
from rankseg.calibrator import Calibrator
from rankseg.cli.groups import FileOptions, FolderOptions, RuleOptions, SavedOptions
from rankseg.cli.terminal import (
    FAILED,
    SHOWN,
    USAGE,
    ends_with,
    fail,
    plain,
    printing,
    progress,
    stoppable,
    watched,
)
from rankseg.cli.typed import decider, empty, given, numbers
from rankseg.cli.wording import as_typed
from rankseg.inputs import Reading
from rankseg.layout import Layout, parse_axis
from rankseg.nnunet import Folders, open_folders
from rankseg.rule import DecisionRule

FILES = {*files.SUFFIXES, *files.LABEL_SUFFIXES, *files.TABLE_SUFFIXES}
"""Suffixes that no new folder has."""
FOLDERS_SAY = {
    *("key", "channel_axis", "batched", "activation", "scale", "output_mode", "file_format"),
}
"""Options that nnU-Net's folders have decided."""


def run_predict(
    context: typer.Context,
    asked: FileOptions,
    how: RuleOptions,
    saved: SavedOptions,
    nnunet: FolderOptions,
) -> None:
    """Decide every input, and tell what was written and what failed."""
    together = how.aggregation == "dataset"
    _refuse_unused(context, saved, asked.expected_score, together)
    folders = _folders(context, asked.inputs, nnunet)
    work = _work(asked, how, saved, folders)
    jobs, missing = _jobs(asked, folders)
    _prepare(asked, folders)
    report = batch.Report(failures=missing)
    with stoppable(report.so_far):
        if together:
            with ends_with(FAILED, *batch.TROUBLE):
                work = batch.decided_together(jobs, work, missing, saved.save_rule)
        with progress(jobs, "deciding") as pending:
            batch.run(pending, work, report)
    if asked.expected_score is not None:
        with ends_with(FAILED, OSError):
            files.write_table(asked.expected_score, batch.COLUMNS, report.rows)
    _conclude(report, asked.output)


def _refuse_unused(
    context: typer.Context, saved: SavedOptions, table: Path | None, together: bool
) -> None:
    """Refuse options that would be ignored."""
    decided = given(context, [field.name for field in fields(RuleOptions)])
    if saved.rule is not None and saved.tuned is not None:
        fail("--rule and --tuned both decide everything: leave one of them out", USAGE)
    for option, path in (("--rule", saved.rule), ("--tuned", saved.tuned)):
        if path is not None and decided:
            fail(f"{option} has decided what {', '.join(decided)} would: leave it out", USAGE)
    if saved.save_rule is not None and not together:
        fail("--save-rule saves the rule of all files together: say --aggregation dataset", USAGE)
    if table is not None and (together or saved.rule is not None):
        fail(
            "--expected-score is the score that each image was decided for, and one rule for all "
            "is not decided for any: leave one of them out",
            USAGE,
        )


def _folders(
    context: typer.Context, inputs: Sequence[str], nnunet: FolderOptions
) -> Folders | None:
    """Folders of nnU-Net, if that is what the inputs are."""
    others = FOLDERS_SAY if nnunet.nnunet else ("reference", "unpickle", "model")
    typed = given(context, others)
    if typed and nnunet.nnunet:
        fail(f"nnU-Net's folders decide what {', '.join(typed)} would: leave it out", USAGE)
    if typed:
        fail(f"{', '.join(typed)} goes with --nnunet", USAGE)
    if not nnunet.nnunet:
        return None
    with ends_with(USAGE, ValueError), ends_with(FAILED, OSError):
        return open_folders(
            [Path(name) for name in inputs],
            model=nnunet.model,
            reference=nnunet.reference,
            unpickle=nnunet.unpickle,
        )


def _work(
    asked: FileOptions, how: RuleOptions, saved: SavedOptions, folders: Folders | None
) -> batch.Work:
    """What is done to every file."""
    decide = _decider(how, folders)
    decide = decide if saved.tuned is None else _tuned(saved.tuned)
    rule = None if saved.rule is None else _rule(saved.rule)
    with ends_with(USAGE, ValueError, OSError):
        axis = parse_axis(asked.channel_axis)
        batch.check_scale(asked.scale)
        batch.check_rule_file(saved.save_rule, asked.overwrite)
        if folders is not None:
            folders.check_mode((rule or decide.settings).output_mode)
    at_once = asked.expected_score is not None or not batch.takes_tiles(decide)
    reading = Reading(
        layout=Layout(axis, asked.batched),
        masks=batch.masks(rule or decide),
        void_index=batch.void_index(rule or decide),
        probabilities=(rule or decide.settings).activation == "none",
        key=asked.key,
        max_bytes=asked.max_bytes,
        scale=asked.scale,
        whole=rule is None and at_once,
    )
    return batch.Work(decide=decide, reading=reading, rule=rule, overwrite=asked.overwrite)


def _decider(how: RuleOptions, folders: Folders | None) -> RankSEG:
    """RankSEG for the options; nnU-Net's folders know what their probabilities are."""
    weights, threshold = how.class_weights, how.threshold
    options = vars(how) | {
        "pruning_prob": numbers("--pruning-prob", how.pruning_prob),
        "class_weights": weights and numbers("--class-weights", weights, several=True),
        "threshold": threshold and numbers("--threshold", threshold),
        "empty": empty(how.empty),
        "calibrator": how.calibrator and _calibrator(how.calibrator),
    }
    if folders is not None:
        options["output_mode"] = folders.output_mode
    return decider(**options)


def _calibrator(path: Path) -> Calibrator:
    with ends_with(USAGE, ValueError, OSError, of_options=False):
        return Calibrator.load(path)


def _rule(path: Path) -> DecisionRule:
    with ends_with(USAGE, ValueError, OSError, of_options=False):
        return DecisionRule.load(path)


def _tuned(path: Path) -> RankSEG:
    """What tune chose; a file that is none is a usage error."""
    from rankseg.evaluation.tuned import TunedRankSEG

    with ends_with(USAGE, ValueError, TypeError, OSError, of_options=False):
        return TunedRankSEG.load(path).best_


def _jobs(asked: FileOptions, folders: Folders | None) -> tuple[list[batch.Job], dict[str, str]]:
    """What to do, and inputs that are not there."""
    if files.suffix_of(asked.output) in FILES and not asked.output.is_dir():
        fail(
            f"--output is the folder for the results, and {asked.output} is called like a file: "
            "name a folder; results have the names of their inputs",
            USAGE,
        )
    with ends_with(USAGE, ValueError):
        if folders is not None:
            return folders.jobs(asked.output)
        sources, missing = files.find_inputs(asked.inputs, files.SUFFIXES)
        return batch.plan(sources, asked.output, asked.file_format), missing


def _prepare(asked: FileOptions, folders: Folders | None) -> None:
    """Make the folder, and find out whether the table can be written."""
    with ends_with(FAILED, OSError):
        asked.output.mkdir(parents=True, exist_ok=True)
    with ends_with(USAGE, ValueError):
        batch.check_table(asked.expected_score, asked.overwrite)
        if folders is not None:
            with ends_with(FAILED, OSError):
                folders.copy_definitions(asked.output, asked.overwrite)


def _conclude(report: batch.Report, output: Path) -> None:
    """Say what was written, then one line for each failure."""
    count = len(report.written)
    try:
        with printing():
            typer.echo(plain(f"wrote {count} {'file' if count == 1 else 'files'} to {output}"))
    finally:
        _tell(report.failures)
    if report.failures:
        raise typer.Exit(FAILED)


def _tell(failures: Mapping[str, str]) -> None:
    """One line for each failure; who watches sees a few of each kind, and how many more."""
    seen: Counter[str] = Counter()
    few = watched()
    for name, reason in failures.items():
        kind = re.sub(r"\d[\d.e+-]*", "0", reason)  # numbers apart, reasons are the same
        seen[kind] += 1
        if not few or seen[kind] <= SHOWN:
            typer.echo(plain(f"failed: {name}: {as_typed(reason)}"), err=True)
    more = sum(max(count - SHOWN, 0) for count in seen.values())
    if few and more:
        typer.echo(f"failed: {more:,} more, for the same reasons; 2> FILE keeps all", err=True)
