"""docs/monai.md: every block of code runs, and what it says of memory and messages holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("monai")
nib = pytest.importorskip("nibabel")

PAGE = Path(__file__).parents[2] / "docs" / "monai.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python") > 5
    space: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in blocks:
            above = text.count("\n", 0, block.start(1))  # tracebacks give the line of the page
            exec(compile("\n" * above + block[1], str(PAGE), "exec"), space)
    assert space["ours"](space["item"])["pred"].shape[0] == 1
    assert 0.9 < space["metric"].aggregate().item() <= 1
    logits = {"pred": torch.randn(3, 8, 8)}
    assert torch.equal(
        space["postprocessing"](logits)["pred"].float(), space["ours"](logits)["pred"]
    )
    assert space["same_cuts_for_all"](logits)["pred"].shape == (1, 8, 8)
    written, read = (nib.load(tmp_path / name) for name in ("out/case_seg.nii.gz", "case.nii.gz"))
    assert (written.affine == read.affine).all()
    assert set(space["labels"].unique().tolist()) == {0, 3, 117}
    message = r"`(monai is needed here: pip install\s+\"rankseg\[monai\]\")`"
    assert re.search(message, text), "as test_without_monai_there_is_one_line sees it"
