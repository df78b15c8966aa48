"""docs/larger-than-memory.md: every block of code runs, and what it says of visits holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rankseg import RankSEG

PAGE = Path(__file__).parents[2] / "docs" / "larger-than-memory.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask.array")
    pytest.importorskip("zarr")
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python") > 4
    namespace: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in blocks:
            above = text.count("\n", 0, block.start(1))  # tracebacks give the line of the page
            exec(compile("\n" * above + block[1], str(PAGE), "exec"), namespace)
    assert namespace["same"] == namespace["rankseg"].decide(namespace["tiles"])
    assert namespace["predictions"][0].shape == (1, 64, 64)
    probs = torch.from_numpy(namespace["probs"].compute())[None]
    assert (namespace["labels"].compute() == RankSEG("dice")(probs)[0].numpy()).all()


class Counted:
    """A source of one tile that counts its visits."""

    def __init__(self, tile: Tensor) -> None:
        self.tile = tile
        self.visits = 0

    def reduce(self, ask: Callable[[Tensor], Any]) -> Any:
        self.visits += 1
        return ask(self.tile)


ROWS: dict[str, dict[str, Any]] = {
    'labels, `assignment="published"`': {},
    'labels, `assignment="ascent"`': {"assignment": "ascent"},
    "masks": {"output_mode": "multilabel"},
    '`metric="acc"`, `solver="argmax"`': {"solver": "argmax"},
    '`solver="TR"`': {"solver": "TR", "output_mode": "multilabel"},
}


@pytest.mark.parametrize("row", ROWS)
def test_visits_are_as_the_page_says(row: str) -> None:
    (stated,) = re.findall(rf"^\| {re.escape(row)} \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    numbers = [int(number) for number in stated.split(" to ")]
    random = torch.Generator().manual_seed(0)
    for _ in range(3):
        logits = 3 * torch.randn(1, 6, 12, 12, generator=random)
        source = Counted(F.interpolate(logits, (300, 300), mode="bicubic").softmax(1))
        RankSEG("dice", **ROWS[row]).decide(source)
        assert numbers[0] <= source.visits <= numbers[-1]
