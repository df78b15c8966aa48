"""``solver='coupled'``: the best level set under labels that move together, and its score."""

import numpy as np
import oracles
import pytest
import torch
from cases import KINDS, METRICS, any_row, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from rankseg import RankSEG, expected_score
from rankseg.fields import field_for
from rankseg.objectives import Dice, IoU
from rankseg.solvers import coupled, coupled_scores

NO_PRUNING = {"output_mode": "multilabel", "solver": "coupled", "pruning_prob": 0.0}
LOST = 1e-10  # share of the best score: ten times what the search may leave, 1e-11


def tensor(row, dtype=torch.float64):
    return torch.from_numpy(np.asarray(row, float)).to(dtype)[None, None]


@pytest.fixture(params=["sorted", "counted"])
def way(request, monkeypatch):
    """Small rows are sorted, large ones counted in bins; here small ones in either way."""
    if request.param == "counted":
        monkeypatch.setattr(coupled, "SORTED", 0)
        monkeypatch.setattr(coupled_scores, "SORTED", 0)
        monkeypatch.setattr(coupled_scores, "BINS", 1 << 12)
    return request.param


def regret(probs, metric, coupling, smooth):
    """What the mask loses, and how far off its reported score is."""
    found = RankSEG(metric, smooth=smooth, coupling=coupling, **NO_PRUNING).solve(probs)
    row, mask = probs.flatten().double().numpy(), found.prediction.flatten().numpy()
    best = oracles.best_coupled(metric, row, coupling, smooth)
    achieved = oracles.coupled_score(metric, row, mask, coupling, smooth)
    off = abs(found.expected_score.item() - achieved)
    return (best - achieved) / (best or 1.0), off


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("coupling", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_mask_and_score_against_every_level_set(metric, coupling, dtype):
    for number, row in enumerate(rows(13, 120, seed=int(10 * coupling))):
        lost, off = regret(tensor(row, dtype), metric, coupling, (0.0, 0.5, 10.0)[number % 3])
        assert lost <= LOST
        assert off <= coupled_scores.TOLERANCE


@settings(max_examples=40, deadline=None)
@given(
    any_row(60),
    st.sampled_from(METRICS),
    st.floats(0.01, 1),
    st.sampled_from([0.0, 1e-9, 1.0, 1e6]),
    st.booleans(),
)
def test_any_row(row, metric, coupling, smooth, count):
    with pytest.MonkeyPatch.context() as patch:
        if count:
            patch.setattr(coupled, "SORTED", 0)
            patch.setattr(coupled_scores, "SORTED", 0)
        lost, off = regret(tensor(row), metric, coupling, smooth)
    assert lost <= LOST
    assert off <= (coupled_scores.TOLERANCE if count else 1e-12)


HARD = {
    "one bin": lambda rng, d: 0.3 + 1e-5 * rng.random(d),
    "one bin within a bin": lambda rng, d: 0.7 + 1e-10 * rng.random(d),
    "nested objects": lambda rng, d: rng.choice(
        [0.9, 0.5, 0.49, 1e-3], d, p=[0.01, 0.3, 0.3, 0.39]
    ),
    "two scales": lambda rng, d: np.where(rng.random(d) < 0.01, 0.8, 0.4) + 1e-4 * rng.random(d),
    "background of dust": lambda rng, d: np.where(rng.random(d) < 0.1, rng.random(d), 1e-5),
}


@pytest.mark.parametrize("kind", [*HARD, *KINDS])
@pytest.mark.parametrize("metric", METRICS)
def test_large_rows(kind, metric, monkeypatch):
    """Rows that are never sorted as a whole."""
    row = {**HARD, **KINDS}[kind](np.random.default_rng(1), 3000).clip(0, 1)
    for module in (coupled, coupled_scores):
        monkeypatch.setattr(module, "SORTED", 2000)
    for dtype, coupling in ((torch.float32, 0.5), (torch.float64, 1.0)):
        probs = tensor(row, dtype)
        found = RankSEG(metric, coupling=coupling, **NO_PRUNING).solve(probs)
        exact = probs.flatten().double().numpy()
        best, score = best_and_score(metric, exact, coupling, int(found.volume))
        assert (best - score) <= LOST * best
        assert found.expected_score.item() == pytest.approx(score, abs=coupled_scores.TOLERANCE)


def best_and_score(metric, row, coupling, volume):
    """As ``oracles.best_coupled``, fast: all volumes at once, 1/(V + N) in blocks."""
    value, count = np.unique(row[row > 0], return_counts=True)
    value, count = value[::-1], count[::-1]
    labels = np.append(0, np.cumsum(count)).astype(float)
    height = np.append(1.0, value) - np.append(value, 0.0)
    sums = np.append(0.0, np.cumsum(value * count))
    scores = np.empty(labels.size)
    for first in range(0, labels.size, 256):
        v = labels[first : first + 256, None]
        least, most = np.minimum(v, labels), np.maximum(v, labels)
        share = (
            oracles.divide(2 * least, v + labels)
            if metric == "dice"
            else oracles.divide(least, most)
        )
        scores[first : first + 256] = (height * share).sum(1)
    alone = oracles.rma_score(metric, sums, labels, sums[-1])
    scores = (1 - coupling) * alone + coupling * scores
    return scores.max(), scores[np.flatnonzero(labels == volume)[0]]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_score_of_any_mask(metric, smooth):
    rng = np.random.default_rng(0)
    for row in rows(26, 60, seed=9):
        mask = rng.random(row.size) < rng.random()
        prediction = torch.from_numpy(mask)[None, None]
        for coupling in (0.0, 0.3, 1.0):
            found = expected_score(
                tensor(row), prediction, metric, "coupled", smooth, coupling=coupling
            )
            truth = oracles.coupled_score(metric, row, mask, coupling, smooth)
            assert found.item() == pytest.approx(truth, abs=coupled_scores.TOLERANCE)


def test_no_mask_of_any_shape_is_better_without_ties():
    rng = np.random.default_rng(4)
    for _ in range(20):
        row = rng.random(rng.integers(1, 8)) ** rng.integers(1, 4)
        for metric in METRICS:
            for coupling in (0.4, 1.0):
                best = max(
                    oracles.coupled_score(metric, row, mask, coupling)
                    for mask in oracles.subsets(row.size)
                )
                found = RankSEG(metric, coupling=coupling, **NO_PRUNING).solve(tensor(row))
                assert found.expected_score.item() == pytest.approx(best, rel=1e-10)


def test_the_oracles_agree():
    for row in rows(26, 30, seed=3):
        for metric in METRICS:
            best = max(
                oracles.coupled_score(metric, row, mask, 0.6, 0.5)
                for mask in oracles.level_sets(row)
            )
            assert oracles.best_coupled(metric, row, 0.6, 0.5) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("kind", [Dice, IoU])
def test_few_pixels_are_looked_at_again(kind, monkeypatch):
    """Two passes over the bins decide a usual row: all of it, and what is near the threshold."""
    probs = torch.rand(1, 1, 300_000, generator=torch.Generator().manual_seed(0))
    asked = []
    counted = coupled.counted
    monkeypatch.setattr(coupled, "counted", lambda f, some: asked.append(some) or counted(f, some))
    field = field_for(probs)
    active = torch.ones(1, 1, dtype=torch.bool)
    coupled.best_thresholds(field, kind(field.totals().mu), active, 0.5)
    windows = [window for some in asked for _, window in some]
    assert 2 <= len(windows) <= 5
    assert sum(window.width for window in windows[1:]) < 0.05
