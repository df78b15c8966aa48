"""Shapes, dtypes, calling forms and what must never happen to the input."""

import copy
import pickle

import pytest
import torch
from torch import nn

import rankseg as package
from rankseg import RankSEG, Segmentation
from rankseg.functional import rankseg

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def probabilities(*shape, dtype=torch.float32, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random).mul(2).softmax(1).to(dtype)


@pytest.mark.parametrize("spatial", [(1,), (7,), (5, 6), (3, 4, 5), (2, 3, 2, 3), (1, 1, 1, 1, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", ["dice", "iou", "acc"])
def test_shapes_and_dtypes(spatial, dtype, metric):
    probs = probabilities(2, 3, *spatial, dtype=dtype)
    labels = RankSEG(metric)(probs)
    assert labels.dtype == torch.int64
    assert labels.shape == (2, *spatial)
    masks = RankSEG(metric, "multilabel").solve(probs)
    assert masks.prediction.dtype == torch.bool
    assert masks.prediction.shape == probs.shape
    for numbers in (masks.expected_score, masks.threshold):
        assert numbers.dtype == torch.float64
        assert numbers.shape == (2, 3)
    assert masks.volume.dtype == torch.int64
    assert masks.active.dtype == torch.bool
    assert masks.objective.shape == masks.bound.shape == (2,)


@pytest.mark.parametrize("output_mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("metric", ["dice", "iou", "acc"])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_empty_batch(output_mode, classes, metric, smooth):
    smooth = 0.0 if metric == "acc" else smooth
    found = RankSEG(metric, output_mode, smooth=smooth).solve(torch.rand(0, classes, 4, 5))
    channels = () if output_mode == "multiclass" else (classes,)
    assert found.prediction.shape == (0, *channels, 4, 5)
    assert found.expected_score.shape == (0, classes)
    assert found.objective.shape == (0,)


def test_all_calling_forms_agree():
    probs = probabilities(2, 4, 9, 9)
    decide = RankSEG("iou", smooth=1.0)
    expected = decide.solve(probs)
    assert isinstance(expected, Segmentation)
    for labels in (decide(probs), decide.predict(probs), rankseg(probs, "iou", smooth=1.0)):
        assert torch.equal(labels, expected.prediction)


def test_functional_passes_solver_parameters():
    probs = torch.full((1, 3, 4), 0.3)
    assert (rankseg(probs, unassigned_policy="void", void_index=9) == 9).all()


def test_a_module_without_state_that_ends_a_model():
    decide = RankSEG()
    assert not list(decide.parameters())
    assert not decide.state_dict()
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Softmax(1), decide)
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 8, 8)
    for clone in (copy.deepcopy(decide), pickle.loads(pickle.dumps(decide))):
        assert clone.settings == decide.settings
    decide.train().eval().to(torch.float16)


def test_configuration_is_frozen_and_shown():
    decide = RankSEG("iou", unassigned_policy="void")
    assert repr(decide) == (
        "RankSEG(metric='iou', output_mode='multiclass', solver='RMA', smooth=0.0, "
        "pruning_prob=0.5, class_weights=None, include_background=True, empty=0, "
        "activation='none', backend='auto', aggregation='image', "
        "assignment='published', unassigned_policy='void', void_index=255, ignore_index=255)"
    )
    with pytest.raises(AttributeError):
        decide.settings = None
    with pytest.raises(AttributeError):
        decide.settings.metric = "dice"
    with pytest.raises(TypeError):
        decide.settings.parameters[0] = ("void_index", 3)
    assert eval(repr(decide)).settings == decide.settings
    assert eval(repr(RankSEG())).settings == RankSEG().settings


@pytest.mark.parametrize("output_mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("metric", ["dice", "iou", "acc"])
def test_input_is_never_modified_and_no_gradient_recorded(output_mode, metric):
    for dtype in DTYPES:
        probs = probabilities(2, 3, 16, dtype=dtype).requires_grad_()
        before = probs.detach().clone()
        found = RankSEG(metric, output_mode).solve(probs)
        assert torch.equal(probs.detach(), before)
        assert not any(numbers.requires_grad for numbers in vars(found).values())
        assert probs.grad_fn is None


def test_read_only_and_inference_tensors():
    with torch.inference_mode():
        probs = probabilities(1, 3, 16)
        labels = RankSEG()(probs)
    assert torch.equal(labels, RankSEG()(probabilities(1, 3, 16)))
    expanded = torch.full((1, 1, 1), 0.7).expand(2, 1, 50)
    assert RankSEG(output_mode="multilabel")(expanded).all()


class Tagged(torch.Tensor):
    """A tensor subclass, as MONAI's MetaTensor is one."""


def test_tensor_subclass_is_taken_as_its_values():
    probs = probabilities(1, 3, 16)
    labels = RankSEG()(probs.as_subclass(Tagged))
    assert type(labels) is torch.Tensor
    assert torch.equal(labels, RankSEG()(probs))


def test_public_names():
    classes = {"Calibrator", "DecisionRule", "Mergeable", "RankSEG", "Segmentation", "Source"}
    assert set(package.__all__) == classes | {"__version__", "expected_score"}
