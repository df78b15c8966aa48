"""Times of a case's contenders, who take turns."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rankseg.bench.cases import Contender
from rankseg.bench.process import WorkerError
from rankseg.bench.spread import Spread

SAMPLE = 0.002
"""Seconds: shorter calls are repeated until a sample lasts about this long."""

Clock = Callable[[Contender, int], float]
"""Seconds of one call of a contender, the mean of so many in a row."""


@dataclass(frozen=True)
class Effort:
    """How long a case may take: rounds until the seconds are used up, within bounds."""

    seconds: float
    fewest: int
    most: int

    def rounds(self, seconds_per_round: float) -> int:
        """Rounds that fit."""
        return max(self.fewest, min(self.most, int(self.seconds / seconds_per_round)))


FULL = Effort(12, fewest=7, most=41)
SHORT = Effort(1.5, fewest=5, most=11)


@dataclass(frozen=True)
class Timing:
    """What one contender took in one case; ``ratios`` are to those it stands against."""

    shape: str
    threads: int
    name: str
    rounds: int
    seconds: Spread | None
    ratios: dict[str, Spread]
    failure: str | None = None


def measure(
    shape: str, threads: int, contenders: Sequence[Contender], clock: Clock, effort: Effort
) -> list[Timing]:
    """Times of all, each round in another order, so that nobody always follows the same one."""
    failures: dict[str, str] = {}
    calls: dict[str, int] = {}
    cost = 0.0
    for one in contenders:
        try:
            clock(one, 1)  # compiles, allocates, fills caches
            seconds = clock(one, 1)
        except WorkerError as error:
            if not one.peer:
                raise
            failures[one.name] = str(error)
            continue
        calls[one.name] = max(1, math.ceil(SAMPLE / max(seconds, 1e-9)))
        cost += seconds * calls[one.name]
    able = [one for one in contenders if one.name not in failures]
    samples: dict[str, list[float]] = {one.name: [] for one in able}
    order = random.Random(0)
    for _ in range(effort.rounds(cost)):
        for one in order.sample(able, len(able)):
            samples[one.name].append(clock(one, calls[one.name]))
    return [_timing(shape, threads, one, samples, failures.get(one.name)) for one in contenders]


def _timing(
    shape: str,
    threads: int,
    one: Contender,
    samples: dict[str, list[float]],
    failure: str | None,
) -> Timing:
    if failure is not None:
        return Timing(shape, threads, one.name, 0, None, {}, failure)
    own = samples[one.name]
    ratios = {name: Spread.of_ratios(own, samples[name]) for name in one.against}
    return Timing(shape, threads, one.name, len(own), Spread.of(own), ratios)
