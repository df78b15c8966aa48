"""The reader's own probabilities, and what each framework has at the place that is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pages import Page, setting

from rankseg import RankSEG

LIGHTNING, NNUNET, SAM = (setting(name) for name in ("lightning", "nnunet", "sam"))
MARKS = [*LIGHTNING.MARKS, *NNUNET.MARKS, *SAM.MARKS]


def around(page: Page) -> Iterator[None]:
    page.names["probs"] = torch.rand(2, 4, 16, 16).softmax(1)
    page.fresh |= {
        "import postprocess_semantic_segmentation": hugging_face,
        "import RankSEGSamPredictor": sam,
        "import RankSEGCallback": lightning,
        "import AsRankSEGd": monai,
        "--nnunet": nnunet_folders,
        "import use_rankseg": nnunet,
    }
    page.replaced["Trainer(callbacks"] = f"Trainer({LIGHTNING.QUIET}max_epochs=1, callbacks"
    yield
    first = page.after[0]
    assert torch.equal(first["labels"], RankSEG("dice")(first["probs"]))


def hugging_face() -> dict[str, Any]:
    library = pytest.importorskip("transformers.modeling_outputs")
    return {"outputs": library.SemanticSegmenterOutput(logits=torch.randn(1, 4, 16, 16))}


def sam() -> dict[str, Any]:
    import tiny_sam

    prompted = tiny_sam.build(pytest.importorskip("transformers"), "sam2")
    inputs = prompted.inputs([(48, 80)])
    own = {"inputs": inputs, "processor": prompted.processor, "outputs": prompted.outputs(inputs)}
    return {"sam": tiny_sam.original_sam(), **own}


def lightning() -> dict[str, Any]:
    pytest.importorskip("lightning")
    import tiny_lightning

    loaders = dict.fromkeys(("train_loader", "val_loader", "loader"), tiny_lightning.loader(5))
    return {**LIGHTNING.things(), **loaders}


def monai() -> dict[str, Any]:
    pytest.importorskip("monai")
    return {}


def nnunet_folders() -> dict[str, Any]:
    pytest.importorskip("nibabel")
    NNUNET.fill_folders()
    return {}


def nnunet() -> dict[str, Any]:
    pytest.importorskip("nnunetv2")
    return NNUNET.things()
