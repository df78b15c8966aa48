"""What the SAM page shows, runs; its example takes a checkpoint."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_sam
import torch

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sam.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")  # by sam2


def promptable() -> tiny_sam.Prompted:
    return tiny_sam.build(pytest.importorskip("transformers"), "sam2")


def sam3(place: int) -> Any:
    return tiny_sam.sam3_outputs(pytest.importorskip("transformers"), batch=1)[place]


READERS: dict[str, Callable[[], Any]] = {
    "sam": tiny_sam.original_sam,
    "sam2": tiny_sam.sam2_package,
    "image": lambda: tiny_sam.image(48, 80),
    "picture": lambda: pytest.importorskip("PIL.Image").fromarray(tiny_sam.image(48, 80)),
    "box": lambda: np.array([10, 5, 60, 40]),
    "model": lambda: promptable().model,
    "processor": lambda: promptable().processor,
    "sam3_outputs": lambda: sam3(0),
    "sam3_processor": lambda: sam3(1),
    "logits": lambda: 5 * torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0)),
    "truths": lambda: torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(1)) < 0.5,
}
"""What the reader has already, by the name the page gives it."""


def run(block: str) -> dict[str, Any]:
    """Run one block, given those of the reader's things that it names but does not make."""
    code = re.sub(r"^(?:from|import) .*$", "", block, flags=re.MULTILINE)
    wanted = [name for name in READERS if re.search(rf"(?<![\w.]){name}\b(?!=)", code)]
    namespace = {name: READERS[name]() for name in wanted}
    exec(compile(block, "docs/sam.md", "exec"), namespace)
    return namespace


def test_the_page_has_blocks() -> None:
    assert len(BLOCKS) == PAGE.count("```python") == 10


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_block_runs(block: str) -> None:
    if "mask_generator" in block or "AutomaticMask" in block:
        block = block.replace("(sam)\n", "(sam, points_per_side=4)\n")
    block = block.replace("points_per_batch=64", "points_per_batch=8, points_per_crop=4")
    run(block)


def test_a_broken_block_is_noticed() -> None:
    with pytest.raises(NameError, match="missing"):
        run("logits > missing")


def test_the_temperature_found_is_the_one_that_was_lost() -> None:
    """On truths drawn from logits that are then made 2.5 times too large."""
    block = next(block for block in BLOCKS if "surprise" in block)
    honest = 2 * torch.randn(60, 60, generator=torch.Generator().manual_seed(0))
    drawn = torch.rand(60, 60, generator=torch.Generator().manual_seed(1)) < honest.sigmoid()
    namespace = {"logits": 2.5 * honest, "truths": drawn}
    exec(block, namespace)
    assert namespace["temperature"] == pytest.approx(2.5, abs=0.3)  # 3,600 draws


def test_pictures_are_there() -> None:
    for name in re.findall(r"\]\(([\w-]+\.png)\)", PAGE):
        assert (ROOT / "docs" / name).read_bytes().startswith(b"\x89PNG")


# --- the example -----------------------------------------------------------------------------


def example(folder: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "sam.py"), *options],
        **{"cwd": folder, "capture_output": True, "text": True, "check": False},
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(output: str) -> list[list[float]]:
    lines = [line.replace(",", "").split() for line in output.splitlines()]
    return [[float(word) for word in line] for line in lines if line and line[0] in "012"]


def test_the_example_decides_and_draws(tmp_path: Path) -> None:
    for module in ("segment_anything", "matplotlib", "imgviz"):
        pytest.importorskip(module)
    output = example(tmp_path, "--output", "masks.png")
    assert output.startswith("random weights: the masks show nothing")
    table = rows(output)
    assert len(table) == 3
    for _, _, cut, best, before, after in table:
        assert cut < best
        assert before + 0.01 < after <= 1
    assert (tmp_path / "masks.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_example_takes_a_checkpoint(tmp_path: Path) -> None:
    """SAM ViT-B at full size: random weights, stored as a checkpoint is."""
    library = pytest.importorskip("segment_anything")
    torch.manual_seed(0)
    file = tmp_path / "sam_vit_b.pth"
    torch.save(library.sam_model_registry["vit_b"]().state_dict(), file)
    output = example(tmp_path, "--checkpoint", str(file), "--model-type", "vit_b")
    assert output.startswith(f"vit_b with the weights in {file}")
    assert len(rows(output)) == 3
