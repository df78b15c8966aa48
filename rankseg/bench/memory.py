"""Peak memory of one call, in a process that does nothing else."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rankseg.bench.cases import Contender
from rankseg.bench.process import Worker, WorkerError

ENOUGH = 1 << 22
"""Bytes of input below which pages of the interpreter hide what a call takes."""

SEEN = 0.9
"""Share of a plain copy that the measurement must see, or it is not believed."""

EVERY_ARRAY_APART = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""For glibc: arrays have pages of their own and give them back, so nothing freed is used again."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one call: ``extra`` is the peak beyond input and result."""

    shape: str
    name: str
    input: int
    result: int
    extra: int

    @property
    def share(self) -> float:
        """Extra memory as a share of the input."""
        return self.extra / self.input


def why_not(shape: tuple[int, ...], device: str) -> str | None:
    """Why memory cannot be measured, if so."""
    if math.prod(shape) * 4 < ENOUGH:
        return "too small for memory to be seen"
    if device == "cpu" and not os.access(Path("/proc/self/clear_refs"), os.W_OK):
        return "memory is measured on Linux only"
    return None


def measure(case: str, one: Contender, start: Callable[..., Worker], **maps: object) -> Memory:
    """Memory of one contender; WorkerError if a plain copy shows that it was not seen."""
    with closing(start(environment=EVERY_ARRAY_APART)) as worker:
        worker.ask("make", **maps, inputs=[one.call["input"]])
        found = worker.ask("memory", call=one.call)
        copy = worker.ask("memory", call={**one.call, "name": "copy"})
    if copy["peak"] < SEEN * copy["input"]:
        raise WorkerError("the system does not tell how much memory a call takes")
    extra = max(0, found["peak"] - found["result"])
    return Memory(case, one.name, found["input"], found["result"], extra)
