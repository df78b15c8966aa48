"""The returned mask has the largest RMA objective, judged by regret against float64 oracles."""

import numpy as np
import oracles
import pytest
import strategies
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankseg import RankSEG


def decide(row, metric, smooth, pruning_prob=0.0):
    rankseg = RankSEG(metric, "multilabel", smooth=smooth, pruning_prob=pruning_prob)
    return rankseg.solve(torch.as_tensor(np.asarray(row))[None, None])


def relative_regret(row, metric, smooth):
    found = decide(row, metric, smooth)
    score = oracles.score_of_mask(metric, row, found.prediction[0, 0].numpy(), smooth)
    best = oracles.best_rma(metric, row, smooth)
    return (best - score) / best if best > 0 else 0.0


@given(strategies.rows(), strategies.metrics, strategies.smooths)
@settings(max_examples=300)
def test_float64_is_optimal(row, metric, smooth):
    assert relative_regret(row, metric, smooth) <= 1e-12


@given(strategies.rows(dtype=np.float32), strategies.metrics, strategies.smooths)
@settings(max_examples=300)
def test_float32_is_optimal(row, metric, smooth):
    assert relative_regret(row, metric, smooth) <= 1e-6


@given(strategies.rows(largest=10), strategies.metrics, strategies.smooths)
@settings(max_examples=40)
def test_no_subset_is_better(row, metric, smooth):
    row = row[:10]
    found = decide(row, metric, smooth)
    score = oracles.score_of_mask(metric, row, found.prediction[0, 0].numpy(), smooth)
    best = oracles.best_rma_of_all_subsets(metric, row, smooth)
    assert score >= best * (1 - 1e-12)


def test_no_subset_of_twelve_is_better():
    random = np.random.default_rng(7)
    for metric in ("dice", "iou"):
        row = random.random(12)
        assert oracles.best_rma(metric, row) == pytest.approx(
            oracles.best_rma_of_all_subsets(metric, row), rel=1e-14
        )
        assert relative_regret(row, metric, 0.0) <= 1e-12


@pytest.mark.parametrize(("smooth", "top"), [(0.1, 0.05), (0.3, 0.1), (1.0, 0.2), (3.0, 0.2)])
def test_smoothed_dice_with_several_maxima(smooth, top):
    """Rows whose objective rises again after falling: both ends of the bracket stay apart."""
    random = np.random.default_rng(3)
    several = 0
    for _ in range(300):
        row = np.sort(top * (1 - 0.05 * random.random(random.integers(2, 40))))[::-1].copy()
        sums = np.concatenate([[0.0], np.cumsum(row)])
        scores = oracles.rma_score("dice", sums, np.arange(len(sums)), row.sum(), smooth)
        slope = np.sign(np.diff(scores))
        several += bool((np.diff(slope[slope != 0]) > 0).any())
        assert relative_regret(row, "dice", smooth) <= 1e-12
    assert several > 10  # else the case this test is about was not met


@pytest.mark.parametrize("smooth", [1.0, 1e4])
def test_smoothed_dice_on_a_flat_row(smooth):
    row = 0.5 + 1e-6 * np.random.default_rng(0).random(20_000)
    assert relative_regret(row, "dice", smooth) <= 1e-12


def test_large_smoothing_prefers_the_empty_mask():
    row = np.full(100, 0.3)
    assert decide(row, "dice", 0.0).volume.item() == 100
    found = decide(row, "dice", 1e4)
    assert found.volume.item() == 0
    assert found.expected_score.item() == pytest.approx(1e4 / (30 + 1e4), rel=1e-12)


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_optimal_for_the_values_they_hold(metric, dtype):
    row = torch.rand(4096, generator=torch.Generator().manual_seed(1)).pow(3).to(dtype)
    found = RankSEG(metric, "multilabel").solve(row[None, None])
    score = oracles.score_of_mask(metric, row.double().numpy(), found.prediction[0, 0].numpy())
    assert score >= oracles.best_rma(metric, row.double().numpy()) * (1 - 1e-9)


@pytest.mark.parametrize("metric", ["dice", "iou"])
def test_every_row_of_a_batch_is_decided_for_itself(metric):
    probs = torch.rand(3, 5, 7, 11, dtype=torch.float64).pow(2)
    found = RankSEG(metric, "multilabel", pruning_prob=0.0).solve(probs)
    for image in range(3):
        for class_ in range(5):
            row = probs[image, class_].flatten().numpy()
            best = oracles.best_rma(metric, row)
            assert found.expected_score[image, class_].item() == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("peak", [1e-2, 1e-5, 1e-20, 1e-30, 1e-38])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiny_probabilities_keep_their_precision(metric, peak, dtype):
    row = (np.random.default_rng(5).random(1000) * peak).astype(dtype)
    assert relative_regret(row, metric, 0.0) <= (1e-6 if dtype == np.float32 else 1e-12)
    score = decide(row, metric, 0.0).expected_score.item()
    assert score == pytest.approx(oracles.best_rma(metric, row), rel=1e-7)


@given(st.sampled_from([0.0, 1.0]), st.integers(1, 50), strategies.metrics, strategies.smooths)
def test_certain_rows(value, size, metric, smooth):
    found = decide(np.full(size, value), metric, smooth)
    assert found.volume.item() == (size if value else 0)


def test_threshold_reproduces_the_mask():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        probs = torch.rand(2, 3, 500, generator=torch.Generator().manual_seed(2)).to(dtype)
        found = RankSEG("iou", "multilabel", pruning_prob=0.0).solve(probs)
        again = probs.double() > found.threshold[..., None]
        assert torch.equal(again, found.prediction)
        assert torch.equal(found.volume, again.sum(-1))
