"""Classes that may be absent: what an empty mask scores where the convention is not 0.

Absent from the labels and without a mask, a class has 0/0. ``empty=1`` calls that a full score, so
an empty mask is expected to score P(absent) = prod(1 - p) of its row. ``empty='nan'`` does not
count it; of the images that have the class the expected score is E[score]/P(present).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rankseg.fields.base import NOTHING, Field, Selection, choose
from rankseg.solvers.exact_scores import log_absent
from rankseg.solvers.row import row_of
from rankseg.solvers.rows import Rows

LARGEST_MU = 64.0
"""P(absent) <= exp(-mu): in rows beyond, less than 2e-28, it counts as 0."""


def log_probability(field: Field) -> Tensor:
    """Log of P(absent) of each row, float64 (B, C)."""
    mu = field.totals().mu
    found = torch.where(mu > 0, -torch.inf, 0.0).to(mu)
    for image, class_ in ((mu > 0) & (mu <= LARGEST_MU)).nonzero().tolist():
        found[image, class_] = log_absent(row_of(field.row(image, class_)))
    return torch.minimum(found, -mu)  # log(1 - p) <= -p, which rounding of denormal p may forget


def log_probability_at_once(probs: Tensor) -> Tensor:
    """The same from float64 probabilities (B, C, *spatial), in a sum that a graph can hold."""
    return torch.log1p(-probs).sum(tuple(range(2, probs.ndim)))


def coupled(log_absent: Tensor, peak: Tensor, coupling: float) -> Tensor:
    """The same where labels are comonotone with this probability: absent means U >= peak."""
    if coupling == 0:
        return log_absent
    present = (1 - coupling) * presence(log_absent) + coupling * peak
    return torch.log1p(-present)


def presence(log_absent: Tensor) -> Tensor:
    """P(present), accurate where it is tiny."""
    return -torch.expm1(log_absent)


def given_present(score: Tensor, log_absent: Tensor) -> Tensor:
    """E[score] of images that have the class; NaN where none can."""
    return (score / presence(log_absent)).clamp(max=1)


def empty_if_better(rows: Rows, absent: Tensor) -> Rows:
    """Rows whose mask is empty where that scores as much as the best other."""
    none = torch.zeros_like(rows.region.volume)
    nothing = Selection(torch.zeros_like(absent), none)
    cut = torch.full_like(absent, NOTHING)
    empty = Rows(cut, nothing, rows.active, lambda: absent)
    return empty.where(absent >= rows.score, rows)


def empty_scores(score: Tensor, volume: Tensor, absent: Tensor) -> Tensor:
    """Scores of masks, with those of the empty ones put right."""
    return torch.where(volume == 0, absent, score)


def empty_scored(rows: Rows, absent: Tensor) -> Rows:
    """Rows as they are, their empty masks scored."""
    return replace(rows, find_score=lambda: empty_scores(rows.score, rows.region.volume, absent))


def claimers(rows: Rows) -> Rows:
    """Rows of which only those with a mask are active, where an image has some.

    Unclaimed pixels go to active classes, and would cost another one its P(absent).
    """
    claims = rows.active & (rows.region.volume > 0)
    return replace(rows, active=choose(claims.any(1, keepdim=True), claims, rows.active))
