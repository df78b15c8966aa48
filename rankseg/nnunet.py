"""Folders of nnU-Net's probabilities to segmentations: what the command and the adapter share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rankseg.api import RankSEG
from rankseg.batch import Job, Report, Work, masks, run, void_index
from rankseg.files import atomic_write
from rankseg.files.nnunet import DATASET, PLANS, Case, Dataset, Labels, find_cases, one_dataset
from rankseg.files.nnunet_place import Place, place_of
from rankseg.inputs import Answer, Input, Reading
from rankseg.layout import Layout

DERIVED = ("output_mode", "activation", "aggregation")
"""Options of RankSEG that the folder decides, or that are for several images together."""


@dataclass(frozen=True)
class Folders:
    """Folders to read, what they say, and where the place of each case is found.

    Attributes
    ----------
    folders : tuple of Path
        Of several, probabilities are averaged.
    dataset : Dataset
        What ``dataset.json`` and ``plans.json`` say.
    reference : Path, optional
        Folder of images; by default the first of the folders, with nnU-Net's own segmentations.
    unpickle : bool
        Take the properties that nnU-Net has pickled.
    """

    folders: tuple[Path, ...]
    dataset: Dataset
    reference: Path | None = None
    unpickle: bool = False

    @property
    def output_mode(self) -> str:
        """What RankSEG has to decide: labels of classes, or masks of regions."""
        return self.dataset.labels.output_mode

    def check_mode(self, output_mode: str) -> None:
        """Refuse what decides labels where masks are needed, or masks for labels."""
        if output_mode != self.output_mode:
            channels = "classes" if self.output_mode == "multiclass" else "regions"
            raise ValueError(
                f"the channels are {channels} and need a {self.output_mode} rule; "
                f"this one is {output_mode}"
            )

    def jobs(self, output: Path) -> tuple[list[Job], dict[str, str]]:
        """One job a case; for cases that some folder lacks the reason.

        Raises
        ------
        ValueError
            If a folder is none or holds no case, or results would lie among what is read.
        """
        read = [*self.folders, *([] if self.reference is None else [self.reference])]
        if output.resolve() in {folder.resolve() for folder in read}:
            raise ValueError(f"{output} is a folder that is read: choose another one for results")
        cases, unpaired = find_cases(self.folders)
        ending = self.dataset.ending
        jobs = [
            Job(case.files[0], output / f"{case.name}{ending}", _Opener(case, self))
            for case in cases
        ]
        return jobs, unpaired

    def copy_definitions(self, output: Path, overwrite: bool) -> None:
        """Put ``dataset.json`` and ``plans.json`` beside the results, as nnU-Net does.

        Its postprocessing and evaluation look for them there.

        Raises
        ------
        ValueError
            If others are there already, and may not be replaced.
        OSError
            If they cannot be written.
        """
        for source in (self.dataset.source / DATASET, self.dataset.source / PLANS):
            target = output / source.name
            content = source.read_bytes() if source.is_file() else None
            if content is None or (target.is_file() and target.read_bytes() == content):
                continue
            if target.exists() and not overwrite:
                raise ValueError(f"{target} is of other results: use --overwrite to replace it")
            _write(target, content)


def _write(target: Path, content: bytes) -> None:
    atomic_write(target, lambda file: file.write(content))


def open_folders(
    folders: Sequence[Path],
    *,
    model: Path | None = None,
    reference: Path | None = None,
    unpickle: bool = False,
) -> Folders:
    """Look into folders that ``nnUNetv2_predict --save_probabilities`` has filled.

    Raises
    ------
    ValueError
        If one is no such folder, two disagree, or the options exclude each other.
    OSError
        If ``dataset.json`` or ``plans.json`` cannot be read.
    """
    if reference is not None and unpickle:
        raise ValueError("--reference and --unpickle both tell the place: leave one of them out")
    if reference is not None and not reference.is_dir():
        raise ValueError(f"--reference must be a folder of images, got {reference}")
    if not folders:
        raise ValueError("no folders are given: name one that nnUNetv2_predict has filled")
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder: name one that nnUNetv2_predict has filled")
    dataset = one_dataset(folders, model)
    return Folders(tuple(folders), dataset, reference, unpickle)


@dataclass(frozen=True)
class _Opener:
    case: Case
    folders: Folders

    @contextmanager
    def __call__(self, path: Path, reading: Reading) -> Iterator[Input]:
        dataset = self.folders.dataset
        # The place first: a missing image is known before anything is unpacked.
        place = place_of(self.case, dataset, self.folders.reference, self.folders.unpickle)
        probs = self.case.read(dataset.labels, reading.limit)
        place.check(tuple(probs.shape[1:]))
        yield CaseInput(probs[None], dataset.labels, place)


class CaseInput:
    """Probabilities of one case; the result is a segmentation where the image lay."""

    in_parts = False

    def __init__(self, probs: Tensor, labels: Labels, place: Place) -> None:
        self.probs = probs
        self.labels = labels
        self.place = place

    def __iter__(self) -> Iterator[Tensor]:
        """The one image, (1, C, z, y, x)."""
        return iter([self.probs])

    def write(self, target: Path, answer: Answer) -> None:
        """Write labels, or regions painted in nnU-Net's order."""
        prediction = answer(0, self.probs)[0].numpy()
        self.place.write(target, self.labels.paint(prediction))


def refuse_derived(options: Mapping[str, Any]) -> None:
    """Refuse options of RankSEG that nnU-Net's own definitions decide; ValueError."""
    for name in DERIVED:
        if name in options:
            raise ValueError(
                f"{name} cannot be given here: classes or regions of dataset.json decide the "
                "output mode and the activation, and each case is decided on its own"
            )


def segment(
    folders: Folders,
    output: Path,
    options: Mapping[str, Any],
    *,
    overwrite: bool = False,
    max_bytes: int | None = None,
) -> Report:
    """Decide all cases of the folders; one that fails stops no other.

    Raises
    ------
    TypeError, ValueError
        On options of RankSEG that make no sense, and as ``Folders.jobs``.
    OSError
        If the folder for the results cannot be made or written.
    """
    refuse_derived(options)
    decide = RankSEG(output_mode=folders.output_mode, **options)
    reading = Reading(
        Layout(), masks=masks(decide), void_index=void_index(decide), max_bytes=max_bytes
    )
    jobs, unpaired = folders.jobs(output)
    output.mkdir(parents=True, exist_ok=True)
    folders.copy_definitions(output, overwrite)
    report = Report(failures=unpaired)
    run(jobs, Work(decide, reading, overwrite=overwrite), report)
    return report
