"""One rank of tests/integrations/test_distributed.py: python ranks.py RANK FOLDER.

Every case runs on both ranks, in order; what came of each is written to a file of this rank.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from rankseg import RankSEG
from rankseg_integrations.distributed import decide

CONFIGURATIONS: tuple[dict[str, Any], ...] = (
    {"metric": "dice"},
    {"metric": "iou", "output_mode": "multilabel", "pruning_prob": 0.0},
    {"metric": "dice", "assignment": "ascent", "smooth": 1.0},
    {"solver": "argmax"},
)
SPLITS = 12
WORLD = 2


def tiles(seed: int) -> list[torch.Tensor]:
    """Tiles of different shapes and batches, with one number of classes."""
    random = np.random.default_rng(seed)
    classes = int(random.integers(1, 5))
    found = []
    for number in range(int(random.integers(1, 7))):
        shape = (random.integers(1, 3), classes, *random.integers(1, 20, 2))
        logits = random.normal(number / 2, 2, shape).astype(np.float32)
        logits[:, 0] -= number
        found.append(torch.from_numpy(logits).sigmoid() / classes ** (seed % 2))
    return found


def owner(seed: int, tile: int) -> int:
    """The rank that holds a tile; now and then one rank holds none."""
    return 0 if seed % 5 == 0 else int(np.random.default_rng([seed, tile]).integers(WORLD))


def mine(seed: int, rank: int) -> list[torch.Tensor]:
    return [tile for number, tile in enumerate(tiles(seed)) if owner(seed, number) == rank]


def split(seed: int) -> Callable[[int], Any]:
    def case(rank: int) -> Any:
        rankseg = RankSEG(**CONFIGURATIONS[seed % len(CONFIGURATIONS)])
        return vars(decide(mine(seed, rank), rankseg))

    return case


class Breaks:
    """Tiles whose third visit fails."""

    def __init__(self, given: list[torch.Tensor]) -> None:
        self.given = given
        self.visits = 0

    def __iter__(self) -> Iterator[torch.Tensor]:
        self.visits += 1
        if self.visits == 3:
            raise OSError("disk is gone")
        return iter(self.given)


def nobody(rank: int) -> Any:
    return decide([], RankSEG("dice"))


def one_tensor(rank: int) -> Any:
    return vars(decide(torch.cat(tiles(3)[:1])[:, :, rank::2], RankSEG("dice")))


def not_a_number(rank: int) -> Any:
    return decide([torch.full((1, 2, 3), float("nan") if rank else 0.5)], RankSEG("dice"))


def classes_differ(rank: int) -> Any:
    return decide([torch.full((1, 2 + rank, 3), 0.3)], RankSEG("dice"))


def breaks_on_one(rank: int) -> Any:
    return decide(Breaks(tiles(1)) if rank else tiles(1), RankSEG("dice"))


def gives_tiles_once(rank: int) -> Any:
    return decide(tiles(1) if rank else iter(tiles(1)), RankSEG("dice"))


def settings_differ(rank: int) -> Any:
    return decide(tiles(1), RankSEG("iou" if rank else "dice"))


def alone_in_a_group(rank: int) -> Any:
    groups = [dist.new_group([member]) for member in range(WORLD)]
    return vars(decide(tiles(rank), RankSEG("dice"), group=groups[rank]))


def in_another_group(rank: int) -> Any:
    group = dist.new_group([0])
    return vars(decide(tiles(0), RankSEG("dice"), group=group))


CASES: dict[str, Callable[[int], Any]] = {
    **{f"split {seed}": split(seed) for seed in range(SPLITS)},
    **{
        case.__name__: case
        for case in (
            *(nobody, one_tensor, not_a_number, classes_differ, breaks_on_one, gives_tiles_once),
            *(settings_differ, alone_in_a_group, in_another_group),
        )
    },
    "afterwards": split(1),
}


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=(folder / "meeting").as_uri(),
        rank=rank,
        world_size=WORLD,
        timeout=timedelta(seconds=60),
    )
    outcome: dict[str, Any] = {}
    for name, case in CASES.items():
        try:
            outcome[name] = case(rank)
        except Exception as error:
            outcome[name] = f"{type(error).__name__}: {error}"
    (folder / f"rank-{rank}.json").write_text(json.dumps(outcome))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
