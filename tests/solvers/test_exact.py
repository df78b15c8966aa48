"""The exact score against the dynamic programme, the optimum against every mask."""

from __future__ import annotations

import counts as reference
import numpy as np
import pytest
from cases import METRICS, SMOOTH, Floats, any_row, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import best_mask, mask_score, ratio_threshold

from rankseg.generating_function import quadrature
from rankseg.solvers.row import Optimum

DP_ERROR = 1e-11  # a hundred times better than the 1e-9 asked for


def checked_optimum(p: Floats, metric: str, smooth: float) -> Optimum:
    found = best_mask(p, metric, smooth=smooth)
    mask = p > found.threshold
    assert mask.sum() == found.volume
    assert found.score == pytest.approx(reference.dp_score(p, mask, metric, smooth), abs=DP_ERROR)
    return found


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("smooth", [*SMOOTH, 0.01])
def test_score_of_any_mask_equals_dynamic_programme(metric: str, smooth: float) -> None:
    rng = np.random.default_rng(5)
    for p in rows(78, 400):
        for mask in (rng.random(p.size) < rng.random(), p > rng.random()):
            truth = reference.dp_score(p, mask, metric, smooth)
            assert mask_score(p, mask, metric, smooth=smooth) == pytest.approx(truth, abs=DP_ERROR)


@given(any_row(), st.sampled_from(METRICS), st.floats(0, 200, allow_subnormal=False), st.data())
def test_score_of_any_short_row(p: Floats, metric: str, smooth: float, data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=p.size, max_size=p.size)))
    truth = reference.dp_score(p, mask, metric, smooth)
    assert mask_score(p, mask, metric, smooth=smooth) == pytest.approx(truth, abs=DP_ERROR)


@pytest.mark.parametrize("metric", METRICS)
def test_optimum_equals_best_of_all_subsets(metric: str) -> None:
    for p in rows(26, 9, seed=1):
        for smooth in SMOOTH:
            best = reference.best_subset_score(p, metric, smooth)
            assert checked_optimum(p, metric, smooth).score == pytest.approx(best, abs=DP_ERROR)


def test_optimum_equals_best_of_all_subsets_of_twelve() -> None:
    p = np.random.default_rng(3).random(12) ** 2
    best = reference.best_subset_score(p, "dice", 0.5)
    assert checked_optimum(p, "dice", 0.5).score == pytest.approx(best, abs=DP_ERROR)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("smooth", SMOOTH)
def test_optimum_equals_best_prefix(metric: str, smooth: float) -> None:
    for p in [*rows(130, 40, seed=2), *rows(26, 120, seed=3)]:
        best = reference.dp_prefix_scores(p, metric, smooth).max()
        assert checked_optimum(p, metric, smooth).score == pytest.approx(best, abs=DP_ERROR)


@settings(max_examples=300, deadline=None)
@given(
    any_row(20),
    st.sampled_from(METRICS),
    st.sampled_from(SMOOTH) | st.floats(0, 10, allow_subnormal=False),
)
def test_optimum_of_any_short_row(p: Floats, metric: str, smooth: float) -> None:
    best = reference.dp_prefix_scores(p, metric, smooth).max()
    assert checked_optimum(p, metric, smooth).score == pytest.approx(best, abs=DP_ERROR)


@pytest.mark.parametrize("metric", METRICS)
def test_optimum_beats_every_other_solver(metric: str) -> None:
    for p in rows(130, 3000, seed=4):
        for smooth in (0.0, 1.0):
            thresholds = [0.5]
            if p.any():
                thresholds.append(ratio_threshold(p, metric, smooth))
            for method in ("BA", "TRNA"):
                thresholds.append(best_mask(p, metric, method, smooth).threshold)
            best = best_mask(p, metric, smooth=smooth).score
            for threshold in thresholds:
                other = mask_score(p, p > threshold, metric, smooth=smooth)
                assert best >= other - 1e-12


def test_exact_iou_mask_is_part_of_the_rma_mask() -> None:
    for p in rows(260, 300, seed=6):
        if p.any():
            threshold = ratio_threshold(p, "iou")
            assert best_mask(p, "iou").volume <= (p >= threshold * (1 - 1e-12)).sum()


def test_a_cut_run_of_ties_is_never_better() -> None:
    for p in rows(130, 40, seed=7):
        p = np.sort(np.round(p, 1))[::-1]
        ends = np.append(np.flatnonzero(np.append(p[:-1] != p[1:], True)) + 1, 0)
        for metric in METRICS:
            scores = reference.dp_prefix_scores(p, metric, 0.5)
            assert scores.max() <= scores[ends].max() + 1e-14


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_large_row_agrees_with_monte_carlo(metric: str, smooth: float) -> None:
    p = np.random.default_rng(8).random(100_000) ** 3
    found = best_mask(p, metric, smooth=smooth)
    mean, error = reference.monte_carlo(p, p > found.threshold, metric, smooth)
    assert abs(found.score - mean) < 4 * error


@pytest.mark.parametrize("metric", METRICS)
def test_extreme_large_rows(metric: str) -> None:
    d = 10**6
    certain = best_mask(np.full(d, 0.999), metric)
    assert certain.volume == d
    truth = 1.998 / 1.999 if metric == "dice" else 0.999
    assert certain.score == pytest.approx(truth, abs=1e-8)  # variance/D^2 = 2.5e-10
    tiny = best_mask(np.full(d, 1e-6), metric)
    assert tiny.volume == d
    factor = 2 if metric == "dice" else 1
    assert tiny.score == pytest.approx(factor * 1e-6, rel=3e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_one_rule_serves_volumes_of_all_sizes(metric: str) -> None:
    """Many tiny, distinct values: candidates from one pixel to thousands share one quadrature."""
    p = 1e-6 + 1e-6 * np.random.default_rng(9).random(20_000)
    found = best_mask(p, metric)
    again = mask_score(p, p > found.threshold, metric)
    assert found.score == pytest.approx(again, rel=1e-12)
    ordered = np.sort(p)[::-1]
    for volume in (1, 3, 10, 100, 300, 1000, 3000, 10_000, 20_000):
        other = mask_score(p, p >= ordered[volume - 1], metric)
        assert found.score >= other * (1 - 1e-12)


@pytest.mark.parametrize("rate", [1.0, 1.5, 30.0, 1e5])
@pytest.mark.parametrize("mean", [0.0, 0.3, 3.0, 40.0, 1e3, 1e6])
@pytest.mark.parametrize("stretch", [1.0, 7.0, 1e4])
def test_quadrature_integrates_poisson_and_certain_counts(
    rate: float, mean: float, stretch: float
) -> None:
    rule = quadrature(rate, mean, stretch)
    exponent = (rate + mean) * stretch  # all labels certain: exp(-(rate + mean) x) and faster
    for power in (rate + mean, exponent):
        value = rule.weight @ np.exp(-power * rule.x)
        assert value * power == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", ["exact", "BA", "TRNA"])
def test_pixel_order_changes_nothing(metric: str, method: str) -> None:
    random = np.random.default_rng(10)
    p = random.random(5000)
    assert best_mask(p, metric, method) == best_mask(random.permutation(p), metric, method)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-20, 1e-300])
def test_probabilities_near_the_end_of_the_number_range(metric: str, scale: float) -> None:
    p = np.random.default_rng(11).random(50) * scale
    assert mask_score(p, p > 0.5 * scale, metric) == pytest.approx(
        reference.dp_score(p, p > 0.5 * scale, metric), rel=1e-9
    )
    best = reference.dp_prefix_scores(p, metric).max()
    assert best_mask(p, metric).score == pytest.approx(best, rel=1e-9)
