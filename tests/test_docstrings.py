"""Examples in docstrings give what they show."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PACKAGES = ("rankseg", "rankseg_integrations")


def modules_with_examples() -> list[str]:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    shown = (path.relative_to(ROOT) for path in sorted(paths) if ">>>" in path.read_text())
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in shown]


@pytest.fixture(autouse=True)
def _same_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_public_modules_show_examples() -> None:
    expected = {"rankseg.api", "rankseg.functional", "rankseg_integrations.torch"}
    expected |= {f"rankseg_integrations.transformers.{name}" for name in ("processor", "semantic")}
    assert expected <= set(modules_with_examples())


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstring_examples(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0, "a '>>>' that doctest does not see"
    assert results.failed == 0, "see the report above"
