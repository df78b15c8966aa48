"""``valid_mask``: pixels that count for nothing, as if they did not exist."""

import pytest
import torch

from rankseg import RankSEG, expected_score
from rankseg.functional import rankseg
from rankseg_integrations.torch import RankSEGHead

EVERY_WAY = [
    {},
    {"metric": "iou", "assignment": "ascent"},
    {"metric": "acc"},
    {"metric": "acc", "output_mode": "multilabel"},
    {"output_mode": "multilabel", "smooth": 1.0},
    {"solver": "exact", "output_mode": "multilabel"},
    {"solver": "BA", "ignore_index": -7},
    {"solver": "argmax", "ignore_index": 0},
    {"output_mode": "multilabel", "solver": "TR", "threshold": 0.3},
    {"class_weights": (1, 2, 3), "pruning_prob": (0.1, 0.2, 0.3)},
    {"activation": "softmax"},
    {"activation": "sigmoid", "output_mode": "multilabel"},
]
NUMBERS = ("expected_score", "threshold", "volume", "exact", "active", "objective", "bound")


def batch(activation="none", shape=(3, 3, 5, 6), dtype=torch.float64):
    """Probabilities or logits, and a mask: the last image has no valid pixel."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(shape, generator=generator, dtype=dtype)
    valid = torch.rand(shape[0], *shape[2:], generator=generator) < 0.6
    valid[-1] = False
    return (logits.softmax(1) if activation == "none" else logits), valid


def same(found, expected, names=("prediction", *NUMBERS)):
    for name in names:
        one, other = getattr(found, name), getattr(expected, name)
        assert torch.equal(one.nan_to_num(), other.nan_to_num()), name


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_as_if_the_others_did_not_exist(options, backend):
    values, valid = batch(options.get("activation", "none"))
    bad = values.clone()
    bad.movedim(1, -1)[~valid] = torch.tensor([torch.nan, torch.inf, -7.0], dtype=values.dtype)
    before = bad.clone()
    decide = RankSEG(**options, backend=backend)
    found = decide.solve(bad, valid)
    assert torch.equal(found.prediction, decide(bad, valid))
    assert torch.equal(bad.nan_to_num(), before.nan_to_num())
    masks = decide.settings.output_mode == "multilabel"
    assert found.prediction.shape == (values.shape if masks else valid.shape)
    left_out = found.prediction.movedim(1, -1)[~valid] if masks else found.prediction[~valid]
    assert (left_out == (0 if masks else options.get("ignore_index", 255))).all()
    for image in range(2):
        inside = valid[image]
        alone = decide.solve(values[image][:, inside][None])
        assert torch.equal(found.prediction[image][..., inside], alone.prediction[0])
        for name in NUMBERS:
            one, other = getattr(found, name)[image], getattr(alone, name)[0]
            assert torch.equal(one.nan_to_num(), other.nan_to_num()), name


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_a_mask_that_is_true_everywhere_changes_no_bit(options, backend):
    values, valid = batch(options.get("activation", "none"))
    decide = RankSEG(**options, backend=backend)
    same(decide.solve(values, torch.ones_like(valid)), decide.solve(values))


@pytest.mark.parametrize("metric", ["dice", "acc"])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_an_image_without_a_valid_pixel(metric, smooth):
    values, valid = batch()
    options = {} if metric == "acc" else {"smooth": smooth}
    found = RankSEG(metric, **options).solve(values, valid)
    nothing = RankSEG(metric, "multilabel", **options).solve(torch.zeros(1, 3, 1))
    assert torch.equal(found.expected_score[2], nothing.expected_score[0])
    assert found.volume[2].tolist() == [0, 0, 0]
    assert found.objective[2] == nothing.objective


@pytest.mark.parametrize("output_mode", ["multiclass", "multilabel"])
def test_one_channel(output_mode):
    values, valid = batch("sigmoid", (2, 1, 4, 4))
    probs = values.sigmoid()
    found = RankSEG("dice", output_mode)(probs, valid)
    expected = RankSEG("dice", output_mode)(probs[0][:, valid[0]][None])
    assert torch.equal(found[0][..., valid[0]], expected[0])
    assert (found[1] == (255 if output_mode == "multiclass" else 0)).all()


@pytest.mark.parametrize("spatial", [(7,), (2, 3, 4)])
def test_any_number_of_spatial_dimensions_with_or_without_a_channel_axis(spatial):
    probs, valid = batch(shape=(3, 3, *spatial))
    decide = RankSEG()
    assert torch.equal(decide(probs, valid.unsqueeze(1)), decide(probs, valid))
    assert torch.equal(rankseg(probs, valid_mask=valid), decide(probs, valid))
    last = probs.movedim(1, -1).contiguous().movedim(-1, 1)
    assert torch.equal(decide(last, valid), decide(probs, valid))


@pytest.mark.parametrize("activation", ["none", "softmax"])
def test_head(activation):
    values, valid = batch(activation)
    expected = RankSEG(activation=activation, ignore_index=9).solve(values, valid)
    head = RankSEGHead(activation, ignore_index=9)
    assert torch.equal(head({"out": values}, valid_mask=valid), expected.prediction)
    same(head.solve(values, valid_mask=valid), expected)


@pytest.mark.parametrize("method", ["exact", "RMA", "BA"])
@pytest.mark.parametrize("metric", ["dice", "iou", "acc"])
@pytest.mark.parametrize("kind", ["labels", "masks"])
def test_expected_score(method, metric, kind):
    probs, valid = batch()
    prediction = probs.argmax(1) if kind == "labels" else probs > 0.4
    bad = torch.where(valid.unsqueeze(1), probs, torch.nan)
    found = expected_score(bad, prediction, metric, method, valid_mask=valid)
    for image in range(2):
        inside = valid[image]
        parts = probs[image][:, inside][None], prediction[image][..., inside][None]
        assert torch.equal(found[image], expected_score(*parts, metric, method)[0])
    nothing = torch.zeros(1, 3, 1)
    assert torch.equal(found[2], expected_score(nothing, nothing > 0, metric, method)[0])
    everywhere = torch.ones_like(valid)
    assert torch.equal(
        expected_score(probs, prediction, metric, method, valid_mask=everywhere),
        expected_score(probs, prediction, metric, method),
    )


def test_empty_batch():
    probs, valid = torch.rand(0, 3, 4), torch.rand(0, 4) > 0
    assert RankSEG()(probs, valid).shape == (0, 4)
    assert expected_score(probs, probs > 0, valid_mask=valid).shape == (0, 3)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (
            [[True]],
            TypeError,
            r"a bool tensor of shape \(B, \*spatial\) = \(3, 5, 6\).*list",
        ),
        (torch.ones(3, 5, 6), TypeError, r"got torch.float32: e.g. labels != 255"),
        (torch.ones(5, 6).bool(), ValueError, r"\(3, 5, 6\), True where.*; got shape \(5, 6\)"),
        (torch.ones(3, 3, 5, 6).bool(), ValueError, r"got shape \(3, 3, 5, 6\)"),
        (
            torch.ones(3, 5, 6).bool().to("meta"),
            TypeError,
            r"valid_mask must be .*; got a meta tensor",
        ),
    ],
)
def test_refusals(mask, error, message):
    probs, _ = batch()
    for call in (RankSEG(), RankSEG().solve):
        with pytest.raises(error, match=message):
            call(probs, mask)
    with pytest.raises(error, match=message):
        expected_score(probs, probs.argmax(1), valid_mask=mask)


def test_values_at_valid_pixels_are_checked():
    probs, valid = batch()
    probs[0, :, 0, 0] = torch.nan
    valid[0, 0, 0] = True
    with pytest.raises(ValueError, match="probs contains NaN"):
        RankSEG()(probs, valid)
    with pytest.raises(TypeError, match=r"ignore_index must be an integer; got float 1\.5"):
        RankSEG(ignore_index=1.5)
    with pytest.raises(ValueError, match="takes no parameter 'ignore_index'"):
        RankSEG(output_mode="multilabel", ignore_index=3)
