"""Put the numbers of benchmarks.json and benchmarks-smooth.json into benchmarks.md.

Measures nothing: ``make bench-docs`` runs the benchmark first, some fifteen minutes.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LABELS, MASKS, LOGITS = "Dice labels", "Dice masks", "Dice labels, logits"
PEER, PEER_AUTO = "peer 0.0.8", "peer 0.0.8, auto"
MIB = 2**20
BUSY = 0.25  # load for each core

Table = dict[str, Any]
Row = dict[str, Any]


def short(number: float) -> str:
    """Three digits at most."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}" if number >= 1 else f"{number:.3f}"


def markdown(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """Markdown table."""
    lines = [tuple(head), *map(tuple, body)]
    lines.insert(1, ("---",) * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def setup(run: Table) -> str:
    """When and where."""
    about, versions = run["setup"], run["setup"]["versions"]
    names = ("python", "torch", "numpy", "numba")
    load, busy = "", ""
    if about["load"] is not None:
        load = f", load {about['load']:.1f} at the start"
        if about["load"] > BUSY * about["cores"]:
            busy = " **The machine was busy: times are too long, ratios less certain.**"
    return (
        f"Measured {about['date'][:10]} on {about['processor']}, {about['cores']} cores, "
        f"{about['memory_bytes'] / 2**30:.0f} GiB, {about['system']}{load}; rankseg "
        f"{versions['rankseg']}, "
        + ", ".join(f"{name} {versions[name]}" for name in names)
        + f".{busy}"
    )


def rows(run: Table, threads: int) -> dict[str, dict[str, Row]]:
    """Rows by shape and name."""
    found: dict[str, dict[str, Row]] = {}
    for row in run["times"]:
        if row["threads"] == threads and row["seconds"]:
            found.setdefault(row["shape"], {})[row["name"]] = row
    return found


def cell(row: Row | None, unit: str = "x") -> str:
    """Milliseconds, and the ratio to the first thing the row is measured against."""
    if row is None:
        return ""
    ratio = next(iter(row["ratios"].values()))["median"]
    return f"{short(1e3 * row['seconds']['median'])} ({short(ratio)}{unit})"


def times(run: Table, threads: int) -> str:
    """Milliseconds of everybody, by shape."""
    body = []
    for shape, by_name in rows(run, threads).items():
        usual = by_name.get("torch.argmax") or by_name["0.5 cut"]
        spread = usual["seconds"]
        body.append(
            (
                shape,
                short(1e3 * spread["median"]),
                *(cell(by_name.get(name)) for name in (LABELS, MASKS, LOGITS, PEER, PEER_AUTO)),
            )
        )
    head = ("shape", "argmax", "labels", "masks", "labels from logits", PEER, PEER_AUTO)
    return markdown(head, body)


def spread(run: Table, threads: int) -> str:
    """Quantiles of argmax and labels."""
    body = []
    for shape, by_name in rows(run, threads).items():
        both = [by_name.get(name) for name in ("torch.argmax", LABELS)]
        if all(both):
            quantiles = ([1e3 * row["seconds"][key] for key in ("p10", "p90")] for row in both)
            ratio = by_name[LABELS]["ratios"]["torch.argmax"]
            texts = [f"{short(low)} to {short(high)}" for low, high in quantiles]
            ends = f"{short(ratio['p10'])} to {short(ratio['p90'])}"
            body.append((shape, str(by_name[LABELS]["rounds"]), *texts, ends))
    return markdown(("shape", "rounds", "argmax, ms", "labels, ms", "labels / argmax"), body)


def memory(run: Table) -> str:
    """Extra memory by shape."""
    names = (LABELS, MASKS, LOGITS, "Dice masks, logits", PEER, PEER_AUTO)
    by_shape: dict[str, dict[str, Row]] = {}
    for row in run["memory"]:
        by_shape.setdefault(row["shape"], {})[row["name"]] = row
    body = []
    for shape, by_name in by_shape.items():
        size = next(iter(by_name.values()))["input"]
        some = (by_name.get(name) for name in names)
        shares = (f"{row['extra'] / row['input']:.1%}" if row else "" for row in some)
        body.append((shape, f"{size / MIB:.0f}", *shares))
    head = ("labels", "masks", "labels from logits", "masks from logits", PEER, PEER_AUTO)
    return markdown(("shape", "input, MiB", *head), body)


def first_calls(run: Table) -> str:
    """Seconds of first calls."""
    body = [
        (row["name"], *(short(row[key]) for key in ("empty", "cached", "warm")))
        for row in run["first_calls"]
    ]
    return markdown(("seconds", "nothing compiled", "compiled before", "again"), body)


def growth(run: Table) -> str:
    """The fitted exponents in a sentence."""
    found = run["growth"]
    slopes = (f"{name} like pixels^{slope:.2f}" for name, slope in found["exponents"].items())
    left_out = f" Sizes that did not fit into memory: {', '.join(found['skipped'])}."
    return f"From 2^16 pixels on, time grows: {', '.join(slopes)}." + (
        left_out if found["skipped"] else ""
    )


def targets(run: Table) -> str:
    """Limits, held or missed."""
    body = [
        (
            row["name"],
            row["case"],
            f"{short(row['found'])} {row['unit']}".strip(),
            f"{'>=' if row['at_least'] else '<='} {row['limit']:g} {row['unit']}".strip(),
            "held" if row["held"] else "**missed**",
        )
        for row in run["targets"]
    ]
    missed = sum(not row["held"] for row in run["targets"])
    count = f"{len(body) - missed} of {len(body)} held.\n\n"
    return count + markdown(("", "case", "found", "limit", ""), body)


def maps(noise: Table, smooth: Table, threads: int) -> str:
    """Ratios of both kinds of maps."""
    body = []
    first, second = (rows(run, threads) for run in (noise, smooth))
    for shape in (shape for shape in first if LABELS in first[shape] and shape in second):
        ratios = (
            by_name[name]["ratios"]["torch.argmax"]["median"]
            for name in (LABELS, MASKS)
            for by_name in (first[shape], second[shape])
        )
        body.append((shape, *map(short, ratios)))
    head = ("labels, noise", "labels, smooth", "masks, noise", "masks, smooth")
    return markdown(("x argmax", *head), body)


def write(blocks: dict[str, str]) -> None:
    """Put each block between its markers in the page."""
    page = HERE / "benchmarks.md"
    text = page.read_text()
    for name, block in blocks.items():
        before, rest = text.split(f"<!-- {name} -->")
        _, after = rest.split(f"<!-- end {name} -->")
        text = f"{before}<!-- {name} -->\n\n{block}\n\n<!-- end {name} -->{after}"
    page.write_text(text)


def main() -> None:
    """Read both runs, write the page."""
    noise, smooth = (
        json.loads((HERE / name).read_text())
        for name in ("benchmarks.json", "benchmarks-smooth.json")
    )
    write(
        {
            "setup": setup(noise),
            "times-2": times(noise, 2),
            "times-1": times(noise, 1),
            "spread": spread(noise, 2),
            "memory": memory(noise),
            "first": first_calls(noise),
            "growth": growth(noise),
            "targets": targets(noise),
            "maps": maps(noise, smooth, 2),
        }
    )


if __name__ == "__main__":
    main()
