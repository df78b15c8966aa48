"""The static head decides what RankSEG decides, or says what it cannot."""

from __future__ import annotations

import copy
import itertools
import pickle

import cases
import numpy as np
import oracles
import pytest
import torch

from rankseg import Calibrator, RankSEG

OPTIONS = [
    {},
    {"metric": "iou", "smooth": 1.0},
    {"metric": "acc"},
    {"metric": "fbeta", "beta": 2.0},
    {"metric": "fbeta", "beta": 0.0, "output_mode": "multilabel"},
    {"metric": "tversky", "alpha": 0.3, "beta": 0.7, "smooth": 1.0},
    {"smooth": 1.0},
    {"output_mode": "multilabel"},
    {"unassigned_policy": "void", "void_index": 9},
    {"assignment": "ascent"},
    {"activation": "softmax"},
    {"activation": "sigmoid", "output_mode": "multilabel"},
    {"pruning_prob": (0.1, 0.2, 0.3, 0.4)},
    {"class_weights": (1, 2, 0, 4), "include_background": False},
    {"empty": 1},
    {"empty": 1, "output_mode": "multilabel"},
    {"empty": "nan"},
    {"solver": "argmax"},
    {"solver": "TR", "output_mode": "multilabel", "threshold": (0.1, 0.2, 0.3, 0.4)},
]


def values(options, shape=(3, 4, 30, 31), seed=0):
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2
    return logits if "activation" in options else logits.softmax(1)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_decides_as_eager_mode_does(options, kind):
    decide = RankSEG(backend="torch", **options)
    given = values(options).to(kind)
    found, expected = decide.head()(given), decide(given)
    most = 2 if "activation" in options else 0  # probabilities from logits: rounding
    assert (found != expected).sum() <= most
    assert found.dtype == expected.dtype
    assert decide.head()(given[:0]).shape == decide(given[:0]).shape


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_pixels_that_do_not_count(options):
    decide = RankSEG(backend="torch", **options)
    given, valid = values(options), torch.rand(3, 30, 31) < 0.7
    valid[1] = False
    given.transpose(0, 1)[:, ~valid] = torch.nan
    found = decide.head()(given, valid)
    assert (found != decide(given, valid)).sum() <= (2 if "activation" in options else 0)


@pytest.mark.parametrize("shape", [(2, 1, 50), (2, 4, 50), (1, 3, 9, 8, 7), (1, 1, 9, 8, 7)])
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_other_shapes(shape, mode):
    given = torch.rand(shape)
    decide = RankSEG(output_mode=mode)
    assert torch.equal(decide.head()(given), decide(given))


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
def test_calibrators(kind, activation):
    calibrator = Calibrator(kind, (0.8, 1.2, 1.0, 0.5), (0.1, -0.2, 0.0, 0.3))
    options = {"activation": activation} if activation != "none" else {}
    decide = RankSEG(calibrator=calibrator, **options)
    given = values(options)
    assert (decide.head()(given) != decide(given)).sum() <= 2


@pytest.mark.parametrize("slope", [1e-3, 0.5])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
def test_calibrated_zeros_stay_zeros(kind, activation, slope):
    """Padding has no class; -inf is a logit of probability 0."""
    calibrator = Calibrator(kind, (slope,) * 4, (0.0,) * 4)
    decide = RankSEG(calibrator=calibrator, activation=activation)
    none = 0.0 if activation == "none" else -torch.inf
    given = values({"activation": activation} if activation != "none" else {})
    given[:, 1, 3:9] = given[:, 3, 9:20, 4:] = none
    if activation != "softmax":  # whose probabilities add up to 1
        given[..., 15:] = none
    found = decide.head().probabilities(given)
    calibrated = calibrator(given, activation)
    assert torch.equal(found == 0, calibrated == 0)
    assert torch.allclose(found.float(), calibrated, rtol=1e-5, atol=1e-7)  # float32's own
    assert (decide.head()(given) != decide(given)).sum() <= 2


KINDS = {
    **cases.KINDS,
    "many scales": lambda rng, d: 10.0 ** (-16 * rng.random(d)),
    "harmonic": lambda rng, d: rng.random() / (1 + np.arange(d)),
    "flat tail": lambda rng, d: np.append(np.full(d - 1, 1e-4), rng.random()),
}


def regret(options, metric, row, passes):
    """Best objective in float64 less that of the head's mask."""
    decide = RankSEG(output_mode="multilabel", **options)
    mask = decide.head(passes)(torch.as_tensor(row)[None, None])[0, 0].numpy()
    smooth = options.get("smooth", 0.0)
    best = oracles.best_rma(metric, row, smooth)
    return best - oracles.score_of_mask(metric, row, mask, smooth)


@pytest.mark.parametrize("smooth", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_default_passes_are_enough(metric, smooth, kind):
    """The peak is above 1/2, as the default pruning wants it; 1e-12: sums of 4,096 doubles."""
    rng = np.random.default_rng(7)
    for size in (1, 3, 50, 4096):
        row = np.clip(KINDS[kind](rng, size), 0, 1)
        row = row / max(row.max(), 1e-300) * rng.uniform(0.51, 1)
        assert regret({"metric": metric, "smooth": smooth}, metric, row, 8) <= 1e-12


def test_a_pass_more_is_never_worse():
    """Rows of tiny probabilities take the most passes."""
    row = np.random.default_rng(0).random(4096) * 1e-6
    options = {"pruning_prob": 0.0}
    lost = [regret(options, "dice", row, passes) for passes in range(1, 13)]
    assert lost[0] > 1e-7
    assert all(a >= b for a, b in itertools.pairwise(lost))
    assert lost[-1] <= 1e-18


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"solver": "exact"}, ValueError, "unrolls 'RMA', 'argmax', 'TR' and metric='acc'"),
        ({"solver": "coupled"}, ValueError, "got solver='coupled'"),
        ({"aggregation": "dataset"}, ValueError, "find one rule"),
        ({"backend": "numba"}, ValueError, "made of plain torch"),
        ({"smooth": 1e39}, ValueError, "from 1e-30 to 1e30; got smooth=1e.39"),
        ({"metric": "fbeta", "beta": 1e-40}, ValueError, "got beta=1e-40"),
        ({"class_weights": (1, 1e35)}, ValueError, "got class_weights=1e.35"),
        ({"calibrator": Calibrator("isotonic", points=(((0.1, 0.2),),))}, ValueError, "a table"),
    ],
)
def test_what_cannot_be_unrolled(options, error, match):
    with pytest.raises(error, match=match):
        RankSEG(**options).head()


@pytest.mark.parametrize(
    ("passes", "error"), [(0, ValueError), (2.5, TypeError), (True, TypeError)]
)
def test_bad_passes(passes, error):
    with pytest.raises(error, match="passes must be"):
        RankSEG().head(passes)


def test_bad_input():
    head = RankSEG(pruning_prob=(0.1, 0.2)).head()
    with pytest.raises(ValueError, match="shape"):
        head(torch.rand(3, 4))
    with pytest.raises(TypeError, match="uint8"):
        head(torch.zeros(1, 2, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="one number for each class"):
        head(torch.rand(1, 3, 4))


@pytest.mark.parametrize(("classes", "said"), [(1, "1 class"), (3, "3 classes")])
def test_a_calibrator_of_other_classes(classes, said):
    calibrator = Calibrator("sigmoid", (0.5,) * classes, (0.0,) * classes)
    with pytest.raises(ValueError, match=f"the calibrator is for {said}; got 4"):
        RankSEG(calibrator=calibrator).head()(values({}))


def test_copies_and_half_precision_networks():
    decide = RankSEG(calibrator=Calibrator("softmax", (0.8,) * 4, (0.1, 0.0, 0.2, 0.0)))
    given = values({})
    for head in (decide.head().half(), copy.deepcopy(decide.head())):
        assert torch.equal(head(given), decide.head()(given))
    assert torch.equal(pickle.loads(pickle.dumps(decide.head()))(given), decide.head()(given))
    assert not decide.head().state_dict()
    assert "passes=8" in repr(decide.head())
