"""From what was typed to what Python takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer

from rankseg.api import RankSEG
from rankseg.cli.terminal import USAGE, ends_with, fail


def decider(**options: Any) -> RankSEG:
    """RankSEG for the options given; a combination that makes no sense is a usage error."""
    with ends_with(USAGE, ValueError, TypeError, NotImplementedError):
        return RankSEG(**{name: value for name, value in options.items() if value is not None})


def numbers(option: str, text: str, *, several: bool = False) -> float | list[float]:
    """One number, or a list where there are commas or several are asked for."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        fail(f"{option} must be a number or numbers with commas between; got {text!r}", USAGE)
    return found if several or "," in text else found[0]


def empty(text: str) -> int | str:
    """What an absent class scores; a word that makes no sense is told where it is used."""
    return int(text) if text in ("0", "1") else text


def given(context: typer.Context, names: Iterable[str]) -> list[str]:
    """Those of the options that were typed, as they are typed."""
    sources = {name: context.get_parameter_source(name) for name in names}
    typed = (
        "format" if name == "file_format" else name.replace("_", "-")
        for name, source in sources.items()
        if source is not None and source.name == "COMMANDLINE"  # click's enum, or typer's copy
    )
    return sorted(f"--{name}" for name in typed)
