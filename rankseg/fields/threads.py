"""Run pieces of work on as many threads as torch is set to use.

The work must release the interpreter's lock and must not start work of its own here. Several
threads may call at once; after a fork the child makes its own pool, since threads do not survive
it.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch

_pool: tuple[int, ThreadPoolExecutor] | None = None


def run(work: Callable[[int], None], pieces: int) -> None:
    """Call ``work(0) ... work(pieces - 1)``, each once, in any order; the caller's thread helps."""
    helpers = min(torch.get_num_threads(), pieces) - 1
    if helpers < 1:
        for piece in range(pieces):
            work(piece)
        return
    todo = itertools.count()
    stop = threading.Event()

    def drain() -> None:
        while not stop.is_set() and (piece := next(todo)) < pieces:
            work(piece)

    started = _start(drain, helpers)
    try:
        drain()
    finally:
        stop.set()  # all pieces are taken, or the caller was interrupted
        running = [future for future in started if not future.cancel()]
        wait(running)
    for future in running:
        future.result()


def _start(drain: Callable[[], None], helpers: int) -> list[Future[None]]:
    global _pool
    if _pool is None or _pool[0] < helpers:
        _pool = helpers, ThreadPoolExecutor(helpers, "rankseg")
    pool = _pool[1]
    try:
        return [pool.submit(drain) for _ in range(helpers)]
    except RuntimeError:  # the interpreter is shutting down: the caller's thread does it all
        return []


def _forget() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
