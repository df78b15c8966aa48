"""The first call after installation, which compiles, and the first in a later process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from rankseg.bench.cases import Contender
from rankseg.bench.process import Worker

SHAPE = (1, 19, 512, 1024)


@dataclass(frozen=True)
class FirstCall:
    """Seconds of the first call: nothing compiled yet; compiled by another process; warm.

    Calls follow each other in this order in one process, so each pays only for what those before
    it did not need.
    """

    name: str
    empty: float
    cached: float
    warm: float


def measure(
    contenders: Sequence[Contender], start: Callable[..., Worker], **maps: object
) -> list[FirstCall]:
    """First calls in a new process with an empty cache of compiled code, then in another."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {"NUMBA_CACHE_DIR": cache, "TRITON_CACHE_DIR": cache}
        columns = []
        for _ in range(2):
            with closing(start(environment=environment)) as worker:
                worker.ask("make", **maps, inputs=["probs", "logits"])
                columns.append([worker.ask("time", call=one.call, number=1) for one in contenders])
                warm = [worker.ask("time", call=one.call, number=1) for one in contenders]
    rows = zip(contenders, *columns, warm, strict=True)
    return [FirstCall(one.name, *seconds) for one, *seconds in rows]
