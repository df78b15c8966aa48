"""The command line: each command's options in a module of its name, what it does in ``run``.

Commands read options, call the package and print; no decision is made here. What a command does is
imported when it runs, so that ``--help`` waits for nothing.
"""

from __future__ import annotations

from typing import Annotated

import typer

from rankseg.cli import bench, calibrate, demo, evaluate, predict, tune
from rankseg.cli.terminal import encodable, tell_of_compiling, warn_in_one_line

app = typer.Typer(
    name="rankseg",
    rich_markup_mode="markdown",
    help="Masks and labels with the largest expected Dice or IoU, from the probabilities you have.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from rankseg import __version__

        typer.echo(f"rankseg {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which it is.")
    ] = False,
) -> None:
    """Masks and labels with the largest expected Dice or IoU, from the probabilities you have."""
    encodable()
    warn_in_one_line()
    tell_of_compiling()


for _command in (
    *(demo.demo, predict.predict, bench.bench),
    *(evaluate.evaluate, tune.tune, calibrate.calibrate),
):
    app.command()(_command)
