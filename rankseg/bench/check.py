"""Ratios of a run against those of a stored one."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankseg import strict_json
from rankseg.bench.cases import METRICS
from rankseg.bench.results import FORMAT, Results

WORSE = 1.5
"""Factor that a ratio may grow by: machines differ, and a busy one adds to it."""


@dataclass(frozen=True)
class Regression:
    """A ratio that grew too much."""

    case: str
    name: str
    to: str
    stored: float
    found: float

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.case}: {self.name} takes {self.found:.3g} x {self.to}, "
            f"{self.found / self.stored:.1f} times the stored {self.stored:.3g}"
        )


Key = tuple[str, int, str, str]


def load(path: Path) -> dict[Key, float]:
    """Stored median ratios by shape, threads, contender and yardstick."""
    try:
        table = json.loads(strict_json.text(path))
        known = type(table["format"]) is int and table["format"] == FORMAT
        found = _ratios(table) if known else {}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no result of rankseg bench: {str(error)[:200]}") from error
    if not known:
        raise ValueError(
            f"{path} has format {str(table['format'])[:20]}, this version reads {FORMAT}"
        )
    return found


def _ratios(table: Any) -> dict[Key, float]:
    found = {
        (row["shape"], row["threads"], row["name"], to): ratio["median"]
        for row in table["times"]
        for to, ratio in row["ratios"].items()
    }
    if not all(type(one) in (int, float) and 0 < one < math.inf for one in found.values()):
        raise ValueError("a ratio is no number above 0")
    return found


def regressions(results: Results, stored: dict[Key, float]) -> tuple[int, list[Regression]]:
    """How many ratios of our own decisions could be compared, and those that grew too much."""
    compared, found = 0, []
    for one in results.times:
        for to, ratio in one.ratios.items():
            before = stored.get((one.shape, one.threads, one.name, to))
            if before is None or not one.name.startswith(tuple(METRICS)):
                continue
            compared += 1
            if ratio.median > WORSE * before:
                case = f"{one.shape}, threads {one.threads}"
                found.append(Regression(case, one.name, to, before, ratio.median))
    return compared, found
