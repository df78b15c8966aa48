"""Labels, files and messages are as the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from pages import Page

NEEDS = ("monai", "nibabel")


def around(page: Page) -> Iterator[None]:
    import nibabel

    yield
    names = page.names
    assert names["ours"](names["item"])["pred"].shape[0] == 1
    assert 0.9 < names["metric"].aggregate().item() <= 1
    logits = {"pred": torch.randn(3, 8, 8)}
    bundled, own = names["postprocessing"](logits)["pred"], names["ours"](logits)["pred"]
    assert torch.equal(bundled.float(), own)
    assert names["same_cuts_for_all"](logits)["pred"].shape == (1, 8, 8)
    written, read = (nibabel.load(name) for name in ("out/case_seg.nii.gz", "case.nii.gz"))
    assert (written.affine == read.affine).all()
    assert set(names["labels"].unique().tolist()) == {0, 3, 117}
    message = r"`monai is needed here: pip install\s+\"monai>=1.4\" \"nibabel>=5.2\"`"
    assert re.search(message, page.text), "as test_without_monai_there_is_one_line sees it"
