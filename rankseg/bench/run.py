"""The order of a run: times case by case, memory, first calls, growth."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rankseg.bench import first_call, growth, machine, memory, times
from rankseg.bench.cases import LABELS, MASKS, OF_LOGITS, Contender, contenders, yardstick
from rankseg.bench.process import Worker, WorkerError
from rankseg.bench.results import Results

Step = Callable[[], None]
DECISIONS = (LABELS, MASKS, LABELS + OF_LOGITS, MASKS + OF_LOGITS)
"""Whose memory and first calls are measured; the metric makes no difference there."""


@dataclass(frozen=True)
class Plan:
    """What the user asked for."""

    shapes: tuple[tuple[int, ...], ...]
    threads: tuple[int, ...]
    maps: str
    device: str
    quick: bool
    largest: int  # cost against size goes up to 2 ** largest pixels
    peer: Path | None  # its interpreter


@dataclass
class Run:
    """A run in progress. ``steps`` are to be called in order, inside ``with run.workers():``."""

    plan: Plan
    results: Results
    _running: dict[bool, Worker] = field(default_factory=dict)

    def steps(self) -> list[Step]:
        """Everything to do, in pieces between which a progress bar can move."""
        plan = self.plan
        found: list[Step] = [
            partial(self._times, shape, count) for shape in plan.shapes for count in plan.threads
        ]
        for shape in plan.shapes[:1] if plan.quick else plan.shapes:
            found += [partial(self._memory, shape, one) for one in self._deciders(shape)]
        if plan.quick:
            self._note("Not measured with --quick: the first call")
        else:
            found.append(self._first_calls)
        sizes = growth.shapes(plan.largest)
        if sizes:
            self.results.growth = growth.Growth([], {}, [])
        return found + [partial(self._size, shape) for shape in sizes]

    @contextmanager
    def workers(self) -> Iterator[None]:
        """Keep a process of each side alive, so that they can take turns."""
        with ExitStack() as stack:
            for peer in (False, True) if self.plan.peer else (False,):
                self._running[peer] = stack.enter_context(closing(self._start(peer)))
            if self.plan.peer:
                self.results.setup["peer"] = self._running[True].ask("about")
            yield

    def _start(self, peer: bool = False, environment: Mapping[str, str] | None = None) -> Worker:
        if peer:
            assert self.plan.peer is not None
            return Worker(self.plan.peer, package="", environment=environment)
        return Worker(sys.executable, environment=environment)

    def _maps(self, shape: tuple[int, ...], threads: int) -> dict[str, object]:
        plan = self.plan
        return {"shape": shape, "maps": plan.maps, "threads": threads, "device": plan.device}

    def _make(
        self, shape: tuple[int, ...], threads: int, inputs: list[str], peer: bool = False
    ) -> None:
        worker = self._running[peer]
        worker.ask("make", **self._maps(shape, threads), inputs=inputs)

    def _clock(self, one: Contender, number: int) -> float:
        seconds: float = self._running[one.peer].ask("time", call=one.call, number=number)
        return seconds

    def _times(self, shape: tuple[int, ...], threads: int) -> None:
        self._make(shape, threads, ["probs", "logits"])
        if self.plan.peer:
            self._make(shape, threads, ["probs"], peer=True)
        effort = times.SHORT if self.plan.quick else times.FULL
        everybody = contenders(shape, self.plan.peer is not None)
        name = "x".join(map(str, shape))
        found = times.measure(name, threads, everybody, self._clock, effort)
        self.results.times += found
        for one in found:
            if one.failure:
                self._note(f"{name}: {one.name} failed: {one.failure}")

    def _deciders(self, shape: tuple[int, ...]) -> list[Contender]:
        everybody = contenders(shape, self.plan.peer is not None)
        return [one for one in everybody if one.peer or one.name in DECISIONS]

    def _memory(self, shape: tuple[int, ...], one: Contender) -> None:
        name = "x".join(map(str, shape))
        reason = memory.why_not(shape, self.plan.device)
        if reason is None:
            maps = self._maps(shape, max(self.plan.threads))
            start = partial(self._start, one.peer)
            try:
                self.results.memory.append(memory.measure(name, one, start, **maps))
            except WorkerError as error:
                reason = f"memory of {one.name}: {error}"
        if reason:
            self._note(f"{name}: {reason}")

    def _note(self, text: str) -> None:
        """Say it once."""
        if text not in self.results.notes:
            self.results.notes.append(text)

    def _size(self, shape: tuple[int, ...]) -> None:
        found = self.results.growth
        assert found is not None
        name = "x".join(map(str, shape))
        room = machine.available_bytes()
        if room is not None and growth.pixels(name) * growth.BYTES_PER_PIXEL > room:
            found.skipped.append(name)
            return
        threads = max(self.plan.threads)
        self._make(shape, threads, ["probs"])
        two = [one for one in contenders(shape, False) if one.name in (yardstick(shape), LABELS)]
        effort = growth.SHORT if self.plan.quick else growth.FULL
        found.timings.extend(times.measure(name, threads, two, self._clock, effort))
        found.exponents.update(growth.exponents(found.timings))

    def _first_calls(self) -> None:
        maps = self._maps(first_call.SHAPE, max(self.plan.threads))
        deciders = [one for one in self._deciders(first_call.SHAPE) if not one.peer]
        self.results.first_calls = first_call.measure(deciders, self._start, **maps)
