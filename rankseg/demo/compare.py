"""The usual 0.5 cut and RankSEG on the same probabilities, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rankseg.api import RankSEG
from rankseg.demo.scores import Mask, dice, iou
from rankseg.result import Segmentation

WARM_UP, REPEATS = 3, 15


@dataclass(frozen=True)
class Outcome:
    """One mask and its numbers.

    ``expected`` is the solver's expectation of the chosen metric before the truth is known, as
    good as the probabilities are; ``volume`` is in pixels; ``milliseconds`` the median time of
    the decision alone, on one thread.
    """

    name: str
    mask: Mask
    threshold: float
    dice: float
    iou: float
    expected: float
    volume: int
    milliseconds: float

    def score(self, metric: str) -> float:
        """Value against ground truth: IoU if that is the metric, Dice otherwise."""
        return self.iou if metric == "iou" else self.dice


@dataclass(frozen=True)
class Comparison:
    """The 0.5 cut, RankSEG, and where they differ."""

    metric: str
    truth: Mask
    cut: Outcome
    rankseg: Outcome

    @property
    def gained(self) -> Mask:
        """Pixels that only RankSEG selects."""
        return self.rankseg.mask & ~self.cut.mask

    @property
    def lost(self) -> Mask:
        """Pixels that only the 0.5 cut selects."""
        return self.cut.mask & ~self.rankseg.mask

    @property
    def changed(self) -> bool:
        """Whether the two masks differ at all."""
        return bool((self.gained | self.lost).any())

    @property
    def score_name(self) -> str:
        """Name of ``Outcome.score``."""
        return "IoU" if self.metric == "iou" else "Dice"

    def changes(self) -> dict[str, int]:
        """Count the pixels gained and lost, each right or wrong by the ground truth."""
        return {
            "gained_right": int((self.gained & self.truth).sum()),
            "gained_wrong": int((self.gained & ~self.truth).sum()),
            "lost_right": int((self.lost & ~self.truth).sum()),
            "lost_wrong": int((self.lost & self.truth).sum()),
        }


def compare(probs: npt.NDArray[np.float32], truth: Mask, decide: RankSEG) -> Comparison:
    """Decide once with ``probs > 0.5`` and once with RankSEG.

    Parameters
    ----------
    probs : ndarray, float32 (H, W) in [0, 1]
        Probability of the one class.
    truth : ndarray, bool (H, W)
        Ground truth, for the scores only.
    decide : RankSEG
        Multilabel; its metric also judges the 0.5 cut's expectation.
    """
    metric = decide.settings.metric
    usual = RankSEG(metric=metric, output_mode="multilabel", solver="TR")
    image = torch.from_numpy(probs)[None, None]
    cut_time, rankseg_time = _time(lambda: image > 0.5), _time(lambda: decide.predict(image))
    return Comparison(
        metric=metric,
        truth=truth,
        cut=_outcome("0.5 cut", usual.solve(image), truth, cut_time),
        rankseg=_outcome("RankSEG", decide.solve(image), truth, rankseg_time),
    )


def _outcome(name: str, answer: Segmentation, truth: Mask, milliseconds: float) -> Outcome:
    mask = answer.prediction[0, 0].numpy()
    return Outcome(
        name=name,
        mask=mask,
        threshold=answer.threshold.item(),
        dice=dice(mask, truth),
        iou=iou(mask, truth),
        expected=answer.expected_score.item(),
        volume=int(answer.volume.item()),
        milliseconds=milliseconds,
    )


def _time(work: Callable[[], Tensor]) -> float:
    """Median milliseconds on one thread: on a busy machine, threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = [_once(work) for _ in range(WARM_UP + REPEATS)]
    finally:
        torch.set_num_threads(threads)
    return 1000 * median(times[WARM_UP:])


def _once(work: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
