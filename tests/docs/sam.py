"""Small SAM models of all libraries; a known temperature is found."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tiny_sam
import torch
from pages import Page, blocks

NEEDS = ("transformers", "segment_anything", "sam2")
MARKS = [pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")]  # by sam2


def around(page: Page) -> Iterator[None]:
    transformers = pytest.importorskip("transformers")
    prompted = tiny_sam.build(transformers, "sam2")
    outputs, processor = tiny_sam.sam3_outputs(transformers, batch=1)
    page.names |= {
        "sam": tiny_sam.original_sam(),
        "sam2": tiny_sam.sam2_package(),
        "image": tiny_sam.image(48, 80),
        "picture": pytest.importorskip("PIL.Image").fromarray(tiny_sam.image(48, 80)),
        "box": np.array([10, 5, 60, 40]),
        "model": prompted.model,
        "processor": prompted.processor,
        "sam3_outputs": outputs,
        "sam3_processor": processor,
        "logits": 5 * torch.randn(3, 12, 12),
        "truths": torch.rand(3, 12, 12) < 0.5,
    }
    page.replaced |= {
        "SamAutomaticMaskGenerator(sam)": "SamAutomaticMaskGenerator(sam, points_per_side=4)",
        "points_per_batch=64": "points_per_batch=8, points_per_crop=4",
    }
    yield
    assert page.names["masks"].shape == (3, 12, 12)
    the_temperature_that_was_lost_is_found(page)


def the_temperature_that_was_lost_is_found(page: Page) -> None:
    """On truths drawn from logits that are then made 2.5 times too large."""
    (block,) = (block for block in blocks(page.text) if "def surprise" in block.code)
    honest = 2 * torch.randn(60, 60, generator=torch.Generator().manual_seed(0))
    drawn = torch.rand(60, 60, generator=torch.Generator().manual_seed(1)) < honest.sigmoid()
    names = {"logits": 2.5 * honest, "truths": drawn}
    exec(block.code, names)
    assert names["temperature"] == pytest.approx(2.5, abs=0.3)  # 3,600 draws
