"""Folders of predictions and truths for the commands; what the code finds."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from console import rankseg
from pages import Page

NEEDS = ("sklearn", "nibabel", "rasterio", "PIL")


def around(page: Page) -> Iterator[None]:
    from pairs_on_disk import make, save

    save(page.folder, make(6), ".npz", ".png")
    volumes = save(page.folder / "volumes", make(5, shape=(4, 6, 5)), ".npz", ".nii.gz")
    volumes[0].rename("predictions")
    volumes[1].rename("labelsTr")
    page.replaced['(found, "report.html")'] = '(found, "python.html")'  # commands write it, too
    yield
    assert page.names["calibrator"].slope == pytest.approx((2, 2, 2), rel=0.1), "half as sure"
    assert page.names["found"].images == 20
    assert page.names["labels"].shape == (1, 32, 32)
    inline = 'evaluate "predictions/*.npz" labelsTr --no-batched'
    assert f"`rankseg {inline}`" in page.text
    rankseg(shlex.split(inline))
    names = {path.name for path in page.folder.iterdir()}
    assert {"report.html", "evaluation.json", "calibrator.json", "tuned.json"} <= names
    assert len(list(Path("masks").iterdir())) == 6
    assert np.load("masks/case 0.npy").shape == (12, 10)
