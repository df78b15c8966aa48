"""From classes decided one by one to one label per pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from rankseg.fields.base import NOTHING, Field, LabelRule
from rankseg.objectives import Gain, Objective
from rankseg.solvers.rows import Rows


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


def argmax(field: Field) -> LabelRule:
    """Nobody claims, every class is eligible, the gain is the probability itself."""
    mu = field.totals().mu
    gain = Gain(slope=torch.ones_like(mu), offset=torch.zeros_like(mu), bend=torch.zeros_like(mu))
    return _rule(gain, torch.full_like(mu, NOTHING), torch.ones_like(mu, dtype=torch.bool))


def _rule(gain: Gain, claim: Tensor, eligible: Tensor, void_index: int = 0) -> LabelRule:
    """With an eligible class in every image the ``void_index`` is never written."""
    return LabelRule(claim, eligible, gain.slope, gain.offset, gain.bend, void_index)
