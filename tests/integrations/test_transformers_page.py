"""docs/hugging-face.md: every block of code runs, and what it says in passing holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

PAGE = Path(__file__).parents[2] / "docs" / "hugging-face.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_runs() -> None:
    text = PAGE.read_text()
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python") > 3
    namespace: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in blocks:
            above = text.count("\n", 0, block.start(1))  # tracebacks give the line of the page
            exec(compile("\n" * above + block[1], str(PAGE), "exec"), namespace)
    assert namespace["after"][0].shape == namespace["before"][0].shape == (60, 80)
    assert namespace["probs"].shape == (4, 60, 80)


def test_the_page_names_every_family() -> None:
    from rankseg_integrations.transformers.families import FAMILIES

    (table,) = re.findall(r"^## Families\n(.*?)^## ", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for name in (*FAMILIES, "seggpt"):
        assert re.search(rf"\b{name}\b", table), name
