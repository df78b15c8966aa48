"""A stopped run leaves no half file. Real processes, real signals."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# Writes half of the second result, says so, and waits to be stopped.
SCRIPT = """
import signal, time
import numpy as np
from rankseg.cli import app

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may ignore it
whole, count = np.save, 0

def half(file, array, **options):
    global count
    count += 1
    if count == 1:
        return whole(file, array, **options)
    file.write(b"half a result")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)

np.save = half
app()
"""


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGKILL, -9, None),
    ],
)
def test_stopped_in_the_midst_of_a_write(tmp_path: Path, saved: Path, number, code, word) -> None:
    (tmp_path / "second.npy").write_bytes(saved.read_bytes())
    out = tmp_path / "out"
    arguments = ("predict", saved, tmp_path / "second.npy", "--output", out)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert len(list(out.iterdir())) == 2, "one result and one temporary file"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    visible = [path for path in out.iterdir() if not path.name.startswith(".")]
    assert [path.name for path in visible] == ["image.npy"]
    assert np.load(visible[0]).shape == (6, 5)
    if word:  # nothing can clean up after SIGKILL; its left-over is hidden and never a result
        assert len(list(out.iterdir())) == 1
        assert errors == f"rankseg: {word}: 1 result is written and complete, no table\n"


def test_module_runs_like_the_command(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "rankseg", "predict", str(saved), "--output", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"wrote 1 file to {out}\n", "")


def test_signal_handler_is_put_back(run, saved: Path, out: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert run("predict", saved, "--output", out)[0] == 0
    assert signal.getsignal(signal.SIGTERM) is before
