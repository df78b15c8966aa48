"""Gains and losses on real data: ``python docs/does_it_help.py``, some minutes.

Fills the tables of does-it-help.md from the data sets of examples/real_data, which are downloaded
from PyPI, and whose small networks are trained, the first time. Every number is cross-validated:
calibrators and cuts are fitted on other tiles than those they are scored on.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))

from real_data import DATA_SETS, DataSet, Pair  # noqa: E402

from rankseg.evaluation import Evaluation, Result, TunedRankSEG, evaluate, tune  # noqa: E402

METRIC = "dice"
PAGE = ROOT / "docs" / "does-it-help.md"
SHOWN = (
    "RMA",
    "RMA unpruned",
    "RMA, temperature",
    "RMA, vector",
    "coupled 0.5",
    "coupled 0.5, vector",
)
CANDIDATES = {
    "solvers": ("RMA",),
    "couplings": (0.5, 1.0),
    "calibrations": ("none", "temperature", "vector"),
}


def tuned_on(pairs: list[Pair], data: DataSet, metric: str) -> TunedRankSEG:
    """Choice among the candidates shown."""
    return tune(pairs, metric, output_mode=data.output_mode, **CANDIDATES)


def held_out(pairs: list[Pair], data: DataSet, metric: str) -> tuple[str, Evaluation]:
    """Choice made on every other pair, and its scores on the rest."""
    tuned = tuned_on(pairs[::2], data, metric)
    return tuned.best_name_, evaluate(pairs[1::2], {"tuned": tuned}, metric=metric)


def cell(result: Result) -> str:
    """Points ahead, and the standard error."""
    ahead = result.difference
    return f"{100 * ahead.value:+.2f} ± {100 * ahead.error:.2f}"


def row(data: DataSet, metric: str) -> tuple[str, str, str]:
    """A line for each of the three tables."""
    pairs = data.pairs()
    tuned = tuned_on(pairs, data, metric)
    found = {one.name: one for one in tuned.results_}
    usual = tuned.results_[0]
    cells = [cell(found[name]) for name in ("tuned threshold", *SHOWN)]
    size = f"{len(pairs)} ({data.images})"
    gains = [data.name, size, f"{usual.score.value:.4f}", *cells, tuned.best_name_]
    choice, new = held_out(pairs, data, metric)
    ahead = new.contenders["tuned"].difference[metric]
    mean = ahead.estimate
    interval = "-" if mean.low == mean.high else f"{100 * mean.low:+.2f} to {100 * mean.high:+.2f}"
    outside = [
        data.name,
        choice,
        f"{100 * mean.value:+.2f}",
        interval,
        f"{ahead.wins} / {ahead.ties} / {ahead.losses}",
    ]
    raw = evaluate(pairs, {}, metric=metric).reliability
    shares = zip(
        data.classes,
        raw.expected_share.tolist(),
        raw.true_share.tolist(),
        raw.error.tolist(),
        strict=True,
    )
    told = "; ".join(f"{name} {p:.4f} / {y:.4f} / {error:.4f}" for name, p, y, error in shares)
    return line(gains), line(outside), line([data.name, data.model, told])


def line(cells: list[str]) -> str:
    """Line of a table."""
    return f"| {' | '.join(cells)} |"


def table(heads: list[str], lines: Iterable[str]) -> str:
    """Whole table."""
    return "\n".join([line(heads), line(["---"] * len(heads)), *lines])


def main() -> None:
    """Fill the page."""
    rows = [row(data, METRIC) for data in DATA_SETS.values()]
    gains, outside, told = zip(*rows, strict=True)
    candidates = ["tuned cut", *SHOWN, "tune chooses"]
    blocks = {
        "gains": table(["data", "pairs (images)", "usual Dice", *candidates], gains),
        "held out": table(
            ["data", "chosen on one half", "points on the other", "95 %", "won / tied / lost"],
            outside,
        ),
        "models": table(["data", "model", "predicted share / true share / error"], told),
        "setup": f"Measured {date.today()}, torch {torch.__version__.partition('+')[0]}, "
        f"Python {platform.python_version()}.",
    }
    text = PAGE.read_text()
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->\n\n", f"\n\n<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + begin + block + end + after
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
