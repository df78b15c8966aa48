"""``rankseg evaluate``, ``tune`` and ``calibrate``: their options. The work is done elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rankseg.options import (
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
    PairOptions,
    Probs,
    Pruning,
    Report,
    Scale,
    ScoreOptions,
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

    PROBS are files as predict reads them, or a zarr (pip install "rankseg[dask]"); LABELS are
    arrays of integers or bool, PNG (grey or with a palette), NIfTI, GeoTIFF or a zarr. Pairs are
    read one at a time. Pixels of a GeoTIFF without data are left out, and named. The exit code is
    1 if a pair could not be used, 2 for options that make no sense.
    """
    from rankseg.evaluation.command import run_evaluate

    pairs = PairOptions(
        probs=probs,
        labels=labels,
        key=key,
        label_key=label_key,
        channel_axis=channel_axis,
        batched=batched,
        activation=activation.value,
        scale=scale,
        max_bytes=max_bytes,
        match=match,
        allow_unpaired=allow_unpaired,
        label_values=label_values,
        ignore_index=ignore_index,
        nifti_order=nifti_order and nifti_order.value,
        ignore_place=ignore_place,
        output_mode=output_mode,
        on_error=on_error.value,
    )
    scores = ScoreOptions(
        metric=metric,
        aggregation=aggregation.value,
        include_background=include_background,
        empty=empty,
        group_by=group_by,
        pruning_prob=pruning_prob,
    )
    run_evaluate(
        pairs,
        scores,
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
    from rankseg.evaluation.command import run_tune

    pairs = PairOptions(
        probs=probs,
        labels=labels,
        key=key,
        label_key=label_key,
        channel_axis=channel_axis,
        batched=batched,
        activation=activation.value,
        scale=scale,
        max_bytes=max_bytes,
        match=match,
        allow_unpaired=allow_unpaired,
        label_values=label_values,
        ignore_index=ignore_index,
        nifti_order=nifti_order and nifti_order.value,
        ignore_place=ignore_place,
        output_mode=output_mode,
        on_error=on_error.value,
    )
    scores = ScoreOptions(
        metric=metric,
        aggregation=aggregation.value,
        include_background=include_background,
        empty=empty,
        group_by=group_by,
        pruning_prob=pruning_prob,
    )
    run_tune(
        pairs,
        scores,
        given={"solvers": solvers, "couplings": couplings, "calibrations": calibrations},
        thresholds=thresholds,
        folds=folds,
        confidence=confidence,
        output=output,
        report=report,
        overwrite=overwrite,
    )


def calibrate(
    probs: Probs,
    labels: Labels,
    output: Annotated[
        Path,
        typer.Option(
            metavar="FILE.json",
            help="The calibrator, for predict --calibrator and Calibrator.load.",
            show_default=False,
        ),
    ],
    method: Annotated[
        str,
        typer.Option(
            metavar="temperature|class_temperature|vector|isotonic",
            help="One temperature, one for each class, one with an offset for each class, or any "
            "rising function (needs scikit-learn, and many images).",
        ),
    ] = "temperature",
    ignore_index: IgnoreIndex = None,
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
    """Fit a calibrator: a map of probabilities under which the labels are most likely.

    Give it images that the model was not trained on. Files are those of evaluate.
    """
    from rankseg.evaluation.command import run_calibrate

    pairs = PairOptions(
        probs=probs,
        labels=labels,
        key=key,
        label_key=label_key,
        channel_axis=channel_axis,
        batched=batched,
        activation=activation.value,
        scale=scale,
        max_bytes=max_bytes,
        match=match,
        allow_unpaired=allow_unpaired,
        label_values=label_values,
        ignore_index=ignore_index,
        nifti_order=nifti_order and nifti_order.value,
        ignore_place=ignore_place,
        output_mode=output_mode,
        on_error=on_error.value,
    )
    run_calibrate(pairs, method=method, output=output, overwrite=overwrite)
