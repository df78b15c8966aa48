"""Folders that nnU-Net fills with ``--save_probabilities``: what they hold and what it means.

Each case is a ``.npz`` (probabilities, float32 (C, z, y, x), back on the image's own grid); a
``dataset.json`` says what the channels are, a ``plans.json`` which class read the images. Nothing
here needs nnU-Net, and nothing is unpickled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from rankseg import strict_json
from rankseg.files.errors import FileError
from rankseg.files.read import read_array
from rankseg.validation import probability_range

KEY = "probabilities"
DATASET, PLANS = "dataset.json", "plans.json"


@dataclass(frozen=True)
class Labels:
    """What the channels are, and which label each of them paints.

    Attributes
    ----------
    channels : tuple of str
        Names, in the order of the channels.
    region_labels : tuple of int, optional
        Region-based training: label of each channel's region, in the order of painting. None
        where channels are classes, of which channel 0 is the background.
    meaning : tuple
        Name and label values of each channel: what models of one ensemble must agree on.
    """

    channels: tuple[str, ...]
    region_labels: tuple[int, ...] | None
    meaning: tuple[Any, ...]

    @property
    def output_mode(self) -> str:
        """Masks for regions, which overlap; labels for classes, which do not."""
        return "multiclass" if self.region_labels is None else "multilabel"

    def check(self, probs: Tensor) -> None:
        """Refuse probabilities of another number of channels, or of no volume."""
        if probs.ndim != 4:
            raise FileError(f"has shape {tuple(probs.shape)}; nnU-Net writes (C, z, y, x)")
        if probs.shape[0] != len(self.channels):
            kind = "classes" if self.region_labels is None else "regions"
            raise FileError(
                f"has {probs.shape[0]} channels, but {DATASET} announces {len(self.channels)} "
                f"{kind}: {', '.join(self.channels)}"
            )

    def paint(self, prediction: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Segmentation (z, y, x) in nnU-Net's integer type, from labels or masks (C, z, y, x).

        Regions are painted in order, so that a later one covers an earlier one.
        """
        painted = prediction
        if self.region_labels is not None:
            painted = np.zeros(prediction.shape[1:], np.int64)
            for mask, label in zip(prediction, self.region_labels, strict=True):
                painted[mask] = label
        low, high = int(painted.min()), int(painted.max())
        if low < 0 or high > np.iinfo(np.uint16).max:
            raise FileError(f"nnU-Net's segmentations hold 0 to 65535, got labels {low} to {high}")
        # 255 goes into uint16: the rule of nnU-Net's writers.
        return painted.astype(np.uint8 if high < 255 else np.uint16)


@dataclass(frozen=True)
class Dataset:
    """What ``dataset.json`` and ``plans.json`` say; ``source`` is the folder they lie in."""

    labels: Labels
    ending: str
    reader: str | None
    source: Path = field(compare=False)

    @property
    def reoriented(self) -> bool:
        """Whether voxels were brought into another order when images were read."""
        return self.reader is not None and self.reader.endswith("WithReorient")


def read_dataset(folder: Path) -> Dataset:
    """What the files of a folder say about the probabilities in it.

    Raises
    ------
    ValueError
        If there is no ``dataset.json``, or one of the files makes no sense; the message names it.
    OSError
        If one cannot be read.
    """
    path = folder / DATASET
    if not path.is_file():
        raise ValueError(
            f"there is no {DATASET} in {folder}: nnUNetv2_predict writes it beside its results; "
            "or name the trained model's folder, which holds one, with --model"
        )
    content = _json(path)
    try:
        labels = _labels(content["labels"], content.get("regions_class_order"))
        ending = content["file_ending"]
    except KeyError as error:
        raise ValueError(f"{path} has no entry {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(ending, str) or not re.fullmatch(r"(\.\w+)+", ending):
        raise ValueError(f"{path}: file_ending must be a suffix such as .nii.gz, got {ending!r}")
    plans = _json(folder / PLANS) if (folder / PLANS).is_file() else {}
    own = content.get("overwrite_image_reader_writer")
    reader = plans.get("image_reader_writer", own)
    if not isinstance(reader, str | None):
        raise ValueError(f"{folder}: image_reader_writer must be a class's name, got {reader!r}")
    return Dataset(labels, ending, None if reader == "None" else reader, folder)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(strict_json.text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got a {type(content).__name__}")
    return content


def _labels(given: Mapping[str, Any], order: Sequence[int] | None) -> Labels:
    """Channels as nnU-Net counts them: no ignore label; of regions no background."""
    values = {name: _values(name, value) for name, value in given.items() if name != "ignore"}
    if values.get("background") != (0,):
        raise ValueError("labels must hold background: 0")
    if not any(len(value) > 1 for value in values.values()):
        classes = sorted((value, name) for name, value in values.items())
        distinct = dict(classes)  # two names of one label are one channel
        # Channel c is written as label c, as nnU-Net does: it trains consecutive labels only.
        return Labels(tuple(distinct.values()), None, tuple(classes))
    regions = [(value, name) for name, value in values.items() if set(value) != {0}]
    if not isinstance(order, list) or len(order) != len(regions):
        raise ValueError(
            "labels are regions: regions_class_order must list one label for each of the "
            f"{len(regions)} regions, got {order!r}"
        )
    painted = tuple(_values("regions_class_order", label)[0] for label in order)
    return Labels(tuple(name for _, name in regions), painted, (*regions, painted))


def _values(name: str, value: Any) -> tuple[int, ...]:
    """Label values of a class or region."""
    several = tuple(value) if isinstance(value, list) else (value,)
    if not several or not all(type(number) is int and 0 <= number < 2**16 for number in several):
        raise ValueError(
            f"label {name!r} must be an integer from 0 to 65535 or a list of them, got "
            f"{str(value)[:100]}"
        )
    return several


def one_dataset(folders: Sequence[Path], model: Path | None) -> Dataset:
    """What all folders of an ensemble say, or the model's folder in their place.

    Raises
    ------
    ValueError
        If a ``dataset.json`` is missing, or two disagree.
    OSError
        If one cannot be read.
    """
    if model is not None:
        return read_dataset(model)
    first, *others = map(read_dataset, folders)
    for other in others:
        mine = (first.labels.meaning, first.ending, first.reoriented)
        if (other.labels.meaning, other.ending, other.reoriented) != mine:
            raise ValueError(
                f"{first.source} and {other.source} cannot be averaged: their {DATASET} or {PLANS} "
                "disagree about labels, regions_class_order, file_ending or orientation"
            )
    return first


@dataclass(frozen=True)
class Case:
    """One image: its identifier, and its probabilities in each folder."""

    name: str
    files: tuple[Path, ...]

    def read(self, labels: Labels, max_bytes: int) -> Tensor:
        """Probabilities (C, z, y, x); of several files the mean, as ``nnUNetv2_ensemble`` has it.

        Raises
        ------
        FileError, ValueError, OSError
            If a file cannot be read, or the files do not go together.
        """
        if len(self.files) == 1:
            return _probabilities(self.files[0], labels, max_bytes)
        total: Tensor | None = None
        for path in self.files:  # two are in memory at a time, whatever their number
            probs = _named(path, labels, max_bytes)
            if total is None:
                total = probs.float().clone()
            elif total.shape != probs.shape:
                raise FileError(
                    f"{path} has shape {tuple(probs.shape)}, {self.files[0]} "
                    f"{tuple(total.shape)}: they are not of one image"
                )
            else:
                total += probs
        assert total is not None
        return total.div_(len(self.files))


def _probabilities(path: Path, labels: Labels, max_bytes: int) -> Tensor:
    probs = read_array(path, KEY, max_bytes)
    labels.check(probs)
    return probs


def _named(path: Path, labels: Labels, max_bytes: int) -> Tensor:
    """Probabilities of one of several files, so that its trouble carries its name."""
    try:
        probs = _probabilities(path, labels, max_bytes)
        if probs.numel():
            probability_range(*probs.aminmax())
    except (FileError, ValueError) as error:
        raise FileError(f"{path}: {error}") from error
    return probs


def find_cases(folders: Sequence[Path]) -> tuple[list[Case], dict[str, str]]:
    """Cases that every folder holds, by name; for each other the reason.

    Raises
    ------
    ValueError
        If a folder holds no case, or is named twice.
    """
    found = {folder: _names(folder) for folder in folders}
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError("a folder is named twice: each fold or model counts once in the mean")
    names = sorted(set().union(*found.values()))
    cases: list[Case] = []
    unpaired: dict[str, str] = {}
    for name in names:
        lacking = [str(folder) for folder, there in found.items() if name not in there]
        if lacking:
            unpaired[name] = f"there is no {name}.npz in {', '.join(lacking)}"
        else:
            cases.append(Case(name, tuple(folder / f"{name}.npz" for folder in folders)))
    return cases, unpaired


def _names(folder: Path) -> set[str]:
    names = {path.name[: -len(".npz")] for path in folder.glob("*.npz")}
    names = {name for name in names if not name.startswith(".")}
    if not names:
        raise ValueError(
            f"{folder} holds no .npz: nnUNetv2_predict writes them with --save_probabilities"
        )
    return names
