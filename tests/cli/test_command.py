"""The command itself: help, version, progress, optional packages."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import rankseg
from rankseg._require import require
from rankseg.solvers import SOLVERS


def test_version(run):
    assert run("--version") == (0, f"rankseg {rankseg.__version__}\n")


def test_help_names_the_commands(run):
    code, text = run("--help")
    assert code == 0
    commands = ("bench", "calibrate", "demo", "evaluate", "predict", "tune")
    assert [name for name in commands if name not in text] == []


@pytest.mark.parametrize("command", ["demo", "evaluate", "predict"])
def test_help_names_every_solver(run, command):
    text = run(command, "--help")[1]
    assert [name for name in SOLVERS if not re.search(rf"\b{re.escape(name)}\b", text)] == []


def test_progress_bar_is_seen_on_a_terminal_only(run, saved, tmp_path, out, monkeypatch):
    (tmp_path / "other.npy").write_bytes(saved.read_bytes())
    arguments = ("predict", saved, tmp_path / "other.npy", "--output", out, "--overwrite")
    assert run(*arguments)[1] == f"wrote 2 files to {out}\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    code, text = run(*arguments)
    assert code == 0
    assert "deciding" in text
    assert "2/2" in text


def test_a_warning_is_one_line_and_names_the_file(run, tmp_path, out):
    logits = 8 * np.random.default_rng(3).normal(size=(3, 80, 80))
    for _ in range(2):  # softmax, twice
        logits = np.exp(logits) / np.exp(logits).sum(0)
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, logits)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, text = run("predict", tmp_path / "a.npy", tmp_path / "b.npy", "--output", out)
    assert code == 0
    why = (
        "probs fill the range from 0.212 to 0.576, as softmax applied twice does; if so, pass the "
        "probabilities, or the logits with --activation softmax"
    )
    assert text.splitlines() == [
        *(f"rankseg: warning: {tmp_path / name}: {why}" for name in ("a.npy", "b.npy")),
        f"wrote 2 files to {out}",
    ]


def printing_to(stdout, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rankseg", *map(str, arguments)]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_stdout_that_is_full_is_one_line(saved, tmp_path, out):
    missing = tmp_path / "missing.npy"
    with open("/dev/full", "w") as full:
        done = printing_to(full, "predict", saved, missing, "--output", out)
    assert done.returncode == 1
    assert done.stderr == (
        "rankseg: cannot print the result: No space left on device\n"
        f"failed: {missing}: No such file or directory\n"
    )
    assert [path.name for path in out.iterdir()] == ["image.npy"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_stdout_that_is_full_is_one_line_for_the_demo(tmp_path, options):
    with open("/dev/full", "w") as full:
        done = printing_to(full, "demo", "--output", tmp_path / "x.png", *options)
    lines = done.stderr.splitlines()  # the network's runtime may say something first
    assert (done.returncode, lines[-1]) == (
        1,
        "rankseg: cannot print the result: No space left on device",
    )
    assert "Traceback" not in done.stderr


def test_stdout_that_nobody_reads_is_one_line(saved, out):
    reader, writer = os.pipe()
    os.close(reader)
    done = printing_to(writer, "predict", saved, "--output", out)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "rankseg: cannot print the result: Broken pipe\n")


def test_require_returns_the_module():
    assert require("io", "files") is io


def test_require_names_the_extra(monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):  # another test may have imported it
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'^matplotlib is needed here: pip install "ai-edge-'):
        require("matplotlib.figure", "demo")


def test_require_tells_a_broken_package_from_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "broken_guest.py").write_text("import no_such_thing")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"cannot be imported \(No module named 'no_such_thing"):
        require("broken_guest", "demo")


def test_compiling_is_told_once_and_on_a_terminal_only(run, saved, tmp_path, monkeypatch):
    def compiling(*arguments: object) -> None:
        for name in ("histogram", "assign"):
            logging.getLogger("rankseg.compiling").info("compiling %s", name)

    monkeypatch.setattr("rankseg.batch.run", compiling)
    predict = ("predict", saved, "--output", tmp_path / "out")
    assert "compiling, once" not in run(*predict)[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(*predict)[1].count("rankseg: compiling, once: some ten seconds\n") == 1
    monkeypatch.delenv("FORCE_COLOR")
    assert "compiling, once" not in run(*predict)[1]
