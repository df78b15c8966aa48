"""The level set with the largest mixture of two expectations: independent and comonotone labels.

With ``coupling`` k the objective is (1 - k) RMA + k E, E the expected metric under comonotone
labels (see ``comonotone``). It is searched by branch and bound: the candidates are cut into
stretches, the ends of stretches are scored, a bound tells in which stretches a better mask may
hide, and those are cut finer, until none is left. Candidates come from a sorted row, or from bins
of a large one that are counted anew, finer, where the bound asks for it. So the bins decide what
is looked at, not what is found: the mask is the best one up to ``TOLERANCE`` of its score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankseg.fields.base import NOTHING, Field
from rankseg.objectives import Dice, IoU, LinearFractional
from rankseg.profile import Floats
from rankseg.solvers import coupled_scores
from rankseg.solvers.bins import Bins, Row, Window, counted, refined, whole, windows_of
from rankseg.solvers.comonotone import (
    Doubt,
    Places,
    Steps,
    Stretches,
    doubt,
    expected,
    moderate,
    slack,
    steps_of,
    stretches,
)
from rankseg.solvers.row import SORTED
from rankseg.solvers.rows import Rows

Flags = NDArray[np.bool_]

TOLERANCE = 1e-11
"""Share of the best score that a mask may lose at most."""

FIRST, FINER = 64, 16
"""Stretches to begin with, and parts that one is cut into."""

HEAVY = 1 / 8
"""Share of the doubt about scores that makes a stretch worth cutting for it alone."""

ROUGH = 2
"""Doubt is cut down where it is more than so many times what may hide inside a stretch."""

PASSES = 12
"""Times that bins are counted anew at most; two or three are usual, equal values take five."""


@dataclass(frozen=True)
class Mixture:
    """Objective of one row in plain numbers."""

    metric: str
    smooth: float
    coupling: float
    ratio: LinearFractional
    inner: float

    @classmethod
    def of(cls, objective: Dice | IoU, at: Row, coupling: float) -> Mixture:
        """Objective of a row of a batch."""
        one = objective.at(at)
        inner = float(one.mu) + one.smooth
        return cls(one.metric, one.smooth, coupling, one.ratio.of_row(), inner)

    def independent(self, selected_sum: Floats, volume: Floats) -> Floats:
        """RMA objective of regions; 0/0 = 0."""
        above, below = self.ratio.terms(selected_sum, volume)
        value: Floats = np.divide(above, below, out=np.zeros_like(volume), where=below != 0)
        if self.metric == "dice" and self.smooth > 0:
            value = value + self.smooth / (volume + self.inner)
        return value


class Outlook(NamedTuple):
    """Where a search has come to: levels of its bounds, stretches still open, best volume."""

    level: Floats
    open: Flags
    volume: float


class Found(NamedTuple):
    """Best candidate of a row's steps; windows that must be counted first to be sure of it."""

    threshold: float
    windows: list[Window]
    outlook: Outlook


def solve(field: Field, objective: Dice | IoU, active: Tensor, coupling: float) -> Rows:
    """Best region of every active row, each on its own."""
    threshold = best_thresholds(field, objective, active, coupling)
    region = field.above(threshold)

    def score() -> Tensor:
        masks = coupled_scores.LevelSets(field, threshold, region)
        everyone = torch.ones_like(active)
        wanted = everyone if objective.smooth > 0 else active  # then empty masks score
        return coupled_scores.scores(field, objective, coupling, region, masks, wanted)

    return Rows(threshold, region, active, score)


def _rows(which: Tensor) -> list[Row]:
    return [(image, class_) for image, class_ in which.nonzero().tolist()]


def best_thresholds(field: Field, objective: Dice | IoU, active: Tensor, coupling: float) -> Tensor:
    """Threshold of every active row, (B, C), NOTHING elsewhere."""
    threshold = torch.full_like(objective.mu, NOTHING)
    rows = _rows(active)
    mixtures = {at: Mixture.of(objective, at, coupling) for at in rows}
    bins = first_bins(field, objective, rows)
    outlooks: dict[Row, Outlook] = {}
    pending = rows
    for _ in range(PASSES):
        asked: list[tuple[Row, Window]] = []
        for at in pending:
            found = search(mixtures[at], bins[at], field.spacing, outlooks.get(at))
            threshold[at], outlooks[at] = found.threshold, found.outlook
            asked += [(at, window) for window in found.windows]
        pending = refine(field, bins, asked)
    return threshold


def first_bins(field: Field, objective: Dice | IoU, rows: list[Row]) -> dict[Row, Bins]:
    """All different probabilities of small rows; one window of large ones."""
    if field.pixels <= SORTED:
        found = [field.distinct(at, 0.0, 1.0) for at in rows]
        pairs = [(value.cpu().numpy(), count.cpu().numpy()) for value, count in found]
        return {at: Bins.of_values(*pair) for at, pair in zip(rows, pairs, strict=True)}
    peak = field.totals().peak
    asked = [(at, whole(float(peak[at]))) for at in rows]
    return dict(zip(rows, counted(field, asked), strict=True))


def refine(field: Field, bins: dict[Row, Bins], asked: list[tuple[Row, Window]]) -> list[Row]:
    """Count windows of rows, put what is found in place, and return the rows."""
    finer = counted(field, asked)
    rows = list(dict.fromkeys(at for at, _ in asked))
    for at in rows:
        mine = [place for place, (row, _) in enumerate(asked) if row == at]
        bins[at] = refined(bins[at], [asked[n][1] for n in mine], [finer[n] for n in mine])
    return rows


def search(mixture: Mixture, bins: Bins, spacing: float, outlook: Outlook | None = None) -> Found:
    """Best candidate by branch and bound, from where an earlier search of fewer bins has come."""
    steps = steps_of(bins, spacing)
    best = 0 if outlook is None else int(np.searchsorted(steps.volume, outlook.volume))
    bounds, open_ = _start(steps, outlook, best)
    while True:
        look = _look(mixture, steps, bounds, open_, best)
        best = look.best
        cut = look.cut & (np.diff(bounds) > 1)
        if not (cut.any() and look.alive.any()):
            break
        bounds, open_ = _cut(bounds, cut, look.alive)
    windows: list[Window] = []
    wanted = bounds[1:][look.cut & steps.unknown[bounds[1:]] & (np.diff(bounds) == 1)]
    if look.alive.any() and wanted.size:
        windows = windows_of(bins, np.unique(steps.bin[wanted]), spacing)
    threshold = float(steps.cut[best]) if steps.volume[best] else NOTHING
    return Found(
        threshold, windows, Outlook(steps.level[bounds], look.alive, float(steps.volume[best]))
    )


def _start(steps: Steps, outlook: Outlook | None, best: int) -> tuple[Places, Flags]:
    """Bounds to begin with: a few, or the earlier ones as near as there are candidates now."""
    if outlook is None:
        even = np.linspace(0, steps.level.size - 1, FIRST + 1).round().astype(np.intp)
        bounds = _rising(even)
        return bounds, np.ones(bounds.size - 1, bool)
    after = np.searchsorted(-steps.level, -outlook.level)
    bounds = _rising(np.concatenate([[0, best], after, [steps.level.size - 1]]))
    upper, lower = outlook.level[:-1][outlook.open], outlook.level[1:][outlook.open]
    mine_upper, mine_lower = steps.level[bounds[:-1]], steps.level[bounds[1:]]
    ends_below = np.searchsorted(-lower, -mine_upper)  # the first open one that ends below my start
    ends_below = np.minimum(ends_below, lower.size - 1)
    return bounds, (upper[ends_below] >= mine_lower) & (lower[ends_below] <= mine_upper)


class Look(NamedTuple):
    """Best candidate so far, stretches that may hide a better one, and those to cut for that."""

    best: int
    alive: Flags
    cut: Flags


def _look(mixture: Mixture, steps: Steps, bounds: Places, open_: Flags, best: int) -> Look:
    """Score the ends of the open stretches and bound what lies between."""
    parts = stretches(steps, bounds)
    ends = bounds == best
    ends[:-1] |= open_
    ends[1:] |= open_
    place = np.flatnonzero(ends)
    value, unsure = _scores(mixture, steps, parts, bounds, place)
    top = int(value.argmax())
    goal = value[top] * (1 + TOLERANCE)
    room = _room(mixture, steps, parts, bounds)
    several = bounds[1:] - bounds[:-1] > 1
    inner = (parts.most - parts.least > 1) & (several | steps.unknown[bounds[1:]])
    room = np.where(inner, room, 0.0)
    known, most = np.full((2, bounds.size), -np.inf)
    known[place], most[place] = value, value + unsure.off
    alive = open_ & (np.maximum(most[:-1], most[1:]) + room > goal)
    hidden = alive & (np.maximum(known[:-1], known[1:]) + room > goal)
    cut = hidden & inner
    if unsure.off.max() > ROUGH * room.max(where=alive, initial=0.0):
        by = unsure.by
        cut = cut | (by > min(HEAVY * by.sum(), by.max() / 2))  # the worst one at least
    return Look(int(bounds[place[top]]), alive, cut)


def _scores(
    mixture: Mixture, steps: Steps, parts: Stretches, bounds: Places, place: Places
) -> tuple[Floats, Doubt]:
    """Scores of candidates, and how sure it is which is best."""
    metric, smooth, share = mixture.metric, moderate(mixture.smooth), mixture.coupling
    volume = steps.volume[bounds[place]]
    value = (1 - share) * mixture.independent(steps.selected_sum[bounds[place]], volume)
    real = volume + smooth > 0
    if not real.any():
        return value, Doubt(np.zeros_like(value), np.zeros(bounds.size - 1))
    volume, place = volume[real], place[real]
    together = expected(metric, smooth, parts, volume, place)
    value[real] += share * together.value
    off = np.zeros_like(value)
    best = int(value[real].argmax())
    unsure = doubt(metric, smooth, parts, volume, place, together.gap, best)
    off[real] = share * unsure.off
    return value, Doubt(off, share * unsure.by)


def _room(mixture: Mixture, steps: Steps, parts: Stretches, bounds: Places) -> Floats:
    """How much a mask that ends inside a stretch may score above its ends."""
    lower = steps.level[bounds[1:]]
    room = mixture.coupling * slack(mixture.metric, moderate(mixture.smooth), parts, lower)
    if mixture.coupling < 1:
        room = room + (1 - mixture.coupling) * _independent_room(mixture.ratio, steps, bounds)
    return room


def _independent_room(ratio: LinearFractional, steps: Steps, bounds: Places) -> Floats:
    """The same of the RMA objective.

    The pixels of a stretch are at most ``peak``: with n x of them the ratio is at most
    (s + a x)/(w + b x). That passes the ratio's own value at x = 1 by ``end``, and its chord by
    (a w - s b) b x (1 - x)/(w (w + b) (w + b x)). What smoothed Dice adds is convex.
    """
    peak = steps.level[bounds[:-1]]
    volume = steps.volume[bounds]
    n = volume[1:] - volume[:-1]
    above, below = ratio.terms(steps.selected_sum[bounds], volume)
    s, w, above, below = above[:-1], below[:-1], above[1:], below[1:]
    a, b = ratio.gain * peak * n, (ratio.price - ratio.overlap * peak) * n
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        end = (s + a) / (w + b) - above / below
        bend = np.maximum(a * w - s * b, 0) * b / (4 * w * w * (w + b))
    return np.where(n > 0, np.maximum(end, 0) + bend, 0.0)


def _cut(bounds: Places, cut: Flags, alive: Flags) -> tuple[Places, Flags]:
    """Finer bounds, and which stretches are open: parts of those alive."""
    starts, ends = bounds[:-1][cut], bounds[1:][cut]
    finer = starts + (np.arange(1, FINER)[:, None] * (ends - starts)) // FINER
    new = _rising(np.concatenate([bounds, finer.ravel()]))
    parent = np.searchsorted(bounds, new[:-1], side="right") - 1
    return new, alive[parent]


def _rising(places: Places) -> Places:
    """Different numbers in order; a sort of few is faster than ``np.unique``."""
    ordered = np.sort(places)
    found: Places = ordered[np.append(True, ordered[1:] > ordered[:-1])]
    return found
