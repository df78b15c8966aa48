"""Logits read in every pass: their probabilities are those of torch, within rounding."""

import pytest
import torch
from interpreted_numba import INTERPRETED

from rankseg import RankSEG
from rankseg.fields import field_for
from rankseg.fields.numba_cpu import NumbaField

BACKENDS = ["torch", "numba"]
SHAPES = [(2, 1, 9, 7), (2, 2, 60, 71), (1, 3, 2500), (1, 19, 50, 90)]
if INTERPRETED:
    SHAPES = [(2, 2, 4, 3), (1, 3, 20)]
ERROR = {torch.float64: 1e-14, torch.float32: 1e-6, torch.float16: 1e-6, torch.bfloat16: 1e-6}


def wide(logits, activation):
    exact = logits.double()
    return exact.softmax(1) if activation == "softmax" else exact.sigmoid()


CASES = [
    (shape, activation)
    for shape in SHAPES
    for activation in ("softmax", "sigmoid")
    if shape[1] > 1 or activation == "sigmoid"
]


def logits_of(shape, dtype, scale=4.0):
    random = torch.Generator().manual_seed(0)
    return (torch.randn(shape, generator=random, dtype=torch.float64) * scale).to(dtype)


@pytest.mark.parametrize(("shape", "activation"), CASES)
@pytest.mark.parametrize("dtype", ERROR)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", ["classes first", "classes last"])
def test_probabilities(shape, activation, dtype, backend, order):
    logits = logits_of(shape, dtype)
    expected = wide(logits, activation).flatten(2)
    if order == "classes last":
        logits = logits.movedim(1, -1).contiguous().movedim(-1, 1)
    field = field_for(logits, activation, backend)
    for image in range(shape[0]):
        for class_ in range(shape[1]):
            row = field.row(image, class_).between(-1.0, 1.0)
            torch.testing.assert_close(row, expected[image, class_], rtol=0, atol=ERROR[dtype])
    totals = field.totals()
    pixels = expected.shape[-1]
    torch.testing.assert_close(totals.mu, expected.sum(-1), rtol=0, atol=pixels * ERROR[dtype])
    torch.testing.assert_close(totals.peak, expected.amax(-1), rtol=0, atol=ERROR[dtype])
    torch.testing.assert_close(totals.lowest, expected.amin(-1), rtol=0, atol=ERROR[dtype])


@pytest.mark.parametrize(("shape", "activation"), CASES)
@pytest.mark.parametrize("metric", ["dice", "iou", "acc"])
@pytest.mark.parametrize("output_mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_decisions_lose_nothing(shape, activation, metric, output_mode, backend):
    """In float64 the same mask; in float32 one whose score is as good up to rounding."""
    options = {"output_mode": output_mode, "pruning_prob": 0.2, "backend": backend}
    decide, fused = RankSEG(metric, **options), RankSEG(metric, activation=activation, **options)
    logits = logits_of(shape, torch.float64)
    probs = wide(logits, activation)
    assert torch.equal(fused(logits), decide(probs))
    found, expected = fused.solve(logits.float()), decide.solve(probs.float())
    assert (found.prediction != expected.prediction).sum() <= 2  # pixels at a cut
    torch.testing.assert_close(found.objective, expected.objective, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("solver", ["exact", "auto", "BA", "TRNA"])
def test_other_solvers_read_logits_too(solver, backend):
    logits = logits_of((1, 3, 20, 21), torch.float64)
    options = {"solver": solver, "backend": backend}
    expected = RankSEG("dice", **options).solve(logits.softmax(1))
    found = RankSEG("dice", activation="softmax", **options).solve(logits)
    assert torch.equal(found.prediction, expected.prediction)
    torch.testing.assert_close(found.expected_score, expected.expected_score)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("classes", [2, 3])
def test_extreme_logits(backend, classes):
    """Huge ones overflow nowhere, -inf rules a class out."""
    logits = torch.zeros(1, classes, 6)
    logits[0, 0] = torch.tensor([1e30, -1e30, 200.0, -200.0, -torch.inf, 88.0])
    row = field_for(logits, "softmax", backend).row(0, 0).between(-1.0, 1.0)
    torch.testing.assert_close(row, logits.double().softmax(1)[0, 0], rtol=1e-6, atol=1e-30)
    assert row[4] == 0
    row = field_for(logits, "sigmoid", backend).row(0, 0).between(-1.0, 1.0)
    torch.testing.assert_close(row, logits[0, 0].double().sigmoid(), rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("bad", ["nan", "inf everywhere", "all classes ruled out"])
def test_logits_without_probabilities(backend, activation, bad):
    logits = torch.randn(2, 3, 40)
    logits[1, :, 7] = float("nan") if bad == "nan" else torch.inf if "every" in bad else -torch.inf
    decide = RankSEG(activation=activation, backend=backend)
    if activation == "sigmoid" and bad != "nan":
        decide(logits)  # certain, one way or the other
        return
    said = (
        "softmax of the logits is NaN in" if activation == "softmax" else "logits contain NaN, in"
    )
    with pytest.raises(ValueError, match=f"{said} 3 of 6"):
        decide(logits)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("class_", [0, 1])
def test_a_softmax_of_infinity_is_refused(backend, classes, class_):
    logits = torch.randn(1, classes, 40)
    logits[0, class_, 7] = torch.inf
    with pytest.raises(ValueError, match="softmax of the logits is NaN"):
        RankSEG(activation="softmax", backend=backend)(logits)


def test_softmax_over_one_channel_is_refused():
    with pytest.raises(ValueError, match="softmax over one channel is 1 everywhere"):
        RankSEG(activation="softmax")(torch.randn(1, 1, 8))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_rows_that_are_copied_and_rows_that_are_not_agree(threads):
    """Many classes are activated row by row, few in every pass."""
    logits = logits_of((1, 40, 90_000 // 40), torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        many = NumbaField(logits, "sigmoid")
        few = NumbaField(logits[:, :3], "sigmoid")
        assert torch.equal(many.totals().mu[:, :3], few.totals().mu)
        decide = RankSEG("dice", "multilabel", activation="sigmoid")
        assert torch.equal(decide(logits)[:, :3], decide(logits[:, :3]))
    finally:
        torch.set_num_threads(before)
