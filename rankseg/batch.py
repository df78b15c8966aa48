"""Decide many files: one failure stops nothing, and every failure is reported."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from rankseg import validation
from rankseg.api import RankSEG
from rankseg.files import (
    NIFTI_SUFFIXES,
    RASTER_SUFFIXES,
    TABLE_SUFFIXES,
    FileError,
    complete_or_absent,
    describe,
    output_path,
    suffix_of,
)
from rankseg.inputs import Answer, Input, Reading, open_input
from rankseg.result import Segmentation
from rankseg.rule import DecisionRule

COLUMNS = ("file", "image", "class", "expected_score", "volume", "threshold", "active")

# One file's trouble: its content, the disk, the memory, a missing optional package. Anything
# else is a mistake of ours, is called one, and must not cost the other files.
TROUBLE = (FileError, OSError, ValueError, TypeError, RuntimeError, MemoryError, ImportError)


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write; ``opens`` reads the source."""

    source: Path
    target: Path
    opens: Callable[[Path, Reading], AbstractContextManager[Input]] = open_input


@dataclass(frozen=True)
class Work:
    """What is done to every file; see the options of ``rankseg predict``.

    A rule, if there is one, decides all files; else each is decided on its own.
    """

    decide: RankSEG
    reading: Reading
    rule: DecisionRule | None = None
    overwrite: bool = False


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


def plan(sources: Sequence[Path], folder: Path, file_format: str | None) -> list[Job]:
    """Pair every input with its output, before any work.

    Raises
    ------
    ValueError
        If two inputs would be written to one file, an output would replace an input, or an input
        has nothing that the format is for.
    """
    inputs = {os.path.realpath(source) for source in sources}  # links in a circle are fine here
    taken: dict[Path, Path] = {}
    for source in sources:
        target = output_path(source, folder, _format_for(source, file_format))
        if target in taken:
            raise ValueError(f"{taken[target]} and {source} would both be written to {target}")
        if os.path.realpath(target) in inputs:
            raise ValueError(f"{target} would replace an input: choose another --output folder")
        taken[target] = source
    return [Job(source, target) for target, source in taken.items()]


def _format_for(source: Path, file_format: str | None) -> str:
    """Format of a result: the one asked for, or the one that keeps the place."""
    placed = {"nii.gz": NIFTI_SUFFIXES, "tif": RASTER_SUFFIXES}
    own = [name for name, suffixes in placed.items() if suffix_of(source) in suffixes]
    if file_format in placed and file_format not in own:
        raise ValueError(
            f"--format {file_format} is for {', '.join(placed[file_format])}: "
            f"{source} tells no place"
        )
    return file_format or (own[0] if own else "npy")


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


def check_rule_file(path: Path | None, overwrite: bool) -> None:
    """Refuse a rule that could not be saved.

    Raises
    ------
    ValueError
        If it is no .json file, the folder is missing, or something is in the way.
    """
    if path is None:
        return
    if path.suffix.lower() != ".json":
        raise ValueError(f"--save-rule must end in .json, got {path}")
    if not path.parent.is_dir():
        raise ValueError(f"--save-rule: there is no folder {path.parent}")
    if path.is_dir():
        raise ValueError(f"--save-rule: {path} is a folder")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists already: use --overwrite to replace it")


def check_scale(scale: float | None) -> None:
    """Refuse what nothing can be divided by; ValueError."""
    if scale is not None and not (0 < scale < math.inf):
        raise ValueError(f"--scale must be larger than 0; got {scale:g}")


def masks(decided: RankSEG | DecisionRule) -> bool:
    """True for masks, False for labels."""
    settings = decided.settings if isinstance(decided, RankSEG) else decided
    return settings.output_mode == "multilabel"


def void_index(decided: RankSEG | DecisionRule) -> int | None:
    """Label of void pixels, None where there are none."""
    if isinstance(decided, RankSEG):
        parameters: dict[str, Any] = dict(decided.settings.parameters)
        return parameters.get("void_index")
    return decided.void_index if decided.slope and not any(decided.eligible) else None


def takes_tiles(decide: RankSEG) -> bool:
    """Whether the solver decides an image in parts."""
    chosen = decide.settings
    try:
        validation.tiles_are_served(chosen.solver, chosen.metric, chosen.empty)
    except ValueError:
        return False
    return True


def run(jobs: Iterable[Job], work: Work, report: Report) -> None:
    """Do all jobs, filling the report as they end, so that an interrupted run has one."""
    for job in jobs:
        try:
            rows = _run_one(job, work)
        except TROUBLE as error:
            report.failures[str(job.source)] = describe(error)
        except Exception as error:
            report.failures[str(job.source)] = (
                f"unexpected {type(error).__name__}: {describe(error)}; please report this"
            )
        else:
            report.written.append(job.target)
            report.rows += rows


def decided_together(
    jobs: Sequence[Job], work: Work, missing: dict[str, str], save: Path | None
) -> Work:
    """The work with the rule that decides all files together, saved if there is a path.

    Raises
    ------
    FileError, OSError, ValueError
        If any of them cannot be read, or they do not go together: a rule without some of them
        would be another rule.
    """
    for name, reason in missing.items():
        raise FileError(f"{name}: {reason}")
    rule = work.decide.decide(_Together(jobs, work))
    if save is not None:
        with complete_or_absent(save) as temporary:
            rule.save(temporary)
    return replace(work, rule=rule)


@dataclass(frozen=True)
class _Together:
    """Tiles of all files; a file is open only while its tiles are visited."""

    jobs: Sequence[Job]
    work: Work

    def __iter__(self) -> Iterator[Tensor]:
        for job in self.jobs:
            try:
                with job.opens(job.source, self.work.reading) as opened:
                    yield from self._checked(opened)
            except TROUBLE as error:
                raise FileError(f"{job.source}: {describe(error)}") from error

    def _checked(self, opened: Input) -> Iterator[Tensor]:
        """Tiles whose values are probabilities, so that the error can name the file."""
        activation = self.work.decide.settings.activation
        for tile in opened:
            if activation == "none" and tile.numel():
                low, high = tile.aminmax()
                validation.probability_range(low, high)
            yield tile


def _run_one(job: Job, work: Work) -> list[dict[str, Any]]:
    if job.target.exists() and not work.overwrite:
        raise FileError(f"{job.target} exists already: use --overwrite to replace it")
    with _named(job.source), job.opens(job.source, work.reading) as opened:
        rows: list[dict[str, Any]] = []
        opened.write(job.target, _answer(opened, job, work, rows))
        return rows


@contextmanager
def _named(source: Path) -> Iterator[None]:
    """Let warnings about values say which file they are about; others are about the machine."""
    with warnings.catch_warnings(record=True) as given:
        yield
    for one in given:
        about = f"{source}: " if one.category is UserWarning else ""
        warnings.warn(f"{about}{one.message}", one.category, stacklevel=2)


def _answer(opened: Input, job: Job, work: Work, rows: list[dict[str, Any]]) -> Answer:
    """What decides the tiles of a file; rows of the table are added where tiles are images."""

    def alone(index: int, image: Tensor) -> Tensor:
        part = _solve(image, index, work)
        rows.extend(_rows(job.source, index, part))
        return part.prediction

    rule = _rule_for(opened, work)
    return alone if rule is None else lambda index, tile: rule.apply(tile)


def _rule_for(opened: Input, work: Work) -> DecisionRule | None:
    """The rule of all tiles of a file; None where every tile is an image and has its own."""
    if work.rule is not None or not opened.in_parts:
        return work.rule
    if next(iter(opened), None) is None:
        return None  # no pixel has data, none is asked for
    return work.decide.decide(opened)


def _solve(image: Tensor, index: int, work: Work) -> Segmentation:
    try:
        return work.decide.solve(image)
    except ValueError as error:
        where = f"image {index}: " if work.reading.layout.batched else ""
        if work.reading.scale is not None and "must lie in [0, 1]" in str(error):
            where += f"after --scale {work.reading.scale:g}, "
        raise ValueError(f"{where}{error}") from error


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
