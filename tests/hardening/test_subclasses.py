"""What a tensor's class, device and memory mean: results are plain, deferred values are read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hardening import hostile_tensors
from hardening.outcome import Refused, attempt, bits, same
from torch import Tensor

from rankseg import Calibrator, RankSEG, expected_score
from rankseg.functional import rankseg

PROBS = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)).softmax(1)
CLASSES = {
    **hostile_tensors.SUBCLASSES,
    "refusing": lambda t: t.as_subclass(hostile_tensors.Refusing),
}
WAYS = {
    "predict": lambda t: RankSEG()(t),
    "functional": lambda t: rankseg(t, output_mode="multilabel", backend="torch"),
    "exact": lambda t: RankSEG(solver="exact")(t),
    "logits": lambda t: RankSEG(activation="softmax")(t),
    "rule": lambda t: RankSEG().decide(PROBS).apply(t),
    "valid mask": lambda t: RankSEG()(t, torch.ones(2, 5, 7, dtype=torch.bool).triu()),
    "calibrated": lambda t: Calibrator("softmax", (0.5,) * 3, (0.0,) * 3)(t),
    "score": lambda t: expected_score(t, PROBS.argmax(1)),
}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("way", WAYS)
def test_results_are_plain_tensors(name, way):
    """Whatever class comes in: labels are no image, no parameter, and have no metadata."""
    given = CLASSES[name](PROBS.clone())
    before = bits(given)
    found = attempt(lambda: WAYS[way](given))
    assert type(found) is Tensor
    assert not found.requires_grad
    same(found, WAYS[way](PROBS))
    assert torch.equal(bits(given), before)


@pytest.mark.parametrize("name", CLASSES)
def test_reasons_and_rules(name):
    given = CLASSES[name](PROBS.clone())
    same(attempt(lambda: RankSEG().solve(given)), RankSEG().solve(PROBS))
    same(attempt(lambda: RankSEG().decide(given)), RankSEG().decide(PROBS))
    same(attempt(lambda: RankSEG().decide([given])), RankSEG().decide(PROBS))


@pytest.mark.parametrize("name", CLASSES)
def test_predictions_and_masks_of_any_class(name):
    labels, valid = PROBS.argmax(1), PROBS[:, 0] > 0.2
    if name == "parameter":
        pytest.skip("parameters are floating-point")
    as_class = CLASSES[name]
    same(attempt(lambda: expected_score(PROBS, as_class(labels))), expected_score(PROBS, labels))
    same(attempt(lambda: RankSEG()(PROBS, as_class(valid))), RankSEG()(PROBS, valid))


@pytest.mark.parametrize("form", ["sign put off", "imaginary", "zeros put off"])
@pytest.mark.parametrize("way", WAYS)
def test_values_that_torch_has_put_off(form, way):
    """NumPy cannot see them, so compiled passes could not."""
    given = hostile_tensors.SERVED[form](PROBS.clone())
    same(attempt(lambda: WAYS[way](given)), WAYS[way](hostile_tensors.plain(given)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["elsewhere", "freed", "meta", "sparse", "2^40 pixels"])
def test_no_values_no_answer(way, name):
    """Torch itself reads freed memory and crashes; a view of 2^40 pixels would take hours."""
    found = attempt(lambda: WAYS[way](hostile_tensors.refused(name)))
    assert isinstance(found, Refused)
    wanted = "more than 2^38 values" if name == "2^40 pixels" else "dense tensor with values; got a"
    assert wanted in str(found.error)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("elsewhere", "a Elsewhere tensor$"),
        ("freed", "a freed tensor$"),
        ("sparse", r"a torch.sparse_coo tensor: pass probs.to_dense\(\)$"),
    ],
)
def test_messages(name, said):
    with pytest.raises(TypeError, match=said):
        RankSEG()(hostile_tensors.refused(name))


@pytest.fixture
def sharded() -> Iterator[Tensor]:
    """A tensor of a group of processes, which is this one."""
    distributed = pytest.importorskip("torch.distributed.tensor", reason="torch has no DTensor")
    group = torch.distributed
    group.init_process_group("gloo", store=group.HashStore(), rank=0, world_size=1)
    yield distributed.distribute_tensor(PROBS, group.device_mesh.init_device_mesh("cpu", (1,)))
    group.destroy_process_group()


def test_a_tensor_of_several_processes(sharded):
    with pytest.raises(TypeError, match=r"a DTensor tensor: pass probs.full_tensor\(\), or to_l"):
        RankSEG()(sharded)
    assert torch.equal(RankSEG()(sharded.full_tensor()), RankSEG()(PROBS))
