"""``rankseg tune``."""

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


def tune(
    probs: Probs,
    labels: Labels,
    output: Annotated[
        Path,
        typer.Option(
            metavar="FILE.json",
            help="What was chosen, for predict --tuned and TunedRankSEG.load.",
            show_default=False,
        ),
    ],
    metric: Metric = "dice",
    solvers: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...|none",
            help="Candidates; RMA, exact, BA, TRNA and BA+TRNA if nothing is said. RMA alone is "
            "much faster.",
            show_default=False,
        ),
    ] = None,
    couplings: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...|none",
            help="Couplings of the solver coupled; 0.25, 0.5, 0.75 and 1 if nothing is said.",
            show_default=False,
        ),
    ] = None,
    calibrations: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...|none",
            help="temperature, class_temperature, vector, isotonic; the first, third and fourth "
            "if nothing is said. Isotonic needs scikit-learn.",
            show_default=False,
        ),
    ] = None,
    thresholds: Annotated[
        bool,
        typer.Option("--thresholds/--no-thresholds", help="Whether the best fixed cut is one."),
    ] = True,
    folds: Annotated[int, typer.Option(min=2, help="Of the cross-validation.")] = 5,
    confidence: Annotated[
        float,
        typer.Option(help="How sure it must be that a candidate is better than argmax or 0.5."),
    ] = 0.95,
    report: Report = None,
    aggregation: Together = Aggregation.image,
    include_background: Background = True,
    empty: Empty = "nan",
    ignore_index: IgnoreIndex = None,
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
    """Choose a solver, calibration or cut by cross-validation; argmax or 0.5 is kept in doubt.

    Give it images that the model was not trained on, and others to evaluate. Files are those of
    evaluate; they are visited several times.
    """
    options = locals()
    from rankseg.cli.run.tune import run_tune

    run_tune(
        PairOptions.of(options),
        ScoreOptions.of(options),
        lists={"solvers": solvers, "couplings": couplings, "calibrations": calibrations},
        thresholds=thresholds,
        folds=folds,
        confidence=confidence,
        output=output,
        report=report,
        overwrite=overwrite,
    )
