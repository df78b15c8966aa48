"""Options of RankSEG: those that make sense together, and anything at all."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from rankseg import Calibrator


class Name(str, Enum):
    """Names as configuration libraries give them."""

    DICE = "dice"


class Half(float):
    """A number of its own class."""


STRANGE: list[Any] = [
    *(None, True, False, "", "x", "RMA", b"dice", "nan", "d\u0130ce", "dice\x00", "a" * 10_000),
    *(0, 1, -1, 2, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.5, 1.5, 5e-324, 1e308),
    *(float("nan"), float("inf"), -float("inf"), -0.0, 1j, 1 + 0j, Half(0.5)),
    *(Fraction(1, 3), Fraction(10**400, 3), Decimal("0.5"), Decimal("NaN"), Name.DICE),
    *(np.float16(0.5), np.float32(0.25), np.float64("nan"), np.longdouble(0.5), np.int8(1)),
    *(np.uint64(2**64 - 1), np.bool_(True), np.str_("dice"), np.datetime64("2020-01-01")),
    *(np.array(0.5), np.array([0.5, 0.25]), np.eye(2), np.array(["dice"]), np.array([])),
    *(np.array([0.5, None], object), np.ma.masked, np.ma.array([0.5, 0.2], mask=[0, 1])),
    *(torch.tensor(0.5), torch.tensor([0.5, 0.25]), torch.tensor([], dtype=torch.float16)),
    *(torch.eye(2), torch.tensor([0.5], device="meta"), torch.tensor([0.5, 1]).to_sparse()),
    *([], (), [0.5], [0.5, 0.25], (0, 0), [1e308] * 2, [0.5, float("nan")], [[0.5], [0.5]]),
    *(["dice"], [None], {}, {"dice": 1}, {0.5}, frozenset({0.5}), range(2), range(10**9)[:2]),
    *(object(), object, len, lambda: 0.5, torch.float32, slice(2), Ellipsis, NotImplemented),
    *(Calibrator("sigmoid", (1.0,), (0.0,)), ValueError("x"), memoryview(b"ab"), bytearray(b"a")),
]

NAMES = (
    *("metric", "output_mode", "solver", "smooth", "pruning_prob", "class_weights"),
    *("include_background", "empty", "activation", "backend", "aggregation", "calibrator"),
    *("ignore_index", "unassigned_policy", "void_index", "assignment", "coupling", "eps"),
    *("threshold", "beta", "alpha"),
)


def as_tensor(numbers: list[Any]) -> torch.Tensor:
    return torch.tensor([float(number) for number in numbers])


@st.composite
def sensible(draw: st.DrawFn, classes: int, dense: bool = True) -> dict[str, Any]:
    """Options that RankSEG takes for so many classes; dense: solvers that want all pixels, too."""
    mode = draw(st.sampled_from(["multiclass", "multilabel"]))
    metric = draw(st.sampled_from(["dice", "iou", "acc", "fbeta", "tversky"]))
    solvers = ["RMA", "argmax" if mode == "multiclass" else "TR"]
    solvers += ["coupled"] if metric in ("dice", "iou") else []
    if dense and metric in ("dice", "iou", "acc"):
        solvers += ["exact", "auto"]
    if dense and metric in ("dice", "iou"):
        solvers += ["BA", "TRNA", "BA+TRNA"]
    solver = draw(st.sampled_from(solvers))
    unit = st.sampled_from([0, 0.0, 0.3, 0.5, 1, np.float32(0.25), Half(0.5), Fraction(1, 3)])
    for_each = st.lists(unit, min_size=classes, max_size=classes)
    weights = for_each.filter(lambda numbers: any(numbers[1:]))
    possible: dict[str, st.SearchStrategy[Any]] = {
        "pruning_prob": unit | for_each.map(tuple) | for_each.map(np.array),
        "backend": st.sampled_from(["auto", "torch", "numba", "NUMBA"]),
    }
    if classes > 1:
        possible["class_weights"] = weights | weights.map(as_tensor) | st.none()
        possible["include_background"] = st.booleans()
    if metric != "acc":
        possible["smooth"] = st.sampled_from([0, 1e-6, np.float16(0.5), 1, 1000.0])
    if solver in ("RMA", "coupled", "argmax", "TR") or metric == "acc":
        possible["aggregation"] = st.sampled_from(["image", "dataset"])
    possible |= _parameters(solver, mode, metric, unit | for_each)
    chosen = {name: draw(values) for name, values in possible.items() if draw(st.booleans())}
    alone = dense and chosen.get("aggregation") != "dataset"
    if alone and metric != "acc" and not chosen.get("smooth"):
        chosen["empty"] = draw(st.sampled_from([0, 1, "nan", np.int8(1), float("nan")]))
    return {"metric": metric, "output_mode": mode, "solver": solver, **chosen}


def _parameters(
    solver: str, mode: str, metric: str, cuts: st.SearchStrategy[Any]
) -> dict[str, st.SearchStrategy[Any]]:
    """What solvers and metrics take besides."""
    integers = st.sampled_from([-1, 255, 2**40, np.int64(100), np.uint8(255)])
    found: dict[str, st.SearchStrategy[Any]] = {}
    if mode == "multiclass":
        found["ignore_index"] = integers
        if solver != "argmax":
            found["assignment"] = st.sampled_from(["published", "ascent", "Ascent"])
            policies = ["max_score"] if metric == "acc" else ["max_score", "void"]
            found["unassigned_policy"] = st.sampled_from(policies)
    if solver == "coupled":
        found["coupling"] = st.sampled_from([0, 0.2, 0.5, 1])
    if solver in ("BA", "TRNA", "BA+TRNA"):
        found["eps"] = st.sampled_from([1e-4, 1e-12, 0.3])
    if solver == "TR":
        found["threshold"] = cuts
    if metric in ("fbeta", "tversky"):
        found["beta"] = st.sampled_from([0.5, 1, 2.0, 1e6])
    if metric == "tversky":
        found["alpha"] = st.sampled_from([0, 0.3, 1])
    return found


def anything() -> st.SearchStrategy[dict[str, Any]]:
    """Any options, most of them nonsense."""
    return st.dictionaries(st.sampled_from(NAMES), st.sampled_from(STRANGE), max_size=3)
