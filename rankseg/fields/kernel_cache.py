"""Compilation that interrupts and forks do not harm, its code kept in files for the next process.

The files may be damaged, or impossible to write.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numba.core.caching import FunctionCache

LOG = logging.getLogger("rankseg.compiling")
"""Told when a first call has to wait; the command line passes it on."""
NO_CACHE = (
    "no folder to keep compiled code in: every process compiles for some seconds; "
    "let NUMBA_CACHE_DIR name a folder that can be written"
)


def cached(compiled: Any) -> Any:
    """Let a function compiled by numba keep its code, where there is a folder for it."""
    if not hasattr(compiled, "py_func"):  # NUMBA_DISABLE_JIT: the plain function
        return compiled
    try:
        compiled._cache = KernelCache(compiled.py_func)  # what numba's own cache=True does
    except RuntimeError:
        _warn()
    return compiled


_compiling = threading.RLock()


def _wait() -> None:
    """Wait until nothing is compiled; were Ctrl-C raised here, Python would drop it and fork."""
    while True:
        try:
            _compiling.acquire()
            return
        except KeyboardInterrupt:
            continue


def _afresh() -> None:
    global _compiling
    _compiling = threading.RLock()


if hasattr(os, "register_at_fork"):  # a child would find locks taken by threads that it has not
    os.register_at_fork(
        before=_wait, after_in_parent=lambda: _compiling.release(), after_in_child=_afresh
    )


def undisturbed(compiled: Any) -> Any:
    """Let a function compile in a thread that no signal interrupts.

    Python raises what a signal raises, as Ctrl-C, in the main thread. Amid a compilation, which
    takes seconds, that leaves the locks of numba and LLVM taken: other threads wait for ever.
    """
    if hasattr(compiled, "py_func"):
        compiled.compile = _in_a_thread(compiled.compile)
    return compiled


def _in_a_thread(compile_for: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def alone(types: Any) -> Any:
        with _compiling:
            return compile_for(types)

    def compile_here_or_there(types: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return alone(types)
        thread = ThreadPoolExecutor(1, "rankseg-compiles")
        try:
            done = thread.submit(alone, types)
        except RuntimeError:  # the interpreter is shutting down
            return alone(types)
        thread.shutdown(wait=False)  # ends when that is done
        return done.result()

    return compile_here_or_there


class KernelCache(FunctionCache):
    """numba's cache, but that a file is a help and never a condition.

    A disk that is full, or a machine that was switched off, leaves files cut short: from numba they
    are errors of every first call, until someone deletes them. Here they are compiled anew.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Compiled code, or None where there is none that can be read."""
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # to read what is no pickle may raise anything
            found = None
        if found is None:
            LOG.info("compiling %s", self._py_func.__name__)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code, in place of files that cannot be read."""
        try:
            super().save_overload(sig, data)
        except Exception:
            try:
                self.flush()  # an index cut short; what it named is compiled again
                super().save_overload(sig, data)
            except OSError:
                _warn()


def _warn() -> None:
    warnings.warn(NO_CACHE, RuntimeWarning, stacklevel=1)  # one place: said once
