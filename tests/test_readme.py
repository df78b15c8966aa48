"""What the documentation shows, runs: the README's Python blocks, and examples in docstrings."""

from __future__ import annotations

import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]
PACKAGES = ("rankseg", "rankseg_integrations")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def modules_with_examples() -> list[str]:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    shown = (path.relative_to(ROOT) for path in sorted(paths) if ">>>" in path.read_text())
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in shown]


def run_blocks(text: str) -> int:
    """Run the Python blocks of a page in order, in one namespace; return how many there are.

    The first block of the README opens with the reader's own `probs`, so it is given some. They
    are taken away afterwards: what comes later has to make its own.
    """
    namespace: dict[str, Any] = {"probs": torch.rand(2, 4, 16, 16).softmax(1)}
    blocks = list(BLOCK.finditer(text))
    for block in blocks:
        above = text.count("\n", 0, block.start(1))  # tracebacks give the line of the page
        exec(compile("\n" * above + block[1], "README.md", "exec"), namespace)
        if block is blocks[0]:
            del namespace["probs"]
    return len(blocks)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it saves a file
    text = (ROOT / "README.md").read_text()
    assert run_blocks(text) == text.count("```python") > 0


def test_a_broken_block_is_noticed() -> None:
    page = "```python\nx = probs\n```\ntext\n```python\nx.sum()\n{}\n```\n"
    assert run_blocks(page.format("")) == 2
    with pytest.raises(NameError, match="probs"):
        run_blocks(page.format("probs"))
    with pytest.raises(AttributeError, match="summ"):
        run_blocks(page.format("x.summ()"))


def test_public_modules_show_examples() -> None:
    expected = {"rankseg.api", "rankseg.functional", "rankseg_integrations.torch"}
    expected |= {f"rankseg_integrations.transformers.{name}" for name in ("processor", "semantic")}
    assert expected <= set(modules_with_examples())


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstring_examples(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0, "a '>>>' that doctest does not see"
    assert results.failed == 0, "see the report above"
