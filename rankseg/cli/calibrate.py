"""``rankseg calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rankseg.cli.groups import PairOptions
from rankseg.cli.options import (
    Activate,
    Activation,
    AllowUnpaired,
    Batched,
    ChannelAxis,
    Errors,
    IgnoreIndex,
    IgnorePlace,
    Key,
    LabelKey,
    Labels,
    LabelValues,
    Match,
    MaxBytes,
    OnError,
    Order,
    OutputMode,
    Overwrite,
    Probs,
    Scale,
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
    options = locals()
    from rankseg.cli.run.calibrate import run_calibrate

    run_calibrate(PairOptions.of(options), method=method, output=output, overwrite=overwrite)
