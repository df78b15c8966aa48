"""Options of several commands."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Activation(str, Enum):
    """What turns stored values into probabilities."""

    none = "none"
    softmax = "softmax"
    sigmoid = "sigmoid"


class Aggregation(str, Enum):
    """Over which pixels the metric is taken."""

    image = "image"
    dataset = "dataset"


class OnError(str, Enum):
    """What to do with a pair that cannot be used."""

    skip = "skip"
    stop = "raise"


class NiftiOrder(str, Enum):
    """Order of axes beside a NIfTI file."""

    zyx = "zyx"
    xyz = "xyz"


Probs = Annotated[
    str,
    typer.Argument(
        metavar="PROBS",
        help="A file, folder or pattern of probabilities, or a zarr.",
        show_default=False,
    ),
]
Labels = Annotated[
    str,
    typer.Argument(
        metavar="LABELS",
        help="The same of labels or masks; PNG too.",
        show_default=False,
    ),
]
Key = Annotated[
    str | None, typer.Option(help="Which array of PROBS, where a file or zarr holds several.")
]
LabelKey = Annotated[str | None, typer.Option(help="Which array of LABELS.")]
ChannelAxis = Annotated[
    str,
    typer.Option(
        metavar="INT|none",
        help="Axis of the classes within one image, as for predict; that of masks, too.",
    ),
]
Batched = Annotated[
    bool | None,
    typer.Option(
        "--batched/--no-batched",
        help="Whether the first axis counts images, in PROBS and LABELS. By default it does in a "
        "zarr array given by itself and nowhere else; a file of four or more axes must say.",
        show_default=False,
    ),
]
Activate = Annotated[
    Activation, typer.Option(help="For logits: softmax over the classes, or sigmoid.")
]
Scale = Annotated[
    float | None,
    typer.Option(help="Stored numbers are this many times the probabilities: 255, 65535."),
]
MaxBytes = Annotated[
    int | None,
    typer.Option(min=1, help="Largest array that is unpacked into memory, as for predict."),
]
Match = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="Files belong together in whose paths, without suffix, the first group of this (or "
        "the whole) finds the same. By default files of one name do, suffixes aside; two single "
        "files always do.",
        show_default=False,
    ),
]
AllowUnpaired = Annotated[
    bool,
    typer.Option(
        "--allow-unpaired",
        help="Go on without files that have no partner; they are named. By default they are "
        "listed and nothing is done.",
    ),
]
LabelValues = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="What is stored for class 0, 1, and so on: 0,255 for a mask saved as a picture.",
        show_default=False,
    ),
]
IgnoreIndex = Annotated[
    int | None, typer.Option(help="Label of pixels to leave out of the scores.", show_default=False)
]
Order = Annotated[
    NiftiOrder | None,
    typer.Option(
        help="Beside a NIfTI file: whether the axes of the other are z, y, x (SimpleITK, nnU-Net) "
        "or x, y, z (nibabel). Needed where both fit.",
        show_default=False,
    ),
]
IgnorePlace = Annotated[
    bool,
    typer.Option(
        "--ignore-place",
        help="Do not compare affines (NIfTI), or coordinate systems and transforms (GeoTIFF).",
    ),
]
OutputMode = Annotated[
    str | None,
    typer.Option(
        metavar="multiclass|multilabel",
        help="Labels, or a mask for each class. By default what LABELS look like.",
        show_default=False,
    ),
]
Errors = Annotated[
    OnError,
    typer.Option(
        help="skip: pairs that cannot be used are named and the others counted; raise: the first "
        "one ends the command."
    ),
]
Metric = Annotated[
    str, typer.Option(metavar="dice|iou|acc", help="What to maximise, and judge by.")
]
Solver = Annotated[
    str,
    typer.Option(
        help="How: RMA, exact, auto, coupled, BA, TRNA or BA+TRNA; the usual rules are argmax "
        "(labels) and TR (masks)."
    ),
]
Together = Annotated[
    Aggregation,
    typer.Option(
        help="What is judged: the mean over images, or the score of the whole data set (counts "
        "summed over images, as the mIoU of Cityscapes)."
    ),
]
Background = Annotated[
    bool,
    typer.Option(
        "--include-background/--no-include-background",
        help="Whether class 0 counts in means over classes.",
    ),
]
Empty = Annotated[
    str,
    typer.Option(
        metavar="0|1|nan",
        help="Score of a class that an image neither has nor gets; nan: it does not count.",
    ),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="What images come from, a patient or a film, is what the first group of this (or the "
        "whole) finds in their names. Intervals then are about new ones of these.",
        show_default=False,
    ),
]
Pruning = Annotated[
    str,
    typer.Option(
        metavar="NUMBER|A,B,...",
        help="A class whose largest probability is at most this is skipped, as for predict.",
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.html", help="Write a report: one file, no network.", show_default=False
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite/--no-overwrite", help="Replace files that exist.")
]
