"""Scores of several contenders on the same images, compared image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rankseg.evaluation.bootstrap import Bootstrap, Estimate, estimate
from rankseg.evaluation.metrics import Metric

TIE = 1e-9
"""Scores closer than this are a tie: they differ by rounding."""


@dataclass(frozen=True)
class Conventions:
    """What the tables mean.

    Attributes
    ----------
    include_background : bool
        Whether class 0 counts in means over classes.
    empty : {0, 1, 'nan'}
        Score of a class that is neither predicted nor true; with 'nan' it does not count, and an
        image counts for nothing where no class does.
    masks : bool
        Masks, not labels.
    """

    include_background: bool
    empty: float | str
    masks: bool


class Contest:
    """Sums over images, in memory that does not depend on their number.

    Parameters
    ----------
    contenders, classes : int
        K and C. The first contender is the one that others are compared with.
    metrics : sequence of Metric
        M of them.
    conventions : Conventions
    bootstrap : Bootstrap
    """

    def __init__(
        self,
        contenders: int,
        classes: int,
        metrics: Sequence[Metric],
        conventions: Conventions,
        bootstrap: Bootstrap,
    ) -> None:
        self.metrics = tuple(metrics)
        self.conventions = conventions
        self.bootstrap = bootstrap
        self.images = 0
        self.shape = (contenders, classes)
        shape = (contenders, len(self.metrics))
        self.wins = torch.zeros(shape, dtype=torch.int64)
        self.losses = torch.zeros(shape, dtype=torch.int64)
        self.class_sums = torch.zeros(*shape, classes, dtype=torch.float64)
        self.class_images = torch.zeros(*shape, classes, dtype=torch.float64)

    def add(self, counts: Tensor, group: str) -> Tensor:
        """Add an image's counts, float64 (K, C, 4); returns its scores, (K, M)."""
        scores = torch.stack([self._of_image(metric, counts) for metric in self.metrics], -1)
        there = ~scores.isnan()
        numbers = [counts.flatten(1), scores.nan_to_num(0.0), there.double()]
        self.bootstrap.add(torch.cat(numbers, 1), group)
        # Nothing there and nothing said is right: no less than any score.
        right = scores.nan_to_num(1.0)
        ahead = right - right[:1]
        self.wins += ahead > TIE
        self.losses += ahead < -TIE
        for place, metric in enumerate(self.metrics):
            of_classes = metric.of_classes(counts, self.conventions.empty)
            self.class_images[:, place] += ~of_classes.isnan()
            self.class_sums[:, place] += of_classes.nan_to_num(0.0)
        self.images += 1
        return scores

    def image_means(self) -> Tensor:
        """Mean score over images, of the data and of every replicate, (1 + R, K, M)."""
        _, scores, there = self._parts()
        return scores / there

    def counted_images(self) -> Tensor:
        """Images that have a score, (K, M)."""
        return self._parts()[2][0]

    def dataset_scores(self) -> Tensor:
        """Scores of counts summed over images, as ``image_means``: (1 + R, K, M)."""
        counts = self._parts()[0]
        return torch.stack([self._of_image(metric, counts) for metric in self.metrics], -1)

    def dataset_classes(self) -> Tensor:
        """Score of every class from counts summed over images, (K, M, C)."""
        counts, empty = self._parts()[0][0], self.conventions.empty
        return torch.stack([metric.of_classes(counts, empty) for metric in self.metrics], 1)

    def image_classes(self) -> Tensor:
        """Mean over images of the score of every class, (K, M, C)."""
        return self.class_sums / self.class_images

    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        sums = self.bootstrap.sums()
        _, classes = self.shape
        numbers, metrics = 4 * classes, len(self.metrics)
        counts = sums[..., :numbers].reshape(*sums.shape[:2], classes, 4)
        return counts, sums[..., numbers : numbers + metrics], sums[..., numbers + metrics :]

    def _of_image(self, metric: Metric, counts: Tensor) -> Tensor:
        how = self.conventions
        return metric.of_image(counts, how.empty, how.include_background, how.masks)


def differences(replicates: Tensor) -> list[list[Estimate]]:
    """Estimate of how far each contender is ahead of the first, [K][M], of (1 + R, K, M)."""
    return estimates(replicates - replicates[:, :1])


def estimates(replicates: Tensor) -> list[list[Estimate]]:
    """Estimate of every number, [K][M], of (1 + R, K, M)."""
    return [[estimate(one) for one in row.unbind(-1)] for row in replicates.unbind(1)]
