"""A data set small enough for nnU-Net to plan, train and predict in half a minute on a CPU.

Images lie obliquely, with their thickest slices along the *first* axis of the file, so that
nnU-Net transposes them, and in a frame of zeros, so that it crops them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

NAME = "Dataset007_Tiny"
CLASSES = {"background": 0, "organ": 1, "lesion": 2, "ignore": 3}
REGIONS = {"background": 0, "whole": [1, 2], "lesion": [2]}
ORDER = [1, 2]
SHAPE = (12, 30, 26)
TRAINER = """
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

class TinyTrainer(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 8, 1
"""


def affine() -> np.ndarray:
    """Rotated about two axes, spacing 2.5 x 0.8 x 0.9, one axis reversed."""
    a, b = 0.3, -0.2
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ tilt @ np.diag([-2.5, 0.8, 0.9])
    matrix[:3, 3] = 12.5, -33.3, 7.1
    return matrix


def image(array: np.ndarray) -> nibabel.Nifti1Image:
    made = nibabel.Nifti1Image(array, affine())
    made.set_qform(affine(), code="scanner")
    made.set_sform(affine(), code="scanner")
    made.header.set_xyzt_units("mm")
    return made


def case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image, and its labels: a bright organ with a brighter lesion in it, in noise."""
    chance = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.arange(side) for side in SHAPE), indexing="ij")
    centre = np.array(SHAPE) / 2 + chance.uniform(-1, 1, 3)
    reach = [np.abs(axis - middle) for axis, middle in zip(axes, centre, strict=True)]
    organ = (reach[0] / 3.5) ** 2 + (reach[1] / 9) ** 2 + (reach[2] / 8) ** 2 < 1
    lesion = (reach[0] / 1.8) ** 2 + (reach[1] / 4) ** 2 + (reach[2] / 4) ** 2 < 1
    labels = organ.astype(np.uint8) + (organ & lesion)
    values = 100 + 60 * labels + chance.normal(0, 25, SHAPE)
    frame = np.zeros(SHAPE, bool)
    frame[1:-1, 3:-4, 2:-5] = True
    return np.where(frame, values, 0).astype(np.float32), labels


def write_raw(folder: Path, regions: bool) -> Path:
    """Raw data: six cases to train on, three to predict; the folder of the latter."""
    raw = folder / "raw" / NAME
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (raw / name).mkdir(parents=True)
    for seed in range(9):
        values, labels = case(seed)
        kind = "Tr" if seed < 6 else "Ts"
        nibabel.save(image(values), raw / f"images{kind}" / f"case_{seed}_0000.nii.gz")
        if seed < 6:
            nibabel.save(image(labels), raw / "labelsTr" / f"case_{seed}.nii.gz")
    (raw / "dataset.json").write_text(json.dumps(dataset(regions, numTraining=6)))
    return raw / "imagesTs"


def dataset(regions: bool, **more: Any) -> dict[str, Any]:
    """Content of ``dataset.json``."""
    content = {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz", **more}
    if regions:
        return {**content, "labels": REGIONS, "regions_class_order": ORDER}
    return {**content, "labels": CLASSES}


def environment(folder: Path) -> dict[str, str]:
    (folder / "trainer").mkdir(exist_ok=True)
    (folder / "trainer" / "tiny_trainer.py").write_text(TRAINER)
    paths = {name: str(folder / name) for name in ("raw", "preprocessed", "results")}
    return {
        **{f"nnUNet_{name}": path for name, path in paths.items()},
        "nnUNet_extTrainer": str(folder / "trainer"),
        "nnUNet_n_proc_DA": "0",  # augment in the training process
        "nnUNet_def_n_proc": "1",
        "nnUNet_compile": "f",
    }


def command(folder: Path, name: str, *arguments: object, **variables: str) -> None:
    """Run one of nnU-Net's own commands."""
    program = Path(sys.executable).with_name(name)
    done = subprocess.run(
        [str(program), *map(str, arguments)],
        env={**os.environ, **environment(folder), **variables},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


def train(folder: Path) -> Path:
    """Plan, preprocess and train for a moment; the folder of the trained model."""
    plan = ("nnUNetv2_plan_and_preprocess", "-d", 7, "-c", "3d_fullres", "-np", 1)
    command(folder, *plan, nnUNet_n_proc_DA="1")  # torch gets as many threads, and wants some
    command(
        folder, "nnUNetv2_train", 7, "3d_fullres", "all", "-tr", "TinyTrainer", "-device", "cpu"
    )
    return folder / "results" / NAME / "TinyTrainer__nnUNetPlans__3d_fullres"


def predict(folder: Path, images: Path, output: Path, *options: str) -> None:
    """Predict with nnU-Net's own command."""
    model = ("-d", 7, "-c", "3d_fullres", "-f", "all", "-tr", "TinyTrainer", "-device", "cpu")
    command(
        folder,
        "nnUNetv2_predict",
        "-i",
        images,
        "-o",
        output,
        *model,
        "-npp",
        1,
        "-nps",
        1,
        *options,
    )


def plans(reader: str = "SimpleITKIO") -> dict[str, Any]:
    """Content of a ``plans.json``, as nnU-Net plans this data set, as far as prediction reads."""
    resampling = "resample_data_or_seg_to_shape"
    linear = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    return {
        "dataset_name": NAME,
        "plans_name": "nnUNetPlans",
        "image_reader_writer": reader,
        "label_manager": "LabelManager",
        "transpose_forward": [2, 0, 1],
        "transpose_backward": [1, 2, 0],
        "foreground_intensity_properties_per_channel": {"0": {}},
        "configurations": {
            "3d_fullres": {
                "preprocessor_name": "DefaultPreprocessor",
                "patch_size": [8, 16, 16],
                "spacing": [2.5, 0.9, 0.8],
                "normalization_schemes": ["ZScoreNormalization"],
                "use_mask_for_norm": [False],
                "architecture": {},
                **{
                    f"resampling_fn_{kind}": resampling for kind in ("data", "seg", "probabilities")
                },
                "resampling_fn_data_kwargs": linear,
                "resampling_fn_seg_kwargs": {**linear, "is_seg": True},
                "resampling_fn_probabilities_kwargs": linear,
            }
        },
    }


def predictor(regions: bool = False) -> Any:
    """An ``nnUNetPredictor`` around a network of one layer with random weights."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    generator = torch.Generator().manual_seed(0)
    network = torch.nn.Conv3d(1, 2 if regions else 3, 3, padding=1)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 2
    made = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
    manager = PlansManager(plans())
    made.manual_initialization(
        network,
        manager,
        manager.get_configuration("3d_fullres"),
        [network.state_dict()],
        dataset(regions),
        "TinyTrainer",
        None,
    )
    return made
