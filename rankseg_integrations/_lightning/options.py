"""How a callback decides: options of `RankSEG`, typed so that a configuration file is checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

from rankseg import Calibrator, DecisionRule, RankSEG
from rankseg_integrations._common import Activation, each_image_alone

Decision: TypeAlias = RankSEG | DecisionRule


class Options(TypedDict, total=False):
    """Keyword options of `rankseg.RankSEG`; LightningCLI reads names, types and choices here."""

    metric: Literal["dice", "iou", "acc", "fbeta", "tversky"]
    output_mode: Literal["multiclass", "multilabel"]
    solver: Literal["RMA", "exact", "auto", "BA", "TRNA", "BA+TRNA", "coupled", "argmax", "TR"]
    smooth: float
    pruning_prob: float | list[float]
    class_weights: list[float] | None
    empty: Literal[0, 1, "nan"]
    activation: Activation
    backend: Literal["auto", "torch", "numba", "triton"]
    assignment: Literal["published", "ascent"]
    unassigned_policy: Literal["max_score", "void"]
    void_index: int
    eps: float
    coupling: float
    threshold: float | list[float]
    calibrator: Calibrator | str | None
    alpha: float
    beta: float


class PredictOptions(Options, total=False):
    """With those that mean something else where truth is known."""

    include_background: bool
    ignore_index: int


def _with_calibrator(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Options with the calibrator itself, where a configuration file names the file it is in."""
    given = options.get("calibrator")
    return {**options, "calibrator": Calibrator.load(given)} if isinstance(given, str) else options


def configured(
    rankseg: Decision | str | Path | None, options: Mapping[str, Any], **also: Any
) -> Decision:
    """Return what decides a batch.

    Parameters
    ----------
    rankseg : RankSEG, DecisionRule, path of a saved rule, or None
        Ready made; None for `options`.
    options : mapping
        Options of `RankSEG`.
    **also
        More of them, which may come with a `rankseg` as well, and then do not concern it.

    Raises
    ------
    TypeError, ValueError
        If both are given, neither fits, or images would be decided together.
    """
    if rankseg is None:
        each_image_alone(options)
        return RankSEG(**_with_calibrator(options), **also)
    if options:
        names = ", ".join(options)
        raise ValueError(f"rankseg is configured already; got {names} as well: give one of the two")
    if isinstance(rankseg, (str, Path)):
        return DecisionRule.load(rankseg)
    if isinstance(rankseg, RankSEG):
        each_image_alone({"aggregation": rankseg.settings.aggregation})
        return rankseg
    if isinstance(rankseg, DecisionRule):
        return rankseg
    raise TypeError(
        "rankseg must be a RankSEG, a DecisionRule or the path of a saved one; got "
        f"{type(rankseg).__name__}"
    )


def activation_of(decision: Decision) -> str:
    """How the decision makes probabilities of what it is given."""
    return (decision.settings if isinstance(decision, RankSEG) else decision).activation


def gives_masks(decision: Decision) -> bool:
    """Whether it decides a mask for each class, not labels."""
    how = decision.settings if isinstance(decision, RankSEG) else decision
    return how.output_mode == "multilabel"


def left_out_label(decision: Decision) -> int:
    """What a pixel gets that is not decided; False for masks."""
    if gives_masks(decision):
        return False
    if isinstance(decision, RankSEG):
        return int(decision.settings.parameter("ignore_index"))
    return decision.void_index
