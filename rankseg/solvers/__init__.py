"""The table of solvers: which names exist, what each serves and which parameters it takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rankseg import validation
from rankseg.calibrator import Calibrator

METRICS: Mapping[str, Mapping[str, float]] = {
    "dice": {},
    "iou": {},
    "acc": {},
    "fbeta": {"beta": 1.0},
    "tversky": {"alpha": 0.5, "beta": 0.5},
}
"""Names, each with its parameters and their defaults."""

ACTIVATIONS = ("none", "softmax", "sigmoid")
BACKENDS = ("auto", "torch", "numba", "triton")
OUTPUT_MODES = ("multiclass", "multilabel")
AGGREGATIONS = ("image", "dataset")
ASSIGNMENTS = ("published", "ascent")
POLICIES = ("max_score", "void")
VOID_INDEX = 255

_ALL_LABELS = {"ignore_index": VOID_INDEX}
_LABEL_PARAMETERS = {
    "assignment": "published",
    "unassigned_policy": "max_score",
    "void_index": VOID_INDEX,
    **_ALL_LABELS,
}


_NORMAL_PARAMETERS = {"eps": 1e-4}


@dataclass(frozen=True)
class Entry:
    """What a solver serves: output modes, each with its parameters and their defaults; metrics."""

    modes: Mapping[str, Mapping[str, Any]]
    metrics: Collection[str] = tuple(METRICS)


_COUPLED_PARAMETERS = {"coupling": 0.5}
_RANKED = {"multiclass": _LABEL_PARAMETERS, "multilabel": {}}
_NORMAL = Entry(
    {"multiclass": _NORMAL_PARAMETERS | _LABEL_PARAMETERS, "multilabel": _NORMAL_PARAMETERS},
    ("dice", "iou"),
)
SOLVERS: Mapping[str, Entry] = {
    "RMA": Entry(_RANKED),
    "exact": Entry(_RANKED, ("dice", "iou", "acc")),
    "auto": Entry(_RANKED, ("dice", "iou", "acc")),
    "coupled": Entry(
        {"multiclass": _COUPLED_PARAMETERS | _LABEL_PARAMETERS, "multilabel": _COUPLED_PARAMETERS},
        ("dice", "iou"),
    ),
    "BA": _NORMAL,
    "TRNA": _NORMAL,
    "BA+TRNA": _NORMAL,
    "argmax": Entry({"multiclass": _ALL_LABELS}),
    "TR": Entry({"multilabel": {"threshold": 0.5}}),
}


@dataclass(frozen=True)
class Settings:
    """A checked configuration; names are in their canonical spelling."""

    metric: str
    output_mode: str
    solver: str
    smooth: float
    pruning_prob: float | tuple[float, ...]
    class_weights: tuple[float, ...] | None = None
    include_background: bool = True
    empty: float | str = 0
    activation: str = "none"
    backend: str = "auto"
    aggregation: str = "image"
    parameters: tuple[tuple[str, Any], ...] = ()  # exported programs hold settings of their time
    calibrator: Calibrator | None = None

    @property
    def metric_parameters(self) -> dict[str, float]:
        """Parameters of the metric: ``beta``, ``alpha``."""
        return {name: self.parameter(name) for name in METRICS[self.metric]}

    @property
    def read_with(self) -> str:
        """Activation of what is read: a calibrator has made probabilities of it before."""
        return "none" if self.calibrator is not None else self.activation

    def calibrated(self, values: Tensor) -> Tensor:
        """What is read."""
        if self.calibrator is None:
            return values
        return self.calibrator.of(values, self.activation)

    @property
    def coupling(self) -> float:
        """Share of the objective under comonotone labels; 0 for solvers that know none."""
        return float(self.parameter("coupling")) if self.solver == "coupled" else 0.0

    def parameter(self, name: str) -> Any:
        """Value of one solver parameter."""
        return dict(self.parameters)[name]


def settings(
    metric: str,
    output_mode: str,
    solver: str,
    smooth: float,
    pruning_prob: float | Sequence[float],
    class_weights: Sequence[float] | None,
    include_background: bool,
    empty: float | str,
    activation: str,
    backend: str,
    aggregation: str,
    calibrator: Calibrator | None,
    given: Mapping[str, Any],
) -> Settings:
    """Check a configuration as a whole; every error lists what is possible."""
    metric = validation.choice("metric", metric, METRICS)
    output_mode = validation.choice("output_mode", output_mode, OUTPUT_MODES)
    solver = validation.choice("solver", solver, list(SOLVERS))
    serves = [name for name, entry in SOLVERS.items() if output_mode in entry.modes]
    validation.combination("solver", solver, "output_mode", output_mode, serves)
    serves = [name for name in serves if metric in SOLVERS[name].metrics]
    validation.combination("solver", solver, "metric", metric, serves)
    aggregation = validation.choice("aggregation", aggregation, AGGREGATIONS)
    smooth = validation.smooth(smooth, metric)
    empty = validation.empty(empty, metric, smooth)
    if aggregation == "dataset":
        validation.tiles_are_served(solver, metric, empty)
    return Settings(
        metric,
        output_mode,
        solver,
        smooth,
        validation.in_unit_interval("pruning_prob", pruning_prob),
        validation.class_weights(class_weights, include_background),
        validation.yes_or_no("include_background", include_background),
        empty,
        validation.choice("activation", activation, ACTIVATIONS),
        validation.choice("backend", backend, BACKENDS),
        aggregation,
        tuple(_parameters(metric, solver, output_mode, given).items()),
        validation.optional("calibrator", calibrator, Calibrator),
    )


def _parameters(
    metric: str, solver: str, output_mode: str, given: Mapping[str, Any]
) -> dict[str, Any]:
    defaults = {**METRICS[metric], **SOLVERS[solver].modes[output_mode]}
    where = f"metric={metric!r}, solver={solver!r}, output_mode={output_mode!r}"
    general = set(Settings.__dataclass_fields__) - {"parameters"}
    validation.known_parameters(where, given, defaults, general)
    chosen = {**defaults, **given}
    chosen.update(metric_parameters(metric, {name: chosen[name] for name in METRICS[metric]}))
    if "eps" in chosen:
        chosen["eps"] = validation.number_in_open_interval("eps", chosen["eps"])
    if "coupling" in chosen:
        chosen["coupling"] = validation.number_in_unit_interval("coupling", chosen["coupling"])
    if "threshold" in chosen:
        chosen["threshold"] = validation.in_unit_interval("threshold", chosen["threshold"])
    if "ignore_index" in chosen:
        chosen["ignore_index"] = validation.integer("ignore_index", chosen["ignore_index"])
    if "assignment" in chosen:
        policy = validation.choice("unassigned_policy", chosen["unassigned_policy"], POLICIES)
        chosen["unassigned_policy"] = policy
        chosen["assignment"] = validation.choice("assignment", chosen["assignment"], ASSIGNMENTS)
        validation.void_has_unclaimed_pixels(metric, policy)
        validation.void_index_is_used("void_index" in given, policy)
        chosen["void_index"] = validation.integer("void_index", chosen["void_index"])
        if policy != "void":
            del chosen["void_index"]
    return chosen


def metric_parameters(metric: str, given: Mapping[str, Any]) -> dict[str, float]:
    """Checked parameters of a metric, defaults filled in."""
    validation.known_parameters(f"metric={metric!r}", given, METRICS[metric])
    chosen = {**METRICS[metric], **given}
    if "beta" in chosen:
        chosen["beta"] = validation.recall_weight(chosen["beta"])
    if "alpha" in chosen:
        chosen["alpha"] = validation.number_in_unit_interval("alpha", chosen["alpha"])
        validation.tversky_weights(chosen["alpha"], chosen["beta"])
    return chosen
