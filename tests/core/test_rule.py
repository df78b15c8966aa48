"""Decision rules: applied, saved, loaded, exported."""

import inspect
import io
import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from rankseg import DecisionRule, RankSEG

OPTIONS = [
    {},
    {"metric": "iou"},
    {"output_mode": "multilabel"},
    {"unassigned_policy": "void", "void_index": 99},
    {"assignment": "ascent"},
    {"activation": "softmax"},
    {"activation": "sigmoid", "output_mode": "multilabel"},
]


def values(options, classes=4, size=30, seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, size, size + 3, generator=generator) * 2
    return logits if "activation" in options else logits.softmax(1)


def rule_of(options, classes=4):
    return RankSEG(**options).decide(values(options, classes))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("classes", [1, 4])
def test_save_and_load(options, classes, tmp_path):
    if classes == 1 and options.get("activation") == "softmax":
        options = {"activation": "sigmoid"}
    rule = rule_of(options, classes)
    rule.save(tmp_path / "rule.json")
    assert DecisionRule.load(tmp_path / "rule.json") == rule
    assert rule.classes == classes


def test_a_rule_serves_any_batch_and_shape():
    rule = rule_of({})
    probs = values({}, size=20, seed=3, batch=3)
    labels = rule(probs)
    assert labels.shape == (3, 20, 23)
    assert torch.equal(labels, torch.cat([rule(image[None]) for image in probs]))
    assert torch.equal(rule(probs.flatten(2)), labels.flatten(1))
    assert rule(probs[:0]).shape == (0, 20, 23)


@pytest.mark.parametrize(
    ("probs", "error", "match"),
    [
        (values({}, classes=3), ValueError, "the rule is for 4 classes; got 3"),
        (values({}) * 2, ValueError, r"must lie in \[0, 1\]"),
        (values({}) * torch.nan, ValueError, "NaN"),
        (values({}).numpy(), TypeError, "must be a torch.Tensor"),
    ],
)
def test_bad_probs(probs, error, match):
    with pytest.raises(error, match=match):
        rule_of({})(probs)


CHANGES = [
    (lambda c: c.pop("format"), 'it has no "format"'),
    (lambda c: c.update(format="x"), 'it has no "format"'),
    (lambda c: c.update(version=2), "its version is 2, this rankseg reads 1"),
    (lambda c: c.update(version=True), "its version is True"),
    (lambda c: c.update(version=1.0), r"its version is 1\.0"),
    (lambda c: c.update(note="x"), "takes no parameter 'note'"),
    (lambda c: c.pop("threshold"), "it lacks threshold"),
    (lambda c: c.pop("void_index"), "it lacks void_index"),
    (lambda c: c.update(threshold=[]), "threshold must be a list of numbers"),
    (lambda c: c.update(threshold=0.5), "threshold must be a list of numbers"),
    (lambda c: c.update(threshold=[0.5]), "slope must hold 1, as threshold does"),
    (lambda c: c["threshold"].__setitem__(0, "0.5"), "threshold must be finite numbers"),
    (lambda c: c["threshold"].__setitem__(0, True), "threshold must be finite numbers"),
    (lambda c: c["threshold"].__setitem__(0, 10**400), "is no decision rule"),
    (lambda c: c["threshold"].__setitem__(0, -5), r"threshold must lie in \[0, 1\]"),
    (lambda c: c["threshold"].__setitem__(0, 1.5), r"threshold must lie in \[0, 1\]"),
    (lambda c: c["slope"].__setitem__(0, 1e999), "Infinity is no number"),
    (lambda c: c["bend"].__setitem__(0, 5), "bend must be below 1"),
    (lambda c: c["eligible"].__setitem__(0, 1), "eligible must be true or false"),
    (lambda c: c.update(regret=[-1, 0, 0, 0]), "regret must be at least 0"),
    (lambda c: c.pop("slope"), "threshold needs a number per class; eligible, slope"),
    (lambda c: c.update(output_mode="multilabel"), "threshold needs a number per class"),
    (lambda c: c.update(output_mode="MultiClass"), "output_mode must be one of"),
    (lambda c: c.update(activation=None), "activation must be one of"),
    (lambda c: c.update(void_index=1.5), "void_index must be an integer"),
    (lambda c: c.update(eligible=[False] * 4, void_index=2), "void_index=2 is also the label"),
]


@pytest.mark.parametrize(("change", "match"), CHANGES)
def test_load_is_strict(change, match, tmp_path):
    path = tmp_path / "rule.json"
    rule_of({}).save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=match) as caught:
        DecisionRule.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000, '"rankseg"', "\0"])
def test_load_refuses_what_is_no_rule(text, tmp_path):
    path = tmp_path / "rule.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="is no decision rule"):
        DecisionRule.load(path)
    with pytest.raises(OSError, match="missing"):
        DecisionRule.load(tmp_path / "missing.json")


def test_a_name_that_occurs_twice(tmp_path):
    path = tmp_path / "rule.json"
    rule_of({}).save(path)
    path.write_text(path.read_text().replace("{", '{"threshold": [0.1, 0.1, 0.1, 0.1],', 1))
    with pytest.raises(ValueError, match="a name occurs twice"):
        DecisionRule.load(path)


@pytest.mark.parametrize(
    "given",
    [
        ("foo", "none", (0.5,)),
        ("multilabel", "bar", (0.5,)),
        ("multilabel", "none", ()),
        ("multiclass", "none", (0.5, 0.5)),
        ("multiclass", "softmax", (0.5,)),
        ("multilabel", "none", (0.5, float("nan"))),
    ],
)
def test_rules_made_by_hand_are_checked(given):
    with pytest.raises(ValueError, match=r"must|needs|everywhere"):
        DecisionRule(*given)


@pytest.mark.parametrize("kind", [np.float32, np.float64, Fraction])
def test_numbers_of_other_libraries(kind, tmp_path):
    """They become plain ones, which JSON and ``torch.tensor`` take."""
    half = (kind(0.5),) * 2
    rule = DecisionRule(
        "multiclass", "none", half, [True, False], half, half, half, np.int64(7), half
    )
    assert {type(n) for name in ("threshold", "slope", "regret") for n in vars(rule)[name]} == {
        float
    }
    rule.save(tmp_path / "rule.json")
    assert DecisionRule.load(tmp_path / "rule.json") == rule
    probs = values({}, classes=2)
    assert torch.equal(rule.head()(probs), rule(probs))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_a_head_keeps_its_numbers_in_a_network_of_half_precision(kind):
    rule = rule_of({})
    network = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1), rule.head())
    assert set(network.state_dict()) == {"0.weight", "0.bias"}  # checkpoints stay as they are
    network.to(kind)
    assert network[0].weight.dtype == kind
    probs = values({}, size=200, seed=4)
    assert torch.equal(network[1](probs), rule(probs))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_head_decides_the_same(options, dtype):
    rule = rule_of(options)
    probs = values(options, seed=1, batch=2).to(dtype)
    differ = rule.head()(probs) != rule(probs)
    most = 2 if "activation" in options else 0  # probabilities from logits: rounding
    assert differ.sum() <= most
    assert rule.head()(probs).dtype == rule(probs).dtype


@pytest.mark.parametrize(
    ("probs", "error", "match"),
    [
        (values({}, classes=3), ValueError, "the rule is for 4 classes; got 3"),
        (values({}, classes=1), ValueError, "the rule is for 4 classes; got 1"),
        (values({}).long(), TypeError, "got int64"),
        (values({})[0, 0], ValueError, "must have shape"),
    ],
)
def test_a_head_checks_what_is_known_without_values(probs, error, match):
    with pytest.raises(error, match=match):
        rule_of({}).head()(probs)


def test_one_channel_head():
    for mode in ("multiclass", "multilabel"):
        probs = values({}, classes=1).abs().clamp(0, 1)
        rule = RankSEG(output_mode=mode, pruning_prob=0.0).decide(probs)
        assert torch.equal(rule.head()(probs), rule(probs))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_head_exports(options):
    rule = rule_of(options)
    network = torch.nn.Sequential(torch.nn.Identity(), rule.head()).eval()
    example = values(options, batch=2)
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height")}
    program = torch.export.export(network, (example,), dynamic_shapes=(free,))
    other = values(options, seed=2, size=30, batch=3)[:, :, :21]
    assert torch.equal(program.module()(other), network(other))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.skipif(
    "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters,
    reason="this torch exports to ONNX at one size only",
)
def test_head_runs_under_onnx(options):
    runtime = pytest.importorskip("onnxruntime")
    rule = rule_of(options)
    example = values(options, batch=2)
    buffer = io.BytesIO()
    free = ({0: "batch", 2: "height", 3: "width"},)
    head = rule.head().eval()
    torch.onnx.export(head, (example,), buffer, dynamo=True, dynamic_shapes=free, verbose=False)
    session = runtime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    probs = values(options, seed=2, size=41, batch=3)
    (found,) = session.run(None, {session.get_inputs()[0].name: probs.numpy()})
    differ = found != rule(probs).numpy()
    assert differ.sum() <= (2 if "activation" in options else 0)
    assert found.dtype == rule(probs).numpy().dtype
    assert np.unique(found).size > 1
