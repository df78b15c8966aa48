"""A prediction and the truth in one form."""

from __future__ import annotations

from torch import Tensor

from rankseg.evaluation.pairs import Image


def comparable(prediction: Tensor, image: Image) -> tuple[Tensor, Tensor, Tensor | None]:
    """Prediction, truth and what counts; those of one channel as masks."""
    truth, counted = image.truth, image.counts
    if image.values.shape[1] == 1 and not image.masks:
        prediction, truth = prediction[:, None] == 1, truth[:, None] == 1
        counted = None if counted is None else counted[:, None]
    return prediction, truth, counted
