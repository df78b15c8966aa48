"""A small module and loaders; the log, the files, and the configuration file."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pages import Page
from tiny_lightning import FILTERS, Items, probs_of, space
from torch.utils.data import DataLoader

NEEDS = ("lightning", "jsonargparse", "PIL")
MARKS = [
    *FILTERS,
    pytest.mark.filterwarnings("ignore:\\s*(By default only one Jsonargparse|.*was deprecated)"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]
QUIET = "accelerator='cpu', enable_progress_bar=False, enable_model_summary=False, logger=False, "


class Masked(Items):
    """The reader's data set: the truth is called mask."""

    def __getitem__(self, place: int) -> dict[str, Any]:
        item = super().__getitem__(place)
        return {"image": item["image"], "mask": item["target"], "name": f"scan_{place}.png"}


def things() -> dict[str, Any]:
    """Module and loaders, untouched by an earlier trainer."""
    loader = DataLoader(Masked(5), batch_size=2)
    names = ("train_loader", "val_loader", "predict_loader")
    module = space("lightning").module(lambda b: {"logits": probs_of(b["image"]).log()})
    return {"model": module, **dict.fromkeys(names, loader)}


def around(page: Page) -> Iterator[None]:
    page.replaced["L.Trainer("] = f"L.Trainer({QUIET}"
    page.fresh["L.Trainer("] = things
    yield
    from PIL import Image

    fitted, predicted, _ = page.after
    logged = fitted["trainer"].callback_metrics
    assert {"val/dice_argmax", "val/dice_rankseg", "val/iou_gain"} <= set(logged)
    gain = logged["val/dice_rankseg"] - logged["val/dice_argmax"]
    assert float(logged["val/dice_gain"]) == pytest.approx(float(gain), abs=1e-6)
    first = predicted["predictions"][0]
    assert set(first) == {"prediction"}
    assert (first["prediction"].dtype, first["prediction"].shape) == (torch.int64, (2, 8, 8))
    files = sorted(path.name for path in (page.folder / "masks").iterdir())
    assert files == [f"scan_{number}.png" for number in range(5)]
    written = np.asarray(Image.open(page.folder / "masks" / "scan_1.png"))
    assert (written == first["prediction"][1].numpy()).all()
    the_configuration_is_read(page)


def the_configuration_is_read(page: Page) -> None:
    extra = "seed_everything: false\ntrainer:\n  logger: false\n  enable_progress_bar: false\n"
    config = page.folder / "config.yaml"
    config.write_text(page.yaml[0].replace("trainer:\n", extra))
    cli = importlib.import_module("lightning.pytorch.cli").LightningCLI(
        type(space("lightning").module(lambda _: None)),
        run=False,
        args=["--config", str(config)],
        save_config_callback=None,
    )
    kinds = [type(callback).__name__ for callback in cli.trainer.callbacks]
    assert kinds[:2] == ["RankSEGEvaluation", "RankSEGWriter"]
    assert cli.trainer.callbacks[0].rankseg.settings.metric == "iou"
