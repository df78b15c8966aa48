"""What ``tune`` chooses among."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rankseg import validation
from rankseg.api import RankSEG
from rankseg.calibrator import Calibrator
from rankseg.evaluation.calibration import METHODS

SOLVERS = ("RMA", "exact", "BA", "TRNA", "BA+TRNA")
COUPLINGS = (0.25, 0.5, 0.75, 1.0)
CALIBRATIONS = ("none", "temperature", "vector", "isotonic")


@dataclass(frozen=True)
class Candidate:
    """One way to decide.

    Attributes
    ----------
    name : str
    options : dict
        Of ``RankSEG``, but for a calibrator and thresholds, which are learned.
    calibration : str
        A method of ``fit_calibrator``, or 'none'.
    cut : bool
        Whether it is the tuned threshold.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    calibration: str = "none"
    cut: bool = False

    def rankseg(self, **more: Any) -> RankSEG:
        """The RankSEG with these options."""
        return RankSEG(**{**self.options, **more})


def candidates(
    metric: str,
    output_mode: str,
    include_background: bool,
    solvers: Sequence[str] | None,
    couplings: Sequence[float],
    calibrations: Sequence[str],
    thresholds: bool,
    options: Mapping[str, Any],
) -> list[Candidate]:
    """Candidates from the simplest to the most elaborate; argmax or 0.5 is the first.

    Raises
    ------
    TypeError, ValueError
        On options that make no sense.
    """
    if not isinstance(options, Mapping):
        raise TypeError(f"options must be a dict of options; got {type(options).__name__}")
    taken = {"metric", "output_mode", "solver", "coupling", "calibrator", "activation", "threshold"}
    options = {name: _plain(value) for name, value in options.items()}
    if taken & set(options):
        raise ValueError(f"tune decides about {', '.join(sorted(taken & set(options)))} itself")
    calibrations = ["none", *(name for name in _known(calibrations) if name != "none")]
    labels = output_mode == "multiclass"
    usual = {"metric": "acc", "output_mode": output_mode, "solver": "argmax" if labels else "TR"}
    common = {"metric": metric, "output_mode": output_mode, **options}
    if labels and not include_background:
        common["include_background"] = False
    found = [Candidate(_name("argmax" if labels else "0.5", c), usual, c) for c in calibrations]
    if thresholds:
        found.insert(1, Candidate("tuned threshold", usual, cut=True))
    if metric != "acc":
        for how in _ways(solvers, couplings, pruned="pruning_prob" not in options):
            for calibration in calibrations:
                chosen = {**common, **how}
                found.append(Candidate(_name(_title(how), calibration), chosen, calibration))
    for one in found:
        one.rankseg()  # names and numbers that make no sense are told now
    return list({one.name.lower(): one for one in reversed(found)}.values())[::-1]


def _plain(value: Any) -> Any:
    """Numbers as JSON knows them, and tuples."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    return tuple(plain) if isinstance(plain, list) else plain


def _ways(
    solvers: Sequence[str] | None, couplings: Sequence[float], pruned: bool
) -> Iterable[dict[str, Any]]:
    for solver in SOLVERS if solvers is None else validation.several("solvers", solvers, "names"):
        if not isinstance(solver, str):
            raise TypeError(f"solvers must be a list of names; got {solver!r} in it")
        yield {"solver": solver}
        if pruned and solver.upper() == "RMA":  # low probabilities may mean absent, or faint
            yield {"solver": solver, "pruning_prob": 0.0}
    for coupling in validation.several("couplings", couplings, "numbers"):
        number = validation.number_in_unit_interval("couplings", coupling)
        yield {"solver": "coupled", "coupling": number}


def _title(how: Mapping[str, Any]) -> str:
    if "coupling" in how:
        return f"coupled {how['coupling']:g}"
    return f"{how['solver']} unpruned" if "pruning_prob" in how else str(how["solver"])


def _name(title: str, calibration: str) -> str:
    return title if calibration == "none" else f"{title}, {calibration.replace('_', ' ')}"


def _known(calibrations: Sequence[str]) -> list[str]:
    names = validation.several("calibrations", calibrations, "names")
    return [validation.choice("calibrations", name, ("none", *METHODS)) for name in names]


def learned(candidate: Candidate, calibrator: Calibrator | None, cut: Any) -> dict[str, Any]:
    """What a candidate is completed with: its calibrator, or its thresholds.

    Labels have no thresholds: a factor on the background's probability is their like, written as
    a calibrator.
    """
    if not candidate.cut:
        return {} if calibrator is None else {"calibrator": calibrator}
    return {"calibrator": cut} if isinstance(cut, Calibrator) else {"threshold": cut}
