"""Every example runs; the quickstart shows a gain."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(example: Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example: Path, tmp_path: Path) -> None:
    output = run(example, tmp_path)
    assert output.strip(), "an example shows something"
    if example.stem == "quickstart":
        check_quickstart(output)


def check_quickstart(output: str) -> None:
    rows = {words[0]: [float(word) for word in words[1:]] for words in table(output)}
    assert list(rows) == ["background", "organ", "lesion", "mean"]
    assert rows["mean"][1] > rows["mean"][0] + 0.02
    assert rows["lesion"][1] > rows["lesion"][0] + 0.05


def table(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()[1:]]
