"""Are the probabilities right? How often a class is there, where the model said so with p."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rankseg.evaluation.metrics import as_plain

BINS = 20


@dataclass
class Reliability:
    """Pixels of each class in bins of equal width of their probability.

    Attributes
    ----------
    count, sum_of_probs, sum_of_labels : Tensor, float64 (C, BINS)
    squares : Tensor, float64 (C,)
        Sum of (probability - label) squared.
    """

    count: Tensor
    sum_of_probs: Tensor
    sum_of_labels: Tensor
    squares: Tensor

    @classmethod
    def of(cls, probs: Tensor, truth: Tensor, counts: Tensor | None) -> Reliability:
        """Reliability of one image.

        Parameters
        ----------
        probs : Tensor, shape (1, C, *spatial)
        truth : Tensor
            Labels int64 (1, *spatial) or masks bool (1, C, *spatial).
        counts : Tensor, bool, shaped like `truth`, optional
        """
        classes = probs.shape[1]
        p = probs[0].flatten(1).double()
        masks = truth.ndim == probs.ndim
        if masks:
            y = truth[0].flatten(1).double()
        elif classes == 1:
            y = truth.flatten()[None].double()
        else:
            y = torch.nn.functional.one_hot(truth.flatten(), classes).T.double()
        weight = torch.ones_like(p)
        if counts is not None:
            weight = (
                (counts[0].flatten(1) if masks else counts.flatten()[None]).expand_as(p).double()
            )
            p, y = p * weight, y * weight  # nothing is said of probabilities that do not count
        place = (p * BINS).long().clamp_(max=BINS - 1)
        place += torch.arange(classes, device=p.device)[:, None] * BINS
        count, sum_of_probs, sum_of_labels = (
            torch.bincount(place.flatten(), numbers.flatten(), classes * BINS)
            .reshape(classes, BINS)
            .cpu()
            for numbers in (weight, p, y)
        )
        return cls(count, sum_of_probs, sum_of_labels, ((p - y) ** 2).sum(1).cpu())

    def add(self, other: Reliability) -> None:
        """Count the other's pixels, too."""
        for name, mine in vars(self).items():
            mine += getattr(other, name)

    @property
    def predicted(self) -> Tensor:
        """Mean probability of each bin, (C, BINS); NaN where it is empty."""
        return self.sum_of_probs / self.count

    @property
    def observed(self) -> Tensor:
        """Share of pixels of each bin that are of the class, (C, BINS)."""
        return self.sum_of_labels / self.count

    @property
    def error(self) -> Tensor:
        """Expected calibration error, (C,): mean distance of the two over all pixels."""
        distance = (self.sum_of_probs - self.sum_of_labels).abs().sum(1)
        return distance / self.count.sum(1)

    @property
    def brier(self) -> Tensor:
        """Mean of (probability - label) squared, (C,)."""
        return self.squares / self.count.sum(1)

    @property
    def expected_share(self) -> Tensor:
        """Mean probability of each class, (C,)."""
        return self.sum_of_probs.sum(1) / self.count.sum(1)

    @property
    def true_share(self) -> Tensor:
        """Share of pixels that are of each class, (C,)."""
        return self.sum_of_labels.sum(1) / self.count.sum(1)

    def to_dict(self) -> dict[str, Any]:
        """Numbers for JSON."""
        return {
            name: as_plain(getattr(self, name))
            for name in (
                *("count", "predicted", "observed", "error", "brier"),
                *("expected_share", "true_share"),
            )
        }


@dataclass
class Promise:
    """Is the predicted quality right? Expected scores beside those achieved, over (image, class).

    Pairs whose class is neither predicted nor true are left out.
    """

    sums: Tensor = field(default_factory=lambda: torch.zeros(5, dtype=torch.float64))
    bins: Tensor = field(default_factory=lambda: torch.zeros(3, 10, dtype=torch.float64))
    """Count, sum of expected, sum of achieved, in tenths of the expected score."""

    def add(self, expected: Tensor, achieved: Tensor, there: Tensor) -> None:
        """Count an image, float64 (C,) each; `there` is bool."""
        there = there & ~expected.isnan() & ~achieved.isnan()
        e, a = expected[there], achieved[there]
        self.sums += torch.stack([e.sum(), a.sum(), (e * e).sum(), (a * a).sum(), (e * a).sum()])
        place = (e * 10).long().clamp_(0, 9)
        for row, numbers in enumerate((torch.ones_like(e), e, a)):
            self.bins[row].index_add_(0, place, numbers)

    @property
    def count(self) -> int:
        """Pairs of image and class."""
        return int(self.bins[0].sum())

    @property
    def expected(self) -> float:
        """Mean score expected."""
        return (self.sums[0] / self.bins[0].sum()).item()

    @property
    def achieved(self) -> float:
        """Mean score achieved."""
        return (self.sums[1] / self.bins[0].sum()).item()

    @property
    def correlation(self) -> float:
        """Pearson's correlation of the two; NaN where one does not vary."""
        n = self.bins[0].sum()
        e, a, ee, aa, ea = self.sums / n
        found: float = ((ea - e * a) / ((ee - e * e) * (aa - a * a)).clamp(min=0).sqrt()).item()
        return found

    def to_dict(self) -> dict[str, Any]:
        """Numbers for JSON."""
        numbers = torch.tensor([self.expected, self.achieved, self.correlation])
        expected, achieved, correlation = as_plain(numbers.double())
        count, sum_of_expected, sum_of_achieved = self.bins
        return {
            "pairs": self.count,
            "expected": expected,
            "achieved": achieved,
            "correlation": correlation,
            "bins": {
                "count": as_plain(count),
                "expected": as_plain(sum_of_expected / count),
                "achieved": as_plain(sum_of_achieved / count),
            },
        }
