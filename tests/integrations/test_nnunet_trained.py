"""nnU-Net for real: planned, trained for a moment, predicted by its commands and in memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tiny_nnunet
import torch
from typer.testing import CliRunner

from rankseg import RankSEG
from rankseg.cli import app

pytest.importorskip("nnunetv2")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
CASES = ("case_6", "case_7", "case_8")
IN_MEMORY = """
import sys, torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from rankseg_integrations.nnunet import use_rankseg

if __name__ == "__main__":  # nnU-Net's workers are spawned
    model, images, *outputs = sys.argv[1:]
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(model, ("all",), "checkpoint_final.pth")
    for metric, output in zip(("acc", "dice"), outputs):
        use_rankseg(predictor, metric).predict_from_files(
            images, output, num_processes_preprocessing=1, num_processes_segmentation_export=1
        )
"""


def rankseg(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


def stored(folder: Path, case: str) -> np.ndarray:
    return np.asarray(nibabel.load(folder / f"{case}.nii.gz").dataobj)


def decided(probs: np.ndarray, regions: bool) -> np.ndarray:
    mode = "multilabel" if regions else "multiclass"
    found = RankSEG(output_mode=mode)(torch.from_numpy(probs)[None])[0].numpy()
    labels = np.where(found[1], 2, np.where(found[0], 1, 0)) if regions else found
    return labels.transpose()


def predict_in_memory(folder: Path, model: Path, images: Path, *outputs: Path) -> None:
    script = folder / "in_memory.py"
    script.write_text(IN_MEMORY)
    done = subprocess.run(
        [sys.executable, str(script), *map(str, (model, images, *outputs))],
        env={**os.environ, **tiny_nnunet.environment(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


@pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
def test_from_planning_to_segmentations(tmp_path: Path, regions: bool) -> None:
    images = tiny_nnunet.write_raw(tmp_path, regions)
    model = tiny_nnunet.train(tmp_path)
    theirs = tmp_path / "theirs"
    tiny_nnunet.predict(tmp_path, images, theirs, "--save_probabilities")

    files = {name: tmp_path / f"files_{name}" for name in ("acc", "dice", "pickles")}
    for name, metric, where in (
        ("acc", "acc", ("--reference", images)),
        ("dice", "dice", ("--reference", images)),
        ("pickles", "dice", ("--unpickle",)),
    ):
        output = ("--output", files[name], "--nnunet")
        rankseg("predict", theirs, *output, "--metric", metric, *where)
    memory = {name: tmp_path / f"memory_{name}" for name in ("acc", "dice")}
    predict_in_memory(tmp_path, model, images, *memory.values())

    changed = 0
    for case in CASES:
        own, probs = stored(theirs, case), np.load(theirs / f"{case}.npz")["probabilities"]
        np.testing.assert_array_equal(stored(files["acc"], case), own)
        np.testing.assert_array_equal(stored(memory["acc"], case), own)
        expected = decided(probs, regions)
        for folder in (files["dice"], files["pickles"], memory["dice"]):
            np.testing.assert_array_equal(stored(folder, case), expected)
        changed += int((expected != own).sum())
        assert cropped(probs, regions)
        same_place(files["dice"] / f"{case}.nii.gz", images / f"{case}_0000.nii.gz")
    assert changed > 0
    plans = json.loads((files["dice"] / "plans.json").read_text())
    assert plans["transpose_forward"] != [0, 1, 2], "nnU-Net should have transposed the images"
    evaluate_with_nnunet(tmp_path, files["dice"])


def cropped(probs: np.ndarray, regions: bool) -> bool:
    """Whether the frame of zeros was cut off, and is surely background now."""
    frame = probs[:, :2]
    background = np.zeros_like(frame)
    background[0] = not regions
    return bool((frame == background).all())


def same_place(got: Path, image: Path) -> None:
    """To the bit: affine, spacing, orientation."""
    ours, given = nibabel.load(got), nibabel.load(image)
    assert ours.affine.tobytes() == given.affine.tobytes()
    assert ours.header.get_zooms() == given.header.get_zooms()
    assert nibabel.aff2axcodes(ours.affine) == nibabel.aff2axcodes(given.affine)
    assert ours.get_data_dtype() == np.uint8


def evaluate_with_nnunet(folder: Path, results: Path) -> None:
    """nnU-Net takes the results for its own: its evaluation reads them, and finds the organ."""
    truths = folder / "truths"
    truths.mkdir()
    for seed, case in zip((6, 7, 8), CASES, strict=True):
        _, labels = tiny_nnunet.case(seed)
        nibabel.save(tiny_nnunet.image(labels), truths / f"{case}.nii.gz")
    definitions = ("-djfile", results / "dataset.json", "-pfile", results / "plans.json")
    tiny_nnunet.command(folder, "nnUNetv2_evaluate_folder", truths, results, *definitions)
    summary: dict[str, Any] = json.loads((results / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == len(CASES)
    assert summary["foreground_mean"]["Dice"] > 0
    shutil.rmtree(truths)
