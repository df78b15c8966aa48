"""``rankseg bench``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Maps(str, Enum):
    """How the benchmark's probabilities are made."""

    noise = "noise"
    smooth = "smooth"


class Device(str, Enum):
    """Where the benchmark's probabilities lie."""

    cpu = "cpu"
    cuda = "cuda"


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

    Needs matplotlib. Contenders take turns and their times are divided round by round, so ratios
    hold on a busy machine too. A full run takes five to ten minutes, with --peer some fifteen;
    nothing is written before it is complete.
    """
    from rankseg.bench.peer import default_folder
    from rankseg.cli.run.bench import checked, run_bench

    plan = checked(case, threads, maps.value, device.value, quick=quick, largest=largest)
    run_bench(
        plan,
        peer_folder=(peer_dir or default_folder()) if peer else None,
        figure_file=output / "benchmarks.png",
        table=json_file or output / "benchmarks.json",
        stored=check,
    )
