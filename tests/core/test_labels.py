"""Labels follow the published rule; their objective and its bound are what they claim to be."""

import numpy as np
import oracles
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from rankseg import RankSEG
from rankseg.objectives import Dice


def smooth_maps(classes, size=24, scale=3.0, seed=0, batch=1):
    coarse = torch.randn(
        batch, classes, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return F.interpolate(coarse * scale, size=(size, size), mode="bilinear", align_corners=False)


def assert_follows_the_rule(probs, metric, smooth, pruning_prob, policy):
    options = {"void_index": 99} if policy == "void" else {}
    rankseg = RankSEG(
        metric, smooth=smooth, pruning_prob=pruning_prob, unassigned_policy=policy, **options
    )
    found = rankseg.solve(probs)
    for image in range(probs.shape[0]):
        labels, gaps = oracles.published_labels(
            metric,
            probs[image].flatten(1).double().numpy(),
            probs[image].flatten(1).amax(1).numpy() > pruning_prob,
            smooth,
            policy,
            99,
        )
        clear = gaps > 1e-12
        np.testing.assert_array_equal(
            found.prediction[image].flatten().numpy()[clear], labels[clear]
        )
        assert clear.mean() > 0.99
    return found


@given(
    st.integers(2, 7),
    st.sampled_from(["dice", "iou"]),
    st.sampled_from([0.0, 1.0, 50.0]),
    st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    st.sampled_from(["max_score", "void"]),
    st.sampled_from(["softmax", "sigmoid"]),
    st.integers(0, 10_000),
)
@settings(max_examples=60)
def test_published_rule(classes, metric, smooth, pruning_prob, policy, activation, seed):
    logits = smooth_maps(classes, size=12, seed=seed, batch=2)
    probs = logits.softmax(1) if activation == "softmax" else logits.sigmoid()
    assert_follows_the_rule(probs, metric, smooth, pruning_prob, policy)


@pytest.mark.parametrize("metric", ["dice", "iou"])
def test_every_branch_of_the_rule_is_met(metric):
    """Conflicts, lone claims and unclaimed pixels all occur in one image."""
    probs = smooth_maps(6, size=20, scale=2.0, seed=4).sigmoid() * 0.9
    found = assert_follows_the_rule(probs, metric, 0.0, 0.5, "max_score")
    claims = (probs > found.threshold[..., None, None]).sum(1)
    assert {0, 1, 2} <= set(claims.flatten().tolist())


def test_no_class_active_falls_back_to_all():
    probs = smooth_maps(5, scale=0.5).softmax(1)
    assert probs.max() < 0.5
    found = RankSEG().solve(probs)
    assert not found.active.any()
    assert (found.threshold == 1.0).all()
    assert found.prediction.unique().numel() > 1
    assert (found.objective <= found.bound).all()
    void = RankSEG(unassigned_policy="void", void_index=-1).solve(probs)
    assert (void.prediction == -1).all()
    assert void.objective.item() == 0.0 == void.bound.item()


def test_pruned_classes_get_no_pixels_while_one_is_active():
    probs = smooth_maps(8, scale=1.5, seed=2).softmax(1)
    found = RankSEG(pruning_prob=0.6).solve(probs)
    assert 0 < found.active.sum() < 8
    assert (found.volume[~found.active] == 0).all()
    assert found.volume.sum() == 24 * 24


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_scores_are_those_of_the_regions(metric, smooth):
    probs = smooth_maps(4, scale=2.0, seed=1, batch=2).softmax(1)
    found = RankSEG(metric, smooth=smooth).solve(probs)
    for image in range(2):
        for class_ in range(4):
            region = (found.prediction[image] == class_).flatten().numpy()
            row = probs[image, class_].flatten().numpy()
            score = oracles.score_of_mask(metric, row, region, smooth)
            assert found.expected_score[image, class_].item() == pytest.approx(score, rel=1e-12)
            assert found.volume[image, class_].item() == region.sum()
    assert torch.allclose(found.objective, found.expected_score.sum(1)) is True


@given(
    st.integers(1, 6),
    st.sampled_from(["dice", "iou", "acc"]),
    st.sampled_from(["RMA", "argmax"]),
    st.sampled_from([0.0, 0.5, 0.95]),
    st.sampled_from(["softmax", "sigmoid"]),
    st.integers(0, 10_000),
)
@settings(max_examples=80)
def test_objective_never_exceeds_its_bound(classes, metric, solver, pruning, activation, seed):
    logits = smooth_maps(classes, size=8, seed=seed)
    probs = logits.softmax(1) if activation == "softmax" and classes > 1 else logits.sigmoid()
    found = RankSEG(metric, solver=solver, pruning_prob=pruning).solve(probs)
    assert (found.objective <= found.bound * (1 + 1e-12)).all()


def test_bound_is_reached_where_classes_agree():
    """Two certain halves: every class gets its own optimum."""
    probs = torch.zeros(1, 2, 10)
    probs[0, 0, :5] = probs[0, 1, 5:] = 1.0
    found = RankSEG("iou").solve(probs)
    assert found.objective.item() == pytest.approx(2.0)
    assert found.bound.item() == pytest.approx(2.0)


@pytest.mark.parametrize("solver", ["RMA", "argmax"])
def test_accuracy_gives_argmax(solver):
    probs = smooth_maps(7, scale=1.0, batch=3).softmax(1).float()
    found = RankSEG("acc", solver=solver).solve(probs)
    assert torch.equal(found.prediction, probs.argmax(1))
    assert found.threshold.isnan().all()
    assert found.active.all()


def test_argmax_gives_argmax_for_dice_and_says_what_it_loses():
    probs = smooth_maps(7, scale=1.0, batch=3).softmax(1)
    plain = RankSEG("dice", solver="argmax").solve(probs)
    assert torch.equal(plain.prediction, probs.argmax(1))
    assert (plain.bound > plain.objective).all()


def test_argmax_takes_the_first_of_equals():
    probs = torch.full((1, 3, 40), 1 / 3)
    assert (RankSEG("acc")(probs) == 0).all()


def test_accuracy_of_a_partition_is_the_expected_share_of_right_pixels():
    probs = torch.rand(1, 1, 50, dtype=torch.float64)
    found = RankSEG("acc", "multilabel").solve(probs)
    right = torch.maximum(probs, 1 - probs).mean()
    assert found.expected_score.item() == pytest.approx(right.item(), rel=1e-12)
    assert torch.equal(found.prediction, probs > 0.5)


@pytest.mark.parametrize("metric", ["dice", "iou", "acc"])
@pytest.mark.parametrize("solver", ["RMA", "argmax"])
def test_one_channel_gives_the_same_mask_in_both_modes(metric, solver):
    probs = torch.rand(2, 1, 9, 9)
    labels = RankSEG(metric, "multiclass", solver)(probs)
    masks = RankSEG(metric, "multilabel", "TR" if solver == "argmax" else solver)(probs)
    assert labels.dtype == torch.int64
    assert labels.shape == (2, 9, 9)
    assert torch.equal(labels, masks[:, 0].long())


def test_fixed_cut():
    probs = torch.rand(2, 3, 30)
    assert torch.equal(RankSEG(output_mode="multilabel", solver="TR")(probs), probs > 0.5)
    cut = RankSEG("iou", "multilabel", "tr", threshold=0.25)
    assert torch.equal(cut(probs), probs > 0.25)
    assert (cut.solve(probs).threshold == 0.25).all()
    assert (cut.solve(probs).bound >= cut.solve(probs).objective).all()


def test_labels_beat_argmax_where_the_objective_counts():
    """Small uncertain foreground: argmax finds none of it, Dice wants some."""
    probs = torch.full((1, 2, 1000), 0.0, dtype=torch.float64)
    probs[0, 1, :100] = 0.45
    probs[0, 1, 0] = 0.55
    probs[0, 0] = 1 - probs[0, 1]
    rankseg, argmax = RankSEG().solve(probs), RankSEG(solver="argmax").solve(probs)
    assert argmax.volume[0, 1].item() == 1
    assert rankseg.volume[0, 1].item() == 100
    assert rankseg.objective.item() > argmax.objective.item() + 0.3


def test_a_peak_at_the_pruning_limit_is_skipped_in_every_type():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        for limit in (0.1, 0.3, 0.5, 0.7):
            probs = torch.full((1, 2, 5), limit, dtype=dtype)
            assert not RankSEG(pruning_prob=limit).solve(probs).active.any()
            above = torch.nextafter(probs.double(), torch.tensor(1.0).double()) + 1e-2
            assert RankSEG(pruning_prob=limit).solve(above.to(dtype)).active.all()


def test_a_fixed_cut_is_meant_in_the_type_of_the_probabilities():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        probs = torch.full((1, 1, 5), 0.3, dtype=dtype)
        decide = RankSEG(output_mode="multilabel", solver="TR", threshold=0.3)
        assert torch.equal(decide(probs), probs > 0.3)
        assert not decide(probs).any()


def test_a_fixed_cut_may_differ_by_class():
    probs = smooth_maps(3, seed=4).sigmoid()
    cuts = (0.2, 0.5, 0.8)
    wanted = probs > torch.tensor(cuts, dtype=probs.dtype).reshape(3, 1, 1)
    decide = RankSEG(output_mode="multilabel", solver="TR", threshold=list(cuts))
    assert torch.equal(decide(probs), wanted)
    assert torch.equal(decide.decide([probs]).apply(probs), wanted)
    assert decide.solve(probs).threshold[0].tolist() == pytest.approx(cuts, rel=1e-6)
    with pytest.raises(ValueError, match="threshold has 3 numbers, probs has 2 classes"):
        decide(probs[:, :2])
    with pytest.raises(ValueError, match=r"threshold of every class must lie in \[0, 1\]"):
        RankSEG(output_mode="multilabel", solver="TR", threshold=(0.2, 1.5))


def test_the_bound_counts_a_skipped_class_as_empty():
    probs = smooth_maps(8, scale=1.5, seed=2).softmax(1)
    found = RankSEG(pruning_prob=0.6).solve(probs)
    rows = probs[0].flatten(1).numpy()
    alone = sum(oracles.best_rma("dice", row) for row in rows if row.max() > 0.6)
    assert found.bound.item() == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize(
    ("metric", "cut"), [("dice", lambda v: v / 2), ("iou", lambda v: v / (1 + v))]
)
def test_the_threshold_is_the_cut_of_the_best_value(metric, cut):
    probs = smooth_maps(5, seed=3).softmax(1)
    found = RankSEG(metric, "multilabel", pruning_prob=0.0).solve(probs)
    torch.testing.assert_close(found.threshold, cut(found.expected_score), rtol=1e-12, atol=0)


def test_a_void_label_must_not_be_a_class():
    probs = torch.rand(1, 300, 4)
    with pytest.raises(ValueError, match="void_index=255 is also the label of one of the 300"):
        RankSEG(unassigned_policy="void")(probs)
    assert RankSEG(unassigned_policy="void", void_index=300)(probs).shape == (1, 4)


@pytest.mark.parametrize("smooth", [1e-18, 1e-12, 1e150, 1e300])
def test_gains_survive_tiny_and_huge_smoothing(smooth):
    for seed in range(20):
        probs = smooth_maps(3, size=4, scale=1.0, seed=seed).softmax(1)
        tiny = probs * (1e-17 if smooth < 1 else 1.0)
        found = RankSEG(smooth=smooth, pruning_prob=0.0).solve(tiny)
        assert not found.threshold.isnan().any()
        assert not found.expected_score.isnan().any()
    objective = Dice(torch.tensor([8.5e-17 + 6.5e-19]).double(), smooth)
    nothing = torch.zeros(1, dtype=torch.float64)
    gain = objective.gain(nothing, nothing)
    assert torch.isfinite(gain.offset).all()


def test_a_tiny_smoothing_is_not_lost_beside_one():
    """Exact arithmetic gives labels 0, 0: the smoothing outweighs the tiny probabilities."""
    probs = torch.tensor([[[4.2e-17, 8.5e-17], [7.5e-19, 6.5e-19]]], dtype=torch.float64)
    assert RankSEG(smooth=1e-18, pruning_prob=0.3)(probs).tolist() == [[0, 0]]
