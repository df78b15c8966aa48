"""What the terminal sees besides results: one-line errors, a progress bar, an orderly stop."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TypeVar

import typer

from rankseg.cli.wording import as_typed

FAILED, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143
SHOWN = 5
"""Failures or warnings for one reason that a terminal shows."""

Item = TypeVar("Item")


def fail(message: str, code: int) -> NoReturn:
    """Print one line to stderr and end the command with an exit code."""
    typer.echo(f"rankseg: {plain(' '.join(message.split()))}", err=True)
    raise typer.Exit(code)


@contextmanager
def ends_with(code: int, *kinds: type[Exception], of_options: bool = True) -> Iterator[None]:
    """Show these exceptions as one line, and end the command with the code.

    What is said of the entries of a file, not of options, is shown as it is.
    """
    try:
        yield
    except typer.Exit:  # a RuntimeError; what ends the command has been said
        raise
    except kinds as error:
        from rankseg.files import describe

        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        said = describe(error)
        fail(f"{where}{as_typed(said) if of_options else said}", code)


def plain(text: str) -> str:
    """Text for one line of a terminal: what is not printed in a file's name becomes escapes.

    Names may hold ends of lines, codes that move the cursor, and bytes that are no text.
    """
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode()


def encodable() -> None:
    """Let stdout and stderr write an escape for what their encoding lacks, not end in an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def warn_in_one_line() -> None:
    """Show a warning as one line of ours; who watches sees a few that differ by the file only."""
    said: set[str] = set()
    seen: Counter[str] = Counter()

    def show(message: Warning | str, *where: object, **to: object) -> None:
        text = plain(as_typed(" ".join(str(message).split())))
        if text in said:
            return
        said.add(text)
        kind = text.rpartition(": ")[2]
        seen[kind] += 1
        if seen[kind] == SHOWN + 1 and watched():
            text = "and more files, for the same reason; 2> FILE keeps all"
        if seen[kind] <= SHOWN + 1 or not watched():
            typer.echo(f"rankseg: warning: {text}", err=True)

    warnings.showwarning = show


@contextmanager
def printing() -> Iterator[None]:
    """End the command with one line if stdout takes no more: a full disk, a closed pipe."""
    try:
        yield
    except OSError as error:
        _discard_stdout()
        from rankseg.files import describe

        fail(f"cannot print the result: {describe(error)}", FAILED)


def _discard_stdout() -> None:
    """Drop what stdout still holds, or Python tries once more at its end, with a traceback."""
    if sys.stdout is None:  # closed before we began
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def watched() -> bool:
    """Whether somebody sees what stderr shows."""
    from rich.console import Console

    return Console(stderr=True).is_terminal


class _Compiling(logging.Handler):
    """Says why nothing moves, once."""

    said = False

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, whichever function is compiled."""
        if not self.said:
            typer.echo("rankseg: compiling, once: some ten seconds", err=True)
        self.said = True


def tell_of_compiling() -> None:
    """Tell who watches why the first decision of an installation takes its time."""
    log = logging.getLogger("rankseg.compiling")
    log.handlers = [_Compiling()] if watched() else []
    log.setLevel(logging.INFO if log.handlers else logging.NOTSET)


@contextmanager
def progress(items: Sequence[Item], unit: str) -> Iterator[Iterator[Item]]:
    """Iterate under a progress bar on stderr; silent for one item, or if nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    silent = not console.is_terminal or len(items) < 2
    columns = (unit, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=silent, transient=True) as bar:
        yield iter(bar.track(items))


class Passes:
    """Progress bars on stderr for work that visits its items as often as it needs to.

    A context manager; silent if nobody watches.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Progress(
            *columns, console=console, disable=not console.is_terminal, transient=True
        )

    def __enter__(self) -> Passes:
        """Show it."""
        self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Take it away, whatever happened."""
        self._bar.stop()

    def track(self, items: Iterable[Item], title: str, done: Callable[[], float]) -> Iterator[Item]:
        """Iterate under a bar of its own; `done` tells the share that is done."""
        task = self._bar.add_task(title, total=1.0)
        for item in items:
            yield item
            self._bar.update(task, completed=done())
        self._bar.remove_task(task)


class _Terminated(BaseException):
    """SIGTERM as an exception: files half written are removed on its way out."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


@contextmanager
def stoppable(so_far: Callable[[], str]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the work through its own clean-up, and say how far it got."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt:
        fail(f"interrupted: {so_far()}", INTERRUPTED)
    except _Terminated:
        fail(f"terminated: {so_far()}", TERMINATED)
    finally:
        signal.signal(signal.SIGTERM, before)
