"""Runs the console blocks of pages: ``rankseg`` for real, of other programs what can be checked."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from rankseg.cli import app

if TYPE_CHECKING:
    from pages import Block, Page

ROOT = Path(__file__).parents[1]


def commands(code: str) -> Iterator[str]:
    """Commands without comments, continued lines joined: those after ``$``, or all of a block."""
    joined = re.sub(r"\s*\\\n\s*", " ", code).splitlines()
    lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in joined]
    prompted = [line[2:] for line in lines if line.startswith("$ ")]
    yield from prompted or filter(None, lines)


def run_console(page: Page, block: Block) -> None:
    """Each command in its turn."""
    for line in commands(block.code):
        words = shlex.split(line)
        if words[:3] == ["python", "-m", "rankseg"]:
            words = words[2:]
        if {line, words[0]} & set(page.not_run):
            parsed(words)
        elif words[0] == "rankseg":
            page.printed[line] = rankseg(words[1:])
        elif words[0] in page.commands:
            page.commands[words[0]](words[1:])
        else:
            assert words[0] in CHECKS, f"{page.path.name}: no test runs {line!r}"
            CHECKS[words[0]](words[1:])


def rankseg(arguments: Sequence[str]) -> str:
    """What the command prints; it has to succeed."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, (arguments, done.output)
    return done.output


def parsed(words: Sequence[str]) -> None:
    """If it is ours, its options are there, though it is not run."""
    if words[0] == "rankseg":
        group = typer.main.get_command(app)
        group.commands[words[1]].make_context(words[1], list(words[2:]))


def options() -> set[str]:
    """Every option of every command."""
    group = typer.main.get_command(app)
    return {
        name
        for command in (group, *group.commands.values())
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help"}


def extras() -> set[str]:
    """What may stand in ``rankseg[...]``."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return set(table["project"]["optional-dependencies"])


def _pip(arguments: Sequence[str]) -> None:
    """Of this package only extras are asked for that it has."""
    assert arguments[0] == "install"
    for found in re.findall(r"(?:rankseg|\.)\[([^\]]*)\]", " ".join(arguments)):
        assert set(found.split(",")) <= extras(), f"no such extra: {found}"


def _make(arguments: Sequence[str]) -> None:
    """The target is there; what it does is the business of .ci/run."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert arguments[0] in targets, f"no target {arguments[0]} in the Makefile"


def _python(arguments: Sequence[str]) -> None:
    """Files and modules are there: examples have tests, docs/*.py take minutes."""
    if arguments[0] == "-m" and arguments[1] not in ("pytest", "sphinx"):
        assert importlib.util.find_spec(arguments[1]), arguments
    for name in arguments:
        if name.endswith((".py", ".md")):
            assert (ROOT / name).is_file(), f"{name} is not there"


CHECKS = {"make": _make, "pip": _pip, "python": _python, "python3": _python}
