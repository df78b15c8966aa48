"""Every solver through the public class: both output modes, both metrics, all dtypes."""

import counts
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rankseg import RankSEG, decision, expected_score

SOLVERS = ["exact", "auto", "BA", "TRNA", "BA+TRNA"]
METHODS = {"exact": "exact", "BA": "BA", "TRNA": "TRNA"}


def maps(classes=3, size=12, batch=2, scale=3.0, seed=0):
    coarse = torch.randn(batch, classes, 4, 4, generator=torch.Generator().manual_seed(seed))
    logits = F.interpolate(coarse * scale, size=(size, size), mode="bilinear")
    return logits.double().softmax(1)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_masks_and_labels(solver, metric, smooth):
    probs = maps()
    masks = RankSEG(metric, "multilabel", solver, smooth=smooth).solve(probs)
    assert masks.prediction.dtype == torch.bool
    assert torch.equal(masks.volume, masks.prediction.flatten(2).sum(-1))
    assert torch.equal(masks.prediction, probs > masks.threshold[..., None, None])
    assert masks.exact.all() == (solver in ("exact", "auto"))  # every row here is small
    assert masks.exact.any() == (solver in ("exact", "auto"))
    labels = RankSEG(metric, solver=solver, smooth=smooth).solve(probs)
    assert torch.equal(labels.threshold, masks.threshold)
    assert labels.prediction.shape == (2, 12, 12)
    assert (labels.objective <= labels.bound * (1 + 2e-6)).all()  # BA and TRNA: to 1e-6


@pytest.mark.parametrize("solver", ["BA", "TRNA", "exact"])
@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("output_mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("pruning_prob", [0.5, 0.95])
def test_expected_scores_are_those_of_expected_score(solver, metric, output_mode, pruning_prob):
    probs = maps(scale=2.0)
    decide = RankSEG(metric, output_mode, solver, smooth=0.5, pruning_prob=pruning_prob)
    found = decide.solve(probs)
    again = expected_score(probs, found.prediction, metric, METHODS[solver], smooth=0.5)
    torch.testing.assert_close(found.expected_score, again, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("metric", ["dice", "iou"])
def test_exact_is_never_worse(metric):
    for seed in range(5):
        probs = maps(seed=seed, scale=1.5)
        best = RankSEG(metric, "multilabel", "exact", pruning_prob=0.0).solve(probs)
        for solver in ("RMA", "BA", "TRNA", "BA+TRNA", "TR"):
            mask = RankSEG(metric, "multilabel", solver, pruning_prob=0.0)(probs)
            other = expected_score(probs, mask, metric)
            assert (best.expected_score >= other - 1e-12).all()


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("smooth", [0.0, 0.5, 100.0])
def test_expected_score_of_labels_and_masks_against_the_dynamic_programme(metric, smooth):
    probs = maps(batch=1)
    labels = torch.randint(-1, 4, (1, 12, 12), generator=torch.Generator().manual_seed(0))
    masks = torch.stack([labels == class_ for class_ in range(3)], 1)
    truth = [
        counts.dp_score(row.flatten().numpy(), mask.flatten().numpy(), metric, smooth)
        for row, mask in zip(probs[0], masks[0], strict=True)
    ]
    for prediction in (labels, labels.to(torch.int16), masks):
        found = expected_score(probs, prediction, metric, smooth=smooth)
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found[0], truth, rtol=1e-9)


@pytest.mark.parametrize("method", ["exact", "RMA", "BA", "TRNA"])
def test_expected_score_methods(method):
    probs = maps(size=40, batch=1)
    labels = probs.argmax(1)
    found = expected_score(probs, labels, "dice", method)
    exact = expected_score(probs, labels, "dice")
    torch.testing.assert_close(found, exact, rtol=0, atol=3e-3)
    if method == "RMA":
        argmax = RankSEG(solver="argmax").solve(probs)
        torch.testing.assert_close(found, argmax.expected_score, rtol=1e-12, atol=0)
        masks = torch.stack([labels == class_ for class_ in range(3)], 1)
        torch.testing.assert_close(expected_score(probs, masks, method="RMA"), found)


def test_expected_score_of_one_channel():
    probs = torch.rand(1, 1, 30, dtype=torch.float64)
    mask = probs > 0.4
    by_mask, by_label = expected_score(probs, mask), expected_score(probs, mask[:, 0].long())
    assert torch.equal(by_mask, by_label)
    accuracy = torch.where(mask, probs, 1 - probs).mean()
    found = expected_score(probs, mask[:, 0].to(torch.uint8), "acc").item()
    assert found == pytest.approx(accuracy.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("prediction", "options", "error", "message"),
    [
        (torch.zeros(2, 4), {}, TypeError, "integer labels or bool masks; got torch.float32"),
        (np.zeros((2, 4), bool), {}, TypeError, "must be a torch.Tensor; got ndarray"),
        (torch.zeros(2, 4, dtype=torch.bool), {}, ValueError, r"shape of probs, \(2, 3, 4\); got"),
        (torch.zeros(2, 3, 4, dtype=torch.int64), {}, ValueError, r"= \(2, 4\); got \(2, 3, 4\)"),
        (torch.zeros(2, 4, dtype=torch.int64), {"method": "best"}, ValueError, "'exact', 'RMA'"),
        (torch.zeros(2, 4, dtype=torch.int64), {"metric": "f1"}, ValueError, "'dice', 'iou'"),
        (torch.zeros(2, 4, dtype=torch.int64), {"smooth": -1}, ValueError, "smooth must be"),
    ],
)
def test_expected_score_refuses(prediction, options, error, message):
    with pytest.raises(error, match=message):
        expected_score(torch.rand(2, 3, 4), prediction, **options)


def test_auto_decides_small_rows_exactly_and_says_so():
    probs = torch.zeros(1, 2, 4000)
    probs[0, 0, :20] = torch.rand(20)
    probs[0, 1] = torch.rand(4000)
    auto = RankSEG("iou", "multilabel", "auto").solve(probs)
    mu = probs.sum(-1)
    assert mu[0, 0] < decision.AUTO_MU < mu[0, 1]
    assert auto.exact.tolist() == [[True, False]]
    exact = RankSEG("iou", "multilabel", "exact").solve(probs)
    rma = RankSEG("iou", "multilabel", "RMA").solve(probs)
    assert exact.exact.all()
    assert not rma.exact.any()
    for name in ("expected_score", "threshold", "volume"):
        values = getattr(auto, name)[0]
        assert values[0] == getattr(exact, name)[0, 0]
        assert values[1] == getattr(rma, name)[0, 1]


@pytest.mark.parametrize("solver", ["exact", "auto"])
def test_accuracy_is_exact_anyway(solver):
    probs = maps()
    found = RankSEG("acc", solver=solver).solve(probs)
    assert torch.equal(found.prediction, probs.argmax(1))
    assert found.exact.all()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes_shapes_and_empty_batches(solver, dtype):
    decide = RankSEG(solver=solver)
    assert decide(maps().to(dtype)).dtype == torch.int64
    assert decide(torch.rand(2, 1, 5).to(dtype)).shape == (2, 5)
    assert decide(torch.rand(1, 2, 1).to(dtype)).shape == (1, 1)
    assert decide(torch.rand(1, 2, 2, 3, 2).to(dtype)).shape == (1, 2, 3, 2)
    assert decide(torch.rand(0, 3, 4, 4).to(dtype)).shape == (0, 4, 4)
    assert not decide(torch.zeros(1, 2, 4).to(dtype)).any()


@pytest.mark.parametrize("solver", ["exact", "BA", "TRNA"])
def test_no_class_active(solver):
    probs = maps(scale=0.1)
    assert probs.max() < 0.5
    found = RankSEG(solver=solver).solve(probs)
    assert not found.active.any()
    assert (found.objective <= found.bound * (1 + 2e-6)).all()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("solver", [*SOLVERS, "RMA"])
@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("smooth", [1e-300, 1e12, 1e17, 1e18, 1e100, 1e300])
def test_any_smoothing_ends(solver, metric, smooth):
    probs = maps(size=8)
    found = RankSEG(metric, "multilabel", solver, smooth=smooth, pruning_prob=0.0).solve(probs)
    assert not found.expected_score.isnan().any()
    assert ((found.expected_score >= 0) & (found.expected_score <= 1 + 1e-9)).all()


@pytest.mark.parametrize("method", ["exact", "RMA", "BA", "TRNA"])
@pytest.mark.parametrize("pixels", [1, 3, 128, 129])
@pytest.mark.parametrize("metric", ["dice", "iou"])
def test_rows_of_zeros(method, pixels, metric):
    probs = torch.zeros(1, 2, pixels, dtype=torch.float64)
    full = torch.ones(1, 2, pixels, dtype=torch.bool)
    assert (expected_score(probs, full, metric, method) == 0).all()
    solver = "RMA" if method == "RMA" else method
    for smooth in (0.0, 1.0):
        found = RankSEG(metric, solver=solver, smooth=smooth).solve(probs)
        assert not found.expected_score.isnan().any()
        assert (found.objective <= found.bound * (1 + 2e-6)).all()


def test_generalised_metrics_are_scored_by_rma():
    probs = maps()
    found = RankSEG("fbeta", beta=2.0).solve(probs)
    again = expected_score(probs, found.prediction, "fbeta", "RMA", beta=2.0)
    torch.testing.assert_close(again, found.expected_score)
    with pytest.raises(ValueError, match="method='exact' makes no sense with metric='fbeta'"):
        expected_score(probs, found.prediction, "fbeta")
    with pytest.raises(ValueError, match="metric='dice' takes no parameter 'beta'"):
        expected_score(probs, found.prediction, beta=2.0)


def test_eps_changes_the_approximation():
    probs = maps(size=30, batch=1)
    coarse = RankSEG(output_mode="multilabel", solver="BA", eps=0.5).solve(probs)
    fine = RankSEG(output_mode="multilabel", solver="BA").solve(probs)
    assert not torch.equal(coarse.expected_score, fine.expected_score)
