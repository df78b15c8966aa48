"""Options that belong together, as a command hands them on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from typing_extensions import Self


class Group:
    """Base of the groups."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Those of a command's options, its ``locals()``, that belong to the group."""
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        return cls(**{name: _plain(options[name]) for name in names})


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


@dataclass(frozen=True)
class PairOptions(Group):
    """How pairs of files are found and read, and what counts; see ``rankseg evaluate``."""

    probs: str
    labels: str
    key: str | None
    label_key: str | None
    channel_axis: str
    batched: bool | None
    activation: str
    scale: float | None
    max_bytes: int | None
    match: str | None
    allow_unpaired: bool
    label_values: str | None
    ignore_index: int | None
    nifti_order: str | None
    ignore_place: bool
    output_mode: str | None
    on_error: str


@dataclass(frozen=True)
class ScoreOptions(Group):
    """What is scored, and how it is summed up."""

    metric: str
    aggregation: str
    include_background: bool
    empty: str
    group_by: str | None
    pruning_prob: str


@dataclass(frozen=True)
class RuleOptions(Group):
    """How ``rankseg predict`` decides; a saved rule, or what tune saved, has decided all of it."""

    metric: str
    alpha: float | None
    beta: float | None
    output_mode: str
    solver: str
    smooth: float
    pruning_prob: str
    class_weights: str | None
    include_background: bool
    empty: str
    assignment: str | None
    unassigned_policy: str | None
    void_index: int | None
    coupling: float | None
    eps: float | None
    threshold: str | None
    activation: str
    aggregation: str
    calibrator: Path | None


@dataclass(frozen=True)
class SavedOptions(Group):
    """Files of rules."""

    tuned: Path | None
    rule: Path | None
    save_rule: Path | None


@dataclass(frozen=True)
class FileOptions(Group):
    """What ``rankseg predict`` reads and writes."""

    inputs: list[str]
    output: Path
    key: str | None
    channel_axis: str
    batched: bool | None
    scale: float | None
    max_bytes: int | None
    file_format: str | None
    overwrite: bool
    expected_score: Path | None


@dataclass(frozen=True)
class FolderOptions(Group):
    """Folders of nnU-Net."""

    nnunet: bool
    reference: Path | None
    unpickle: bool
    model: Path | None
