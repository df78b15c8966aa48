"""Ratios of a run against those of a stored one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

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
        table = json.loads(path.read_text())
        if table["format"] != FORMAT:
            raise ValueError(f"{path} has format {table['format']}, this version reads {FORMAT}")
        return {
            (row["shape"], row["threads"], row["name"], to): ratio["median"]
            for row in table["times"]
            for to, ratio in row["ratios"].items()
        }
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no result of rankseg bench") from error


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
