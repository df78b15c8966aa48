"""The report of a tuning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from rankseg.evaluation.report import plots
from rankseg.evaluation.report.markup import (
    code,
    folded,
    names,
    paragraph,
    points,
    score,
    section,
    table,
)
from rankseg.evaluation.report.markup import (
    page as whole,
)
from rankseg.evaluation.result import NAMES
from rankseg.evaluation.tuned import Result, TunedRankSEG

SHOWN = 20
"""Candidates in the plot; the others are folded."""


def page(found: TunedRankSEG, named: Mapping[str, Mapping[str, str]]) -> str:
    """HTML of a tuning, with further lists of names."""
    images = f"{found.images_:,} image{'' if found.images_ == 1 else 's'}"
    if found.groups_ != found.images_:
        images += f" in {found.groups_:,} groups"
    what = "mean over images" if found.aggregation == "image" else "all images together"
    return whole(
        "RankSEG: what to use?",
        "gain" if found.chosen_ else "keep",
        found.verdict,
        f"{len(found.results_)} candidates on {images}; {NAMES.get(found.metric, found.metric)}, "
        f"{what}.",
        _sections(found, named),
    )


def _sections(found: TunedRankSEG, named: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    baseline, *others = found.results_
    ranked = sorted(others, key=lambda one: -_least(one.difference.value))
    chosen = found.results_[found.chosen_]
    yield section("The choice", code(chosen.title, repr(found.best_)))
    if ranked:
        yield section(f"Differences to {baseline.name}", *_differences(found, ranked, chosen))
    yield section("Candidates", _table(found, [baseline, *ranked], chosen))
    yield names("Images that are not counted", found.skipped_)
    for title, reasons in named.items():
        yield names(title, reasons)
    yield section("How to read this", *map(paragraph, _reading(found)))


def _differences(found: TunedRankSEG, ranked: list[Result], chosen: Result) -> Iterator[str]:
    level = f"{100 * found.confidence:g} %"
    yield paragraph(
        f"Right of 0 is better. Intervals hold all at once, {level} of the time, so that the best "
        "of many is not chosen for its luck.",
        "soft",
    )
    lines = [plots.Line(one.title, one.difference, one is chosen) for one in ranked]
    title = "Differences of candidates"
    yield plots.intervals(lines[:SHOWN], title)
    if rest := lines[SHOWN:]:
        yield folded(f"{len(rest)} more, which are further down", plots.intervals(rest, title))


def _table(found: TunedRankSEG, ranked: list[Result], chosen: Result) -> str:
    head = ["", "score", "95 % interval", "difference", "better", "same", "worse"]
    rows = [
        [
            one.title,
            score(one.score.value),
            f"{score(one.score.low)} to {score(one.score.high)}",
            points(one.difference.value) if place else "",
            *(map(str, (one.wins, one.ties, one.losses)) if place else ("", "", "")),
        ]
        for place, one in enumerate(ranked)
    ]
    name = NAMES.get(found.metric, found.metric)
    caption = f"Cross-validated {name}; differences in hundredths, images better and worse"
    return table(caption, head, rows, marked=ranked.index(chosen))


def _reading(found: TunedRankSEG) -> list[str]:
    baseline = found.results_[0].name
    return [
        "Calibrations and cuts are scored on images that they have not learned from; the choice "
        "then learns from all images.",
        f"{baseline} is kept unless a candidate is better by more than the noise, the number of "
        "candidates taken into account.",
        "The gain of a choice is a little too good to be true, because it is the best of several: "
        "evaluate it once on other images (rankseg evaluate --tuned).",
        "Differences are in hundredths: +1.00 is a score of 0.71 instead of 0.70.",
    ]


def _least(value: float) -> float:
    return -math.inf if math.isnan(value) else value
