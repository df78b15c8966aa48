"""A run in tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from rankseg.bench import growth, machine
from rankseg.bench.cases import LABELS, MASKS, parse_shape, yardstick
from rankseg.bench.results import Results
from rankseg.bench.targets import Target
from rankseg.bench.times import Timing

MAPS = {
    "noise": "independent normal logits (3 x randn)",
    "smooth": "smooth regions, as a network gives",
}


def show(results: Results, targets: list[Target], console: Console) -> None:
    """Print everything."""
    for line in setup_lines(results.setup):
        console.print(line, highlight=False)
    for shape in dict.fromkeys(one.shape for one in results.times):
        console.print(case_table(results, shape))
    if results.times:
        console.print(
            "Median, 10 % and 90 % quantile of the rounds; x = median of the rounds' ratios. "
            "Extra memory: peak beyond input and result, as a share of the input.",
            style="dim",
            highlight=False,
        )
    if results.growth:
        console.print(growth_table(results))
    if results.first_calls:
        console.print(first_call_table(results))
    if targets:
        console.print(target_table(targets))
    for note in results.notes:
        console.print(note, highlight=False)
    if busy := machine.warning(results.setup):
        console.print(busy, style="yellow", highlight=False)


def setup_lines(setup: dict[str, Any]) -> list[str]:
    """Where and when it was measured."""
    memory = setup["memory_bytes"]
    versions = ", ".join(f"{name} {value}" for name, value in setup["versions"].items() if value)
    size = f", {memory / 2**30:.0f} GiB" if memory else ""
    lines = [
        f"{setup['date'].replace('T', ' ')}: {setup['processor']}, {setup['cores']} cores{size}, "
        f"{setup['system']}",
        versions,
        f"Probabilities: softmax (one class: sigmoid) of {MAPS[setup['maps']]}, float32, seed 0",
    ]
    if setup["device"] != "cpu":
        lines.insert(1, f"Measured on {setup['device']}")
    if "peer" in setup:
        peer = setup["peer"]
        lines.append(f"Peer: rankseg {peer['rankseg']} from PyPI, torch {peer['torch']}")
    return lines


def case_table(results: Results, shape: str) -> Table:
    """One case: a section for each number of threads."""
    usual = yardstick(parse_shape(shape)).removeprefix("torch.")
    ours = LABELS if parse_shape(shape)[1] > 1 else MASKS
    grid = _table(
        shape.replace("x", " x "),
        "",
        "ms",
        "p10",
        "p90",
        f"x {usual}",
        f"x {ours.removeprefix('Dice ')}",
        "extra",
    )
    rows = [one for one in results.times if one.shape == shape]
    extra = {one.name: f"{one.share:.1%}" for one in results.memory if one.shape == shape}
    for threads in dict.fromkeys(one.threads for one in rows):
        last = threads == rows[-1].threads
        grid.add_section()
        if results.setup["device"] == "cpu":
            grid.add_row(f"[bold]{threads} thread{'s' if threads > 1 else ''}")
        for one in (row for row in rows if row.threads == threads):
            grid.add_row(*_cells(one), extra.get(one.name, "") if last else "")
    return grid


def _cells(one: Timing) -> tuple[str, ...]:
    if one.seconds is None:
        return one.name, "failed"
    against = [short(ratio.median) for ratio in one.ratios.values()]
    if one.name in one.ratios:
        against = ["1"]
    milliseconds = [short(1e3 * x) for x in (one.seconds.median, one.seconds.p10, one.seconds.p90)]
    return one.name, *milliseconds, *[*against, ""][:2]


def growth_table(results: Results) -> Table:
    """Cost against size, and the slope."""
    found = results.growth
    assert found is not None
    names = list(dict.fromkeys(one.name for one in found.timings))
    grid = _table(
        "Cost against size: labels of two classes", "pixels", *(f"{n}, ms" for n in names)
    )
    known = {(one.shape, one.name): one.seconds for one in found.timings}
    for shape in dict.fromkeys(one.shape for one in found.timings):
        spreads = (known[shape, name] for name in names)
        cells = (short(1e3 * spread.median) if spread else "" for spread in spreads)
        grid.add_row(f"{growth.pixels(shape):,}", *cells)
    for shape in found.skipped:
        grid.add_row(f"{growth.pixels(shape):,}", "does not fit into the memory that is free")
    if found.exponents:
        grid.add_section()
        slopes = (f"pixels^{found.exponents[name]:.2f}" for name in names)
        grid.add_row(f"from 2^{growth.STRAIGHT} on", *slopes)
    return grid


def first_call_table(results: Results) -> Table:
    """What compiling costs, and loading what was compiled."""
    grid = _table(
        "First calls in a new process, one after the other, seconds",
        *("", "nothing compiled", "compiled before", "again"),
    )
    for one in results.first_calls:
        grid.add_row(one.name, *(short(x) for x in (one.empty, one.cached, one.warm)))
    return grid


def target_table(targets: Iterable[Target]) -> Table:
    """Each limit of the project: held or missed."""
    grid = _table("Limits the project set itself (2 threads)", "", "case", "found", "limit", "")
    for one in targets:
        sign = ">=" if one.at_least else "<="
        verdict = "held" if one.held else "[bold red]missed"
        limit = f"{sign} {one.limit:g} {one.unit}".rstrip()
        grid.add_row(one.name, one.case, f"{short(one.found)} {one.unit}".rstrip(), limit, verdict)
    return grid


def _table(title: str, first: str, *others: str) -> Table:
    grid = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    grid.add_column(first)
    for name in others:
        grid.add_column(name, justify="right")
    return grid


def short(number: float) -> str:
    """Three digits at most."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}" if number >= 1 else f"{number:.3f}"
