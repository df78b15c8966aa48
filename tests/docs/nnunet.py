"""The folders that nnU-Net fills, with two cases, and its evaluation without its processes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Page

NEEDS = ("nnunetv2", "nibabel")
MARKS = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),  # on import
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]
CASES = ("one", "two")


def around(page: Page) -> Iterator[None]:
    fill_folders()
    page.names |= things()
    page.replaced['"predictions", "masks"'] = '"predictions", "again"'  # the command wrote masks
    page.commands["nnUNetv2_evaluate_folder"] = evaluate
    yield
    assert [str(path) for path in page.names["written"]] == [f"again/{c}.nii.gz" for c in CASES]
    assert page.names["segmentation"].shape == page.names["image"].shape[1:]
    assert all(text.startswith("wrote 2 files") for text in page.printed.values() if text)
    assert re.search(r"mean [+-]\d+\.\d\d \+- \d+\.\d\d points", page.said[-1])
    assert re.search(r"\d of 2 cases lost more than a point", page.said[-1])


def things() -> dict[str, Any]:
    """A predictor, and an image as nnU-Net reads it."""
    import tiny_nnunet

    values, _ = tiny_nnunet.case(0)
    place = {"spacing": (2.5, 0.8, 0.9), "origin": (0.0,) * 3, "direction": np.eye(3).ravel()}
    return {
        "predictor": tiny_nnunet.predictor(),
        "image": values.transpose()[None],
        "properties": {"sitk_stuff": place, "spacing": [0.9, 0.8, 2.5]},
    }


def fill_folders() -> None:
    """Images, truths, and what nnU-Net has predicted."""
    import nibabel
    import tiny_nnunet

    for name in ("imagesTs", "labelsTr", "model"):
        Path(name).mkdir()
    for seed, case in enumerate(CASES):
        values, labels = tiny_nnunet.case(seed)
        nibabel.save(tiny_nnunet.image(values), f"imagesTs/{case}_0000.nii.gz")
        nibabel.save(tiny_nnunet.image(labels), f"labelsTr/{case}.nii.gz")
        for fold, folder in enumerate(("predictions", "fold_0", "fold_1", "validation")):
            Path(folder).mkdir(exist_ok=True)
            noise = np.random.default_rng(10 * seed + fold).normal(size=(3, *labels.T.shape))
            logits = noise + 1.5 * (np.arange(3)[:, None, None, None] == labels.T)
            probs = np.exp(logits) / np.exp(logits).sum(0)
            np.savez(f"{folder}/{case}.npz", probabilities=probs.astype(np.float32))
    for folder in ("predictions", "fold_0", "fold_1", "model"):
        Path(folder, "dataset.json").write_text(json.dumps(tiny_nnunet.dataset(False)))
        Path(folder, "plans.json").write_text(json.dumps(tiny_nnunet.plans()))


def evaluate(arguments: Sequence[str]) -> None:
    """What ``nnUNetv2_evaluate_folder`` does, without its processes."""
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics, save_summary_json
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.utilities.json_export import recursive_fix_for_json_export

    truths, results, *definitions = arguments
    assert definitions == [
        *("-djfile", f"{results}/dataset.json", "-pfile", f"{results}/plans.json")
    ]
    assert all(Path(name).is_file() for name in definitions[1::2])
    reader = SimpleITKIO()
    cases = [
        compute_metrics(f"{truths}/{c}.nii.gz", f"{results}/{c}.nii.gz", reader, [1, 2])
        for c in CASES
    ]
    for case in cases:
        recursive_fix_for_json_export(case)
    save_summary_json({"metric_per_case": cases, "mean": {}}, f"{results}/summary.json")
