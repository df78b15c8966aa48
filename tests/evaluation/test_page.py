"""docs/does-it-help.md: its code runs and shows what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

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
