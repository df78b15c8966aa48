"""Rows that break arithmetic, under every solver: scores in [0, 1], never above the bound."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hardening.outcome import SLACK, attempt, check_segmentation

from rankseg import RankSEG, Segmentation, expected_score

SOLVERS = ["RMA", "exact", "auto", "coupled", "BA", "TRNA", "BA+TRNA"]
SIZES = [1, 2, 3, 97, 4096]
rng = np.random.default_rng(0)

VALUES = {
    "zeros": lambda d: np.zeros(d),
    "ones": lambda d: np.ones(d),
    "halves": lambda d: np.full(d, 0.5),
    "nearly zero": lambda d: np.full(d, 5e-324),
    "smallest float32": lambda d: np.full(d, 2.0**-149),
    "denormals": lambda d: rng.integers(0, 9, d) * 2.0**-149,
    "1e-38": lambda d: rng.random(d) * 1e-38,
    "below one": lambda d: np.full(d, 1 - 2.0**-24),
    "just below one": lambda d: np.full(d, 1 - 2.0**-53),
    "one pixel": lambda d: np.eye(1, d)[0],
    "all but one": lambda d: 1 - np.eye(1, d)[0],
    "one of dust": lambda d: np.maximum(np.eye(1, d)[0], 1e-12),
    "zeros and ones": lambda d: rng.integers(0, 2, d).astype(float),
    "geometric": lambda d: 0.5 ** np.arange(d).clip(max=1074.0),
    "two scales": lambda d: np.where(np.arange(d) % 2, 1 - 1e-9, 1e-9),
}
OPTIONS = [
    {},
    {"smooth": 1.0},
    {"smooth": 1e-300},
    {"smooth": 1e300},
    {"empty": 1},
    {"empty": "nan"},
]


def batch(size, dtype):
    """Every family as a class of one image, and alone in images of one class."""
    return torch.from_numpy(np.stack([make(size) for make in VALUES.values()])).to(dtype)[None]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masks(solver, metric, size, dtype):
    probs = batch(size, dtype)
    for extra in OPTIONS:
        options = {"metric": metric, "output_mode": "multilabel", "solver": solver, **extra}
        found = attempt(lambda options=options: RankSEG(pruning_prob=0, **options).solve(probs))
        assert isinstance(found, Segmentation), (found, options)
        check_segmentation(found, probs, options)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("assignment", ["published", "ascent"])
def test_labels(solver, metric, assignment):
    """Classes of such different scales in one image; the sum over the classes is far above 1."""
    for size, extra in itertools.product([1, 97], OPTIONS):
        probs = batch(size, torch.float32)
        options = {"metric": metric, "output_mode": "multiclass", "solver": solver, **extra}
        decide = RankSEG(pruning_prob=0, assignment=assignment, **options)
        found = attempt(lambda decide=decide, probs=probs: decide.solve(probs))
        assert isinstance(found, Segmentation), (found, options)
        check_segmentation(found, probs, options)


@pytest.mark.parametrize("method", ["exact", "RMA", "BA", "TRNA", "coupled"])
@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("size", SIZES)
def test_scores_of_any_mask(method, metric, size):
    probs = batch(size, torch.float64)
    for share, smooth in itertools.product([0.0, 0.3, 1.0], [0.0, 1e-300, 1.0, 1e300]):
        masks = torch.from_numpy(rng.random(probs.shape) < share)
        found = attempt(lambda s=smooth, m=masks: expected_score(probs, m, metric, method, s))
        assert ((found >= 0) & (found <= 1 + SLACK)).all(), found


def test_the_exact_score_of_what_is_certain_is_the_score():
    probs = batch(97, torch.float64)[:, [0, 1, 9, 10, 12]]  # zeros and ones only
    for solver, metric in itertools.product(SOLVERS[1:2], ["dice", "iou"]):
        found = RankSEG(metric, "multilabel", solver, pruning_prob=0).solve(probs)
        truth = (probs.sum(-1) > 0).double()
        torch.testing.assert_close(found.expected_score, truth, rtol=0, atol=1e-12)
        assert torch.equal(found.prediction, probs > 0.5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_thousand_classes_of_few_pixels(solver):
    probs = torch.from_numpy(rng.dirichlet(np.full(1000, 0.01), 6)).T[None].float()
    options = {"metric": "dice", "output_mode": "multiclass", "solver": solver}
    check_segmentation(RankSEG(pruning_prob=0, **options).solve(probs), probs, options)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", [10**6, 10**7])
def test_one_class_of_many_pixels(solver, size):
    options = {"metric": "dice", "output_mode": "multilabel", "solver": solver}
    for row in (rng.random(size) ** 4, np.full(size, 0.3), rng.random(size) * 1e-7):
        probs = torch.from_numpy(row).float()[None, None]
        check_segmentation(RankSEG(pruning_prob=0, **options).solve(probs), probs, options)
