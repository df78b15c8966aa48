"""What may come of a call: an answer with its laws, or a refusal in our own words."""

from __future__ import annotations

import linecache
import re
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import torch
from torch import Tensor

import rankseg
import rankseg_integrations
from rankseg import Segmentation

HOMES = tuple(str(Path(package.__path__[0])) for package in (rankseg, rankseg_integrations))
INTERNAL = re.compile(
    r"expected all tensors|is ambiguous|has no attribute|not subscriptable|unsupported operand|"
    r"not supported between|out of bounds|out of range for|shapes? mismatch|must match the size|"
    r"cannot be (?:broadcast|interpreted)|positional argument|unhashable|not iterable|aten::",
    re.IGNORECASE,
)
"""Words of torch, NumPy, numba and Python's own errors."""

REFUSALS = (TypeError, ValueError, NotImplementedError)


@dataclass
class Refused:
    """A call that raised as it may."""

    error: Exception


def attempt(call: Callable[[], Any]) -> Any:
    """What a call returned, or how it refused; anything else, a warning too, fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return call()
        except REFUSALS as error:
            assert_ours(error)
            return Refused(error)


def assert_ours(error: Exception) -> None:
    """The error was raised by a line of ours, and says something."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = f"{type(error).__name__}: {error} (in {frame.filename}:{frame.lineno})"
    assert frame.filename.startswith(HOMES), said
    assert linecache.getline(frame.filename, frame.lineno or 0).lstrip().startswith("raise"), said
    assert len(str(error)) > 10, said
    assert not INTERNAL.search(str(error)), said


def bits(tensor: Tensor) -> Tensor:
    """All the memory a tensor lives in, as it is now."""
    with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
        if tensor._is_zerotensor():
            return torch.empty(0)  # there is none
        storage = tensor.detach().untyped_storage()
        whole = torch.empty(0, dtype=torch.uint8).set_(storage)  # type: ignore[call-overload]
        return whole.clone()  # type: ignore[no-any-return]


def same(found: Any, expected: Any) -> None:
    """Two answers are one, bit for bit; NaN is NaN."""
    if isinstance(found, Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found.nan_to_num(7.5), expected.nan_to_num(7.5))
    elif isinstance(found, Segmentation):
        for name, number in vars(found).items():
            same(number, getattr(expected, name))
    else:
        assert found == expected


def check_prediction(found: Any, probs: Tensor, options: dict[str, Any]) -> None:
    """Type, shape, range, and no strings attached."""
    assert type(found) is Tensor
    assert found.device == probs.device
    assert not found.requires_grad
    batch, classes, *spatial = probs.shape
    if options["output_mode"] == "multilabel":
        assert found.dtype == torch.bool
        assert tuple(found.shape) == (batch, classes, *spatial)
        return
    assert found.dtype == torch.int64
    assert tuple(found.shape) == (batch, *spatial)
    void = [options.get("void_index", 255)] if options.get("unassigned_policy") == "void" else []
    allowed = torch.tensor([*range(max(2, classes)), *void])
    assert torch.isin(found, allowed).all()


def check_segmentation(found: Segmentation, probs: Tensor, options: dict[str, Any]) -> None:
    """The numbers are those of the prediction, scores are scores, and the bound holds."""
    check_prediction(found.prediction, probs, options)
    images = 1 if options.get("aggregation") == "dataset" else len(probs)
    rows = (images, probs.shape[1])
    for name, number in vars(found).items():
        assert type(number) is Tensor, name
        assert not number.requires_grad, name
        if name not in ("prediction", "objective", "bound"):
            assert tuple(number.shape) == rows, name
    assert torch.equal(found.volume, volumes(found.prediction, *rows))
    score = found.expected_score
    assert score.dtype == torch.float64
    unknown = score.isnan() if str(options.get("empty", 0)) == "nan" else torch.zeros(rows) > 0
    within = (score >= 0) & (score <= 1 + SLACK)
    assert (within | unknown).all(), score
    for name in ("objective", "bound"):
        assert getattr(found, name).isfinite().all(), name
    slack = SLACK if options["solver"] in ("BA", "TRNA", "BA+TRNA") else 1e-9
    assert (found.objective <= found.bound * (1 + slack) + slack).all(), (found, options)


SLACK = 2e-6
"""What BA and TRNA promise of their search, as in tests/core/test_solvers.py."""


def volumes(prediction: Tensor, images: int, classes: int) -> Tensor:
    """Pixels of every row, images together where there is one row of numbers."""
    if prediction.dtype == torch.bool:
        found = prediction.flatten(2).sum(-1)
    else:
        first = 1 if classes == 1 else 0
        names = torch.arange(first, classes + first)
        found = (prediction.flatten(1)[:, None] == names[:, None]).sum(-1)
    return found if len(found) == images else found.sum(0, keepdim=True)


def check_regret(found: Tensor, probs: Tensor, active: Tensor, options: dict[str, Any]) -> None:
    """Masks by RMA have the largest objective there is, up to the documented rounding."""
    metric, smooth = options["metric"], float(options.get("smooth", 0))
    family = {
        "fbeta": ("fbeta", float(options.get("beta", 1))),
        "tversky": ("tversky", float(options.get("alpha", 0.5)), float(options.get("beta", 0.5))),
    }.get(metric, metric)
    tolerance = 1e-12 if probs.dtype == torch.float64 else 1e-6  # as in tests/core/test_rma.py
    for image, class_ in active.nonzero().tolist():
        row = probs[image, class_].double().flatten().numpy()
        mask = found[image, class_].flatten().numpy()
        with np.errstate(all="ignore"):
            best = oracles.best_rma(family, row, smooth)
            score = oracles.score_of_mask(family, row, mask, smooth)
        assert score >= best * (1 - tolerance), (row, mask, options)
