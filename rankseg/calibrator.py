"""A map from a model's probabilities to calibrated ones: a few numbers per class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rankseg import strict_json, validation

FORMAT, VERSION = "rankseg calibrator", 1
KINDS = ("softmax", "sigmoid", "isotonic")


@dataclass(frozen=True)
class Calibrator:
    """Turns probabilities into calibrated ones, pixel by pixel.

    Fitted by :func:`rankseg.evaluation.fit_calibrator`, given to ``RankSEG(calibrator=...)``, or
    called on its own. Numbers are per class, C of them.

    Attributes
    ----------
    kind : {'softmax', 'sigmoid', 'isotonic'}
        ``'softmax'``: softmax over the classes of slope log(p) + offset, which with equal slopes
        and no offset is temperature scaling, slope = 1 / temperature. ``'sigmoid'``: each class
        alone, sigmoid of slope logit(p) + offset. ``'isotonic'``: each class alone, straight lines
        between points.
    slope, offset : tuple of float
        Of the first two kinds; empty for isotonic. A slope below 1 makes a model less confident, a
        positive offset makes a class more probable.
    points : tuple of C tuples of (probability, calibrated probability)
        Of isotonic, both rising; empty otherwise. Constant before the first and after the last.

    Notes
    -----
    A probability of exactly 0 stays 0 for the first two kinds, and for sigmoid 1 stays 1. Isotonic
    probabilities of several classes need not sum to 1: each is calibrated for its class, which is
    what Dice and IoU of a class ask for. The last bit of a result may depend on the shape and the
    layout of the input, so rules from tiles are those of the whole up to rounding, 1e-6.
    """

    kind: str
    slope: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    points: tuple[tuple[tuple[float, float], ...], ...] = ()

    def __post_init__(self) -> None:
        """Check everything: calibrators are made by hand and read from files, too."""
        for name in ("slope", "offset"):
            object.__setattr__(self, name, validation.floats(name, getattr(self, name)))
        object.__setattr__(self, "points", _curves(self.points))
        _check(self)

    def __repr__(self) -> str:
        """Curves by their number of points: all of them fill a page."""
        if self.kind == "isotonic":
            counts = ", ".join(str(len(curve)) for curve in self.points)
            return f"Calibrator(kind='isotonic', points=<{counts}>)"
        return f"Calibrator(kind={self.kind!r}, slope={self.slope}, offset={self.offset})"

    @property
    def classes(self) -> int:
        """Channels, C."""
        return len(self.points or self.slope)

    def __call__(self, values: Tensor, activation: str = "none") -> Tensor:
        """Calibrated probabilities, at least float32, on the input's device.

        Parameters
        ----------
        values : Tensor, shape (B, C, *spatial)
            Probabilities in [0, 1], or the logits that `activation` turns into them.
        activation : {'none', 'softmax', 'sigmoid'}, default 'none'
            What makes probabilities of the values.

        Raises
        ------
        TypeError, ValueError
            As ``RankSEG.predict``, and if the number of classes is not the calibrator's.
        """
        validation.known_name("activation", activation, ("none", "softmax", "sigmoid"))
        return self.of(validation.pixel_tensor(values, activation), activation)

    def of(self, values: Tensor, activation: str) -> Tensor:
        """Calibrated probabilities of a tensor whose shape and type are checked."""
        validation.number_of_classes(values.shape[1], self.classes, "the calibrator")
        wide = values if values.dtype == torch.float64 else values.float()
        pixels = wide.flatten(2).contiguous()  # or the last bits depend on the strides
        if self.kind == "softmax":
            found = self._softmax(_log(pixels, activation))
        elif self.kind == "sigmoid":
            found = torch.sigmoid(self._line(_logit(pixels, activation)))
        else:
            found = self._interpolated(_probability(pixels, activation))
        return found.reshape(values.shape)

    def save(self, path: str | Path) -> None:
        """Write JSON; numbers come back as they are."""
        strict_json.write(path, FORMAT, VERSION, self.content())

    def content(self) -> dict[str, Any]:
        """What is saved."""
        return {name: value for name, value in vars(self).items() if value != ()}

    @classmethod
    def load(cls, path: str | Path) -> Calibrator:
        """Read what ``save`` wrote.

        Raises
        ------
        ValueError
            If the file is no calibrator, one of another version, or anything in it is missing,
            unknown or impossible; the message names the file.
        """
        with strict_json.reading(path, "calibrator"):
            return cls.from_content(strict_json.read(path, FORMAT, VERSION))

    @classmethod
    def from_content(cls, given: Any) -> Calibrator:
        """The inverse of ``content``, for objects that came out of JSON."""
        if not isinstance(given, dict) or "kind" not in given:
            raise ValueError("a calibrator is an object with an entry 'kind'")
        validation.known_parameters("a calibrator", given, cls.__dataclass_fields__)
        slope = strict_json.numbers(given, "slope", None) if "slope" in given else ()
        offset = strict_json.numbers(given, "offset", None) if "offset" in given else ()
        return cls(given["kind"], slope, offset, _points(given.get("points", [])))

    def _line(self, values: Tensor) -> Tensor:
        return line(values, self.slope, self.offset)

    def _softmax(self, log: Tensor) -> Tensor:
        impossible = log == -math.inf
        if not bool(impossible.any()):
            return self._line(log).softmax(1)
        return softmax_of_possible(self._line(log), impossible)

    def _interpolated(self, probs: Tensor) -> Tensor:
        return torch.stack(
            [_between(probs[:, c], points) for c, points in enumerate(self.points)], dim=1
        )


def line(values: Tensor, slope: tuple[float, ...], offset: tuple[float, ...]) -> Tensor:
    """Slope x + offset of each class, (B, C, *spatial), in the type of the values."""
    column = (1, -1, *(1 for _ in values.shape[2:]))
    a, b = (
        torch.tensor(numbers, dtype=values.dtype, device=values.device).reshape(column)
        for numbers in (slope, offset)
    )
    return values * a + b


def log_probability(values: Tensor, activation: str) -> Tensor:
    """Logarithm of the probability, without the detour over numbers that round to 0."""
    if activation == "none":
        return values.log()
    return values.log_softmax(1) if activation == "softmax" else F.logsigmoid(values)


def softmax_of_possible(scores: Tensor, impossible: Tensor) -> Tensor:
    """Softmax over the classes that are possible; a pixel where none is keeps zeros, not NaN."""
    nowhere = impossible.all(1, keepdim=True)
    kept = scores.masked_fill(impossible, -math.inf).masked_fill(nowhere, 0.0)
    return kept.softmax(1).masked_fill(impossible, 0.0)


def _between(probs: Tensor, points: tuple[tuple[float, float], ...]) -> Tensor:
    """Straight lines between points; NaN stays NaN."""
    kind = probs.dtype
    probs = probs.double()  # points that lie close would fall together in float32
    x, y = torch.tensor(points, dtype=probs.dtype, device=probs.device).t().contiguous()
    if len(x) == 1:
        return torch.where(probs.isnan(), probs, y[0]).to(kind)
    right = torch.searchsorted(x, probs.contiguous()).clamp(1, len(x) - 1)
    left = right - 1
    share = ((probs - x[left]) / (x[right] - x[left])).clamp(0, 1)
    found: Tensor = y[left] + share * (y[right] - y[left])
    return found.to(kind)


def _probability(values: Tensor, activation: str) -> Tensor:
    if activation == "softmax":
        values = values.softmax(1)
    elif activation == "sigmoid":
        values = values.sigmoid()
    low, high = values.amin(2), values.amax(2)
    validation.probability_range(low, high, activation, values.shape[2])
    return values


def _log(values: Tensor, activation: str) -> Tensor:
    """Logarithm of the probability, the values checked."""
    if activation == "none":
        return log_probability(_probability(values, activation), activation)
    log = log_probability(values, activation)
    low, high = log.amin(2).exp(), log.amax(2).exp()
    validation.probability_range(low, high, activation, values.shape[2])
    return log


def _logit(values: Tensor, activation: str) -> Tensor:
    if activation == "sigmoid":
        low, high = values.amin(2).sigmoid(), values.amax(2).sigmoid()
        validation.probability_range(low, high, activation, values.shape[2])
        return values
    return torch.logit(_probability(values, activation))


def _check(calibrator: Calibrator) -> None:
    validation.known_name("kind", calibrator.kind, KINDS)
    slope, offset, points = calibrator.slope, calibrator.offset, calibrator.points
    if calibrator.kind == "isotonic":
        if slope or offset or not points:
            raise ValueError("an isotonic calibrator has points for each class, and nothing else")
        for curve in points:
            _check_curve(curve)
        return
    if points or not slope or len(slope) != len(offset):
        raise ValueError(
            f"a {calibrator.kind} calibrator has a slope and an offset for each class, no points"
        )
    if calibrator.kind == "softmax" and len(slope) == 1:
        raise ValueError("softmax over one class is 1 everywhere: kind='sigmoid' is for one")
    if not all(0 < number < math.inf for number in slope):
        raise ValueError(f"slope must be finite and larger than 0; got {slope}")
    if not all(math.isfinite(number) for number in offset):
        raise ValueError(f"offset must be finite; got {offset}")


def _check_curve(curve: tuple[tuple[float, float], ...]) -> None:
    """Refuse points that no function, or a falling one, goes through."""
    for point in curve:
        if len(point) != 2:
            raise ValueError(f"every point must be a pair of probabilities; got {point!r}")
    flat = [number for point in curve for number in point]
    if not curve or not all(0 <= number <= 1 for number in flat):
        raise ValueError("points must lie in [0, 1], one or more for each class")
    if not all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(curve)):
        raise ValueError("points must rise: larger probabilities, no smaller calibrated ones")


def _points(given: Any) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Points out of lists of lists."""
    try:
        curves = tuple(tuple((_number(x), _number(y)) for x, y in curve) for curve in given)
    except (TypeError, ValueError) as error:
        raise ValueError("points must be a list for each class of pairs of numbers") from error
    return curves


def _number(given: Any) -> float:
    if type(given) not in (int, float):
        raise ValueError(f"{given!r} is no number")
    return float(given)


def _curves(given: Any) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """Points as tuples of plain floats; a list has no hash."""
    if not isinstance(given, (tuple, list)):
        raise TypeError(f"points must be a tuple of points for each class; got {given!r}")
    curves = (curve if isinstance(curve, (tuple, list)) else [curve] for curve in given)
    return tuple(tuple(validation.floats("every point", p) for p in curve) for curve in curves)
