"""docs/deployment.md: every block of code runs, and the exported models decide the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python") == 5
    space: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in blocks:
            above = text.count("\n", 0, block.start(1))  # tracebacks give the line of the page
            exec(compile("\n" * above + block[1], str(PAGE), "exec"), space)
        expected = space["model"](space["image"])
        assert (torch.from_numpy(space["labels"]) != expected).sum() <= 1  # two softmaxes
        for name in ("with-rankseg.pt2", "alone.pt2"):
            loaded = torch.export.load(tmp_path / name).module()
            assert torch.equal(loaded(space["image"]), expected)
