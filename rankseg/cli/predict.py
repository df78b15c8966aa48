"""``rankseg predict``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from rankseg.cli.groups import FileOptions, FolderOptions, RuleOptions, SavedOptions
from rankseg.cli.options import Activation, Aggregation, Solver


class Format(str, Enum):
    """Format of written labels and masks."""

    npy = "npy"
    npz = "npz"
    png = "png"
    nifti = "nii.gz"
    tif = "tif"


def predict(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Files, folders (the known files directly in them) or patterns; with --nnunet "
            "folders of nnU-Net.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(help="Folder for the results; made if missing.", show_default=False),
    ],
    key: Annotated[
        str | None, typer.Option(help="Which array, where a file holds several.")
    ] = None,
    channel_axis: Annotated[
        str,
        typer.Option(
            metavar="INT|none",
            help="Axis of the classes within one image (a batch axis does not count): 0 first, "
            "-1 last, none for a map without one. By default the first; a 2-D image must say, "
            "and one that looks as if its classes were last. "
            "NIfTI: by default the last of four or more. GeoTIFF: the bands.",
        ),
    ] = "first",
    batched: Annotated[
        bool | None,
        typer.Option(
            "--batched/--no-batched",
            help="Whether the first axis counts images. By default it does not; an array of four "
            "or more axes must say, unless --channel-axis is given.",
            show_default=False,
        ),
    ] = None,
    activation: Annotated[
        Activation, typer.Option(help="For logits: softmax over the classes, or sigmoid.")
    ] = Activation.none,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Stored numbers are this many times the probabilities, or logits: 255, 65535. "
            "Integers need it, unless a GeoTIFF or NIfTI file tells its own scale."
        ),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="What to maximise.", metavar="dice|iou|acc|fbeta|tversky")
    ] = "dice",
    alpha: Annotated[
        float | None, typer.Option(help="Weight of false positives (tversky); 0.5 if not given.")
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(
            help="fbeta: how much more recall counts, 1 if not given; tversky: weight of false "
            "negatives, 0.5 if not given."
        ),
    ] = None,
    output_mode: Annotated[
        str,
        typer.Option(
            metavar="multiclass|multilabel", help="One label per pixel, or one mask per class."
        ),
    ] = "multiclass",
    solver: Solver = "RMA",
    smooth: Annotated[
        float, typer.Option(help="Pixels added to the metric's numerator and denominator.")
    ] = 0.0,
    pruning_prob: Annotated[
        str,
        typer.Option(
            metavar="NUMBER|A,B,...",
            help="A class whose largest probability is at most this is skipped; with commas, one "
            "number for each class.",
        ),
    ] = "0.5",
    class_weights: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="How much each class counts in the sum that labels maximise."
        ),
    ] = None,
    include_background: Annotated[
        bool,
        typer.Option(
            "--include-background/--no-include-background",
            help="Whether class 0 counts in that sum.",
        ),
    ] = True,
    empty: Annotated[
        str,
        typer.Option(
            metavar="0|1|nan",
            help="What an absent class with an empty mask scores; nan: it does not count.",
        ),
    ] = "0",
    assignment: Annotated[
        str | None,
        typer.Option(
            metavar="published|ascent",
            help="How masks become labels: the published rule, or labels that climb the sum of "
            "the classes' scores from there. Labels only, and not by argmax.",
        ),
    ] = None,
    unassigned_policy: Annotated[
        str | None,
        typer.Option(
            metavar="max_score|void",
            help="Pixels that no class claims: to the class that gains most, or void. "
            "Labels only, and not by argmax.",
        ),
    ] = None,
    void_index: Annotated[
        int | None, typer.Option(help="Label of void pixels; 255 if not given.")
    ] = None,
    coupling: Annotated[
        float | None,
        typer.Option(
            help="Solver coupled: 0 for independent labels, 1 for labels that move together; 0.5 "
            "if not given."
        ),
    ] = None,
    eps: Annotated[
        float | None,
        typer.Option(help="Probability that BA and TRNA leave out; 1e-4 if not given."),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|A,B,...",
            help="The cut of solver TR, or one for each class; 0.5 if not given.",
        ),
    ] = None,
    aggregation: Annotated[
        Aggregation,
        typer.Option(
            help="image: every image is decided on its own; dataset: one rule for the pixels of "
            "all files together, for metrics that sum counts over a data set."
        ),
    ] = Aggregation.image,
    calibrator: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="Correct the probabilities by what rankseg calibrate saved."
        ),
    ] = None,
    tuned: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Decide as rankseg tune chose, and not otherwise."),
    ] = None,
    rule: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Decide by this saved rule, and nothing else."),
    ] = None,
    save_rule: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Save the rule of --aggregation dataset."),
    ] = None,
    file_format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="npy; npz (key: labels or masks); png for one 2-D result: labels as 8- or "
            "16-bit grey values, a single mask as 0 and 255; nii.gz and tif keep the place of a "
            "NIfTI or GeoTIFF input. By default nii.gz or tif for these, else npy.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Replace results that exist.")
    ] = False,
    expected_score: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv|FILE.json",
            help="Also write a table: expected score, volume, threshold and whether it was "
            "active, for each class of each image. Takes each image into memory.",
        ),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Largest array unpacked into memory (npz, pt, pth, nii.gz, scaled numbers); by "
            "default 32 GiB, or the machine's memory if smaller. .npy and .nii are mapped, tif "
            "read by windows, without a limit.",
        ),
    ] = None,
    nnunet: Annotated[
        bool,
        typer.Option(
            "--nnunet",
            help="Inputs are folders of nnUNetv2_predict --save_probabilities, of which several "
            "are averaged; results are segmentations as nnU-Net writes them.",
        ),
    ] = False,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="nnU-Net: images CASE_0000 or segmentations CASE that tell the place; by default "
            "the segmentations that nnU-Net has written beside the probabilities.",
        ),
    ] = None,
    unpickle: Annotated[
        bool,
        typer.Option(
            "--unpickle",
            help="nnU-Net: take the place from its .pkl files instead. Unpickling runs what a "
            "file holds: only files that you trust.",
        ),
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="nnU-Net: where dataset.json and plans.json are, if not in the input folders.",
        ),
    ] = None,
) -> None:
    """Turn saved probabilities or logits into labels or masks, one file for each input.

    Reads .npy, .npz, .pt, .pth, .safetensors (needs safetensors), NIfTI (.nii, .nii.gz; needs
    nibabel) and GeoTIFF (.tif, .tiff; needs rasterio); nothing is ever unpickled. Results have the
    input's name; labels take the smallest integer type, masks are bool in the input's axis order (0
    and 1 in NIfTI and GeoTIFF). Pixels of a GeoTIFF that lack data in any band (in all, where the
    nodata value may be a probability) count for nothing and get the void label, or 255. Large
    GeoTIFFs take no more memory than small ones when written as GeoTIFF, but for solvers other than
    RMA, coupled, argmax and TR, for --empty and for the table. A file that fails stops no other,
    but with --aggregation dataset; failures are listed at the end and the exit code is 1 (2 for
    options that make no sense). With --nnunet probabilities become segmentations in the image's
    place, regions painted in nnU-Net's order; NIfTI needs nibabel, other formats and --unpickle
    need nnunetv2.
    """
    options = locals()
    from rankseg.cli.run.predict import run_predict

    run_predict(
        context,
        FileOptions.of(options),
        RuleOptions.of(options),
        SavedOptions.of(options),
        FolderOptions.of(options),
    )
