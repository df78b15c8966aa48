"""What the Lightning page shows, runs."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_lightning import FILTERS, Items, probs_of, space
from torch.utils.data import DataLoader

pytest.importorskip("lightning")
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lightning.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
pytestmark = [
    *FILTERS,
    pytest.mark.filterwarnings("ignore:\\s*(By default only one Jsonargparse|.*was deprecated)"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]


class Masked(Items):
    """The reader's data set: the truth is called mask."""

    def __getitem__(self, place: int) -> dict[str, Any]:
        item = super().__getitem__(place)
        return {"image": item["image"], "mask": item["target"], "name": f"scan_{place}.png"}


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The names that each block made."""
    monkeypatch.chdir(tmp_path)
    loader = DataLoader(Masked(5), batch_size=2)
    names = ("train_loader", "val_loader", "predict_loader")
    namespaces = []
    for block in BLOCKS:
        module = space("lightning").module(lambda b: {"logits": probs_of(b["image"]).log()})
        namespaces.append({"model": module, **dict.fromkeys(names, loader)})
        exec(compile(quiet(block), "docs/lightning.md", "exec"), namespaces[-1])
    return namespaces


def quiet(block: str) -> str:
    """On the CPU, and without files of Lightning's own."""
    silent = "accelerator='cpu', enable_progress_bar=False, enable_model_summary=False"
    return block.replace("L.Trainer(", f"L.Trainer({silent}, logger=False, ")


def test_every_block_runs(found: list[dict[str, Any]], tmp_path: Path) -> None:
    assert len(BLOCKS) == PAGE.count("```python") == 3
    fitted, predicted, _ = found
    logged = fitted["trainer"].callback_metrics
    assert {"val/dice_argmax", "val/dice_rankseg", "val/iou_gain"} <= set(logged)
    gain = logged["val/dice_rankseg"] - logged["val/dice_argmax"]
    assert float(logged["val/dice_gain"]) == pytest.approx(float(gain), abs=1e-6)
    first = predicted["predictions"][0]
    assert set(first) == {"prediction"}
    assert (first["prediction"].dtype, first["prediction"].shape) == (torch.int64, (2, 8, 8))
    files = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert files == [f"scan_{number}.png" for number in range(5)]
    written = np.asarray(Image.open(tmp_path / "masks" / "scan_1.png"))
    assert (written == first["prediction"][1].numpy()).all()


def test_the_configuration_file_is_read(tmp_path: Path) -> None:
    pytest.importorskip("jsonargparse")
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    extra = "seed_everything: false\ntrainer:\n  logger: false\n  enable_progress_bar: false\n"
    (tmp_path / "config.yaml").write_text(text.replace("trainer:\n", extra))
    here = space("lightning")
    cli = importlib.import_module("lightning.pytorch.cli").LightningCLI(
        type(here.module(lambda _: None)),
        run=False,
        args=["--config", str(tmp_path / "config.yaml")],
        save_config_callback=None,
    )
    kinds = [type(callback).__name__ for callback in cli.trainer.callbacks]
    assert kinds[:2] == ["RankSEGEvaluation", "RankSEGWriter"]
    assert cli.trainer.callbacks[0].rankseg.settings.metric == "iou"


def test_links_and_pictures_are_there() -> None:
    for name in re.findall(r"\]\(([\w./-]+?)(?:#[\w-]+)?\)", PAGE):
        assert (ROOT / "docs" / name).is_file(), name
