"""What can be evaluated: anything that turns probabilities into labels or masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from rankseg.api import RankSEG
from rankseg.result import Segmentation
from rankseg.rule import DecisionRule
from rankseg.validation import choice


@runtime_checkable
class Wrapped(Protocol):
    """Something around a RankSEG, such as ``TunedRankSEG``."""

    @property
    def best_(self) -> RankSEG:
        """The RankSEG that decides."""
        ...


Decider = RankSEG | DecisionRule | Wrapped | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Contestant:
    """A decider with its name; ``rankseg`` if it can say what it expects."""

    name: str
    decider: Any
    rankseg: RankSEG | None

    def decide(self, values: Tensor) -> tuple[Tensor, Segmentation | None]:
        """Labels or masks of one image, and what is expected of them."""
        if self.rankseg is None:
            return self.decider(values), None
        found = self.rankseg.solve(values)
        return found.prediction, found

    @property
    def description(self) -> str:
        """How it decides."""
        return repr(self.decider if self.rankseg is None else self.rankseg)


def contestants(given: object, metric: str, output_mode: str, activation: str) -> list[Contestant]:
    """Baseline first, then what was given.

    Raises
    ------
    TypeError, ValueError
        If something cannot decide, decides the other kind of output or reads other values, or two
        have one name.
    """
    named = _named(given, metric, output_mode, activation)
    base = baseline(output_mode, activation)
    if base.name in named:
        raise ValueError(f"{base.name!r} is the baseline's name: choose another one")
    return [base, *(_contestant(name, one, output_mode) for name, one in named.items())]


def baseline(output_mode: str, activation: str) -> Contestant:
    """Argmax for labels, the 0.5 cut for masks."""
    labels = output_mode == "multiclass"
    solver, name = ("argmax", "argmax") if labels else ("TR", "0.5")
    decide = RankSEG("acc", output_mode, solver, activation=activation)
    return Contestant(name, decide, decide)


def modes(given: object) -> tuple[str | None, str | None]:
    """Output mode and activation that the deciders agree on; None where none of them says.

    Raises
    ------
    ValueError
        If they disagree.
    """
    found = [
        (one.output_mode, one.activation) for one in map(_settings, _list(given)) if one is not None
    ]
    for name, values in zip(("output_mode", "activation"), zip(*found, strict=True), strict=False):
        if len(set(values)) > 1:
            raise ValueError(
                f"deciders are compared on the same pixels, and they differ in {name}: "
                f"{', '.join(sorted(set(values)))}"
            )
    return found[0] if found else (None, None)


def _settings(decider: object) -> Any:
    if isinstance(decider, Wrapped):
        return decider.best_.settings
    if isinstance(decider, RankSEG):
        return decider.settings
    return decider if isinstance(decider, DecisionRule) else None


def _list(given: object) -> list[object]:
    if given is None:
        return []
    if isinstance(given, Mapping):
        return list(given.values())
    return list(given) if isinstance(given, Sequence) else [given]


def _named(given: object, metric: str, output_mode: str, activation: str) -> dict[str, object]:
    """Deciders by name; by default RMA for the metric."""
    if given is None:
        metric = choice("metric", metric, ("dice", "iou", "acc"))
        return (
            {} if metric == "acc" else {"RMA": RankSEG(metric, output_mode, activation=activation)}
        )
    if isinstance(given, Mapping):
        return {str(name): one for name, one in given.items()}
    found: dict[str, object] = {}
    for one in _list(given):
        name = _name(one)
        if name in found:
            raise ValueError(f"two deciders would be called {name!r}: give a dict with names")
        found[name] = one
    return found


def _name(decider: object) -> str:
    if isinstance(decider, RankSEG):
        chosen = decider.settings
        return f"{chosen.solver} {chosen.metric}"
    return getattr(decider, "__name__", type(decider).__name__)


def _contestant(name: str, decider: object, output_mode: str) -> Contestant:
    if isinstance(decider, Wrapped):
        return Contestant(name, decider, decider.best_)
    if isinstance(decider, RankSEG):
        return Contestant(name, decider, decider)
    if not callable(decider):
        raise TypeError(
            f"{name!r} must be a RankSEG, a DecisionRule, a TunedRankSEG or a function of probs; "
            f"got {type(decider).__name__}"
        )
    return Contestant(name, decider, None)
