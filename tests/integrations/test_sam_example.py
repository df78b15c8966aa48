"""The SAM example decides and draws, and takes a checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


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
