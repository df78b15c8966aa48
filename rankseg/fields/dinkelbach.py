"""Dinkelbach's iteration over the masks {p > t} of every row.

"On nonlinear fractional programming", Management Science 13(7), 1967: cut where a pixel stops to
pay at the best value seen so far, measure what lies above, repeat while the value rises. The value
rises strictly over finitely many masks, and stops only at the maximum.

It starts at the better one of the empty and the full mask, whose values need no pass. Where it cuts
first changes the number of passes only: a long row is searched first in a sample of its pixels.
Measured on rows of 131,072 pixels, softmax of noise or of smooth maps over 19 classes: 2.9 to 3.3
passes, against 3.7 to 4.1 with a first cut half-way between that value's cut and half the peak.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankseg.fields.base import NOTHING, Field, Selection
from rankseg.objectives import LinearFractional

ROUNDING = 2.0**-48
"""Two values closer than this, relatively, may be the same number in exact arithmetic."""

SAMPLE = 1 << 14
"""Pixels of a sample, at least."""

LONG = 4 * SAMPLE
"""Rows of so many pixels are long."""


def maximise(
    field: Field, ratio: LinearFractional, active: Tensor, start: Tensor | None
) -> tuple[Tensor, Selection]:
    """What ``Field.maximise`` returns, by one ``above`` for all rows at a time."""
    if ratio.is_mean:
        return largest_pixels(field, active)
    totals = field.totals()
    none = torch.zeros_like(totals.mu)
    full = ratio.value(totals.mu, torch.full_like(none, field.pixels))
    best = torch.maximum(ratio.value(none, none), full)  # values that cost no pass
    region = Selection(none, none.to(torch.int64))
    chosen = torch.full_like(none, NOTHING)
    cut = _first_cut(field, ratio, active, best) if start is None else start
    rising, first = active, True
    while bool(rising.any()):
        found = field.above(cut.masked_fill(~rising, NOTHING))
        value = ratio.value(found.selected_sum, found.volume)
        # the region at the best value's own cut is preferred, unless rounding has emptied it
        keep = rising & ((value >= best * (1 - ROUNDING)) | first)
        region, chosen = found.where(keep, region), cut.where(keep, chosen)
        rising = rising & ((value > best) | first)  # the guess may lie below the best value
        best = torch.where(keep, torch.maximum(best, value), best)
        cut, first = ratio.cut(best), False
    return chosen, region


def largest_pixels(field: Field, active: Tensor) -> tuple[Tensor, Selection]:
    """Cut and region of each row's largest pixels: no other region has so large a mean.

    The iteration ends there, too, but at a cut that depends on its start: at the mean's own cut,
    the peak, nothing is left.
    """
    peak = field.totals().peak
    cut = torch.nextafter(peak, torch.zeros_like(peak)).masked_fill(~active, NOTHING)
    return cut, field.above(cut)


def _first_cut(field: Field, ratio: LinearFractional, active: Tensor, best: Tensor) -> Tensor:
    totals = field.totals()
    half_way = (ratio.cut(best) + totals.peak / 2) / 2
    tell = active & (totals.mu >= 1)  # of less than a pixel a sample knows nothing
    if field.pixels < LONG or not bool(tell.any()):
        return half_way
    few = field.sample(field.pixels // SAMPLE | 1)  # odd: no column of an image
    return maximise(few, ratio.scaled(few.pixels / field.pixels), tell, None)[0].where(
        tell, half_way
    )
