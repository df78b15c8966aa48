"""``rankseg evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rankseg.cli.groups import PairOptions, ScoreOptions
from rankseg.cli.options import (
    Activate,
    Activation,
    Aggregation,
    AllowUnpaired,
    Background,
    Batched,
    ChannelAxis,
    Empty,
    Errors,
    GroupBy,
    IgnoreIndex,
    IgnorePlace,
    Key,
    LabelKey,
    Labels,
    LabelValues,
    Match,
    MaxBytes,
    Metric,
    OnError,
    Order,
    OutputMode,
    Overwrite,
    Probs,
    Pruning,
    Report,
    Scale,
    Together,
)


def evaluate(
    probs: Probs,
    labels: Labels,
    metric: Metric = "dice",
    solver: Annotated[
        list[str] | None,
        typer.Option(
            help="What is compared with argmax (labels) or TR, the 0.5 cut (masks): RMA, exact, "
            "auto, coupled, BA, TRNA or BA+TRNA. May be repeated; RMA if nothing is said.",
            show_default=False,
        ),
    ] = None,
    coupling: Annotated[
        list[float] | None,
        typer.Option(
            help="Compare the solver coupled with this coupling, too, 0 to 1. May be repeated.",
            show_default=False,
        ),
    ] = None,
    tuned: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.json", help="Compare what rankseg tune saved.", show_default=False
        ),
    ] = None,
    rule: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.json", help="Compare a rule that predict saved.", show_default=False
        ),
    ] = None,
    calibrator: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Compare every solver, and argmax, with this calibrator as well.",
            show_default=False,
        ),
    ] = None,
    report: Report = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE.json", help="Write all numbers.", show_default=False),
    ] = None,
    aggregation: Together = Aggregation.image,
    include_background: Background = True,
    empty: Empty = "nan",
    ignore_index: IgnoreIndex = None,
    class_names: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="One for each class.", show_default=False)
    ] = None,
    group_by: GroupBy = None,
    pruning_prob: Pruning = "0.5",
    output_mode: OutputMode = None,
    activation: Activate = Activation.none,
    key: Key = None,
    label_key: LabelKey = None,
    label_values: LabelValues = None,
    channel_axis: ChannelAxis = "first",
    batched: Batched = None,
    scale: Scale = None,
    match: Match = None,
    allow_unpaired: AllowUnpaired = False,
    nifti_order: Order = None,
    ignore_place: IgnorePlace = False,
    on_error: Errors = OnError.skip,
    overwrite: Overwrite = False,
    max_bytes: MaxBytes = None,
) -> None:
    """Does it help? Score argmax, or the 0.5 cut, and RankSEG on images with ground truth.

    PROBS are files as predict reads them, or a zarr (needs zarr); LABELS are arrays of integers or
    bool, PNG (grey or with a palette), NIfTI, GeoTIFF or a zarr. Pairs are read one at a time.
    Pixels of a GeoTIFF without data are left out, and named. The exit code is 1 if a pair could not
    be used, 2 for options that make no sense.
    """
    options = locals()
    from rankseg.cli.run.evaluate import run_evaluate

    run_evaluate(
        PairOptions.of(options),
        ScoreOptions.of(options),
        solvers=solver,
        couplings=coupling or [],
        tuned=tuned or [],
        rules=rule or [],
        calibrator=calibrator,
        class_names=class_names,
        report=report,
        json_file=json_file,
        overwrite=overwrite,
    )
