"""Everything one run found, in memory and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rankseg.bench.first_call import FirstCall
from rankseg.bench.growth import Growth
from rankseg.bench.memory import Memory
from rankseg.bench.times import Timing
from rankseg.files import atomic_write

FORMAT = 1


@dataclass
class Results:
    """Filled as the run goes on; ``notes`` say what was not measured, and why."""

    setup: dict[str, Any]
    times: list[Timing] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    first_calls: list[FirstCall] = field(default_factory=list)
    growth: Growth | None = None
    notes: list[str] = field(default_factory=list)


def save(path: Path, results: Results, targets: list[dict[str, Any]]) -> None:
    """Write it as JSON, whole or not at all. Times are in seconds, memory in bytes."""
    table = {"format": FORMAT, **asdict(results), "targets": targets}
    text = json.dumps(_rounded(table), indent=1) + "\n"
    atomic_write(path, lambda file: file.write(text.encode()))


def _rounded(value: Any) -> Any:
    """Four digits: the fifth is noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
