"""``pruning_prob``: one number, or one for each class."""

import pytest
import torch

from rankseg import RankSEG
from rankseg.functional import rankseg

LIMITS = (0.3, 0.6, 0.0, 0.9)
SOLVERS = ["RMA", "exact", "auto", "BA"]


def maps(activation="softmax", dtype=torch.float32):
    logits = torch.randn(3, 4, 6, 7, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return getattr(logits, activation)(*[1] * (activation == "softmax"))


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_class_is_decided_under_its_own_limit(solver, smooth, backend):
    probs = maps("sigmoid")
    options = {"solver": solver, "smooth": smooth, "backend": backend}
    found = RankSEG("dice", "multilabel", pruning_prob=LIMITS, **options).solve(probs)
    active = 0
    for class_, limit in enumerate(LIMITS):
        alone = RankSEG("dice", "multilabel", pruning_prob=limit, **options).solve(probs)
        for name in ("prediction", "expected_score", "threshold", "active"):
            assert torch.equal(getattr(found, name)[:, class_], getattr(alone, name)[:, class_])
        active += int(alone.active[:, class_].sum())
    assert 0 < active < found.active.numel()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_limits_are_meant_in_the_type_of_the_probabilities(dtype):
    limits = (0.1, 0.3, 0.7)
    probs = torch.tensor(limits, dtype=dtype).reshape(1, 3, 1).expand(1, 3, 5)
    assert not RankSEG(pruning_prob=limits).solve(probs).active.any()
    above = torch.nextafter(probs.contiguous(), torch.ones(1, 3, 5, dtype=dtype))
    assert RankSEG(pruning_prob=limits).solve(above).active.all()


@pytest.mark.parametrize("output_mode", ["multiclass", "multilabel"])
def test_equal_limits_are_one_limit(output_mode):
    probs = maps()
    one = RankSEG("iou", output_mode, pruning_prob=0.3)
    each = RankSEG("iou", output_mode, pruning_prob=[0.3] * 4)
    assert torch.equal(one(probs), each(probs))
    assert torch.equal(rankseg(probs, "iou", output_mode, pruning_prob=[0.3] * 4), one(probs))
    tensor = torch.full((4,), 0.3, dtype=torch.float64)
    assert each.settings == RankSEG("iou", output_mode, pruning_prob=tensor).settings


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("metric", ["dice", "acc"])
def test_as_many_numbers_as_classes(metric, backend):
    message = r"pruning_prob has 1 number, probs has 4 classes: give one number for each class"
    with pytest.raises(ValueError, match=message):
        RankSEG(metric, pruning_prob=[0.5], backend=backend)(maps())
    with pytest.raises(ValueError, match=r"pruning_prob has 4 numbers, probs has 1 class:"):
        RankSEG(metric, pruning_prob=LIMITS, backend=backend).solve(maps()[:, :1])
