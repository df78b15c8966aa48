"""Compilation: files that are damaged or cannot be written cost time and nothing else, signals and
forks amid it leave no lock taken.
"""

from __future__ import annotations

import importlib.util
import os
from contextlib import contextmanager

import pytest
from hardening.programs import ROOT, run

caching = pytest.importorskip("numba.core.caching")

SMALL = """
from numba import njit
from rankseg.fields.kernel_cache import cached, undisturbed

@undisturbed
@cached
@njit
def twice(x):
    return 2 * x
"""


def fresh(folder):
    """The function as a new process imports it; numba keeps its code beside the module."""
    file = folder / "small.py"
    if not file.exists():
        file.write_text(SMALL)
    spec = importlib.util.spec_from_file_location("small", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.twice


def from_files(function):
    return sum(function.stats.cache_hits.values()) == 1


@pytest.fixture(autouse=True)
def beside_the_module(monkeypatch):
    monkeypatch.setattr("numba.core.config.CACHE_DIR", "")


@pytest.mark.parametrize("left", [0, 0.01, 0.5, 0.99, "other bytes"])
@pytest.mark.parametrize("suffix", ["nbc", "nbi", "nb?"])
def test_damaged_files_are_written_anew(tmp_path, suffix, left):
    assert fresh(tmp_path)(2) == 4
    again = fresh(tmp_path)
    assert again(2) == 4
    assert from_files(again)
    files = list(tmp_path.rglob(f"*.{suffix}"))
    assert files
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(b"\x80ab" if left == "other bytes" else whole[: int(len(whole) * left)])
    damaged, after = fresh(tmp_path), fresh(tmp_path)
    assert damaged(2) == 4
    assert not from_files(damaged)
    assert after(2) == 4
    assert from_files(after)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_full_disk_is_said_and_the_answer_given(tmp_path, monkeypatch, damaged):
    if damaged:
        fresh(tmp_path)(2)
        for file in tmp_path.rglob("*.nbi"):
            file.write_bytes(b"")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._open_for_write", full)
    with pytest.warns(RuntimeWarning, match="let NUMBA_CACHE_DIR name a folder"):
        assert fresh(tmp_path)(2) == 4


AMID = """
import os, signal, threading, time, warnings
from llvmlite.binding import ffi
from small import twice

taken = threading.Event()
ffi.lib._lock.register(taken.set, lambda: None)  # called with LLVM's lock just taken

def asked_in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(twice(2.0)), daemon=True)
    thread.start()
    return thread, found
"""

INTERRUPTED = """
signal.signal(signal.SIGINT, signal.default_int_handler)
ffi.lib._lock.register(lambda: left and os.kill(os.getpid(), left.pop()), lambda: None)
left = [signal.SIGINT]
try:
    twice(2)
except KeyboardInterrupt:
    print("stopped")
thread, found = asked_in_a_thread()
thread.join(60)
print(found, twice(2), flush=True)
os._exit(0)  # a thread that hangs would be waited for
"""

FORKED = """
warnings.simplefilter("ignore")  # Python's, about forks of processes with threads
thread, found = asked_in_a_thread()
assert taken.wait(60)
child = os.fork()
if child == 0:
    signal.alarm(30)  # waits for ever; the first thread might be taken for the one that is missing
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    os._exit(0 if twice(2) == 4 else 1)
thread.join(60)
print(found, os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, or sends SIGINT")
@pytest.mark.parametrize(
    ("program", "says"), [(INTERRUPTED, "stopped\n[4.0] 4\n"), (FORKED, "[4.0] 0\n")]
)
def test_no_lock_stays_taken(tmp_path, program, says):
    (tmp_path / "small.py").write_text(SMALL)
    assert run(AMID + program, PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}") == says


def test_others_read_and_write_halfway_through(tmp_path, monkeypatch):
    """As processes do that share the folder: each finds something whole, or compiles for itself."""
    file_kind, others = "numba.core.caching.IndexDataCacheFile._open_for_write", []
    write = caching.IndexDataCacheFile._open_for_write

    @contextmanager
    def interrupted(self, path):
        with write(self, path) as file:
            yield file
            with monkeypatch.context() as meanwhile:
                meanwhile.setattr(file_kind, write)
                others.append(fresh(tmp_path)(2))

    with monkeypatch.context() as slow:
        slow.setattr(file_kind, interrupted)
        assert fresh(tmp_path)(2) == 4
    assert others == [4, 4], "while the index is written, and while the code is"
    after = fresh(tmp_path)
    assert after(2) == 4
    assert from_files(after)


@pytest.mark.slow  # compiles twice
def test_a_process_after_one_whose_files_were_cut_short(tmp_path):
    """The kernels themselves, all of whose files end early."""
    program = "print(RankSEG(output_mode='multilabel')(probs(shape=(1, 2, 9, 9))).sum().item())"
    first = run(program, NUMBA_CACHE_DIR=str(tmp_path))
    files = [file for file in tmp_path.rglob("*.nb?") if file.is_file()]
    assert files
    for file in files:
        os.truncate(file, file.stat().st_size // 2)
    assert run(program, NUMBA_CACHE_DIR=str(tmp_path)) == first


def test_compiling_is_logged_and_loading_is_not(tmp_path, caplog):
    caplog.set_level("INFO", logger="rankseg.compiling")
    assert fresh(tmp_path)(2) == 4
    assert caplog.messages == ["compiling twice"]
    caplog.clear()
    assert fresh(tmp_path)(2) == 4
    assert caplog.messages == []
