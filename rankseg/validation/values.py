"""The values of pixels, from the smallest and the largest of each row."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from rankseg.validation.notices import notice

TELLING = 64 * 64
"""Pixels from which on a range tells how values were made: an edge alone may fill fewer."""

NEAR, ROUNDING = 0.02, 0.005
"""How far a range may end inside of that of probabilities activated again, and outside of it.

The first is what a network leaves that is 96 % sure somewhere; of 14,880 random softmax and sigmoid
maps (1 to 150 classes, the largest logit from 0.02 to 60) 14 ended there, all of two classes. The
second is what bfloat16 rounds off, and more.
"""


def probability_range(
    lowest: Tensor, peak: Tensor, activation: str = "none", pixels: int = 0
) -> None:
    """Check the values, from each row's smallest and largest; NaN in a row shows in both.

    Given how many pixels an image has, it is also noticed if probabilities were activated again.
    """
    if lowest.numel() == 0:
        return
    low, high = torch.stack([lowest.min(), peak.max()]).tolist()  # one wait; both keep NaN
    if math.isnan(low) or math.isnan(high):
        bad = int((lowest.isnan() | peak.isnan()).sum().item())
        if activation == "softmax":
            raise ValueError(
                f"softmax of the logits is NaN in {bad} of {lowest.numel()} (image, class) pairs: "
                "logits may be finite or -inf, but a pixel needs a finite one"
            )
        raise ValueError(
            f"{'probs contains' if activation == 'none' else 'logits contain'} NaN, in {bad} of "
            f"{lowest.numel()} (image, class) pairs; "
            "check the model's output, or replace them before deciding"
        )
    if low < 0.0 or high > 1.0:
        advice = _advice_on_range(low, high)
        raise ValueError(f"probs must lie in [0, 1], got min={low:.9g}, max={high:.9g}; {advice}")
    if pixels and pixels * lowest.shape[0] >= TELLING:
        _activated_once(low, high, lowest.shape[1], activation)


def _advice_on_range(low: float, high: float) -> str:
    """What values outside [0, 1] may be, and what to do."""
    if low > -1e-3 and high < 1.001:
        return "clamp(0, 1) if this is rounding"
    logits = "apply softmax or sigmoid first, or say activation='softmax' or 'sigmoid'"
    if low < 0.0:
        return logits
    if high <= 10.0:
        return f"labels are no probabilities; if they are logits, {logits}"
    for most, kind in ((100, "percent"), (255, "8-bit values"), (65535, "16-bit values")):
        if high < most + 0.5:
            scaled = f"divide by {most} if they are {kind}; labels are no probabilities"
            return f"{scaled}; if they are logits, {logits}"
    return logits


def _activated_once(low: float, high: float, classes: int, activation: str) -> None:
    """Warn where the values fill the range of an activation of probabilities, end to end."""
    for name, bottom, top in _ranges_of_probabilities(classes):
        inside = bottom * (1 - ROUNDING) <= low and high <= top * (1 + ROUNDING)
        if not inside or low > bottom * (1 + NEAR) or high < top * (1 - NEAR):
            continue
        ends = f"the range from {bottom:.3g} to {top:.3g}"
        if activation == "none":
            notice(
                f"probs fill {ends}, as {name} applied twice does; if so, pass the probabilities, "
                f"or the logits with activation={name!r}"
            )
        elif activation == name:
            notice(
                f"{name} of the logits fills {ends}, as {name} of probabilities does: if the "
                f"logits all lie in [0, 1], they are probabilities; leave out activation={name!r}"
            )


def _ranges_of_probabilities(classes: int) -> Iterator[tuple[str, float, float]]:
    """What softmax and sigmoid make of probabilities: exact ends, reached where these are sure."""
    yield "sigmoid", 0.5, math.e / (math.e + 1)
    if classes > 1:
        yield "softmax", 1 / (math.e + classes - 1), math.e / (math.e + classes - 1)
