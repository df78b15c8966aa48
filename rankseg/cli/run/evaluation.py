"""What evaluate, tune and calibrate share: checks, work that can be stopped, files, printing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from rankseg import validation
from rankseg.cli import typed as words
from rankseg.cli.groups import ScoreOptions
from rankseg.cli.run.pairs import Opened, Visits, tell_skipped, typed
from rankseg.cli.terminal import FAILED, USAGE, Passes, ends_with, plain, printing, stoppable
from rankseg.evaluation.metrics import NAMES
from rankseg.evaluation.pairs import PairError
from rankseg.files import complete_or_absent
from rankseg.files.outputs import check_output


def check_background(scores: ScoreOptions, opened: Opened) -> None:
    """Refuse at once what every image would be refused for."""
    if opened.output_mode == "multiclass":
        validation.background_leaves_a_class(scores.include_background, opened.classes)


def check_outputs(outputs: Mapping[str, tuple[Path | None, str]], overwrite: bool) -> None:
    """Refuse files that could not be written, by the option that names each."""
    with ends_with(USAGE, ValueError, OSError):
        for option, (path, suffix) in outputs.items():
            check_output(option, path, (suffix,), overwrite)


@contextmanager
def working(opened: Opened, title: str) -> Iterator[tuple[Visits, list[Path]]]:
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


def checked(scores: ScoreOptions) -> tuple[str, float | str]:
    """Metric, and what an absent class scores."""
    empty = validation.empty(words.empty(scores.empty), metric="", smooth=0)
    return validation.choice("--metric", scores.metric, NAMES), empty


def write(path: Path | None, write: Callable[[Path], None], written: list[Path]) -> None:
    """Write a file, whole or not at all."""
    if path is not None:
        with complete_or_absent(path) as temporary:
            write(temporary)
        written.append(path)


def show(parts: Sequence[Any], written: Sequence[Path]) -> None:
    """Print sentences and tables, and where the files are."""
    with printing():
        console = Console()
        for part in parts:
            console.print(part, highlight=False)
        for path in written:
            typer.echo(plain(f"wrote {path}"))


def conclude(skipped: Mapping[str, str]) -> None:
    """Name what was not counted; the exit code tells if something is wrong with it."""
    if tell_skipped(skipped):
        raise typer.Exit(FAILED)
