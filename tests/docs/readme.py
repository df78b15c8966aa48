"""The reader's own probabilities, for the first block alone: what comes later makes its own."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pages import Page, pairs_of_files

from rankseg import RankSEG

NEEDS = ("imgviz", "ai_edge_litert", "transformers", "monai")


def around(page: Page) -> Iterator[None]:
    page.names["probs"] = torch.rand(2, 4, 16, 16).softmax(1)
    yield from pairs_of_files(page)
    first = page.after[0]
    assert torch.equal(first["labels"], RankSEG("dice")(first["probs"]))
