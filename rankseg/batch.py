"""Decide many files: one failure stops nothing, and every failure is reported."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rankseg.api import RankSEG
from rankseg.files import (
    TABLE_SUFFIXES,
    FileError,
    describe,
    output_path,
    read_array,
    write_array,
)
from rankseg.layout import Layout, check_classes_axis, compact
from rankseg.result import Segmentation

COLUMNS = ("file", "image", "class", "expected_score", "volume", "threshold", "active")

# One file's trouble: its content, the disk, the memory, a missing optional package. Anything
# else is a mistake of ours, is called one, and must not cost the other files.
_TROUBLE = (FileError, OSError, ValueError, TypeError, RuntimeError, MemoryError, ImportError)


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Work:
    """What is done to every file; see the options of ``rankseg predict``."""

    decide: RankSEG
    layout: Layout
    key: str | None = None
    max_bytes: int | None = None
    overwrite: bool = False

    @property
    def masks(self) -> bool:
        """True for masks, False for labels."""
        return self.decide.settings.output_mode == "multilabel"

    @property
    def void_index(self) -> int | None:
        """Label of void pixels, None where there are none."""
        parameters: dict[str, Any] = dict(self.decide.settings.parameters)
        return parameters.get("void_index")


@dataclass
class Report:
    """What has been written, what failed and why, and the rows of the table so far."""

    written: list[Path] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def so_far(self) -> str:
        """One line for a run that is cut short."""
        results = "1 result is" if len(self.written) == 1 else f"{len(self.written)} results are"
        return f"{results} written and complete, no table"


def plan(sources: Sequence[Path], folder: Path, file_format: str) -> list[Job]:
    """Pair every input with its output, before any work.

    Raises
    ------
    ValueError
        If two inputs would be written to one file, or an output would replace an input.
    """
    inputs = {os.path.realpath(source) for source in sources}  # links in a circle are fine here
    taken: dict[Path, Path] = {}
    for source in sources:
        target = output_path(source, folder, file_format)
        if target in taken:
            raise ValueError(f"{taken[target]} and {source} would both be written to {target}")
        if os.path.realpath(target) in inputs:
            raise ValueError(f"{target} would replace an input: choose another --output folder")
        taken[target] = source
    return [Job(source, target) for target, source in taken.items()]


def check_table(path: Path | None, overwrite: bool) -> None:
    """Refuse a table that could not be written at the end of all work.

    Raises
    ------
    ValueError
        If the suffix is unknown, the folder is missing, or something is in the way.
    """
    if path is None:
        return
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise ValueError(f"--expected-score must end in {' or '.join(TABLE_SUFFIXES)}, got {path}")
    if not path.parent.is_dir():
        raise ValueError(f"--expected-score: there is no folder {path.parent}")
    if path.is_dir():
        raise ValueError(f"--expected-score: {path} is a folder")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists already: use --overwrite to replace it")


def run(jobs: Iterable[Job], work: Work, report: Report) -> None:
    """Do all jobs, filling the report as they end, so that an interrupted run has one."""
    for job in jobs:
        try:
            rows = _run_one(job, work)
        except _TROUBLE as error:
            report.failures[str(job.source)] = describe(error)
        except Exception as error:
            report.failures[str(job.source)] = (
                f"unexpected {type(error).__name__}: {describe(error)}; please report this"
            )
        else:
            report.written.append(job.target)
            report.rows += rows


def _run_one(job: Job, work: Work) -> list[dict[str, Any]]:
    if job.target.exists() and not work.overwrite:
        raise FileError(f"{job.target} exists already: use --overwrite to replace it")
    array = read_array(job.source, work.key, work.max_bytes)
    images = work.layout.images(array)
    if work.decide.settings.activation == "none" and not work.masks and images.shape[0]:
        check_classes_axis(images)
    # One at a time: a mapped file of many images never lies in memory as a whole.
    # An empty batch is one empty part.
    parts = [_solve(images[i : i + 1], i, work) for i in range(max(images.shape[0], 1))]
    prediction = work.layout.restore(torch.cat([part.prediction for part in parts]), work.masks)
    name = "masks" if work.masks else "labels"
    write_array(job.target, compact(prediction, images.shape[1], work.void_index), name)
    return [row for index, part in enumerate(parts) for row in _rows(job.source, index, part)]


def _solve(image: Tensor, index: int, work: Work) -> Segmentation:
    try:
        return work.decide.solve(image)
    except ValueError as error:
        where = f"image {index}: " if work.layout.batched else ""
        raise ValueError(f"{where}{error}{_hint(image, work)}") from error


def _hint(image: Tensor, work: Work) -> str:
    """How to say it on the command line, where values outside [0, 1] look like logits."""
    outside = bool(((image < 0) | (image > 1)).any())
    probs = work.decide.settings.activation == "none"
    return " (--activation softmax|sigmoid)" if probs and outside else ""


def _rows(source: Path, index: int, part: Segmentation) -> list[dict[str, Any]]:
    """One row of the table per class of one image; an empty batch has none."""
    return [
        {
            "file": str(source),
            "image": index,
            "class": class_,
            "expected_score": score,
            "volume": volume,
            "threshold": threshold,
            "active": active,
        }
        for scores, volumes, thresholds, actives in zip(
            part.expected_score.tolist(),
            part.volume.tolist(),
            part.threshold.tolist(),
            part.active.tolist(),
            strict=True,
        )
        for class_, (score, volume, threshold, active) in enumerate(
            zip(scores, volumes, thresholds, actives, strict=True)
        )
    ]
