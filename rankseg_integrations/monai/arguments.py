"""Arguments, checked where a transform or an inferer is made: who decides, and for which key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rankseg import DecisionRule, RankSEG
from rankseg_integrations._common import each_image_alone, require

_BY_ITEM = (list, tuple, np.ndarray, Tensor)


def decider(rankseg: Any, options: Mapping[str, Any]) -> RankSEG | DecisionRule:
    """Return the object given, or the `RankSEG` that the options describe.

    Raises
    ------
    TypeError, ValueError
        If both are given, the object is neither a `RankSEG` nor a `DecisionRule`, its metric is
        one over a data set, or `RankSEG` refuses the options.
    """
    if rankseg is None:
        each_image_alone(options)
        return RankSEG(**options)
    if not isinstance(rankseg, (RankSEG, DecisionRule)):
        raise TypeError(
            f"rankseg must be a RankSEG or a DecisionRule; got {type(rankseg).__name__} "
            f"{rankseg!r}: options are given by name, for example metric='dice'"
        )
    if options:
        raise TypeError(
            f"got rankseg and {', '.join(sorted(options))}: give either an object that is "
            "configured, or the options"
        )
    if isinstance(rankseg, RankSEG):
        each_image_alone({"aggregation": rankseg.settings.aggregation})
    return rankseg


def activation_of(decides: RankSEG | DecisionRule) -> str:
    """What turns its input into probabilities."""
    return decides.activation if isinstance(decides, DecisionRule) else decides.settings.activation


def output_mode_of(decides: RankSEG | DecisionRule) -> str:
    """Labels or masks."""
    if isinstance(decides, DecisionRule):
        return decides.output_mode
    return decides.settings.output_mode


def void_label(decides: RankSEG | DecisionRule) -> int | None:
    """Label of pixels that no class claims; None where they go to a class."""
    if isinstance(decides, DecisionRule):
        return decides.void_index if decides.eligible and not any(decides.eligible) else None
    found: int | None = dict(decides.settings.parameters).get("void_index")
    return found


def label_range(decides: RankSEG | DecisionRule, classes: int) -> tuple[int, int]:
    """Smallest and largest number that the labels or masks may hold."""
    if output_mode_of(decides) == "multilabel":
        return 0, 1
    void = void_label(decides)
    labels = [0, max(1, classes - 1)] + ([] if void is None else [void])
    return min(labels), max(labels)


class _Asked(Exception):
    """A question came, so the solver serves tiles."""


class _Nobody:
    """A source that is asked before any network runs."""

    def reduce(self, ask: Callable[[Tensor], Any]) -> Any:
        raise _Asked


def check_serves_tiles(rankseg: RankSEG, one_pass: bool) -> None:
    """Refuse what cannot be decided slab by slab."""
    with suppress(_Asked):
        rankseg.decide(_Nobody(), one_pass=one_pass)


def torch_dtype(dtype: Any) -> torch.dtype:
    """Type of the result, from a torch or NumPy type or its name, as a bundle's JSON has it."""
    kinds = require("monai.utils.type_conversion", "monai")
    try:
        named = kinds.get_torch_dtype_from_string if isinstance(dtype, str) else None
        found = named(dtype) if named else kinds.get_equivalent_dtype(dtype, Tensor)
    except (TypeError, ValueError, AttributeError) as error:
        raise TypeError(_no_dtype(dtype)) from error
    if not isinstance(found, torch.dtype) or found.is_complex:
        raise TypeError(_no_dtype(dtype))
    return found


def _no_dtype(dtype: Any) -> str:
    return f"dtype must be a type such as torch.float32 or 'uint8'; got {dtype!r}"


def one_hot_classes(to_onehot: Any, decides: RankSEG | DecisionRule) -> int | None:
    """Check the number of channels of one-hot labels; None leaves them one channel."""
    if to_onehot is None:
        return None
    if isinstance(to_onehot, bool) or not isinstance(to_onehot, (int, np.integer)):
        raise TypeError(
            f"to_onehot must be a number of classes or None; got {type(to_onehot).__name__} "
            f"{to_onehot!r}"
        )
    if to_onehot < 1:
        raise ValueError(f"to_onehot must be at least 1; got {to_onehot}")
    if output_mode_of(decides) == "multilabel":
        raise ValueError(
            "output_mode='multilabel' gives one mask a class already: leave to_onehot out, or "
            "decide labels with output_mode='multiclass'"
        )
    return int(to_onehot)


def for_each_key(name: str, value: Any, keys: Sequence[Any]) -> list[Any]:
    """Repeat a value for all keys; a sequence has one for each, as in MONAI.

    ``pruning_prob`` and ``class_weights`` take a number for each class, which is a sequence as
    well. With one key a sequence of numbers is read so, and weights are with any number of keys.
    """
    if not isinstance(value, _BY_ITEM):
        return [value] * len(keys)
    entries = list(value.tolist() if isinstance(value, (np.ndarray, Tensor)) else value)
    numbers = not any(isinstance(entry, (*_BY_ITEM, type(None))) for entry in entries)
    by_class = name == "class_weights" or (name == "pruning_prob" and len(keys) == 1)
    if by_class and numbers and entries:
        alone = name == "pruning_prob" and len(entries) == 1
        return [entries[0] if alone else tuple(entries)] * len(keys)
    if len(entries) != len(keys):
        several = name == "pruning_prob" and numbers
        raise ValueError(
            f"{name} has {len(entries)} entries for the {len(keys)} keys "
            f"{', '.join(map(repr, keys))}: give one value, or one for each key"
            + (f"; numbers for each class: [{tuple(entries)}] * {len(keys)}" if several else "")
        )
    return entries
