"""Small modules, loaders and trainers of both names of Lightning, for the tests."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

NAMESPACES = ("lightning", "pytorch_lightning")

FILTERS = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        *(
            ".*treespec, LeafSpec.*is deprecated",
            "predict returned None",
            "The '.*_dataloader' does",
        ),
        ".*sampler has shuffling enabled",
    )
]
"""Warnings that Lightning gives of itself."""


class Items(Dataset[dict[str, Any]]):
    """Images (1, H, W), with names and labels."""

    def __init__(self, size: int = 7, side: int = 8, names: Sequence[Any] | None = None) -> None:
        generator = torch.Generator().manual_seed(size)
        self.images = torch.randn(size, 1, side, side, generator=generator)
        self.labels = torch.randint(0, 3, (size, side, side), generator=generator)
        self.names = names or [f"image {number}" for number in range(size)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> dict[str, Any]:
        keys = ("image", "target", "name")
        values = (self.images[place], self.labels[place], self.names[place])
        return dict(zip(keys, values, strict=True))


def loader(size: int = 7, batch_size: int = 3, **options: Any) -> DataLoader[dict[str, Any]]:
    return DataLoader(Items(size, **options), batch_size=batch_size)


def probs_of(images: Tensor) -> Tensor:
    """Probabilities of three classes, the network of these tests: it needs no training."""
    return torch.cat([images, -images, 0.3 * images.roll(1, -1)], 1).softmax(1)


@dataclass(frozen=True)
class Space:
    """One of the two names: the framework and the adapter for it."""

    pl: ModuleType
    rankseg: ModuleType

    def trainer(self, *callbacks: Any, **options: Any) -> Any:
        quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        settings = {**dict.fromkeys(quiet, False), "accelerator": "cpu", **options}
        return self.pl.Trainer(callbacks=list(callbacks), **settings)

    def module(self, step: Callable[[dict[str, Any]], Any]) -> Any:
        """Module whose steps return what `step` makes of the batch."""

        class Module(self.pl.LightningModule):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(()))

            def training_step(self, batch: Any, batch_idx: int) -> Any:
                return self.weight * 1.0

            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), 0.1)

            def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
                return step(batch)

            def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
                return step(batch)

            def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
                return step(batch)

        return Module()


def space(name: str) -> Space:
    framework = "lightning.pytorch" if name == "lightning" else name
    return Space(
        pytest.importorskip(framework), importlib.import_module(f"rankseg_integrations.{name}")
    )
