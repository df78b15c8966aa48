"""RankSEG under what torch does to functions and modules."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from rankseg import Calibrator, RankSEG

BACKENDS = ["torch", "auto"]


def probs(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).softmax(-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"aggregation": "dataset"}], ids=str)
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_vmap(backend, options, dim):
    decide = RankSEG(backend=backend, **options)
    given = probs(3, 2, 4, 6, 5)
    expected = torch.stack([decide(batch) for batch in given])
    moved = given.movedim(0, dim)
    assert torch.equal(torch.func.vmap(decide, in_dims=dim)(moved), expected)
    score = torch.func.vmap(lambda x: decide.solve(x).expected_score, in_dims=dim)(moved)
    assert torch.equal(score, torch.stack([decide.solve(batch).expected_score for batch in given]))


@pytest.mark.parametrize("by", [(0, 0), (0, None), (None, 0)])
def test_vmap_with_a_valid_mask(by):
    decide = RankSEG()
    given, valid = probs(3, 2, 4, 6, 5), torch.rand(3, 2, 6, 5) < 0.6
    arguments = [t if dim == 0 else t[0] for t, dim in zip((given, valid), by, strict=True)]
    expected = [
        decide(*(t[n] if dim == 0 else t for t, dim in zip(arguments, by, strict=True)))
        for n in range(3)
    ]
    assert torch.equal(torch.func.vmap(decide, in_dims=by)(*arguments), torch.stack(expected))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore:.torch.jit.* is deprecated")  # torch's own, in jvp
def test_no_gradient_passes(backend):
    decide, given = RankSEG(output_mode="multilabel", backend=backend), probs(2, 4, 6, 5)
    inside = torch.func.grad(lambda x: (x * decide(x)).sum())(given)
    assert torch.equal(inside, decide(given).float())
    out, tangent = torch.func.jvp(lambda x: decide(x).float(), (given,), (given,))
    assert torch.equal(out, decide(given).float())
    assert not tangent.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_shapes_without_values(backend):
    given = probs(2, 4, 6, 5)
    with FakeTensorMode() as mode:
        fake = RankSEG(backend=backend)(mode.from_tensor(given))
        masks = RankSEG(backend=backend, output_mode="multilabel")(torch.rand(2, 4, 6, 5))
    assert fake.shape == (2, 6, 5)
    assert (masks.shape, masks.dtype) == ((2, 4, 6, 5), torch.bool)
    graph = make_fx(RankSEG(backend=backend))(given)
    assert torch.equal(graph(given), RankSEG()(given))
    with pytest.raises(TypeError, match="got a meta tensor"):
        RankSEG(backend=backend)(given.to("meta"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("end", ["decide", "head"])
def test_settings_of_the_process_change_nothing(backend, end):
    decide = RankSEG(backend=backend)
    given = probs(2, 4, 40, 50)
    expected = decide(given)
    decide = decide if end == "decide" else RankSEG().head()
    with torch.inference_mode():
        assert torch.equal(decide(given), expected)
    with torch.device("meta"):
        assert torch.equal(decide(given), expected)
    for kind in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=kind):
            assert torch.equal(decide(given), expected)
    try:
        torch.use_deterministic_algorithms(True)
        torch.set_default_dtype(torch.float64)
        assert torch.equal(decide(given), expected)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_autocast_hands_over_half_precision(kind):
    """So do softmax and sigmoid of it: convolve under autocast, then widen the logits."""
    with torch.autocast("cpu", dtype=kind):
        logits = nn.Conv2d(3, 4, 1)(torch.rand(1, 3, 9, 9))
        assert logits.dtype == kind
        found = RankSEG(activation="softmax")(logits)
    assert torch.equal(found, RankSEG(activation="softmax")(logits.float()))


def test_replicas():
    decide, given = RankSEG("iou"), probs(2, 4, 6, 5)
    for replica in (copy.deepcopy(decide), pickle.loads(pickle.dumps(decide))):
        assert torch.equal(replica(given), decide(given))


@pytest.mark.parametrize("backend", BACKENDS)
def test_type_and_shape_are_checked_without_values(backend):
    decide = RankSEG(backend=backend)
    with FakeTensorMode():
        with pytest.raises(TypeError, match="got int64"):
            decide(torch.ones(2, 4, 6, 5, dtype=torch.int64))
        with pytest.raises(ValueError, match="must have shape"):
            decide(torch.rand(6, 5))
        with pytest.raises(ValueError, match="empty class or spatial"):
            decide.solve(torch.rand(2, 4, 0))
        with pytest.raises(TypeError, match="valid_mask must be a bool"):
            decide(torch.rand(2, 4, 6, 5), torch.ones(2, 6, 5))


@pytest.mark.parametrize("end", ["head", "rule"])
def test_heads_where_numbers_live_elsewhere(end):
    """Networks are built without memory and filled later; shapes are asked for without values."""
    given = probs(2, 4, 6, 5)
    decide = RankSEG(calibrator=Calibrator("softmax", (0.8,) * 4, (0.1, 0.0, 0.2, 0.0)))
    maker = decide if end == "head" else decide.decide(given)
    head = maker.head()
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(4, 4, 1), maker.head())
    assert network(given.to("meta")).shape == (2, 6, 5)
    assert torch.equal(network.to_empty(device="cpu")[1](given), head(given))
    assert torch.equal(network.to("meta").to_empty(device="cpu")[1](given), head(given))
    with FakeTensorMode() as mode:
        fake = head(mode.from_tensor(given))
    assert (fake.shape, fake.dtype) == ((2, 6, 5), torch.int64)
    assert torch.equal(make_fx(head)(given)(given), head(given))


@pytest.mark.filterwarnings("ignore:.torch.jit.* is deprecated")
@pytest.mark.parametrize("module", [RankSEG(), RankSEG().head()], ids=["decide", "head"])
def test_torchscript_is_refused(module):
    with pytest.raises(TypeError, match=r"cannot read \w+: use torch.export or torch.jit.trace"):
        torch.jit.script(module)


@pytest.mark.filterwarnings("ignore")
def test_the_head_traces():
    head, decide = RankSEG().head(), RankSEG()
    traced = torch.jit.trace(head, probs(2, 4, 6, 5))
    for shape in ((2, 4, 6, 5), (3, 4, 30, 41)):
        assert torch.equal(traced(probs(*shape)), decide(probs(*shape)))
