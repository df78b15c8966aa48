"""Options of several commands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Activation(str, Enum):
    """What turns stored values into probabilities."""

    none = "none"
    softmax = "softmax"
    sigmoid = "sigmoid"


class Aggregation(str, Enum):
    """Over which pixels the metric is taken."""

    image = "image"
    dataset = "dataset"


class OnError(str, Enum):
    """What to do with a pair that cannot be used."""

    skip = "skip"
    stop = "raise"


class NiftiOrder(str, Enum):
    """Order of axes beside a NIfTI file."""

    zyx = "zyx"
    xyz = "xyz"


@dataclass(frozen=True)
class PairOptions:
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
class ScoreOptions:
    """What is scored, and how it is summed up."""

    metric: str
    aggregation: str
    include_background: bool
    empty: str
    group_by: str | None
    pruning_prob: str
