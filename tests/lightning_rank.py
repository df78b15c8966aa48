"""Two processes for tests/integrations/test_lightning_processes.py, started by Lightning itself.

python lightning_rank.py NAMESPACE FOLDER; each process writes what it saw to a file of its own.
"""

from __future__ import annotations

import json
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from tiny_lightning import Items, Space, loader, probs_of, space
from torch.utils.data import DataLoader

NAMES = [f"image {number}" for number in range(7)]


def step(batch: Any) -> Any:
    return {"probs": probs_of(batch["image"])}


def broken(batch: Any) -> Any:
    """NaN in a sample of the second process only: image 5 is its third."""
    probs = probs_of(batch["image"])
    probs[[name == "image 5" for name in batch["name"]], 0, 0, 0] = float("nan")
    return {"probs": probs}


def one_sided(batch: Any) -> Any:
    """Nothing to evaluate in the second process."""
    return None if torch.distributed.get_rank() else step(batch)


def predict(here: Space, folder: Path, step: Any, data: Any, **options: Any) -> Any:
    writer = here.rankseg.RankSEGWriter(folder, "probs", "name", **options)
    trainer = new_trainer(here, writer)
    try:
        trainer.predict(here.module(step), data, return_predictions=False)
    except ValueError as error:
        return str(error)
    return None


def validate(here: Space, step: Any, data: Any) -> Any:
    trainer = new_trainer(here, here.rankseg.RankSEGEvaluation())
    (found,) = trainer.validate(here.module(step), data, verbose=False)
    return found


def new_trainer(here: Space, *callbacks: Any) -> Any:
    strategy = here.pl.strategies.DDPStrategy(
        process_group_backend="gloo", timeout=timedelta(seconds=60)
    )
    return here.trainer(*callbacks, devices=2, strategy=strategy)


def main(name: str, folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    here = space(name)
    twins = DataLoader(Items(4, names=["a", "b/x", "d/x", "c"]), batch_size=1)
    outcome = {
        "written": predict(here, folder / "written", step, loader(7, 2)),
        "evaluated": validate(here, step, loader(6, 2)),
        "one sided": validate(here, one_sided, loader(6, 2)),
        "broken": predict(here, folder / "broken", broken, loader(7, 2)),
        "twins": predict(here, folder / "twins", step, twins, overwrite=True),
    }
    rank = torch.distributed.get_rank()
    (folder / f"rank-{rank}.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
