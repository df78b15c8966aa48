"""Memory of an evaluation does not grow with the number of images: 10,000 pairs of files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pairs_on_disk import make

from rankseg.evaluation import file_pairs

IMAGES, FIRST, DIFFERENT = 10_000, 1_000, 20
SLACK = 24 * 2**20
"""Bytes: names and folds of 9,000 images, and what allocators keep; one image takes 0.8 MB."""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of 10,000 pairs of 256 x 256 x 3: twenty different ones under many names."""
    found = (tmp_path / "probs", tmp_path / "labels")
    for folder in found:
        folder.mkdir()
    for number, pair in enumerate(make(DIFFERENT, shape=(256, 256))):
        for folder, array in zip(found, pair, strict=True):
            first = folder / f"{number:05d}.npy"
            np.save(first, array)
            for other in range(number + DIFFERENT, IMAGES, DIFFERENT):
                os.link(first, folder / f"{other:05d}.npy")
    return found


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """On a busy machine, threads of small images wait for each other ten times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def resident() -> int:
    """Bytes of this process that are in memory, pages of mapped files left out."""
    _, resident, shared = Path("/proc/self/statm").read_text().split()[:3]
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.usefixtures("_one_thread")
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_ten_thousand_images_take_no_more_memory_than_a_thousand(run, folders, monkeypatch):
    seen: dict[int, int] = {}
    item = file_pairs.FilePairs._item

    def counted(*arguments):
        counted.number += 1
        if counted.number % FIRST == 0:
            seen[counted.number] = resident()
        return item(*arguments)

    counted.number = 0
    monkeypatch.setattr(file_pairs.FilePairs, "_item", counted)
    monkeypatch.setenv("FORCE_COLOR", "1")
    code, text = run("evaluate", *folders)
    assert code == 0
    assert f"Mean over {IMAGES} images" in text
    assert "evaluating" in text
    print({number: f"{bytes_ / 2**20:.0f} MiB" for number, bytes_ in seen.items()})
    assert seen[IMAGES] - seen[FIRST] < SLACK
