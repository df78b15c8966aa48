"""What an evaluation found, as numbers, JSON and one sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rankseg import strict_json
from rankseg.evaluation.bootstrap import Estimate
from rankseg.evaluation.contest import Conventions
from rankseg.evaluation.reliability import Promise, Reliability

FORMAT, VERSION = "rankseg evaluation", 1
FEWEST = 10
"""Groups of images below which nothing is concluded, or learned."""

NAMES = {"dice": "Dice", "iou": "IoU", "acc": "accuracy"}
OURS = re.compile(r"(RMA|exact|auto|coupled|BA|TRNA|BA\+TRNA)(?=[ ,]|$)", re.IGNORECASE)
"""Names that begin with a solver of RankSEG; argmax and TR are what it is compared with."""


@dataclass(frozen=True)
class Difference:
    """How far a contender is ahead of the baseline.

    Attributes
    ----------
    estimate : Estimate
        Of the mean over images, or of the score of the whole data set.
    wins, ties, losses : int
        Images where it scores more, the same, less. An image without a score, where nothing is
        true and nothing was predicted, counts as right.
    """

    estimate: Estimate
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Contender:
    """One way to decide, and its scores.

    Attributes
    ----------
    name, description : str
    per_image, per_dataset : dict of str to Estimate
        By metric: the mean over images, and the score of counts summed over images.
    image_classes, dataset_classes : dict of str to list of float
        The same for each class; NaN where a class is never there.
    difference, dataset_difference : dict of str to Difference
        By metric, to the baseline.
    promise : Promise or None
        Expected beside achieved scores; None where the contender expects none.
    """

    name: str
    description: str
    per_image: dict[str, Estimate]
    per_dataset: dict[str, Estimate]
    image_classes: dict[str, list[float]]
    dataset_classes: dict[str, list[float]]
    difference: dict[str, Difference]
    dataset_difference: dict[str, Difference]
    promise: Promise | None

    @property
    def title(self) -> str:
        """Its name for people, who look for RankSEG beside argmax."""
        return self.name if self.promise is None else titled(self.name)


@dataclass(frozen=True)
class Example:
    """One image where contender and baseline differ.

    Attributes
    ----------
    name : str
    contender : str
    baseline_score, score : float
        NaN where nothing is true and nothing was predicted.
    maps : dict of str to ndarray
        Small 2-D pictures, uint8: ``'truth'``, ``'baseline'``, ``'decided'`` are labels (of masks
        the number of the first class, 1 to C, 0 for none, 255 for pixels that do not count);
        ``'probability'`` is that of the foreground, 0 to 255.
    """

    name: str
    contender: str
    baseline_score: float
    score: float
    maps: dict[str, npt.NDArray[np.uint8]]

    @property
    def difference(self) -> float:
        """Score less that of the baseline; without a score, nothing was wrong."""
        return _or_right(self.score) - _or_right(self.baseline_score)


@dataclass(frozen=True)
class Evaluation:
    """Scores of every contender on the same images.

    Attributes
    ----------
    images : int
        That were counted.
    skipped : dict of str to str
        Images that were not, with the reason.
    metric : str
        The one that the verdict is about.
    aggregation : {'image', 'dataset'}
        Whether the verdict is about the mean over images or the score of the whole data set.
    class_names : list of str
    conventions : Conventions
    contenders : dict of str to Contender
        The baseline comes first.
    best, worst : dict of str to list of Example
        By contender: where it is furthest ahead of and behind the baseline, by ``metric``.
    reliability : Reliability
    groups : int
        Patients, films: what images come from, and what the intervals are about.
    """

    images: int
    skipped: dict[str, str]
    metric: str
    aggregation: str
    class_names: list[str]
    conventions: Conventions
    contenders: dict[str, Contender]
    best: dict[str, list[Example]]
    worst: dict[str, list[Example]]
    reliability: Reliability
    groups: int

    @property
    def baseline(self) -> Contender:
        """What the others are compared with."""
        return next(iter(self.contenders.values()))

    @property
    def leader(self) -> Contender:
        """The contender that is furthest ahead, the baseline excepted if there is another."""
        others = list(self.contenders.values())[1:]
        return max(others, key=self._ahead) if others else self.baseline

    def difference(self, contender: Contender) -> Difference:
        """What the verdict is about."""
        by_image = self.aggregation == "image"
        table = contender.difference if by_image else contender.dataset_difference
        return table[self.metric]

    @property
    def verdict(self) -> str:
        """One sentence: whether it helps, and how sure that is."""
        if len(self.contenders) == 1:
            return f"Only {self.baseline.name} was evaluated: there is nothing to compare."
        leader, baseline = self.leader.title, self.baseline.name
        found = self.difference(self.leader)
        ahead = found.estimate
        what = f"mean {self._name}" if self.aggregation == "image" else f"data-set {self._name}"
        if math.isnan(ahead.value):
            return (
                f"Nothing to compare: no image has a {what}, because no class that counts is ever "
                "true or predicted."
            )
        size = f"{points(ahead.value)} points of {what}"
        if self.groups < FEWEST or math.isnan(ahead.low):
            return (
                f"Too few images to tell ({self.groups}; {FEWEST} independent ones are needed): "
                f"{leader} differs from {baseline} by {size}."
            )
        interval = f"95 % interval {points(ahead.low)} to {points(ahead.high)}"
        score = f"{found.wins} images better, {found.ties} equal, {found.losses} worse"
        if ahead.low > 0:
            return f"{leader} gains {size} over {baseline} ({interval}; {score})."
        if ahead.high < 0:
            return (
                f"Keep {baseline}: the best alternative, {leader}, loses {size[1:]} "
                f"({interval}; {score})."
            )
        return (
            f"Keep {baseline}: {leader} differs by {size}, which cannot be told from noise "
            f"({interval}; {score})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures; NaN is None."""
        numbers = {
            "images": self.images,
            "groups": self.groups,
            "skipped": self.skipped,
            "metric": self.metric,
            "aggregation": self.aggregation,
            "verdict": self.verdict,
            "class_names": self.class_names,
            "conventions": asdict(self.conventions),
            "contenders": [_contender(one) for one in self.contenders.values()],
            "best": {name: [_example(e) for e in found] for name, found in self.best.items()},
            "worst": {name: [_example(e) for e in found] for name, found in self.worst.items()},
            "reliability": self.reliability.to_dict(),
        }
        cleaned: dict[str, Any] = without_nan(numbers)
        return cleaned

    def save(self, path: str | Path) -> None:
        """Write ``to_dict`` as JSON."""
        strict_json.write(path, FORMAT, VERSION, self.to_dict())

    def __str__(self) -> str:
        """The verdict, and a line for each contender."""
        lines = [self.verdict]
        for one in self.contenders.values():
            scores = "  ".join(
                f"{NAMES.get(metric, metric)} {found.value:.4f}"
                for metric, found in one.per_image.items()
            )
            lines.append(f"{one.title:<24} {scores}")
        if self.skipped:
            lines.append(f"not counted: {', '.join(self.skipped)}")
        return "\n".join(lines)

    @property
    def _name(self) -> str:
        return NAMES.get(self.metric, self.metric)

    def _ahead(self, contender: Contender) -> float:
        value = self.difference(contender).estimate.value
        return -math.inf if math.isnan(value) else value


def titled(name: str) -> str:
    """The name with RankSEG before it, if it is that of one of its solvers."""
    return f"RankSEG ({name})" if OURS.match(name) else name


def points(difference: float) -> str:
    """Hundredths, with their sign."""
    return f"{100 * difference:+.2f}"


def _or_right(score: float) -> float:
    return 1.0 if math.isnan(score) else score


def _contender(one: Contender) -> dict[str, Any]:
    found = {**vars(one), "promise": None if one.promise is None else one.promise.to_dict()}
    for name in ("per_image", "per_dataset", "difference", "dataset_difference"):
        found[name] = {metric: asdict(value) for metric, value in found[name].items()}
    return found


def _example(one: Example) -> dict[str, Any]:
    return {
        "name": one.name,
        "baseline_score": one.baseline_score,
        "score": one.score,
        "difference": one.difference,
    }


def without_nan(value: Any) -> Any:
    """The same with None for NaN, which JSON has not."""
    if isinstance(value, Mapping):
        return {name: without_nan(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
