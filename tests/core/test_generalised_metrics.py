"""F-beta and Tversky: optimal like Dice and IoU, which are special cases of them."""

import numpy as np
import oracles
import pytest
import strategies
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankseg import RankSEG

BETAS = st.sampled_from([0.0, 0.3, 0.5, 1.0, 2.0, 10.0])


def relative_regret(row, name, smooth, **parameters):
    decide = RankSEG(name, "multilabel", smooth=smooth, pruning_prob=0.0, **parameters)
    mask = decide(torch.as_tensor(np.asarray(row))[None, None])[0, 0].numpy()
    metric = (name, *parameters.values())
    best = oracles.best_rma(metric, row, smooth)
    return (best - oracles.score_of_mask(metric, row, mask, smooth)) / best if best > 0 else 0.0


@given(strategies.rows(largest=1000), BETAS, strategies.smooths)
@settings(max_examples=200)
def test_fbeta_is_optimal(row, beta, smooth):
    assert relative_regret(row, "fbeta", smooth, beta=beta) <= 1e-12


@given(
    strategies.rows(largest=1000),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.sampled_from([0.2, 0.1, 0.5, 1.0, 3.0]),
    strategies.smooths,
)
@settings(max_examples=200)
def test_tversky_is_optimal(row, alpha, beta, smooth):
    assert relative_regret(row, "tversky", smooth, alpha=alpha, beta=beta) <= 1e-12


def maps():
    logits = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    return logits.mul(2).softmax(1)


@pytest.mark.parametrize("output_mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize(
    ("name", "parameters", "special", "smooth"),
    [
        ("fbeta", {"beta": 1}, "dice", 0.0),
        ("fbeta", {}, "dice", 2.0),
        ("tversky", {}, "dice", 0.0),
        ("tversky", {"alpha": 1, "beta": 1}, "iou", 0.0),
        ("tversky", {"alpha": 1, "beta": 1}, "iou", 2.0),
    ],
)
def test_dice_and_iou_are_special_cases(name, parameters, special, smooth, output_mode):
    general = RankSEG(name, output_mode, smooth=smooth, **parameters).solve(maps())
    known = RankSEG(special, output_mode, smooth=smooth).solve(maps())
    assert torch.equal(general.prediction, known.prediction)
    torch.testing.assert_close(general.expected_score, known.expected_score)


def test_larger_beta_selects_more():
    volumes = [
        RankSEG("fbeta", "multilabel", pruning_prob=0.0, beta=beta).solve(maps()).volume.sum()
        for beta in (0.2, 1, 3)
    ]
    assert volumes[0] < volumes[1] < volumes[2]


@pytest.mark.parametrize(
    "metric", [("fbeta", 0.5), ("fbeta", 2.0), ("tversky", 0.3, 0.7), ("tversky", 0.9, 2.0)]
)
@pytest.mark.parametrize("smooth", [0.0, 3.0])
def test_labels_follow_the_published_rule(metric, smooth):
    names = ("beta",) if metric[0] == "fbeta" else ("alpha", "beta")
    parameters = dict(zip(names, metric[1:], strict=True))
    found = RankSEG(metric[0], smooth=smooth, pruning_prob=0.0, **parameters).solve(maps())
    for image in range(2):
        rows = maps()[image].flatten(1).numpy()
        labels, gaps = oracles.published_labels(metric, rows, [True] * 4, smooth)
        clear = gaps > 1e-12
        np.testing.assert_array_equal(
            found.prediction[image].flatten().numpy()[clear], labels[clear]
        )
        assert clear.mean() > 0.99
