"""Scores of pairs: the usual decision beside RankSEG's, and how far probabilities are true."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from examples.real_data._data_set import Pair
from rankseg import RankSEG


def compare(pairs: Sequence[Pair], metric: str, output_mode: str) -> tuple[Tensor, Tensor]:
    """Dice or IoU against the truth, (images, C): argmax or the 0.5 cut, and RankSEG by RMA.

    A class that is in neither the truth nor the prediction scores NaN, and does not count.
    """
    usual = RankSEG(output_mode=output_mode, metric="acc")
    ranked = RankSEG(output_mode=output_mode, metric=metric)
    rows = [
        [
            score(as_masks(decide(probs), classes), as_masks(labels, classes), metric)
            for probs, labels, _ in pairs
        ]
        for classes in (pairs[0][0].shape[1],)
        for decide in (usual, ranked)
    ]
    before, after = (torch.stack(row) for row in rows)
    return before, after


def as_masks(labels: Tensor, classes: int) -> Tensor:
    """Bool (C, pixels) of labels (1, *spatial) or masks (1, C, *spatial)."""
    if labels.dtype == torch.bool:
        return labels[0].flatten(1)
    return labels.flatten() == torch.arange(classes)[:, None]


def score(prediction: Tensor, truth: Tensor, metric: str) -> Tensor:
    """Dice or IoU of each class, (C,)."""
    overlap = (prediction & truth).sum(1)
    union = (prediction | truth).sum(1)
    return overlap / union if metric == "iou" else 2 * overlap / (overlap + union)


def reliability(pairs: Sequence[Pair], output_mode: str) -> tuple[Tensor, Tensor]:
    """Mean probability and true share of the pixels, each (C,), over all pairs.

    The first is larger where a model over-predicts. Equal means are not yet calibration.
    """
    classes = pairs[0][0].shape[1]
    told = sum(probs[0].flatten(1).double().sum(1) for probs, _, _ in pairs)
    found = sum(as_masks(labels, classes).sum(1) for _, labels, _ in pairs)
    pixels = sum(probs[0, 0].numel() for probs, _, _ in pairs)
    return torch.as_tensor(told) / pixels, torch.as_tensor(found) / pixels
