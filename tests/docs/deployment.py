"""What the page saves decides as what it came from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from pages import Page

NEEDS = ("onnxruntime", "onnxscript")
MARKS = [pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


def around(page: Page) -> Iterator[None]:
    yield
    expected = page.names["model"](page.names["image"])
    assert (torch.from_numpy(page.names["labels"]) != expected).sum() <= 1  # two softmaxes
    for name in ("with-rankseg.pt2", "alone.pt2"):
        loaded = torch.export.load(page.folder / name).module()
        assert torch.equal(loaded(page.names["image"]), expected)
