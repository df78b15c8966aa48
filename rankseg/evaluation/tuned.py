"""A RankSEG that was chosen on labelled images, with the scores that chose it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rankseg import DecisionRule, RankSEG, Segmentation, Source, strict_json, validation
from rankseg.calibrator import Calibrator
from rankseg.evaluation.bootstrap import Estimate
from rankseg.evaluation.result import FEWEST, NAMES, points, titled, without_nan

FORMAT, VERSION = "rankseg tuned", 1
AGGREGATIONS = ("image", "dataset")
ENTRIES = {
    *("options", "calibrator", "chosen", "metric", "aggregation", "images", "groups"),
    *("confidence", "verdict", "skipped", "results"),
}


@dataclass(frozen=True)
class Result:
    """Cross-validated scores of one candidate.

    Attributes
    ----------
    name : str
    options : dict
        Of ``RankSEG``, but for what was learned.
    calibration : str
        'none' or a method of ``fit_calibrator``.
    score : Estimate
        Of the metric; its interval is about this candidate alone.
    difference : Estimate
        To the first candidate, argmax or 0.5; intervals hold for all candidates at once.
    wins, ties, losses : int
        Images where it scores more than the first candidate, the same, less.
    """

    name: str
    options: dict[str, Any]
    calibration: str
    score: Estimate
    difference: Estimate
    wins: int
    ties: int
    losses: int

    @property
    def title(self) -> str:
        """Its name for people, who look for RankSEG beside argmax."""
        return titled(self.name)


class TunedRankSEG(nn.Module):
    """Decides as the best candidate of :func:`rankseg.evaluation.tune`; called as a ``RankSEG``.

    Attributes
    ----------
    best_ : RankSEG
        The choice, with what it learned from all images.
    best_name_ : str
    expected_gain_ : Estimate
        How far it is ahead of argmax or 0.5 on images it has not learned from; 0 if that was kept.
    results_ : list of Result
        Of every candidate; argmax or 0.5 comes first.
    metric, aggregation : str
        What was maximised.
    images_, groups_ : int
        On how many it was chosen.
    skipped_ : dict of str to str
        Images that could not be used, with the reason.
    """

    def __init__(
        self,
        best: RankSEG,
        *,
        chosen: int,
        results: Sequence[Result],
        metric: str,
        aggregation: str,
        images: int,
        groups: int,
        confidence: float,
        skipped: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= chosen < len(results):
            raise ValueError(f"chosen must be the place of a result; got {chosen}")
        self.best_ = best
        self.chosen_ = chosen
        self.results_ = list(results)
        self.metric = metric
        self.aggregation = aggregation
        self.images_ = images
        self.groups_ = groups
        self.confidence = confidence
        self.skipped_ = dict(skipped or {})

    @property
    def settings(self) -> Any:
        """Those of ``best_``."""
        return self.best_.settings

    @property
    def best_name_(self) -> str:
        """Name of the choice among the results."""
        return self.results_[self.chosen_].name

    @property
    def expected_gain_(self) -> Estimate:
        """Difference of the choice to argmax or 0.5."""
        return self.results_[self.chosen_].difference

    def forward(self, probs: Tensor, valid_mask: Tensor | None = None) -> Tensor:
        """Same as ``predict``."""
        return self.predict(probs, valid_mask)

    def predict(self, probs: Tensor, valid_mask: Tensor | None = None) -> Tensor:
        """As ``RankSEG.predict``."""
        return self.best_.predict(probs, valid_mask)

    def solve(self, probs: Tensor, valid_mask: Tensor | None = None) -> Segmentation:
        """As ``RankSEG.solve``."""
        return self.best_.solve(probs, valid_mask)

    def decide(
        self, probs: Tensor | Iterable[Tensor] | Source, *, one_pass: bool = False
    ) -> DecisionRule:
        """As ``RankSEG.decide``."""
        return self.best_.decide(probs, one_pass=one_pass)

    @property
    def verdict(self) -> str:
        """One sentence: what was chosen, and how sure that is."""
        baseline = self.results_[0].name
        name = NAMES.get(self.metric, self.metric)
        what = f"mean {name}" if self.aggregation == "image" else f"data-set {name}"
        if self.chosen_:
            one = self.results_[self.chosen_]
            ahead = one.difference
            sure = f"{100 * self.confidence:g} % interval for all candidates at once"
            return (
                f"Use {one.title}: {points(ahead.value)} points of {what} over {baseline} on "
                f"images it has not learned from ({sure} {points(ahead.low)} to "
                f"{points(ahead.high)}; {one.wins} images better, {one.ties} equal, "
                f"{one.losses} worse)."
            )
        others = self.results_[1:]
        if not others:
            return f"Keep {baseline}: there was no other candidate."
        if self.groups_ < FEWEST:
            return (
                f"Keep {baseline}: too few images to tell ({self.groups_}; {FEWEST} independent "
                "ones are needed)."
            )
        best = max(others, key=lambda one: _or_least(one.difference.value))
        why = "within the noise"
        if best.difference.value <= 0:
            why = "and nothing was better"
        return (
            f"Keep {baseline}: the best other candidate, {best.title}, differs by "
            f"{points(best.difference.value)} points of {what} on {self.groups_} "
            f"{'images' if self.groups_ == self.images_ else 'groups of images'}, {why}."
        )

    def save(self, path: str | Path) -> None:
        """Write the choice and all scores as JSON."""
        strict_json.write(path, FORMAT, VERSION, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """What is saved; NaN is None."""
        chosen = vars(self.best_.settings)
        options = {name: value for name, value in chosen.items() if name != "parameters"}
        options |= dict(self.best_.settings.parameters)
        calibrator = options.pop("calibrator")
        return {
            "options": options,
            "calibrator": None if calibrator is None else calibrator.content(),
            "chosen": self.chosen_,
            "metric": self.metric,
            "aggregation": self.aggregation,
            "images": self.images_,
            "groups": self.groups_,
            "confidence": self.confidence,
            "verdict": self.verdict,
            "skipped": self.skipped_,
            "results": [without_nan(asdict(one)) for one in self.results_],
        }

    @classmethod
    def load(cls, path: str | Path) -> TunedRankSEG:
        """Read what ``save`` wrote.

        Raises
        ------
        ValueError
            If the file is none, one of another version, or anything in it is missing, unknown or
            impossible; the message names the file.
        """
        with strict_json.reading(path, "tuned RankSEG"):
            return _from(strict_json.read(path, FORMAT, VERSION))

    def extra_repr(self) -> str:
        """What was chosen."""
        return f"{self.best_name_!r}, metric={self.metric!r}, images={self.images_}"


def _from(given: dict[str, Any]) -> TunedRankSEG:
    validation.known_parameters("a tuned RankSEG", given, ENTRIES)
    if missing := sorted(ENTRIES - set(given) - {"verdict"}):
        raise ValueError(f"it lacks {', '.join(missing)}")
    calibrator = given["calibrator"]
    if not isinstance(given.get("options"), dict) or not isinstance(given.get("results"), list):
        raise ValueError("it lacks options or results")
    options = {name: _tuple(value) for name, value in given["options"].items()}
    if "calibrator" in options:
        raise ValueError("options hold no calibrator: it stands beside them")
    best = RankSEG(
        **options, calibrator=None if calibrator is None else Calibrator.from_content(calibrator)
    )
    try:
        results = [_result(one) for one in given["results"]]
        return TunedRankSEG(
            best,
            chosen=validation.integer("chosen", given["chosen"]),
            results=results,
            metric=validation.choice("metric", given["metric"], NAMES),
            aggregation=validation.choice("aggregation", given["aggregation"], AGGREGATIONS),
            images=validation.integer("images", given["images"]),
            groups=validation.integer("groups", given["groups"]),
            confidence=_or_nan(given["confidence"]),
            skipped=_texts(given["skipped"]),
        )
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from error


def _result(given: dict[str, Any]) -> Result:
    estimates = {
        name: Estimate(**{key: _or_nan(value) for key, value in given[name].items()})
        for name in ("score", "difference")
    }
    options = {name: _tuple(value) for name, value in given["options"].items()}
    _texts({name: given[name] for name in ("name", "calibration")})
    for name in ("wins", "ties", "losses"):
        validation.integer(name, given[name])
    return Result(**{**given, **estimates, "options": options})


def _texts(given: Any) -> dict[str, str]:
    if not isinstance(given, dict) or not all(isinstance(one, str) for one in given.values()):
        raise ValueError(f"names and reasons must be text; got {str(given)[:100]}")
    return given


def _or_nan(value: Any) -> float:
    if value is not None and not (type(value) in (int, float) and math.isfinite(value)):
        raise ValueError(f"{str(value)[:100]!r} is no number")
    return math.nan if value is None else float(value)


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
