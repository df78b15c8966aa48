"""What the project set itself, and whether this run holds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rankseg.bench.cases import LABELS, MASKS, OF_LOGITS, PEER, PEER_AUTO
from rankseg.bench.results import Results
from rankseg.bench.times import Timing

THREADS = 2
ARGMAX = "torch.argmax"
SPEED = {  # shape: at most x argmax, at least x faster than the peer's default, than its auto
    "1x19x512x1024": (0.35, 35, 14),
    "2x21x512x512": (0.35, 30, 12),
    "1x150x512x512": (0.9, 25, 10),
    "1x2x1024x1024": (0.12, 25, 15),
}
FROM_LOGITS = {"1x19x512x1024": 1.0, "2x21x512x512": 1.0}
MASKS_TO_LABELS = 0.5
MEMORY = 0.15
SMALL, SMALL_SECONDS = "1x2x64x64", 300e-6
COMPILE_SECONDS, CACHED_SECONDS = 15, 1
GROWTH = 1.1
"""Exponent of the pixels that still counts as linear; what noise adds to 1."""


@dataclass(frozen=True)
class Target:
    """One limit: ``found`` is at most it, or at least it."""

    name: str
    case: str
    found: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def held(self) -> bool:
        """Whether this run holds it."""
        return self.found >= self.limit if self.at_least else self.found <= self.limit


def judge(results: Results) -> list[Target]:
    """Every target that this run measured, on two threads."""
    timings = {(one.shape, one.name): one for one in results.times if one.threads == THREADS}
    return [
        *_speed(timings),
        *_memory(results),
        *_first_call(results),
        *_growth(results),
    ]


def _speed(timings: dict[tuple[str, str], Timing]) -> Iterator[Target]:
    for shape, (argmax, default, auto) in SPEED.items():
        yield from _ratio(timings, shape, LABELS, ARGMAX, argmax)
        for peer, least in ((PEER, default), (PEER_AUTO, auto)):
            if (one := timings.get((shape, peer))) and LABELS in one.ratios:
                found = one.ratios[LABELS].median
                yield Target(f"{LABELS} faster than {peer}", shape, found, least, "x", True)
    for shape, limit in FROM_LOGITS.items():
        yield from _ratio(timings, shape, LABELS + OF_LOGITS, ARGMAX + OF_LOGITS, limit)
    for shape in dict.fromkeys(shape for shape, _ in timings):
        yield from _ratio(timings, shape, MASKS, LABELS, MASKS_TO_LABELS)
    if one := timings.get((SMALL, LABELS)):
        assert one.seconds is not None
        yield Target(
            "small input, warm", SMALL, 1e6 * one.seconds.median, 1e6 * SMALL_SECONDS, "us"
        )


def _ratio(
    timings: dict[tuple[str, str], Timing], shape: str, name: str, to: str, limit: float
) -> Iterator[Target]:
    one = timings.get((shape, name))
    if one and to in one.ratios:
        yield Target(f"{name} to {to}", shape, one.ratios[to].median, limit, "x")


def _memory(results: Results) -> Iterator[Target]:
    for one in results.memory:
        if one.name in (LABELS, MASKS):
            name = f"extra memory, {one.name}"
            yield Target(name, one.shape, 100 * one.share, 100 * MEMORY, "%")


def _first_call(results: Results) -> Iterator[Target]:
    for one in results.first_calls:
        if one.name == LABELS:
            yield Target("first call, compiling", one.name, one.empty, COMPILE_SECONDS, "s")
            yield Target("first call, compiled before", one.name, one.cached, CACHED_SECONDS, "s")


def _growth(results: Results) -> Iterator[Target]:
    if results.growth and (exponent := results.growth.exponents.get(LABELS)):
        yield Target("growth: time ~ pixels ^", LABELS, exponent, GROWTH, "")
