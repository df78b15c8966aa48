"""A decision as a few numbers per class, apart from the pixels it was found on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rankseg import strict_json, validation
from rankseg.calibrator import Calibrator
from rankseg.fields import LabelRule, field_for
from rankseg.fields.static import StaticField
from rankseg.head import Head, float64

FORMAT, VERSION = "rankseg decision rule", 1
MODES = ("multiclass", "multilabel")
ACTIVATIONS = ("none", "softmax", "sigmoid")
_GAIN = ("slope", "offset", "bend")


@dataclass(frozen=True)
class DecisionRule:
    """Turns the probabilities of any pixel into its label, or into its place in each class's mask.

    Made by :meth:`rankseg.RankSEG.decide` for all pixels of an image or a data set; applied to any
    part of them, in any order, here or elsewhere. Numbers are per class, C of them.

    Attributes
    ----------
    output_mode : {'multiclass', 'multilabel'}
        Labels or masks.
    activation : {'none', 'softmax', 'sigmoid'}
        What turns the input into probabilities.
    threshold : tuple of float
        A class claims a pixel when its probability p is larger.
    eligible : tuple of bool
        Classes that pixels claimed by none may go to; empty for masks and one channel.
    slope, offset, bend : tuple of float
        Of the claimers, or else of the eligible, the largest (slope p - offset) / (1 - bend p)
        gets the pixel, the first on a tie; empty for masks and one channel.
    void_index : int
        Label where nobody claims and nobody is eligible.
    regret : tuple of float
        How much more each class's best mask scores at most; empty where the rule is exact.
    calibrator : Calibrator, optional
        What the probabilities go through first.
    """

    output_mode: str
    activation: str
    threshold: tuple[float, ...]
    eligible: tuple[bool, ...] = ()
    slope: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    bend: tuple[float, ...] = ()
    void_index: int = 255
    regret: tuple[float, ...] = ()
    calibrator: Calibrator | None = None

    def __post_init__(self) -> None:
        """Check everything: rules are made by hand and read from files, too."""
        for name in ("threshold", "regret", *_GAIN):
            object.__setattr__(self, name, validation.floats(name, getattr(self, name)))
        validation.plain_numbers("eligible", self.eligible, bool)
        object.__setattr__(self, "eligible", tuple(self.eligible))
        object.__setattr__(self, "void_index", validation.integer("void_index", self.void_index))
        _check(self)

    @property
    def classes(self) -> int:
        """Channels, C."""
        return len(self.threshold)

    def __call__(self, probs: Tensor) -> Tensor:
        """Same as ``apply``."""
        return self.apply(probs)

    def apply(self, probs: Tensor) -> Tensor:
        """Labels int64 (B, *spatial) or masks bool (B, C, *spatial), on the input's device.

        Parameters
        ----------
        probs : Tensor, shape (B, C, *spatial), float in [0, 1]
            Any pixels; logits where ``activation`` is not 'none'. Never modified.

        Raises
        ------
        TypeError, ValueError
            As ``RankSEG.predict``, and if the number of classes is not the rule's.
        """
        return self.on(validation.pixel_tensor(probs, self.activation), "auto")

    def on(self, values: Tensor, backend: str) -> Tensor:
        """``apply`` to a tensor whose shape and type are checked, by a backend's passes."""
        validation.number_of_classes(values.shape[1], self.classes, "the rule")
        activation = self.activation
        if self.calibrator is not None:
            values, activation = self.calibrator.of(values, activation), "none"
        field = field_for(values, activation, backend)
        totals = field.totals()
        validation.probability_range(totals.lowest, totals.peak, activation)
        if self.slope:
            return field.assign(self._labels().expand(len(values), field.device))
        cut = torch.tensor([self.threshold], dtype=torch.float64, device=field.device)
        cut = cut.expand(len(values), -1).contiguous()
        if self.output_mode == "multiclass":
            return field.select(cut, torch.int64)[:, 0]
        return field.select(cut)

    def head(self) -> RuleHead:
        """The rule as a module of plain tensor operations, for export to ONNX."""
        return RuleHead(self)

    def save(self, path: str | Path) -> None:
        """Write JSON; numbers come back as they are."""
        content = {name: value for name, value in vars(self).items() if value not in ((), None)}
        if self.calibrator is not None:
            content["calibrator"] = self.calibrator.content()
        strict_json.write(path, FORMAT, VERSION, content)

    @classmethod
    def load(cls, path: str | Path) -> DecisionRule:
        """Read what ``save`` wrote.

        Raises
        ------
        ValueError
            If the file is no rule, one of another version, or anything in it is missing, unknown
            or impossible; the message names the file.
        """
        with strict_json.reading(path, "decision rule"):
            return _rule_from(strict_json.read(path, FORMAT, VERSION))

    def _labels(self) -> LabelRule:
        numbers = {
            "claim": torch.tensor([self.threshold], dtype=torch.float64),
            "eligible": torch.tensor([self.eligible], dtype=torch.bool),
            **{name: torch.tensor([getattr(self, name)], dtype=torch.float64) for name in _GAIN},
        }
        return LabelRule(**numbers, void_index=self.void_index)


class RuleHead(Head):
    """Last layer of a network: probabilities or logits in, labels or masks out.

    Plain tensor operations in float64 and no check of the values: a compiler or ONNX takes it. It
    decides what ``DecisionRule.apply`` decides, but for pixels exactly between two classes.

    Raises
    ------
    ValueError
        If the rule has an isotonic calibrator, whose points are looked up.
    """

    def __init__(self, rule: DecisionRule) -> None:
        super().__init__(rule.activation, rule.calibrator)
        self.classes = rule.classes
        self.masks = rule.output_mode == "multilabel"
        self.void_index = rule.void_index
        self.threshold = (rule.threshold,)
        self.eligible = (rule.eligible,)
        self.gain = [(getattr(rule, name),) for name in _GAIN]

    def forward(self, values: Tensor) -> Tensor:
        """Labels int64 (B, *spatial) or masks bool (B, C, *spatial)."""
        pixels = validation.pixels(values, self.activation).detach()
        validation.number_of_classes(pixels.shape[1], self.classes, "the rule")
        field = StaticField(self.probabilities(pixels), pixels.dtype)
        threshold = float64(self.threshold, pixels)
        if self.masks:
            return field.select(threshold)
        if self.classes == 1:
            return field.select(threshold, torch.int64)[:, 0]
        slope, offset, bend = float64(self.gain, pixels).unbind()
        eligible = torch.tensor(self.eligible, device=pixels.device)
        return field.assign(LabelRule(threshold, eligible, slope, offset, bend, self.void_index))


def _check(rule: DecisionRule) -> None:
    """Refuse numbers that no decision gives, or that do not belong together."""
    validation.known_name("output_mode", rule.output_mode, MODES)
    validation.known_name("activation", rule.activation, ACTIVATIONS)
    validation.optional("calibrator", rule.calibrator, Calibrator)
    labels = rule.output_mode == "multiclass" and rule.classes > 1
    if not rule.classes or any(
        len(getattr(rule, name)) != labels * rule.classes for name in ("eligible", *_GAIN)
    ):
        raise ValueError(
            "threshold needs a number per class; eligible, slope, offset and bend too, for labels "
            "of two classes or more, and not otherwise"
        )
    if rule.activation == "softmax" and rule.classes == 1:
        raise ValueError("softmax over one class is 1 everywhere")
    if not all(0 <= cut <= 1 for cut in rule.threshold):
        raise ValueError(f"threshold must lie in [0, 1]; got {rule.threshold}")
    if not all(abs(number) < math.inf for number in (*rule.slope, *rule.offset)):
        raise ValueError("slope and offset must be finite")
    if not all(number < 1 for number in rule.bend):
        raise ValueError(
            f"bend must be below 1; got {rule.bend}: under tversky with a large beta, a class "
            "whose probabilities sum to less than a pixel has no rule; predict decides such images"
        )
    if len(rule.regret) not in (0, rule.classes) or not all(lost >= 0 for lost in rule.regret):
        raise ValueError(f"regret must be at least 0, a number per class; got {rule.regret}")
    if rule.calibrator is not None:
        validation.number_of_classes(rule.classes, rule.calibrator.classes, "the calibrator")
    if labels and not any(rule.eligible):
        validation.void_index_is_no_class(rule.void_index, rule.classes)


def _rule_from(given: dict[str, Any]) -> DecisionRule:
    """Rule from parsed JSON."""
    validation.known_parameters("a rule", given, DecisionRule.__dataclass_fields__)
    needed = {"output_mode", "activation", "threshold", "void_index"}
    if needed - set(given):
        raise ValueError(f"it lacks {', '.join(sorted(needed - set(given)))}")
    threshold = strict_json.numbers(given, "threshold", None)
    slope, offset, bend = (strict_json.numbers(given, name, len(threshold)) for name in _GAIN)
    return DecisionRule(
        given["output_mode"],
        given["activation"],
        threshold,
        _flags(given, len(threshold)),
        slope,
        offset,
        bend,
        validation.integer("void_index", given["void_index"]),
        strict_json.numbers(given, "regret", len(threshold)),
        Calibrator.from_content(given["calibrator"]) if "calibrator" in given else None,
    )


def _flags(given: dict[str, Any], length: int) -> tuple[bool, ...]:
    if "eligible" not in given:
        return ()
    values = strict_json.entries(given, "eligible", length)
    if not all(type(value) is bool for value in values):
        raise ValueError("eligible must be true or false")
    return tuple(values)
