"""From classes decided one by one to one label per pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from rankseg.fields.base import NOTHING, Field, LabelRule
from rankseg.objectives import Gain, Objective
from rankseg.solvers.rows import Rows

MOST_PASSES = 4
"""Passes of the ascent at most. Two or three are usual and win all but one or two per cent; where
classes die out it would take ten, for a fifth more."""

WORTH_A_PASS = 0.05
"""Share of what the ascent has won so far that the next pass must promise: its last one's."""

STEPS = 32
"""Points tried on a line."""


def published(
    field: Field, objective: Objective, rows: Rows, void_index: int | None = None
) -> LabelRule:
    """Label rule of Wang and Dai (NeurIPS 2025): conflicts go to the largest gain.

    A pixel claimed by one class is its. A pixel claimed by several goes to the claimer, a pixel
    claimed by none to the active class (any class, when none is active), with the largest gain
    over that class's pixels claimed once. Given a ``void_index``, unclaimed pixels get it instead.
    """
    once = field.claimed_once(rows.threshold)
    gain = objective.gain(once.selected_sum, once.volume)
    if void_index is not None:
        return _rule(gain, rows.threshold, torch.zeros_like(rows.active), void_index)
    return _rule(gain, rows.threshold, rows.active | ~rows.active.any(1, keepdim=True))


def ascent(
    field: Field, objective: Objective, start: LabelRule, *, may_stop: bool = True
) -> LabelRule:
    """Label rule that climbs the sum of the classes' objectives, from one it never falls below.

    The sum is a function of the regions' (S, V) alone. Frank and Wolfe's algorithm (1956): to
    first order a pixel of probability p changes class c's objective by an affine function of p, so
    the best labels to first order give every pixel to the class where that is largest: one pass.
    On the line from the present (S, V) to theirs the objectives themselves are compared. Points
    inside it stand for mixtures of label maps; only label maps are returned, the best one seen.

    ``may_stop=False`` makes all passes, the last of them for nothing, as a graph has to.
    """
    found = field.regions(start)
    here = (found.selected_sum, found.volume.to(found.selected_sum))
    value = objective.value(*here).sum(-1)
    best, record, reached = start, value, value
    climbing = torch.ones_like(value, dtype=torch.bool)
    for _ in range(MOST_PASSES):
        if may_stop and not bool(climbing.any()):
            break
        rule = _first_order(objective.tangent(*here), start, climbing)
        found = field.regions(rule)
        there = (found.selected_sum, found.volume.to(found.selected_sum))
        score = objective.value(*there).sum(-1)
        better = climbing & (score > record)
        best, record = rule.where(better, best), torch.where(better, score, record)
        here, now = _best_between(objective, here, there)
        climbing = climbing & (now - reached > WORTH_A_PASS * (now - value))
        reached = now
    return best


def _first_order(gain: Gain, like: LabelRule, climbing: Tensor) -> LabelRule:
    """Every pixel to the largest affine gain among the classes that may have it.

    Where nobody is eligible, pixels without a positive gain are nobody's; a class that counts for
    nothing, whose gain is 0 everywhere, goes on claiming what it did.
    """
    wanted = climbing.unsqueeze(1)
    free = like.eligible.any(1, keepdim=True)
    worth = gain.offset / gain.slope
    worth = torch.where(worth.isnan(), like.claim, worth)
    claim = torch.where(wanted & ~free & (like.claim < NOTHING), worth, NOTHING)
    eligible = wanted & like.eligible
    return LabelRule(claim, eligible, gain.slope, gain.offset, gain.bend, like.void_index)


Point = tuple[Tensor, Tensor]


def _best_between(objective: Objective, here: Point, there: Point) -> tuple[Point, Tensor]:
    """Point (S, V) of each image with the largest sum on the line, and that sum."""
    share = torch.linspace(0, 1, STEPS + 1, dtype=here[0].dtype, device=here[0].device)
    share = share.reshape(-1, 1, 1)
    points = [a + share * (b - a) for a, b in zip(here, there, strict=True)]
    sums = objective.value(*points).sum(-1)
    top = sums.argmax(0)
    image = torch.arange(top.numel(), device=top.device)
    return (points[0][top, image], points[1][top, image]), sums[top, image]


def argmax(field: Field) -> LabelRule:
    """Nobody claims, every class is eligible, the gain is the probability itself."""
    mu = field.totals().mu
    gain = Gain(slope=torch.ones_like(mu), offset=torch.zeros_like(mu), bend=torch.zeros_like(mu))
    return _rule(gain, torch.full_like(mu, NOTHING), torch.ones_like(mu, dtype=torch.bool))


def most_accurate(field: Field, weight: Tensor) -> LabelRule:
    """Labels with the largest weighted sum of the classes' accuracies; weights of at most 1.

    A pixel that class c gets adds w_c (2 p_c - 1)/n, so the largest w_c (p_c - 1/2) gets it. Half
    a pixel is added to all: under equal weights that leaves p itself, and argmax to the last bit.
    """
    slope = weight.expand_as(field.totals().mu)
    gain = Gain(slope, (slope - 1) / 2, torch.zeros_like(slope))
    return _rule(gain, torch.full_like(slope, NOTHING), torch.ones_like(slope, dtype=torch.bool))


def _rule(gain: Gain, claim: Tensor, eligible: Tensor, void_index: int = 0) -> LabelRule:
    """With an eligible class in every image the ``void_index`` is never written."""
    return LabelRule(claim, eligible, gain.slope, gain.offset, gain.bend, void_index)
