"""Check the options, run the plan, print and write what was found."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch
import typer
from rich.console import Console

from rankseg.bench import check, figure, growth, machine, peer, report, results, targets
from rankseg.bench.cases import QUICK, USUAL, parse_shape
from rankseg.bench.process import WorkerError
from rankseg.bench.run import Plan, Run
from rankseg.cli.terminal import (
    FAILED,
    USAGE,
    ends_with,
    fail,
    plain,
    printing,
    progress,
    stoppable,
)

THREADS = (1, 2)


def checked(
    cases: list[str] | None,
    threads: list[int] | None,
    maps: str,
    device: str,
    *,
    quick: bool,
    largest: int | None,
) -> Plan:
    """Plan for the options; those that make no sense end the command."""
    with ends_with(USAGE, ValueError):
        shapes = tuple(map(parse_shape, dict.fromkeys(cases or (QUICK if quick else USUAL))))
    if device == "cuda" and not torch.cuda.is_available():
        fail("--device cuda: this torch sees no CUDA device", USAGE)
    counts = tuple(dict.fromkeys(threads or [n for n in THREADS if n <= machine.cores()]))
    if largest is None:
        largest = growth.QUICK_LARGEST if quick else growth.LARGEST
    # Quick takes the most threads only; on a GPU their number decides nothing.
    few = (quick and not threads) or device == "cuda"
    return Plan(
        shapes=shapes,
        threads=(max(counts),) if few else counts,
        maps=maps,
        device=device,
        quick=quick,
        largest=largest,
        peer=None,
    )


def run_bench(
    plan: Plan, *, peer_folder: Path | None, figure_file: Path, table: Path, stored: Path | None
) -> None:
    """Measure, then print the tables and write both files."""
    with ends_with(USAGE, OSError, ValueError):
        before = check.load(stored) if stored else {}
    with ends_with(FAILED, ImportError):
        figure.need()
    setup = machine.describe(plan.device)
    setup |= {"maps": plan.maps, "quick": plan.quick}
    with ends_with(FAILED, OSError, WorkerError, peer.PeerError), stoppable(_nothing):
        for path in (figure_file, table):
            path.parent.mkdir(parents=True, exist_ok=True)
        if peer_folder:
            plan = replace(plan, peer=_peer(peer_folder, plan.device))
        run = Run(plan, results.Results(setup))
        with run.workers(), progress(run.steps(), "measuring") as steps:
            for step in steps:
                step()
        found = run.results
        judged = targets.judge(found)
        figure.save_figure(figure_file, found)
        results.save(table, found, [{**asdict(one), "held": one.held} for one in judged])
    with printing():
        report.show(found, judged, Console())
        for path in (figure_file, table):
            typer.echo(plain(f"wrote {path.resolve()}"))
    if stored:
        _compare(found, before, stored)


def _nothing() -> str:
    return "nothing was written"


def _peer(folder: Path, device: str) -> Path:
    """The peer's interpreter; installs it where that was not done before."""
    if not peer.is_ready(folder, device):
        with Console(stderr=True).status(f"installing the peer and torch into {folder}"):
            peer.install(folder, device)
    return peer.interpreter(folder)


def _compare(found: results.Results, before: dict[check.Key, float], stored: Path) -> None:
    compared, worse = check.regressions(found, before)
    if not compared:
        fail(f"--check: {stored} and this run have no case and number of threads in common", FAILED)
    for one in worse:
        typer.echo(f"rankseg: worse: {one}", err=True)
    if worse:
        raise typer.Exit(FAILED)
    typer.echo(f"{compared} ratios are at most {check.WORSE:g} times those in {plain(str(stored))}")
