"""docs/does-it-help.md: its code runs and shows what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pairs_on_disk import make, save
from typer.testing import CliRunner

from rankseg.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "does-it-help.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    namespace: dict[str, Any] = {}
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python") > 0
    for block in blocks:
        above = text.count("\n", 0, block.start(1))  # tracebacks give the line of the page
        exec(compile("\n" * above + block[1], str(PAGE), "exec"), namespace)
    assert namespace["calibrator"].slope == pytest.approx((2, 2, 2), rel=0.1), "half as sure"
    assert namespace["found"].images == 20
    assert namespace["labels"].shape == (1, 32, 32)


def commands() -> list[list[str]]:
    """Arguments of every command on the page, inline ones last."""
    text = PAGE.read_text()
    lines = re.findall(r"^\$ rankseg (.*)$", text, re.MULTILINE)
    return [shlex.split(line) for line in [*lines, *re.findall(r"`rankseg ([^`]*)`", text)]]


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    save(tmp_path, make(6), ".npz", ".png")
    volumes = save(tmp_path / "volumes", make(5, shape=(4, 6, 5)), ".npz", ".nii.gz")
    volumes[0].rename("predictions")
    volumes[1].rename("labelsTr")
    assert len(commands()) == 6
    for arguments in commands():
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, (arguments, done.output)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"report.html", "evaluation.json", "calibrator.json", "tuned.json"} <= names
    assert len(list(Path("masks").iterdir())) == 6
    assert np.load("masks/case 0.npy").shape == (12, 10)
