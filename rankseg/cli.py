"""The command line: reads options, calls the package, prints. No decision is made here.

Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankseg.cli_evaluate import calibrate, evaluate, tune
from rankseg.options import Activation, Aggregation
from rankseg.terminal import (
    FAILED,
    USAGE,
    encodable,
    ends_with,
    fail,
    plain,
    printing,
    progress,
    stoppable,
)

if TYPE_CHECKING:
    from rankseg.api import RankSEG
    from rankseg.batch import Report
    from rankseg.calibrator import Calibrator
    from rankseg.nnunet import Folders
    from rankseg.rule import DecisionRule

app = typer.Typer(
    name="rankseg",
    rich_markup_mode="markdown",
    help="Masks and labels with the largest expected Dice or IoU, from the probabilities you have.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Maps(str, Enum):
    """How the benchmark's probabilities are made."""

    noise = "noise"
    smooth = "smooth"


class Device(str, Enum):
    """Where the benchmark's probabilities lie."""

    cpu = "cpu"
    cuda = "cuda"


class Format(str, Enum):
    """Format of written labels and masks."""

    npy = "npy"
    npz = "npz"
    png = "png"
    nifti = "nii.gz"
    tif = "tif"


DECIDED = {
    *("metric", "alpha", "beta", "output_mode", "solver", "smooth", "pruning_prob", "assignment"),
    *("unassigned_policy", "void_index", "coupling", "eps", "threshold", "activation"),
    *("aggregation", "class_weights", "include_background", "empty", "calibrator"),
}
"""Options of predict that a saved rule, or what tune saved, has decided."""

FOLDERS_SAY = {
    *("key", "channel_axis", "batched", "activation", "scale", "output_mode", "file_format"),
}
"""Options of predict that nnU-Net's folders have decided."""


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


Metric = Annotated[str, typer.Option(help="What to maximise.", metavar="dice|iou|acc")]
Solver = Annotated[
    str,
    typer.Option(
        help="How: RMA, exact, auto, coupled, BA, TRNA or BA+TRNA; the usual rules are argmax "
        "(labels) and TR (masks)."
    ),
]


@app.command()
def demo(
    metric: Metric = "dice",
    solver: Solver = "RMA",
    output: Annotated[
        Path, typer.Option(help="PNG to write; replaced if it exists.", metavar="PATH.png")
    ] = Path("rankseg-demo.png"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Compare the 0.5 cut and RankSEG: a real network on a real photograph with ground truth.

    Needs pip install "rankseg[demo]". One photograph shows how it works and proves nothing:
    whether you gain depends on how well your model's probabilities are calibrated.
    """
    if output.suffix.lower() != ".png":
        fail(f"--output must end in .png, got {str(output)!r}", USAGE)
    if not output.parent.is_dir():
        fail(f"--output: there is no folder {output.parent}", USAGE)
    from rankseg import demo as show
    from rankseg.demo import report

    decide = _decider(metric=metric, output_mode="multilabel", solver=solver)
    if decide.settings.metric not in report.METRIC_NAMES:
        fail(f"the demo shows {', '.join(report.METRIC_NAMES)}; got --metric {metric}", USAGE)
    with ends_with(FAILED, OSError, ImportError):
        photo = show.load_photo()
        probs = show.person_probabilities(photo.rgb)
        comparison = show.compare(probs, photo.truth, decide)
        show.save_figure(output, photo, probs, comparison)
    with printing():
        if as_json:
            typer.echo(json.dumps(report.as_json(comparison, photo, decide, output.resolve())))
        else:
            report.show(comparison, output.resolve())


def _decider(**options: Any) -> RankSEG:
    """RankSEG for the options given; a combination that makes no sense is a usage error."""
    from rankseg.api import RankSEG

    with ends_with(USAGE, ValueError, TypeError, NotImplementedError):
        return RankSEG(**{name: value for name, value in options.items() if value is not None})


def _numbers(option: str, text: str, *, several: bool = False) -> float | list[float]:
    """One number, or a list where there are commas or several are asked for."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        fail(f"{option} must be a number or numbers with commas between; got {text!r}", USAGE)
    return numbers if several or "," in text else numbers[0]


@app.command()
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
            "-1 last, none for a map without one. By default the first; a 2-D image must say. "
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

    Reads .npy, .npz, .pt, .pth; with pip install "rankseg[files]" also .safetensors, NIfTI
    (.nii, .nii.gz) and GeoTIFF (.tif, .tiff); nothing is ever unpickled. Results have the input's
    name; labels take the smallest integer type, masks are bool in the input's axis order (0 and 1
    in NIfTI and GeoTIFF). Pixels of a GeoTIFF that lack data in any band (in all, where the nodata
    value may be a probability) count for nothing and get the void label, or 255. Large GeoTIFFs
    take no more memory than small ones when written as GeoTIFF, but for solvers other than RMA,
    coupled, argmax and TR, for --empty and for the table. A file that fails stops no other, but
    with --aggregation dataset; failures are listed at the end and the exit code is 1 (2 for
    options that make no sense). With --nnunet probabilities become segmentations in the image's
    place, regions painted in nnU-Net's order; NIfTI needs pip install "rankseg[files]", other
    formats and --unpickle need pip install "rankseg[nnunet]".
    """
    from rankseg import batch, files
    from rankseg.inputs import Reading
    from rankseg.layout import Layout, parse_axis

    together = aggregation is Aggregation.dataset
    _refuse_unused(context, rule, tuned, save_rule, expected_score, together)
    folders = _folders(context, inputs, nnunet, reference, unpickle, model)
    decide = _decider(
        metric=metric,
        output_mode=output_mode if folders is None else folders.output_mode,
        solver=solver,
        smooth=smooth,
        pruning_prob=_numbers("--pruning-prob", pruning_prob),
        class_weights=class_weights and _numbers("--class-weights", class_weights, several=True),
        include_background=include_background,
        empty=int(empty) if empty in ("0", "1") else empty,
        activation=activation.value,
        aggregation=aggregation.value,
        assignment=assignment,
        unassigned_policy=unassigned_policy,
        void_index=void_index,
        threshold=threshold and _numbers("--threshold", threshold),
        alpha=alpha,
        beta=beta,
        coupling=coupling,
        eps=eps,
        calibrator=calibrator and _calibrator(calibrator),
    )
    decide = decide if tuned is None else _tuned(tuned)
    with ends_with(USAGE, ValueError, OSError):
        axis = parse_axis(channel_axis)
        saved = None if rule is None else _load_rule(rule)
        batch.check_scale(scale)
        batch.check_rule_file(save_rule, overwrite)
        if folders is not None:
            folders.check_mode((saved or decide.settings).output_mode)
    reading = Reading(
        layout=Layout(axis, batched),
        masks=batch.masks(saved or decide),
        void_index=batch.void_index(saved or decide),
        probabilities=(saved or decide.settings).activation == "none",
        key=key,
        max_bytes=max_bytes,
        scale=scale,
        whole=saved is None and (expected_score is not None or not batch.takes_tiles(decide)),
    )
    work = batch.Work(decide=decide, reading=reading, rule=saved, overwrite=overwrite)
    with ends_with(USAGE, ValueError):
        if folders is None:
            sources, missing = files.find_inputs(inputs, files.SUFFIXES)
            jobs = batch.plan(sources, output, None if file_format is None else file_format.value)
        else:
            jobs, missing = folders.jobs(output)
    with ends_with(FAILED, OSError):
        output.mkdir(parents=True, exist_ok=True)
    with ends_with(USAGE, ValueError):
        batch.check_table(expected_score, overwrite)
        if folders is not None:
            with ends_with(FAILED, OSError):
                folders.copy_definitions(output, overwrite)
    report = batch.Report(failures=missing)
    with stoppable(report.so_far):
        if together:
            with ends_with(FAILED, *batch.TROUBLE):
                work = batch.decided_together(jobs, work, missing, save_rule)
        with progress(jobs, "deciding") as pending:
            batch.run(pending, work, report)
    if expected_score is not None:
        with ends_with(FAILED, OSError):
            files.write_table(expected_score, batch.COLUMNS, report.rows)
    _conclude(report, output)


def _tuned(path: Path) -> RankSEG:
    """What tune chose; a file that is none is a usage error."""
    from rankseg.evaluation.tuned import TunedRankSEG

    with ends_with(USAGE, ValueError, TypeError, OSError):
        return TunedRankSEG.load(path).best_


def _calibrator(path: Path) -> Calibrator:
    from rankseg.calibrator import Calibrator

    with ends_with(USAGE, ValueError, OSError):
        return Calibrator.load(path)


def _load_rule(path: Path) -> DecisionRule:
    from rankseg.rule import DecisionRule

    return DecisionRule.load(path)


def _given(context: typer.Context, names: Iterable[str]) -> list[str]:
    """Those of the options that were typed, as they are typed."""
    sources = {name: context.get_parameter_source(name) for name in names}
    typed = (
        "format" if name == "file_format" else name.replace("_", "-")
        for name, source in sources.items()
        if source is not None and source.name == "COMMANDLINE"  # click's enum, or typer's copy
    )
    return sorted(f"--{name}" for name in typed)


def _folders(
    context: typer.Context,
    inputs: list[str],
    nnunet: bool,
    reference: Path | None,
    unpickle: bool,
    model: Path | None,
) -> Folders | None:
    """Folders of nnU-Net, if that is what the inputs are."""
    given = _given(context, FOLDERS_SAY if nnunet else ("reference", "unpickle", "model"))
    if given and nnunet:
        fail(f"nnU-Net's folders decide what {', '.join(given)} would: leave it out", USAGE)
    if given:
        fail(f"{', '.join(given)} goes with --nnunet", USAGE)
    if not nnunet:
        return None
    from rankseg.nnunet import open_folders

    with ends_with(USAGE, ValueError), ends_with(FAILED, OSError):
        paths = [Path(name) for name in inputs]
        return open_folders(paths, model=model, reference=reference, unpickle=unpickle)


def _refuse_unused(
    context: typer.Context,
    rule: Path | None,
    tuned: Path | None,
    save_rule: Path | None,
    table: Path | None,
    together: bool,
) -> None:
    """Refuse options that would be ignored."""
    given = _given(context, DECIDED)
    if rule is not None and tuned is not None:
        fail("--rule and --tuned both decide everything: leave one of them out", USAGE)
    for option, path in (("--rule", rule), ("--tuned", tuned)):
        if path is not None and given:
            fail(f"{option} has decided what {', '.join(given)} would: leave it out", USAGE)
    if save_rule is not None and not together:
        fail("--save-rule saves the rule of all files together: say --aggregation dataset", USAGE)
    if table is not None and (together or rule is not None):
        fail(
            "--expected-score is the score that each image was decided for, and one rule for all "
            "is not decided for any: leave one of them out",
            USAGE,
        )


@app.command()
def bench(
    case: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BxCxSIDES",
            help="A shape such as 1x19x512x1024, instead of the usual seven. May be repeated.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, help="May be repeated; 1 and 2 if not given.", show_default=False),
    ] = None,
    maps: Annotated[
        Maps,
        typer.Option(
            help="Logits: noise, independent normal numbers (no two pixels alike: the harder "
            "case), or smooth, regions as a network gives."
        ),
    ] = Maps.noise,
    device: Annotated[
        Device, typer.Option(help="cuda has not been tried on a GPU by the authors yet.")
    ] = Device.cpu,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Three shapes, few rounds, no first call: half a minute, rougher."
        ),
    ] = False,
    largest: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=30,
            help="Cost against size up to 2^INTEGER pixels: 26, quick 20, 0 for none.",
            show_default=False,
        ),
    ] = None,
    peer: Annotated[
        bool,
        typer.Option(
            "--peer",
            help="Also measure the published rankseg from PyPI, in turns with ours. Installs it "
            "and torch into an environment of their own: some gigabytes, minutes the first time.",
        ),
    ] = False,
    peer_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of that environment; by default in the user's cache."),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder for benchmarks.json and benchmarks.png; made if missing.")
    ] = Path("rankseg-bench"),
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="PATH.json", help="Write the JSON here instead."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="STORED.json",
            help="End with exit code 1 if a ratio is more than 1.5 times the one stored here by "
            "an earlier run.",
        ),
    ] = None,
) -> None:
    """Measure time and memory of decisions beside torch.argmax, on this machine.

    Needs pip install "rankseg[bench]". Contenders take turns and their times are divided round by
    round, so ratios hold on a busy machine too. A full run takes five to ten minutes, with
    --peer some fifteen; nothing is written before it is complete.
    """
    from rankseg.bench import command
    from rankseg.bench.peer import default_folder

    plan = command.checked(case, threads, maps.value, device.value, quick=quick, largest=largest)
    command.run(
        plan,
        peer_folder=(peer_dir or default_folder()) if peer else None,
        figure_file=output / "benchmarks.png",
        table=json_file or output / "benchmarks.json",
        stored=check,
    )


for _command in (evaluate, tune, calibrate):
    app.command()(_command)


def _conclude(report: Report, output: Path) -> None:
    """Say what was written, then one line for each failure."""
    count = len(report.written)
    try:
        with printing():
            typer.echo(plain(f"wrote {count} {'file' if count == 1 else 'files'} to {output}"))
    finally:
        for name, reason in report.failures.items():
            typer.echo(plain(f"failed: {name}: {reason}"), err=True)
    if report.failures:
        raise typer.Exit(FAILED)
