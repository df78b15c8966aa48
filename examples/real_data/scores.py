"""Scores of pairs: the usual decision beside RankSEG's, and how far probabilities are true."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rankseg import RankSEG

from ._data_set import Pair


def compare(pairs: Sequence[Pair], metric: str, output_mode: str) -> dict[str, Tensor]:
    """Dice or IoU against the truth, (images, C), of each decision: the usual one is the first.

    A class that is in neither the truth nor the prediction scores NaN, and does not count.
    """
    usual = "argmax" if output_mode == "multiclass" else "0.5 cut"
    decisions = {
        usual: RankSEG(metric="acc", output_mode=output_mode),
        "RankSEG": RankSEG(metric=metric, output_mode=output_mode),
        "unpruned": RankSEG(metric=metric, output_mode=output_mode, pruning_prob=0.0),
    }
    return {
        name: torch.stack([_scores(decide, pair, metric) for pair in pairs])
        for name, decide in decisions.items()
    }


def _scores(decide: RankSEG, pair: Pair, metric: str) -> Tensor:
    probs, labels, _ = pair
    classes = probs.shape[1]
    return score(as_masks(decide(probs), classes), as_masks(labels, classes), metric)


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


def reliability(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Mean probability and true share of the pixels, each (C,), over all pairs.

    The first is larger where a model over-predicts. Equal means are not yet calibration.
    """
    classes = pairs[0][0].shape[1]
    told = sum(probs[0].flatten(1).double().sum(1) for probs, _, _ in pairs)
    found = sum(as_masks(labels, classes).sum(1) for _, labels, _ in pairs)
    pixels = sum(probs[0, 0].numel() for probs, _, _ in pairs)
    return torch.as_tensor(told) / pixels, torch.as_tensor(found) / pixels
