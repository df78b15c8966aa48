"""Logits on the CPU do as well: nothing has to be switched on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pages import Page

from rankseg import RankSEG


def around(page: Page) -> Iterator[None]:
    page.names |= {"RankSEG": RankSEG, "logits": torch.randn(1, 3, 8, 8)}
    yield
    assert page.names["labels"].shape == (1, 8, 8)
