"""Slow, readable float64 truths, written from the formulas and independent of the package."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np


def rma_score(metric, selected_sum, volume, mu, smooth: float = 0.0):
    """RMA objective of a region, elementwise; 0/0 = 0.

    ``metric`` is a name, or ("fbeta", beta), or ("tversky", alpha, beta).
    """
    s, v = np.asarray(selected_sum, float), np.asarray(volume, float)
    if metric[0] == "fbeta":
        w = metric[1] ** 2
        first = divide((1 + w) * s, v + w * (1 + mu) + smooth)
        return first + divide(smooth, v + w * mu + smooth)
    if metric[0] == "tversky":
        false_positives, false_negatives = v - s, mu - s
        counted = 1 - metric[1]
        errors = metric[1] * false_positives + metric[2] * false_negatives
        return divide(s + smooth, s + errors + counted + smooth)
    if metric == "dice":
        first = divide(2 * s, v + mu + 1 + smooth)
        return first + divide(smooth, v + mu + smooth)
    return divide(s + smooth, v + mu - s + smooth)


def divide(a, b):
    a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def best_rma(metric, row, smooth: float = 0.0) -> float:
    """Largest RMA objective over all volumes; the best mask of a volume is its largest pixels."""
    ordered = np.sort(np.asarray(row, float))[::-1]
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    scores = rma_score(metric, sums, np.arange(len(ordered) + 1), sums[-1], smooth)
    return float(scores.max())


def subsets(size: int) -> Iterator[np.ndarray]:
    for bits in itertools.product([False, True], repeat=size):
        yield np.array(bits)


def best_rma_of_all_subsets(metric, row, smooth: float = 0.0) -> float:
    row = np.asarray(row, float)
    return max(
        float(rma_score(metric, row[mask].sum(), mask.sum(), row.sum(), smooth))
        for mask in subsets(len(row))
    )


def score_of_mask(metric, row, mask, smooth: float = 0.0) -> float:
    row, mask = np.asarray(row, float), np.asarray(mask, bool)
    return float(rma_score(metric, row[mask].sum(), mask.sum(), row.sum(), smooth))


def published_labels(metric, probs, active, smooth=0.0, policy="max_score", void=255, weights=None):
    """Published rule for one image (C, n), pixel by pixel, gains as differences of objectives.

    Returns labels and, per pixel, the gap between the best and the second best candidate: where
    it is tiny the label is a matter of rounding.
    """
    probs = np.asarray(probs, float)
    claims = np.array([best_rma_mask(metric, row, smooth) for row in probs])
    claims &= np.asarray(active)[:, None]
    mu = probs.sum(1)
    once = claims & (claims.sum(0) == 1)
    s1, v1 = (probs * once).sum(1), once.sum(1)
    classes = range(len(probs))
    fallback = [c for c in classes if active[c]] or list(classes)
    labels, gaps = np.full(probs.shape[1], void), np.full(probs.shape[1], np.inf)
    for pixel in range(probs.shape[1]):
        claimers = [c for c in classes if claims[c, pixel]]
        if not claimers and policy == "void":
            continue
        candidates = claimers or fallback
        gains = [
            (1.0 if weights is None else weights[c])
            * float(
                rma_score(metric, s1[c] + probs[c, pixel], v1[c] + 1, mu[c], smooth)
                - rma_score(metric, s1[c], v1[c], mu[c], smooth)
            )
            for c in candidates
        ]
        labels[pixel] = candidates[int(np.argmax(gains))]
        ranked = sorted(gains, reverse=True)
        if len(ranked) > 1:
            gaps[pixel] = ranked[0] - ranked[1]
    return labels, gaps


def best_rma_mask(metric, row, smooth: float = 0.0) -> np.ndarray:
    """Best mask of a row; of equally good ones the smallest. Equal pixels share their fate."""
    row = np.asarray(row, float)
    ordered = np.sort(row)[::-1]
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    scores = rma_score(metric, sums, np.arange(len(ordered) + 1), sums[-1], smooth)
    volume = int(np.flatnonzero(scores >= scores.max() * (1 - 1e-13))[0])
    return row >= ordered[volume - 1] if volume else np.zeros(len(row), bool)


def comonotone_score(metric, row, mask, smooth: float = 0.0, empty: float = 0.0) -> float:
    """Expected score of any mask when the labels are {row > U}, U uniform: one sum over the steps.

    Between neighbouring probabilities the labels do not change. ``empty`` is what an empty mask
    scores without labels.
    """
    row, mask = np.asarray(row, float), np.asarray(mask, bool)
    ends = np.unique(np.concatenate([row, [0.0, 1.0]]))
    total = 0.0
    for low, high in itertools.pairwise(ends):
        labels = row > low  # for u in [low, high)
        both, either = (labels & mask).sum(), (labels | mask).sum()
        if metric == "dice":
            above, below = 2 * both + smooth, labels.sum() + mask.sum() + smooth
        else:
            above, below = both + smooth, either + smooth
        total += (high - low) * (above / below if below else empty)
    return float(total)


def coupled_score(metric, row, mask, coupling, smooth: float = 0.0) -> float:
    together = comonotone_score(metric, row, mask, smooth)
    return (1 - coupling) * score_of_mask(metric, row, mask, smooth) + coupling * together


def level_sets(row) -> Iterator[np.ndarray]:
    """The empty mask, and all pixels down to each positive probability."""
    row = np.asarray(row, float)
    yield np.zeros(row.size, bool)
    for value in np.unique(row[row > 0])[::-1]:
        yield row >= value


def best_coupled(metric, row, coupling, smooth: float = 0.0) -> float:
    """Largest mixture over all level sets, in O(d^2): sums over the sorted row."""
    ordered = np.sort(np.asarray(row, float))[::-1]
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    height = np.append(1.0, ordered) - np.append(ordered, 0.0)
    labels = np.arange(ordered.size + 1)
    ends = np.append(ordered[:-1] > ordered[1:], True) & (ordered > 0)
    best = -1.0
    for volume in [0, *(np.flatnonzero(ends) + 1)]:
        least, most = np.minimum(volume, labels), np.maximum(volume, labels)
        share = (
            divide(2 * least + smooth, volume + labels + smooth)
            if metric == "dice"
            else divide(least + smooth, most + smooth)
        )
        alone = rma_score(metric, sums[volume], volume, sums[-1], smooth)
        best = max(best, float((1 - coupling) * alone + coupling * (height * share).sum()))
    return best
