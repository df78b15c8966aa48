"""BA and TRNA against the published formulas at every volume."""

from __future__ import annotations

import counts as reference
import numpy as np
import pytest
from cases import SMOOTH, Floats, any_row, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import best_mask, mask_score

from rankseg.refined_normal import central_counts

OBJECTIVES = [("dice", "BA"), ("dice", "TRNA"), ("dice", "BA+TRNA"), ("iou", "BA")]


def whole_runs(p: Floats) -> np.ndarray:
    """Volumes that cut no run of equal probabilities: those a threshold can select."""
    p = np.sort(p)[::-1]
    return np.append(0, np.flatnonzero(np.append(p[:-1] != p[1:], True)) + 1)


def check(p: Floats, metric: str, method: str, smooth: float, eps: float = 1e-4) -> None:
    """Mask within 1e-6 of the best threshold, its score that of the reference."""
    found = best_mask(p, metric, method, smooth, eps)
    truth = reference.normal_scores(p, metric, method, smooth, eps)
    # the IoU approximation jumps with the volume and may prefer to split equal pixels of tiny rows
    best = truth.max() if metric == "dice" else truth[whole_runs(p)].max()
    assert best - truth[found.volume] <= 1e-6 * best
    assert found.score == pytest.approx(min(truth[found.volume], 1.0), rel=1e-6, abs=1e-300)
    mask = p > found.threshold
    assert mask.sum() == found.volume
    again = mask_score(p, mask, metric, method, smooth, eps)
    assert again == pytest.approx(found.score, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(("metric", "method"), OBJECTIVES)
@pytest.mark.parametrize("smooth", SMOOTH)
def test_volume_is_within_a_millionth_of_the_best(metric: str, method: str, smooth: float) -> None:
    for p in [*rows(104, 60), *rows(13, 400, seed=1)]:
        check(p, metric, method, smooth)


@pytest.mark.parametrize(("metric", "method"), OBJECTIVES)
def test_larger_rows_interpolate_between_volumes(metric: str, method: str) -> None:
    rng = np.random.default_rng(2)
    for p in (rng.random(600), rng.beta(0.3, 0.3, 600), rng.random(600) * 0.01):
        check(p, metric, method, 0.0)


@settings(max_examples=200, deadline=None)
@given(
    any_row(15),
    st.sampled_from(OBJECTIVES),
    st.sampled_from(SMOOTH) | st.floats(0, 10, allow_subnormal=False),
    st.sampled_from([1e-4, 1e-2, 1e-8, 0.5]),
)
def test_any_short_row(p: Floats, objective: tuple[str, str], smooth: float, eps: float) -> None:
    check(p, *objective, smooth, eps)


@pytest.mark.parametrize(("metric", "method"), OBJECTIVES)
def test_score_of_any_prefix(metric: str, method: str) -> None:
    for p in rows(26, 200, seed=3):
        truth = reference.normal_scores(p, metric, method, 0.5)
        order = np.argsort(-p, kind="stable")
        for volume in {0, 1, p.size // 3, p.size}:
            mask = np.zeros(p.size, bool)
            mask[order[:volume]] = True
            value = mask_score(p, mask, metric, method, 0.5)
            assert value == pytest.approx(truth[volume], rel=1e-6, abs=1e-300)


def test_counts_agree_with_the_reference_and_nearly_with_the_truth() -> None:
    p = np.random.default_rng(4).random(300)
    moments = np.array([reference._moments(p)])
    counts = central_counts(moments, np.array([300.0]), 1e-4)
    low, high = reference.interval(p, 1e-4)
    k, pmf = reference.interval_pmf(p, low, high)
    used = counts.pmf[0] > 0
    np.testing.assert_array_equal(counts.k[0][used], k)
    np.testing.assert_allclose(counts.pmf[0][used], pmf, rtol=1e-10)
    # third-order expansion at sd = 7: error of order 1/sd^3 = 3e-3 relative; eps renormalises 1e-4
    np.testing.assert_allclose(pmf, reference.count_pmf(p)[low : high + 1], atol=3e-4 * pmf.max())


@pytest.mark.parametrize(("metric", "method"), OBJECTIVES)
def test_approximation_approaches_the_exact_score(metric: str, method: str) -> None:
    p = np.random.default_rng(5).random(2000)
    mask = p > 0.4
    value = mask_score(p, mask, metric, method)
    # BA ignores the dependence of a pixel on the count: an error of about 1/D = 5e-4
    tolerance = 1e-6 if method == "TRNA" or metric == "iou" else 5e-4
    assert value == pytest.approx(reference.dp_score(p, mask, metric), rel=tolerance)
