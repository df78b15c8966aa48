"""A calibrator is a map of probabilities; a decision with one is a decision on what it gives."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rankseg import Calibrator, DecisionRule, RankSEG
from rankseg.functional import rankseg

SOFTMAX = Calibrator("softmax", (0.5, 0.8, 1.5), (0.0, -0.3, 0.4))
SIGMOID = Calibrator("sigmoid", (0.5, 0.8, 1.5), (0.0, -0.3, 0.4))
ISOTONIC = Calibrator(
    "isotonic", points=(((0.1, 0.0), (0.9, 1.0)), ((0.5, 0.3),), ((0.0, 0.0), (0.4, 0.1), (1, 1)))
)
ALL = pytest.mark.parametrize("calibrator", [SOFTMAX, SIGMOID, ISOTONIC], ids=lambda c: c.kind)


def some_logits(seed: int = 0, images: int = 2) -> torch.Tensor:
    return torch.randn(images, 3, 12, 11, generator=torch.Generator().manual_seed(seed)) * 2


def by_hand(calibrator: Calibrator, probs: torch.Tensor) -> torch.Tensor:
    """Calibrated probabilities in float64, from the definition."""
    probs = probs.double()
    column = (1, -1, 1, 1)
    if calibrator.kind == "isotonic":
        found = []
        for class_, curve in enumerate(calibrator.points):
            x, y = zip(*curve, strict=True)
            flat = [_line(p, x, y) for p in probs[:, class_].flatten().tolist()]
            found.append(torch.tensor(flat, dtype=torch.float64).reshape(probs[:, class_].shape))
        return torch.stack(found, 1)
    slope, offset = (
        torch.tensor(numbers, dtype=torch.float64).reshape(column)
        for numbers in (calibrator.slope, calibrator.offset)
    )
    if calibrator.kind == "softmax":
        power = probs**slope * offset.exp()
        return power / power.sum(1, keepdim=True)
    odds = (probs / (1 - probs)) ** slope * offset.exp()
    return odds / (1 + odds)


def _line(p: float, x: tuple[float, ...], y: tuple[float, ...]) -> float:
    if p <= x[0]:
        return y[0]
    for (a, c), (b, d) in zip(zip(x, y, strict=True), zip(x[1:], y[1:], strict=True), strict=False):
        if p <= b:
            return c + (d - c) * (p - a) / (b - a)
    return y[-1]


@ALL
@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
def test_the_definition(calibrator, activation):
    logits = some_logits()
    probs = logits.sigmoid() if activation == "sigmoid" else logits.softmax(1)
    found = calibrator(probs if activation == "none" else logits, activation)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), by_hand(calibrator, probs), atol=2e-6, rtol=2e-5)


def test_temperature_is_the_softmax_of_logits_over_a_temperature():
    logits = some_logits()
    found = Calibrator("softmax", (0.4,) * 3, (0.0,) * 3)(logits.softmax(1))
    torch.testing.assert_close(found, (logits * 0.4).softmax(1), atol=1e-6, rtol=1e-5)


def test_impossible_classes_stay_impossible():
    probs = torch.tensor([[[0.0, 0.0, 0.7], [0.0, 1.0, 0.3], [0.0, 0.0, 0.0]]])
    found = SOFTMAX(probs)
    assert found[0, :, 0].tolist() == [0, 0, 0]
    assert found[0, :, 1].tolist() == [0, 1, 0]
    assert found[0, 2, 2] == 0
    assert found[0, :, 2].sum() == pytest.approx(1)
    assert Calibrator("sigmoid", (2.0,), (1.0,))(torch.tensor([[[0.0, 1.0]]])).tolist() == [
        [[0.0, 1.0]]
    ]
    ruled_out = SOFTMAX(torch.tensor([[[0.0], [1.0], [-math.inf]]]), "softmax")
    assert ruled_out[0, 2, 0] == 0
    assert ruled_out.sum() == pytest.approx(1)


@ALL
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("activation", ["none", "softmax"])
@pytest.mark.parametrize("aggregation", ["image", "dataset"])
def test_a_decision_is_that_of_calibrated_probabilities(calibrator, mode, activation, aggregation):
    logits = some_logits()
    given = logits if activation == "softmax" else logits.softmax(1)
    options = {"metric": "iou", "output_mode": mode, "aggregation": aggregation}
    plain = RankSEG(**options, pruning_prob=0.3)
    with_one = RankSEG(**options, pruning_prob=0.3, calibrator=calibrator, activation=activation)
    calibrated = calibrator(given, activation)
    assert torch.equal(with_one(given), plain(calibrated))
    assert torch.equal(with_one.solve(given).expected_score, plain.solve(calibrated).expected_score)
    valid = torch.rand(2, 12, 11, generator=torch.Generator().manual_seed(3)) > 0.3
    spoiled = given.masked_fill(~valid[:, None], torch.nan)
    valid[1] = False
    assert torch.equal(with_one(spoiled, valid), plain(calibrated, valid))
    assert torch.equal(
        rankseg(given, **options, pruning_prob=0.3, calibrator=calibrator, activation=activation),
        plain(calibrated),
    )


@ALL
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_a_rule_of_tiles_calibrates_by_itself(calibrator, mode, tmp_path):
    logits = some_logits(images=4)
    options = {"output_mode": mode, "pruning_prob": 0.3}
    decide = RankSEG(**options, calibrator=calibrator, activation="softmax")
    tiles = [logits[:1], logits[1:3, :, :5], logits[1:3, :, 5:], logits[3:]]
    rule = decide.decide(tiles)
    whole = decide.decide(logits)
    # The last bit of a softmax depends on how torch walks the tile.
    assert rule.threshold == pytest.approx(whole.threshold, abs=1e-6)
    assert torch.equal(rule.apply(logits), whole.apply(logits))
    plain = RankSEG(**options).decide(calibrator(logits, "softmax"))
    assert torch.equal(rule.apply(logits), plain.apply(calibrator(logits, "softmax")))
    rule.save(tmp_path / "rule.json")
    assert DecisionRule.load(tmp_path / "rule.json") == rule


@pytest.mark.parametrize("calibrator", [SOFTMAX, SIGMOID], ids=lambda c: c.kind)
@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_a_head_calibrates(calibrator, activation, mode):
    logits = some_logits(5)
    given = logits.softmax(1) if activation == "none" else logits
    rule = RankSEG(
        output_mode=mode, pruning_prob=0.2, calibrator=calibrator, activation=activation
    ).decide(given)
    assert torch.equal(rule.head()(given), rule.apply(given))


@pytest.mark.parametrize("calibrator", [SOFTMAX, SIGMOID], ids=lambda c: c.kind)
def test_a_head_keeps_zeros(calibrator):
    """Padding has no class."""
    probs = some_logits(5).softmax(1)
    probs[..., 6:] = probs[:, 1, :4] = 0.0
    rule = RankSEG(pruning_prob=0.2, calibrator=calibrator).decide(probs)
    head = rule.head()
    assert torch.equal(head.probabilities(probs) == 0, probs == 0)
    assert torch.equal(head(probs), rule.apply(probs))


def test_a_head_holds_no_table():
    rule = RankSEG(calibrator=ISOTONIC).decide(some_logits().softmax(1))
    with pytest.raises(ValueError, match="isotonic calibration is a table"):
        rule.head()


def test_one_pass_reads_calibrated_probabilities():
    probs = some_logits().softmax(1)
    options = {"output_mode": "multilabel", "pruning_prob": 0.2}
    rule = RankSEG(**options, calibrator=SIGMOID).decide(probs, one_pass=True)
    plain = RankSEG(**options).decide(SIGMOID(probs), one_pass=True)
    assert torch.equal(rule.apply(probs), plain.apply(SIGMOID(probs)))


def test_a_compiled_network_may_hold_one():
    decide = RankSEG(calibrator=SOFTMAX, activation="softmax")
    logits = some_logits()
    exported = torch.export.export(decide, (logits,)).module()
    assert torch.equal(exported(logits), decide(logits))


@pytest.mark.parametrize("kind", [np.float32, np.float64, Fraction])
def test_numbers_of_other_libraries(kind, tmp_path):
    """They become plain ones, which JSON and the settings of a decision take."""
    half = (kind(0.5),) * 3
    curve = ((kind(0.25), kind(0.0)), (kind(1), kind(0.5)))
    for calibrator in (
        Calibrator("sigmoid", half, half),
        Calibrator("isotonic", points=[curve] * 3),
    ):
        calibrator.save(tmp_path / "c.json")
        assert Calibrator.load(tmp_path / "c.json") == calibrator
        assert "Fraction" not in repr(vars(calibrator))
        assert "float" not in repr(vars(calibrator))
        probs = some_logits().softmax(1)
        decide = RankSEG(calibrator=calibrator)
        assert torch.equal(torch.export.export(decide, (probs,)).module()(probs), decide(probs))


def test_numbers_beyond_float64_are_refused():
    with pytest.raises(ValueError, match="beyond float64"):
        Calibrator("sigmoid", (10**400,), (0.0,))


@ALL
def test_saved_numbers_come_back(calibrator, tmp_path):
    calibrator.save(tmp_path / "c.json")
    assert Calibrator.load(tmp_path / "c.json") == calibrator


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "it has no"),
        ({"version": 2}, "its version is 2"),
        ({"more": 1}, "takes no parameter 'more'"),
        ({"kind": "platt"}, "kind must be one of"),
        ({"slope": [1.0, 0.0, 1.0]}, "larger than 0"),
        ({"slope": [1.0]}, "a slope and an offset for each class"),
        ({"offset": ["a", 1, 2]}, "finite numbers"),
        ({"points": [[[0.1, 0.2]]]}, "no points"),
        ({"points": 7}, "pairs of numbers"),
    ],
)
def test_a_damaged_file_is_refused_by_name(change, message, tmp_path):
    path = tmp_path / "c.json"
    SOFTMAX.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"c\.json is no calibrator: .*" + message):
        Calibrator.load(path)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"kind": "isotonic"}, "points for each class"),
        ({"kind": "isotonic", "points": (((0.2, 0.5), (0.4, 0.3)),)}, "must rise"),
        ({"kind": "isotonic", "points": (((0.2, 0.5), (0.2, 0.6)),)}, "must rise"),
        ({"kind": "isotonic", "points": (((0.2, 1.5),),)}, r"must lie in \[0, 1\]"),
        ({"kind": "isotonic", "points": ((),)}, "one or more"),
        ({"kind": "softmax", "slope": (1.0,), "offset": (0.0,)}, "kind='sigmoid' is for one"),
        ({"kind": "sigmoid", "slope": (math.nan,), "offset": (0.0,)}, "slope must be finite"),
        ({"kind": "sigmoid", "slope": (1.0,), "offset": (math.inf,)}, "offset must be finite"),
    ],
)
def test_impossible_numbers_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        Calibrator(**numbers)


@pytest.mark.parametrize("calibrator", [SOFTMAX, SIGMOID, ISOTONIC], ids=lambda c: c.kind)
def test_hostile_input(calibrator):
    decide = RankSEG(calibrator=calibrator)
    with pytest.raises(ValueError, match="must lie in"):
        decide(some_logits())
    spoiled = some_logits().softmax(1)
    spoiled[0, 1, 2, 3] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        decide(spoiled)
    with pytest.raises(ValueError, match="the calibrator is for 3 classes; got 2"):
        decide(torch.full((1, 2, 4), 0.5))
    with pytest.raises(TypeError, match="not labels"):
        decide(torch.zeros(1, 3, 4, dtype=torch.int64))
    assert decide(torch.zeros(0, 3, 4)).shape == (0, 4)
    with pytest.raises(TypeError, match="calibrator must be None or a Calibrator"):
        RankSEG(calibrator="file.json")
    with pytest.raises(ValueError, match="activation must be one of"):
        calibrator(spoiled, "tanh")


def test_points_that_lie_close_give_numbers():
    close = Calibrator("isotonic", points=(((0.5, 0.1), (0.5 + 1e-9, 0.2)),))
    assert close(torch.full((1, 1, 2), 0.5)).tolist() == [[[pytest.approx(0.1)] * 2]]


def test_half_precision_is_widened():
    probs = some_logits().softmax(1).to(torch.bfloat16)
    found = SIGMOID(probs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, SIGMOID(probs.float()))
    assert SIGMOID(probs.double()).dtype == torch.float64
    assert F.softmax(probs, 1).dtype == torch.bfloat16


def test_what_is_shown_fits_a_line():
    points = [[(k / 99, k / 99) for k in range(100)], [(0.0, 0.1), (1.0, 0.9)]]
    assert repr(Calibrator("isotonic", points=points)) == (
        "Calibrator(kind='isotonic', points=<100, 2>)"
    )
    line = Calibrator("sigmoid", slope=(0.5,), offset=(1.0,))
    assert repr(line) == "Calibrator(kind='sigmoid', slope=(0.5,), offset=(1.0,))"
    assert repr(RankSEG("dice", calibrator=line)).count("sigmoid") == 1


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_layouts_are_calibrated_to_the_same_bits(kind):
    """Torch computes exponentials in another way where a tensor has strides."""
    one = torch.rand(1, 1, 133, generator=torch.Generator().manual_seed(0)).expand(1, 3, 133)
    apart = torch.rand(2, 133, 3, generator=torch.Generator().manual_seed(1)).movedim(-1, 1)
    calibrator = Calibrator(kind, (0.3,) * 3, (0.1,) * 3)
    for probs in (one, apart, apart[..., ::2]):
        assert torch.equal(calibrator(probs), calibrator(probs.contiguous()))
