"""The table of solvers: which names exist, what each serves and which parameters it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rankseg import validation

METRICS = ("dice", "iou", "acc")
OUTPUT_MODES = ("multiclass", "multilabel")
ASSIGNMENTS = ("published",)
POLICIES = ("max_score", "void")
VOID_INDEX = 255

_LABEL_PARAMETERS = {
    "assignment": "published",
    "unassigned_policy": "max_score",
    "void_index": VOID_INDEX,
}


@dataclass(frozen=True)
class Entry:
    """A solver's output modes, each with its parameters and their defaults; none: not there yet."""

    modes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


SOLVERS: Mapping[str, Entry] = {
    "RMA": Entry({"multiclass": _LABEL_PARAMETERS, "multilabel": {}}),
    "argmax": Entry({"multiclass": {}}),
    "TR": Entry({"multilabel": {"threshold": 0.5}}),
    "BA": Entry(),
    "TRNA": Entry(),
    "BA+TRNA": Entry(),
    "exact": Entry(),
}


@dataclass(frozen=True)
class Settings:
    """A checked configuration; names are in their canonical spelling."""

    metric: str
    output_mode: str
    solver: str
    smooth: float
    pruning_prob: float
    parameters: tuple[tuple[str, Any], ...]

    def parameter(self, name: str) -> Any:
        """Value of one solver parameter."""
        return dict(self.parameters)[name]


def settings(
    metric: str,
    output_mode: str,
    solver: str,
    smooth: float,
    pruning_prob: float,
    given: Mapping[str, Any],
) -> Settings:
    """Check a configuration as a whole; every error lists what is possible."""
    metric = validation.choice("metric", metric, METRICS)
    output_mode = validation.choice("output_mode", output_mode, OUTPUT_MODES)
    solver = validation.choice("solver", solver, list(SOLVERS))
    modes = SOLVERS[solver].modes
    ready = [name for name, entry in SOLVERS.items() if output_mode in entry.modes]
    validation.implemented("solver", solver, bool(modes), ready)
    validation.combination(solver, output_mode, ready)
    return Settings(
        metric,
        output_mode,
        solver,
        validation.smooth(smooth, metric),
        validation.number_in_unit_interval("pruning_prob", pruning_prob),
        tuple(_parameters(solver, output_mode, modes[output_mode], given).items()),
    )


def _parameters(
    solver: str, output_mode: str, defaults: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    where = f"solver={solver!r} with output_mode={output_mode!r}"
    validation.known_parameters(where, given, defaults)
    chosen = {**defaults, **given}
    if "threshold" in chosen:
        chosen["threshold"] = validation.number_in_unit_interval("threshold", chosen["threshold"])
    if "assignment" in chosen:
        policy = validation.choice("unassigned_policy", chosen["unassigned_policy"], POLICIES)
        chosen["unassigned_policy"] = policy
        chosen["assignment"] = validation.assignment(chosen["assignment"], ASSIGNMENTS)
        validation.void_index_is_used("void_index" in given, policy)
        chosen["void_index"] = validation.integer("void_index", chosen["void_index"])
        if policy != "void":
            del chosen["void_index"]
    return chosen
