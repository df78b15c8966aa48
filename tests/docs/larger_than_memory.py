"""A process group of one, and as many visits as the table says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pages import Page
from torch import Tensor

from rankseg import RankSEG

NEEDS = ("dask.array", "zarr")


def around(page: Page) -> Iterator[None]:
    page.names["my_tiles"] = [torch.rand(1, 3, 8, 8).softmax(1)]
    store = dist.FileStore(str(page.folder / "ranks"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()
    names = page.names
    assert names["same"] == RankSEG("dice").decide(names["tiles"])
    probs = torch.from_numpy(names["probs"].compute())[None]
    assert (names["labels"].compute() == RankSEG("dice")(probs)[0].numpy()).all()
    assert [labels.shape for labels in names["predictions"]] == [(1, 8, 8)]
    for row, options in ROWS.items():
        visits_are_as_said(page.text, row, options)


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


def visits_are_as_said(text: str, row: str, options: dict[str, Any]) -> None:
    (stated,) = re.findall(rf"^\| {re.escape(row)} \| (.*?) \|", text, re.MULTILINE)
    numbers = [int(number) for number in stated.split(" to ")]
    random = torch.Generator().manual_seed(0)
    for _ in range(3):
        logits = 3 * torch.randn(1, 6, 12, 12, generator=random)
        source = Counted(F.interpolate(logits, (300, 300), mode="bicubic").softmax(1))
        RankSEG("dice", **options).decide(source)
        assert numbers[0] <= source.visits <= numbers[-1], (row, source.visits)
