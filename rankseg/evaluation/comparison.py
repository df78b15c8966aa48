"""Compare ways to decide on images with ground truth."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from rankseg import validation
from rankseg.api import RankSEG
from rankseg.evaluation import deciders, thumbnails
from rankseg.evaluation.bootstrap import Bootstrap
from rankseg.evaluation.contest import Contest, Conventions, differences, estimates
from rankseg.evaluation.deciders import Contestant
from rankseg.evaluation.images import look, other_classes, probabilities
from rankseg.evaluation.metrics import PREDICTED, TRUE, counts, metric_for, metrics_for
from rankseg.evaluation.pairs import (
    Groups,
    Image,
    PairError,
    Skipped,
    are_pairs,
    each_image,
    group_of,
)
from rankseg.evaluation.prediction import comparable
from rankseg.evaluation.reliability import Promise, Reliability
from rankseg.evaluation.result import Contender, Difference, Evaluation, Example
from rankseg.result import Segmentation

EXAMPLES = 5
"""Images kept for each contender at either end."""
FEW = 3
"""Images whose reasons are told where none can be used."""


def evaluate(
    pairs: Iterable[Any],
    contenders: Any = None,
    *,
    metric: str = "dice",
    aggregation: str = "image",
    output_mode: str | None = None,
    activation: str | None = None,
    ignore_index: int | None = None,
    include_background: bool = True,
    empty: float | str = "nan",
    class_names: Sequence[str] | None = None,
    groups: Groups = None,
    on_error: str = "raise",
    replicates: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Dice, IoU and accuracy of argmax or 0.5 and of others, on the same images, with intervals.

    One visit of the pairs, in memory that does not depend on their number.

    Parameters
    ----------
    pairs : iterable of (probs, labels) or (probs, labels, name)
        probs (B, C, *spatial), float in [0, 1], or logits; labels int (B, *spatial) for labels, or
        bool (B, C, *spatial) for masks; with one channel, labels of 0 and 1 in either mode. A name
        for the image, or a list of B. Tensors or numpy arrays.
    contenders : RankSEG, DecisionRule, TunedRankSEG, function, or a dict or list of them, optional
        What is compared with argmax (labels) or the 0.5 cut (masks). By default RMA for `metric`.
    metric : {'dice', 'iou', 'acc'}, default 'dice'
        What the verdict, and the best and worst images, are about; all three are computed, and the
        metric of every RankSEG.
    aggregation : {'image', 'dataset'}, default 'image'
        Whether the verdict is about the mean over images, or about the score of the whole data set;
        both are computed.
    output_mode, activation : str, optional
        As in ``RankSEG``. By default those of the contenders, or what the first labels look like
        and 'none'.
    ignore_index : int, optional
        Label of pixels to leave out of the scores. They are still decided: nobody knows them when
        it counts.
    include_background : bool, default True
        Whether class 0 counts in means over classes. Accuracy counts every pixel.
    empty : {0, 1, 'nan'}, default 'nan'
        Score of a class that is neither predicted nor true in an image. 'nan' leaves it out, as
        torchmetrics does.
    class_names : sequence of str, optional
    groups : function or mapping of image names, optional
        To the name of what images come from, a patient or a film: intervals then are about new
        ones of these, and wider. Without it an image is its own, and images of one name are one.
    on_error : {'raise', 'skip'}, default 'raise'
        What to do with a pair that cannot be used; skipped ones are named in the result.
    replicates : int from 1 to 1,000,000, default 1000
        Of the bootstrap.
    seed : int >= 0, default 0

    Returns
    -------
    Evaluation

    Raises
    ------
    TypeError, ValueError
        On options that make no sense; on a pair that cannot be used, with the image's name; if no
        image is left.

    Notes
    -----
    Per image: the mean over classes, then over images (torchmetrics' DiceScore with
    ``average='macro'``). Per data set: counts summed over images, then the mean over classes
    (``aggregation_level='global'``). Accuracy is that of all pixels.
    """
    pairs = are_pairs(pairs)
    metric_for(metric)
    aggregation = validation.choice("aggregation", aggregation, ("image", "dataset"))
    on_error = validation.choice("on_error", on_error, ("raise", "skip"))
    if ignore_index is not None:
        validation.integer("ignore_index", ignore_index)
    agreed_mode, agreed_activation = deciders.modes(contenders)
    mode = (agreed_mode or look(pairs)) if output_mode is None else output_mode
    mode = validation.choice("output_mode", mode, ("multiclass", "multilabel"))
    activation = (agreed_activation or "none") if activation is None else activation
    activation = validation.choice("activation", activation, ("none", "softmax", "sigmoid"))
    for name, asked, agreed in (
        ("output_mode", mode, agreed_mode),
        ("activation", activation, agreed_activation),
    ):
        if agreed not in (None, asked):
            raise ValueError(f"{name}={asked!r} was asked for, and the contenders have {agreed!r}")
    entries = deciders.contestants(contenders, metric, mode, activation)
    if class_names is not None:
        class_names = validation.several("class_names", class_names, "names")
    names = [metric, *(name for name in ("dice", "iou", "acc") if name != metric)]
    of_contenders = [
        metric_for(one.rankseg.settings.metric, one.rankseg.settings.metric_parameters)
        for one in entries
        if one.rankseg is not None
    ]
    run = _Run(
        entries,
        metrics_for(names, of_contenders),
        Conventions(
            validation.yes_or_no("include_background", include_background),
            validation.empty(empty, metric="", smooth=0),
            masks=mode == "multilabel",
        ),
        activation,
        Bootstrap.of(replicates, seed),
        Skipped(strict=on_error == "raise"),
    )
    for image in each_image(pairs, run.how.masks, ignore_index, run.skipped):
        try:
            run.add(image, group_of(groups, image.name))
        except PairError as error:
            run.skipped.add(error)
    return run.result(metric, aggregation, class_names)


class _Run:
    """Everything that is summed up over images."""

    def __init__(
        self,
        entries: list[Contestant],
        metrics: list[Any],
        how: Conventions,
        activation: str,
        bootstrap: Bootstrap,
        skipped: Skipped,
    ) -> None:
        self.entries = entries
        self.metrics = metrics
        self.how = how
        self.activation = activation
        self.bootstrap = bootstrap
        self.skipped = skipped
        self.groups: set[str] = set()
        self.contest: Contest | None = None
        self.reliability: Reliability | None = None
        self.promises = [None if one.rankseg is None else Promise() for one in entries]
        self.extremes = [_Extremes(one.name) for one in entries[1:]]

    def add(self, image: Image, group: str) -> None:
        """Count one image."""
        classes = image.values.shape[1]
        if self.contest is not None and classes != self.contest.shape[1]:
            raise PairError(image.name, other_classes(classes, self.contest.shape[1]))
        decided = [self._decide(one, image) for one in self.entries]
        probs = probabilities(image, self.activation)
        found = torch.stack(
            [counts(*comparable(prediction, image), classes) for prediction, _ in decided]
        )
        reliability = Reliability.of(probs, image.truth, image.counts)
        if self.reliability is None:
            self.reliability = reliability
        else:
            self.reliability.add(reliability)
        if self.contest is None:  # not before the first image that can be used
            self.contest = Contest(
                len(self.entries), classes, self.metrics, self.how, self.bootstrap
            )
        scores = self.contest.add(found, group)
        self.groups.add(group)
        for promise, one, (_, solved), numbers in zip(
            self.promises, self.entries, decided, found, strict=True
        ):
            if promise is not None and solved is not None and one.rankseg is not None:
                _keep_promise(promise, one.rankseg, solved, numbers)
        for place, extremes in enumerate(self.extremes, 1):
            pair = (scores[0, 0].item(), scores[place, 0].item())
            extremes.offer(
                image.name,
                *pair,
                lambda place=place: thumbnails.maps(  # type: ignore[misc]
                    image, probs, decided[0][0], decided[place][0]
                ),
            )

    def _decide(self, one: Contestant, image: Image) -> tuple[Tensor, Segmentation | None]:
        try:
            prediction, found = one.decide(image.values)
        except (TypeError, ValueError) as error:
            raise PairError(image.name, str(error)) from error
        wanted = image.values.shape if self.how.masks else image.values[:, 0].shape
        kind = torch.bool if self.how.masks else torch.int64
        if not isinstance(prediction, Tensor):
            raise TypeError(f"{one.name!r} must return a tensor; got {type(prediction).__name__}")
        if tuple(prediction.shape) != tuple(wanted) or prediction.dtype != kind:
            raise TypeError(
                f"{one.name!r} returned {prediction.dtype} of shape {tuple(prediction.shape)} for "
                f"{image.name}, expected {kind} of shape {tuple(wanted)}"
            )
        return prediction, found

    def result(
        self, metric: str, aggregation: str, class_names: Sequence[str] | None
    ) -> Evaluation:
        """What was found."""
        contest, reliability = self.contest, self.reliability
        if contest is None or reliability is None:
            reasons = list(self.skipped.reasons.items())
            why = "; ".join(f"{name}: {reason}" for name, reason in reasons[:FEW])
            more = f"; {len(reasons) - FEW} more" if len(reasons) > FEW else ""
            raise ValueError(f"there is no image to evaluate{': ' + why + more if why else ''}")
        found = self._contenders(contest)
        return Evaluation(
            images=contest.images,
            skipped=self.skipped.reasons,
            metric=metric,
            aggregation=aggregation,
            class_names=names_of_classes(class_names, contest.shape[1]),
            conventions=self.how,
            contenders={one.name: one for one in found},
            best={one.contender: one.best() for one in self.extremes},
            worst={one.contender: one.worst() for one in self.extremes},
            reliability=reliability,
            groups=len(self.groups),
        )

    def _contenders(self, contest: Contest) -> list[Contender]:
        by_image, by_dataset = contest.image_means(), contest.dataset_scores()
        names = [metric.name for metric in contest.metrics]
        tables = [estimates(by_image), estimates(by_dataset)]
        ahead = [differences(by_image), differences(by_dataset)]
        classes = [contest.image_classes(), contest.dataset_classes()]
        ties = contest.images - contest.wins - contest.losses

        def difference(table: int, k: int) -> dict[str, Difference]:
            return {
                name: Difference(
                    ahead[table][k][m],
                    int(contest.wins[k, m]),
                    int(ties[k, m]),
                    int(contest.losses[k, m]),
                )
                for m, name in enumerate(names)
            }

        return [
            Contender(
                name=one.name,
                description=one.description,
                per_image=dict(zip(names, tables[0][k], strict=True)),
                per_dataset=dict(zip(names, tables[1][k], strict=True)),
                image_classes=dict(zip(names, classes[0][k].tolist(), strict=True)),
                dataset_classes=dict(zip(names, classes[1][k].tolist(), strict=True)),
                difference=difference(0, k),
                dataset_difference=difference(1, k),
                promise=self.promises[k],
            )
            for k, one in enumerate(self.entries)
        ]


class _Extremes:
    """The few images where a contender is furthest ahead, and behind."""

    def __init__(self, contender: str) -> None:
        self.contender = contender
        self._heaps: tuple[list[Any], list[Any]] = ([], [])
        self._seen = 0

    def offer(
        self, name: str, baseline: float, score: float, maps: Callable[[], dict[str, Any]]
    ) -> None:
        """Keep an image if it is one of them."""
        self._seen += 1
        example = Example(name, self.contender, baseline, score, {})
        for heap, ahead in zip(self._heaps, (example.difference, -example.difference), strict=True):
            if ahead <= 0 or (len(heap) == EXAMPLES and ahead <= heap[0][0]):
                continue
            kept = Example(name, self.contender, baseline, score, maps())
            push = heapq.heappush if len(heap) < EXAMPLES else heapq.heapreplace
            push(heap, (ahead, -self._seen, kept))

    def best(self) -> list[Example]:
        """Furthest ahead first."""
        return [entry[2] for entry in sorted(self._heaps[0], reverse=True)]

    def worst(self) -> list[Example]:
        """Furthest behind first."""
        return [entry[2] for entry in sorted(self._heaps[1], reverse=True)]


def names_of_classes(given: Sequence[str] | None, classes: int) -> list[str]:
    """A name for each class."""
    if given is None:
        return [f"class {index}" for index in range(classes)]
    if len(given) != classes:
        names = validation.count(len(given), "name")
        numbers = validation.count(classes, "class", "classes")
        raise ValueError(f"class_names has {names}, probs have {numbers}")
    return [str(name) for name in given]


def _keep_promise(promise: Promise, decide: RankSEG, solved: Segmentation, numbers: Tensor) -> None:
    """Compare what was expected with what was achieved, under the same convention."""
    chosen = decide.settings
    metric = metric_for(chosen.metric, chosen.metric_parameters)
    achieved = metric.of_classes(numbers, chosen.empty, chosen.smooth)
    there = numbers[:, [PREDICTED, TRUE]].sum(1) > 0
    promise.add(solved.expected_score[0].cpu(), achieved, there)
