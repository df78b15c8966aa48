"""The images of pairs, visited as often as needed under the same reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rankseg import validation
from rankseg.evaluation.pairs import Image, PairError, Skipped, each_image, re_iterable

MODES = ("multiclass", "multilabel")
ACTIVATIONS = ("none", "softmax", "sigmoid")


@dataclass(frozen=True)
class Images:
    """How pairs are read.

    Attributes
    ----------
    pairs : iterable
    masks : bool
    activation : str
    ignore_index : int or None
    skipped : Skipped
        Filled by every visit.
    """

    pairs: Iterable[Any]
    masks: bool
    activation: str
    ignore_index: int | None
    skipped: Skipped

    @classmethod
    def of(
        cls,
        pairs: Iterable[Any],
        output_mode: str | None,
        activation: str,
        ignore_index: int | None,
        on_error: str,
    ) -> Images:
        """Check the options; the pairs can be visited several times."""
        re_iterable(pairs)
        activation = validation.choice("activation", activation, ACTIVATIONS)
        on_error = validation.choice("on_error", on_error, ("raise", "skip"))
        if ignore_index is not None:
            validation.integer("ignore_index", ignore_index)
        mode = validation.choice(
            "output_mode", look(pairs) if output_mode is None else output_mode, MODES
        )
        skipped = Skipped(strict=on_error == "raise")
        return cls(pairs, mode == "multilabel", activation, ignore_index, skipped)

    @property
    def output_mode(self) -> str:
        """Masks or labels, as ``RankSEG`` calls them."""
        return MODES[self.masks]

    def __iter__(self) -> Iterator[Image]:
        """Every image, in order."""
        return each_image(self.pairs, self.masks, self.ignore_index, self.skipped)

    def with_probabilities(self) -> Iterator[tuple[Image, Tensor]]:
        """Images with their probabilities, which are checked; all have as many classes."""
        classes = None
        for image in self:
            try:
                probs = checked_probabilities(image, self.activation)
                classes = classes or probs.shape[1]
                if probs.shape[1] != classes:
                    raise PairError(image.name, other_classes(probs.shape[1], classes))
            except PairError as error:
                self.skipped.add(error)
            else:
                yield image, probs


def look(pairs: Iterable[Any]) -> str:
    """What the first labels look like: masks have as many axes as probabilities."""
    if iter(pairs) is pairs:
        raise ValueError("say output_mode='multiclass' or 'multilabel' for pairs that come once")
    first = next((pair for pair in pairs if not isinstance(pair, PairError)), None)
    if not isinstance(first, (tuple, list)) or len(first) < 2:
        return "multiclass"  # what is wrong with it is said where pairs are read
    dimensions = [getattr(part, "ndim", None) for part in first[:2]]
    return "multilabel" if dimensions[0] == dimensions[1] else "multiclass"


def other_classes(these: int, others: int) -> str:
    """What is wrong with an image of another number of classes than those before."""
    return f"probs have {validation.count(these, 'class', 'classes')}, others {others}"


def probabilities(image: Image, activation: str) -> Tensor:
    """Probabilities of an image, at least float32."""
    values = image.values if image.values.dtype == torch.float64 else image.values.float()
    if activation == "softmax":
        return values.softmax(1)
    return values.sigmoid() if activation == "sigmoid" else values


def checked_probabilities(image: Image, activation: str) -> Tensor:
    """Probabilities of an image; PairError where they are none."""
    try:
        if activation == "softmax" and image.values.shape[1] == 1:
            raise ValueError("softmax over one channel is 1 everywhere; use activation='sigmoid'")
        probs = probabilities(image, activation)
        rows = probs.flatten(2)
        validation.probability_range(rows.amin(2), rows.amax(2), activation, rows.shape[2])
    except ValueError as error:
        raise PairError(image.name, str(error)) from error
    return probs
