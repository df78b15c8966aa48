"""The command line in this process, with what it must never do checked."""

from __future__ import annotations

from typer.testing import CliRunner

from rankseg.cli import app


def command(*arguments: object) -> tuple[int, str]:
    """Exit code and all that was printed; an exception of the command is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output
