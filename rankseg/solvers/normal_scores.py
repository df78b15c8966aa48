"""BA and TRNA: expected scores from a refined normal approximation of the label count.

G = number of labels of a row, V and S = pixels and sum of probs of a mask, gamma = smooth:

    BA    Dice: 2 S E[1/(V + 1 + gamma + G)] + gamma E[1/(V + gamma + G)]
    TRNA  Dice: 2 sum_A p_j E[1/(V + 1 + gamma + G without j)] + gamma E[1/(V + gamma + G)]
    both  IoU:  (S + gamma) E[1/(V + gamma + G outside A)]     (inside and outside are independent)

`refined_normal` defines the distribution. G without j is at most one smaller than G and uses the
interval of G begun one earlier; the labels outside a mask have their own interval at every volume.

References: Dai and Li, RankSEG: A Consistent Ranking-based Framework for Segmentation, JMLR
24(224), 2023.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankseg.cached import cached_property
from rankseg.objectives import Dice, IoU
from rankseg.profile import Floats, chebyshev_terms, interval_nodes
from rankseg.refined_normal import Counts, central_counts, counts_on
from rankseg.solvers.row import Row

_OWN_NODES = 128  # TRNA rows up to this size need no interpolation between pixels
_WIDE = 5.0  # sd(G) above which BA+TRNA takes BA: Cohen's d = 1/sd < 0.2


@dataclass(frozen=True)
class Masks:
    """n masks of one row.

    Attributes
    ----------
    volumes, inside : array, shape (n,)
        Pixels and sum of probs.
    outside : array, shape (n, 3)
        Sums of p, p(1-p), p(1-p)(1-2p) outside the mask.
    weights : array, shape (n, nodes)
        The mask's pixels on the nodes of the objective (TRNA only).
    """

    volumes: Floats
    inside: Floats
    outside: Floats
    weights: Floats


def approximation(row: Row, objective: Dice | IoU, method: str, eps: float) -> Ba:
    """Objective of a row under 'BA', 'TRNA' or 'BA+TRNA'; for IoU they coincide.

    BA+TRNA takes BA where Cohen's d = 1/sd(G) < 0.2. ``eps`` is the probability left out of the
    distribution of G.
    """
    total = row.moments()
    if isinstance(objective, IoU):
        return IouApproximation(row, objective, total, eps)
    ba = method == "BA" or (method == "BA+TRNA" and total[1] > _WIDE**2)
    return (Ba if ba else Trna)(row, objective, total, eps)


def _reciprocal(counts: Counts, shift: Floats, numerator: float = 1.0) -> Floats:
    """E[numerator/(shift + G)], shape (n,): one distribution for all shifts, or one each."""
    out: Floats = (counts.pmf * (numerator / (shift[:, None] + counts.k))).sum(axis=1)
    return out


class Ba:
    """BA objective for Dice."""

    synthesis: Floats = np.zeros((0, 0))

    def __init__(self, row: Row, objective: Dice | IoU, total: Floats, eps: float) -> None:
        self.total, self.size, self.smooth, self.eps = total, row.size, objective.smooth, eps
        self.ratio_of_means = objective.ratio_of_means()
        self._plain_ratio = self.ratio_of_means.of_row()

    @cached_property
    def _counts(self) -> Counts:
        """Distribution of all labels."""
        return central_counts(self.total[None], np.array([float(self.size)]), self.eps)

    def empty(self) -> float:
        """Objective of the empty mask."""
        zero = np.zeros(1)
        return float(self._smooth_term(zero)[0])

    def scores(self, masks: Masks) -> Floats:
        """Objective of each mask, shape (n,)."""
        reciprocal = _reciprocal(self._counts, masks.volumes + 1 + self.smooth)
        return 2 * masks.inside * reciprocal + self._smooth_term(masks.volumes)

    def ratio(self, inside: Any, volume: Any) -> Any:
        """Ratio of the means of numerator and denominator, of one or many masks."""
        numerator, denominator = self._plain_ratio.terms(inside, volume)
        return numerator / denominator  # positive: the row has mu > 0

    def union(self, inside: Any, volume: Any) -> Any:
        """D = V + mu + gamma of one or many masks."""
        return volume + self.total[0] + self.smooth

    def weight(self, inside: Row) -> Floats:
        """A mask's pixels on the nodes of the objective, shape (nodes,): BA has none."""
        return np.zeros(0)

    def terms(self, values: Floats) -> Floats:
        """Terms of each value whose sums times ``synthesis`` are `weight`, shape (terms, n)."""
        return np.zeros((0, values.size))

    def _smooth_term(self, volumes: Floats) -> Floats:
        if self.smooth == 0:
            return np.zeros_like(volumes)
        return _reciprocal(self._counts, volumes + self.smooth, self.smooth)


class Trna(Ba):
    """TRNA objective for Dice.

    E[1/(c + G without j)] depends on the pixel through p_j alone, by way of var - p(1-p) and mean -
    p, so Chebyshev nodes serve all pixels (`_intervals`).
    """

    def __init__(self, row: Row, objective: Dice | IoU, total: Floats, eps: float) -> None:
        super().__init__(row, objective, total, eps)
        self._ends, self._gap = _intervals(row.size, float(total[1]))
        self._middle = np.unique(row.between(*self._gap))
        ends = [interval_nodes(*end) for end in self._ends]
        self._nodes = np.concatenate([*(nodes for nodes, _ in ends), self._middle])
        self.synthesis = _block_diagonal(
            [*(matrix for _, matrix in ends), np.eye(self._middle.size)]
        )
        self._without = self._leave_one_out(self._nodes)

    def _leave_one_out(self, p: Floats) -> Counts:
        """Counts without one pixel of each probability."""
        variance = p * (1 - p)
        removed = np.stack([p, variance, variance * (1 - 2 * p)], axis=1)
        start = max(float(self._counts.low[0, 0]) - 1, 0.0)
        stop = min(float(self._counts.high[0, 0]), self.size - 1.0)
        return counts_on(self.total - removed, start, max(start, stop))

    def scores(self, masks: Masks) -> Floats:
        """Objective of each mask, shape (n,)."""
        if self._nodes.size == 0:  # a small row of zeros: no pixel counts
            return self._smooth_term(masks.volumes)
        kernel = 1 / ((masks.volumes + 1 + self.smooth)[:, None] + self._without.k[0])
        reciprocal = kernel @ self._without.pmf.T
        out: Floats = 2 * (masks.weights * reciprocal) @ self._nodes
        return out + self._smooth_term(masks.volumes)

    def weight(self, inside: Row) -> Floats:
        """A mask's pixels on the nodes of the objective, shape (nodes,)."""
        ends = [inside.profile(*end).weight for end in self._ends]
        own = (inside.between(*self._gap)[:, None] == self._middle).sum(axis=0)
        return np.concatenate([*ends, own])

    def terms(self, values: Floats) -> Floats:
        """Terms of each value whose sums times ``synthesis`` are `weight`, shape (terms, n)."""
        ends = [chebyshev_terms(values, *end) for end in self._ends]
        return np.concatenate([*ends, values == self._middle[:, None]])


def _block_diagonal(blocks: list[Floats]) -> Floats:
    """Square matrix with the square ``blocks`` on its diagonal."""
    out = np.zeros((sum(map(len, blocks)),) * 2)
    at = 0
    for block in blocks:
        out[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return out


def _intervals(size: int, variance: float) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """Intervals of p with Chebyshev nodes, and the one whose pixels are their own nodes.

    The nearest singularity is where p(1-p) = var. For var >= 2 it is further than 5.5 (Bernstein
    ellipse) from all of (0, 1]. Otherwise (0, e] and (1 - e, 1] with e(1 - e) = var/4, at most 1/4,
    keep away from it, and fewer than four pixels can lie between. Small rows, in which the clipped
    cdf's kinks show, need no interpolation.
    """
    if size <= _OWN_NODES:
        return [], (0.0, 1.0)
    if variance >= 2:
        return [(0.0, 1.0)], (1.0, 1.0)
    edge = max((1 - math.sqrt(max(1 - variance, 0.0))) / 2, 1e-9)
    return [(0.0, edge), (1 - edge, 1.0)], (edge, 1 - edge)


class IouApproximation(Ba):
    """IoU objective: the labels outside the mask have their own distribution at every volume."""

    def union(self, inside: Any, volume: Any) -> Any:
        """D = V + mu outside + gamma of one or many masks."""
        return volume + self.total[0] - inside + self.smooth

    def scores(self, masks: Masks) -> Floats:
        """Objective of each mask, shape (n,)."""
        counts = central_counts(masks.outside, self.size - masks.volumes, self.eps)
        return (masks.inside + self.smooth) * _reciprocal(counts, masks.volumes + self.smooth)


def mask_score(terms: Ba, inside: Row, outside: Row, volume: int) -> float:
    """Approximate expected score of any mask.

    ``inside`` and ``outside`` are the row with the pixels of the other side at probability 0.
    """
    if volume == 0:
        return terms.empty()
    masks = Masks(
        np.array([float(volume)]),
        inside.moments()[:1],
        outside.moments()[None],
        terms.weight(inside)[None],
    )
    return a_score(terms.scores(masks))


def a_score(approximate: Floats) -> float:
    """Score of one mask, at most 1, which the approximation may exceed in short rows."""
    return min(float(approximate[0]), 1.0)
