"""Choose how to decide, by cross-validation; the usual rule wins unless another is better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rankseg import validation
from rankseg.calibrator import Calibrator
from rankseg.evaluation import calibration, cuts
from rankseg.evaluation.bootstrap import Bootstrap, Estimate, estimate
from rankseg.evaluation.candidates import (
    CALIBRATIONS,
    COUPLINGS,
    Candidate,
    candidates,
    learned,
)
from rankseg.evaluation.contest import TIE, Contest, Conventions
from rankseg.evaluation.images import Images
from rankseg.evaluation.metrics import NAMES, counts, metric_for
from rankseg.evaluation.pairs import Groups, group_of
from rankseg.evaluation.prediction import comparable
from rankseg.evaluation.result import FEWEST
from rankseg.evaluation.tuned import Result, TunedRankSEG

MOST_FOLDS = 1000
"""Each has calibrators of its own."""


def tune(
    pairs: Iterable[Any],
    metric: str = "dice",
    *,
    aggregation: str = "image",
    output_mode: str | None = None,
    activation: str = "none",
    solvers: Sequence[str] | None = None,
    couplings: Sequence[float] = COUPLINGS,
    calibrations: Sequence[str] = CALIBRATIONS,
    thresholds: bool = True,
    options: Mapping[str, Any] | None = None,
    ignore_index: int | None = None,
    include_background: bool = True,
    empty: float | str = "nan",
    groups: Groups = None,
    folds: int = 5,
    confidence: float = 0.95,
    on_error: str = "raise",
    replicates: int = 1000,
    seed: int = 0,
) -> TunedRankSEG:
    """The way to decide that scores best on images it has not learned from.

    Candidates are argmax (labels) or the 0.5 cut (masks), the best fixed cut, every solver and
    every coupling, each with every calibration. What they learn, they learn without the images
    they are scored on. Argmax or 0.5 is kept unless another is better by more than the noise, the
    number of candidates taken into account.

    Parameters
    ----------
    pairs, aggregation, output_mode, activation, ignore_index, include_background, empty, groups, \
on_error
        As for ``evaluate``. Images that the model was not trained on; named, if their order
        changes between visits. Images of one group stay together.
    metric : {'dice', 'iou', 'acc'}, default 'dice'
        What to maximise.
    solvers : sequence of str, optional
        Of ``RankSEG``. By default RMA, exact, BA, TRNA and BA+TRNA; ``('RMA',)`` is much faster.
        RMA is tried without pruning as well, unless the options say how to prune.
    couplings : sequence of float in [0, 1]
        Of ``solver='coupled'``.
    calibrations : sequence of str
        'none', and methods of ``fit_calibrator``.
    thresholds : bool, default True
        Whether the best fixed cut is a candidate: a threshold for each class, or for labels a
        factor on the probability of class 0.
    options : dict, optional
        Further options of ``RankSEG`` that all solvers get, such as ``pruning_prob``.
    folds : int from 2 to 1,000, default 5
    confidence : float in (0, 1), default 0.95
        How rarely, 5 times in 100, a candidate may be chosen that is in truth no better.
    replicates : int from 1 to 1,000,000, default 1000
        Of the bootstrap.
    seed : int >= 0, default 0

    Returns
    -------
    TunedRankSEG
        Called as a ``RankSEG``; ``best_`` is one, ``results_`` has all scores.

    Raises
    ------
    TypeError, ValueError
        As ``evaluate``, and on options that make no sense.

    Notes
    -----
    A candidate is better by more than the noise if its mean difference to the baseline, in standard
    errors, exceeds the quantile of the largest such number over all candidates in the bootstrap,
    centred: White's reality check (Econometrica 68(5), 2000). The intervals of the results hold for
    all candidates at once. The bootstrap needs images: from 20 on, 5 % of simulated choices among
    20 alike candidates were wrong with normal differences, but a third where small gains stand
    beside rare large losses, which few images do not show.
    """
    metric_of = metric_for(validation.choice("metric", metric, NAMES))
    aggregation = validation.choice("aggregation", aggregation, ("image", "dataset"))
    images = Images.of(pairs, output_mode, activation, ignore_index, on_error)
    how = Conventions(
        validation.yes_or_no("include_background", include_background),
        validation.empty(empty, metric="", smooth=0),
        images.masks,
    )
    entries = candidates(
        metric_of.name,
        images.output_mode,
        how.include_background,
        solvers,
        couplings,
        calibrations,
        validation.yes_or_no("thresholds", thresholds),
        {} if options is None else options,
    )
    if not 2 <= validation.integer("folds", folds) <= MOST_FOLDS:
        raise ValueError(f"folds must be at least 2, and at most {MOST_FOLDS}; got {folds}")
    confidence = validation.number_in_open_interval("confidence", confidence)
    bootstrap = Bootstrap.of(replicates, seed)
    split = _Folds(groups, folds)
    lessons = _Lessons.learn(images, entries, split, metric_of, how, aggregation)
    contest = _contest(images, entries, split, lessons, metric_of, how, bootstrap)
    scores = contest.image_means() if aggregation == "image" else contest.dataset_scores()
    results = _results(entries, contest, scores[:, :, 0], confidence)
    chosen = _choice(results, len(split.places))
    best = entries[chosen]
    return TunedRankSEG(
        best.rankseg(activation=images.activation, **lessons.complete(best, 0)),
        chosen=chosen,
        results=results,
        metric=metric_of.name,
        aggregation=aggregation,
        images=contest.images,
        groups=len(split.places),
        confidence=confidence,
        skipped=images.skipped.reasons,
    )


@dataclass
class _Folds:
    """Which fold an image is in: groups take turns, in the order they are first seen."""

    groups: Groups
    number: int
    places: dict[str, int] = field(default_factory=dict)

    def __call__(self, name: str) -> int:
        group = group_of(self.groups, name)
        return self.places.setdefault(group, len(self.places) % self.number)


@dataclass(frozen=True)
class _Lessons:
    """What candidates have learned: from all images at 0, without fold f at 1 + f."""

    calibrators: dict[str, list[Calibrator]]
    cuts: list[cuts.Cut]

    @classmethod
    def learn(
        cls,
        images: Images,
        entries: Sequence[Candidate],
        split: _Folds,
        metric: Any,
        how: Conventions,
        aggregation: str,
    ) -> _Lessons:
        """Visit the images as often as it takes."""
        methods = dict.fromkeys(one.calibration for one in entries if one.calibration != "none")
        calibrators = {
            method: calibration.fit(images, method, split.number, split) for method in methods
        }
        best: list[cuts.Cut] = []
        if any(one.cut for one in entries):
            best = cuts.fit(images, metric, how, aggregation, split.number, split)
        return cls(calibrators, best)

    def complete(self, candidate: Candidate, place: int) -> dict[str, Any]:
        """Options that make a candidate complete."""
        calibrator = None
        if candidate.calibration != "none":
            calibrator = self.calibrators[candidate.calibration][place]
        return learned(candidate, calibrator, self.cuts[place] if candidate.cut else None)


def _contest(
    images: Images,
    entries: Sequence[Candidate],
    split: _Folds,
    lessons: _Lessons,
    metric: Any,
    how: Conventions,
    bootstrap: Bootstrap,
) -> Contest:
    """Score every candidate on every image, with what it learned elsewhere."""
    contest: Contest | None = None
    deciders = [one.rankseg() for one in entries]
    for image, probs in images.with_probabilities():
        classes = probs.shape[1]
        contest = contest or Contest(len(entries), classes, [metric], how, bootstrap)
        place = 1 + split(image.name)
        calibrated: dict[str, Tensor] = {"none": probs}
        found = []
        for one, decide in zip(entries, deciders, strict=True):
            if one.cut:
                prediction = one.rankseg(**lessons.complete(one, place))(probs)
            else:
                if one.calibration not in calibrated:
                    calibrator = lessons.calibrators[one.calibration][place]
                    calibrated[one.calibration] = calibrator(probs)
                prediction = decide(calibrated[one.calibration])
            found.append(counts(*comparable(prediction, image), classes))
        contest.add(torch.stack(found), group_of(split.groups, image.name))
    if contest is None:
        raise ValueError("there is no image to tune on")
    return contest


def _results(
    entries: Sequence[Candidate], contest: Contest, scores: Tensor, confidence: float
) -> list[Result]:
    """A result for each candidate, of scores (1 + R, K)."""
    ahead = scores - scores[:, :1]
    difference, replicates = ahead[0], ahead[1:]
    replicates = replicates[~replicates.isnan().any(1)]
    error = replicates.std(0) if len(replicates) > 1 else torch.full_like(difference, torch.nan)
    wide = _wide(difference, replicates, error, confidence)
    ties = contest.images - contest.wins - contest.losses
    return [
        Result(
            name=one.name,
            options=one.options,
            calibration=one.calibration,
            score=estimate(scores[:, k]),
            difference=Estimate(
                difference[k].item(),
                error[k].item(),
                (difference[k] - wide * error[k]).item(),
                (difference[k] + wide * error[k]).item(),
            ),
            wins=int(contest.wins[k, 0]),
            ties=int(ties[k, 0]),
            losses=int(contest.losses[k, 0]),
        )
        for k, one in enumerate(entries)
    ]


def _wide(difference: Tensor, replicates: Tensor, error: Tensor, confidence: float) -> float:
    """Standard errors that no candidate strays further by, so often as `confidence` says."""
    varies = error > TIE
    if not len(replicates) or not bool(varies.any()):
        return torch.nan if not len(replicates) else 0.0
    strays = ((replicates - difference)[:, varies] / error[varies]).abs().amax(1)
    return torch.quantile(strays, confidence).item()


def _choice(results: Sequence[Result], groups: int) -> int:
    """The best of those that are better than the first by more than the noise, else the first."""
    best = 0
    for place, one in enumerate(results):
        ahead = one.difference
        better = ahead.low > TIE and groups >= FEWEST
        if better and ahead.value > results[best].difference.value + TIE:
            best = place
    return best
