"""The command itself: help, version, progress, optional packages."""

from __future__ import annotations

import io
import sys

import pytest

import rankseg
from rankseg._require import require


def test_version(run):
    assert run("--version") == (0, f"rankseg {rankseg.__version__}\n")


def test_help_names_the_commands_and_keeps_the_brackets(run):
    code, text = run("--help")
    assert code == 0
    assert "demo" in text
    assert "predict" in text
    assert "rankseg[files]" in run("predict", "--help")[1]


def test_progress_bar_is_seen_on_a_terminal_only(run, saved, tmp_path, out, monkeypatch):
    (tmp_path / "other.npy").write_bytes(saved.read_bytes())
    arguments = ("predict", saved, tmp_path / "other.npy", "--output", out, "--overwrite")
    assert run(*arguments)[1] == f"wrote 2 files to {out}\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    code, text = run(*arguments)
    assert code == 0
    assert "deciding" in text
    assert "2/2" in text


def test_require_returns_the_module():
    assert require("io", "files") is io


def test_require_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'^matplotlib is needed here: pip install "rankseg\[d'):
        require("matplotlib.figure", "demo")


def test_require_tells_a_broken_package_from_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "broken_guest.py").write_text("import no_such_thing")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"cannot be imported \(No module named 'no_such_thing"):
        require("broken_guest", "demo")
