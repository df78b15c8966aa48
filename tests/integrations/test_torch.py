"""The plain-PyTorch head and wrapper: what they accept, decide, refuse and preserve."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankseg import RankSEG, Segmentation
from rankseg_integrations._common import parse_size, resize
from rankseg_integrations.torch import RankSEGHead, RankSEGModel

Pair = namedtuple("Pair", ["loss", "logits"])


@pytest.fixture(autouse=True)
def _same_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Returns(nn.Module):
    """A network whose answer is `wrap` of its logits."""

    def __init__(self, wrap: Any = None, classes: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, classes, 3, stride, padding=1)
        self.wrap = wrap

    def forward(self, image: Tensor) -> Any:
        logits = 4 * self.conv(image)
        return logits if self.wrap is None else self.wrap(logits)


def image(batch: int = 2, height: int = 16, width: int = 20) -> Tensor:
    return torch.randn(batch, 3, height, width)


def random_logits(*shape: int) -> Tensor:
    return 3 * torch.randn(*shape)


# --- what the head decides -------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_head_is_the_activation_followed_by_the_core(
    activation: str, mode: str, metric: str
) -> None:
    logits = random_logits(2, 3, 16, 20)
    probs = logits.softmax(1) if activation == "softmax" else logits.sigmoid()
    head = RankSEGHead(activation, metric=metric, output_mode=mode)
    expected = RankSEG(metric=metric, output_mode=mode)(probs)
    torch.testing.assert_close(head(logits), expected, rtol=0, atol=0)


def test_head_differs_from_the_half_cut_where_it_should() -> None:
    logits = torch.tensor([[[0.9, 0.4, 0.3, 0.1]]]).logit()
    mask = RankSEGHead("sigmoid", output_mode="multilabel", metric="dice")(logits)
    assert mask.tolist() == [[[True, True, True, False]]]


def test_without_activation_the_input_is_probabilities() -> None:
    probs = torch.rand(2, 3, 5, 7)
    assert RankSEGHead().probabilities(probs).data_ptr() == probs.data_ptr()
    torch.testing.assert_close(RankSEGHead()(probs), RankSEG()(probs), rtol=0, atol=0)


def test_one_sigmoid_channel_is_binary() -> None:
    logits = random_logits(2, 1, 16, 20)
    mask = RankSEGHead("sigmoid", output_mode="multilabel")(logits)
    labels = RankSEGHead("sigmoid", output_mode="multiclass")(logits)
    assert mask.shape == (2, 1, 16, 20)
    assert mask.dtype == torch.bool
    assert 0 < mask.sum() < mask.numel()
    torch.testing.assert_close(labels, mask[:, 0].long(), rtol=0, atol=0)


@pytest.mark.parametrize("spatial", [(9,), (6, 7), (4, 5, 6)])
def test_any_number_of_spatial_axes(spatial: tuple[int, ...]) -> None:
    assert RankSEGHead("softmax")(random_logits(2, 3, *spatial)).shape == (2, *spatial)


def test_empty_batch() -> None:
    head = RankSEGHead("softmax", size=(8, 10))
    assert head(torch.empty(0, 3, 4, 5)).shape == (0, 8, 10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_half_precision_logits_are_widened_before_the_activation(
    activation: str, dtype: torch.dtype
) -> None:
    logits = random_logits(1, 3, 16, 20).to(dtype)
    head = RankSEGHead(activation)
    assert head.probabilities(logits).dtype == torch.float32
    torch.testing.assert_close(head(logits), head(logits.float()), rtol=0, atol=0)


def test_float64_stays_float64() -> None:
    logits = random_logits(1, 3, 4, 5).double()
    assert RankSEGHead("softmax", size=(8, 10)).probabilities(logits).dtype == torch.float64


def test_solve_tells_the_expected_score() -> None:
    logits = random_logits(2, 3, 16, 20)
    head = RankSEGHead("softmax", size=(8, 10))
    result = head.solve(logits)
    assert isinstance(result, Segmentation)
    assert result.expected_score.shape == (2, 3)
    torch.testing.assert_close(result.prediction, head(logits), rtol=0, atol=0)


# --- resizing --------------------------------------------------------------------------------


def test_logits_are_resized_before_the_activation() -> None:
    logits = random_logits(2, 3, 8, 10)
    big = F.interpolate(logits, size=(16, 20), mode="bilinear", align_corners=False)
    found = RankSEGHead("softmax", size=(16, 20)).probabilities(logits)
    torch.testing.assert_close(found, big.softmax(1))
    with pytest.raises(AssertionError):  # the other order is another rule
        torch.testing.assert_close(found, resize(logits.softmax(1), (16, 20)))


def test_a_size_for_one_call_replaces_the_heads_own() -> None:
    head = RankSEGHead("softmax", size=(16, 20))
    logits = random_logits(1, 3, 4, 5)
    assert head(logits).shape == (1, 16, 20)
    assert head(logits, size=[6, 7]).shape == (1, 6, 7)
    assert head.solve(logits, size=[6, 7]).prediction.shape == (1, 6, 7)


def test_resized_probabilities_stay_in_range() -> None:
    """Some grids make PyTorch's bilinear weights sum to 1 + 1e-7; the core would refuse that."""
    overshoots = 0
    for source, target in itertools.product(range(2, 12), range(2, 40)):
        ones = torch.ones(1, 1, source, source)
        plain = F.interpolate(ones, (target, target), mode="bilinear", align_corners=False)
        overshoots += bool(plain.max() > 1)
        assert resize(ones, (target, target)).max() <= 1
    assert overshoots, "PyTorch rounds up no more: the clamp can go"


def test_resizing_hides_no_value_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        RankSEGHead(size=(8, 8))(torch.full((1, 2, 4, 4), 1.5))


def test_resizing_volumes_and_signals() -> None:
    assert resize(random_logits(1, 2, 4, 5, 6), (8, 10, 12)).shape == (1, 2, 8, 10, 12)
    assert resize(random_logits(1, 2, 4), (9,)).shape == (1, 2, 9)


MASKED = torch.tensor([[[[1.0, 1.0, -math.inf, -math.inf]], [[0.0, 0.0, 0.0, 0.0]]]])


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_class_ruled_out_stays_so_where_its_pixels_contribute(
    activation: Any, dtype: torch.dtype
) -> None:
    """New pixels lie at 1/4 and 3/4 between old ones; the fourth is 3/4 of 1 and 1/4 of -inf."""
    head = RankSEGHead(activation, size=(2, 8))
    possible = head.probabilities(torch.tensor([[[[1.0]], [[0.0]]]], dtype=dtype))[0, 0, 0, 0]
    found = head.probabilities(MASKED.to(dtype))
    assert found[0, 0].tolist() == [[possible.item()] * 3 + [0.0] * 5] * 2
    assert head(MASKED.to(dtype)).shape[-2:] == (2, 8)


def test_a_class_ruled_out_everywhere_is_never_chosen() -> None:
    logits = random_logits(2, 3, 4, 5)
    logits[:, 1] = -math.inf
    found = RankSEGHead("softmax", size=(9, 11)).probabilities(logits)
    assert found[:, 1].eq(0).all()
    without = RankSEGHead("softmax", size=(9, 11)).probabilities(logits[:, [0, 2]])
    torch.testing.assert_close(found[:, [0, 2]], without, rtol=0, atol=0)
    assert not RankSEGHead("softmax", size=(9, 11))(logits).eq(1).any()


def test_a_pixel_on_top_of_an_old_one_does_not_see_its_neighbour() -> None:
    """Enlarged by 7, the middle pixels repeat the old ones; rounding gives others some 1e-5."""
    logits = torch.zeros(1, 1, 398)
    logits[..., ::2] = -math.inf
    assert (
        F.interpolate(logits.isinf().float(), 398 * 7, mode="linear")[..., 3::7].unique().numel()
        > 2
    ), "the weights are rounded no more: the tolerance can go"
    torch.testing.assert_close(resize(logits, (398 * 7,))[..., 3::7], logits, rtol=0, atol=0)


def test_resizing_keeps_plus_infinity_and_refuses_a_contradiction() -> None:
    certain = torch.tensor([[[[0.0, math.inf, math.inf]]]])
    assert resize(certain, (1, 6)).tolist() == [[[[0.0, *[math.inf] * 5]]]]
    both = torch.tensor([[[[-math.inf, math.inf]]]])
    assert resize(both, (1, 4)).isnan().tolist() == [[[[False, True, True, False]]]]


def test_a_nan_is_reported_for_its_own_class_only() -> None:
    logits = random_logits(1, 3, 4, 4)
    logits[0, 1, 0, 0] = math.nan
    with pytest.raises(ValueError, match="logits contain NaN, in 1 of 3"):
        RankSEGHead("sigmoid", size=(8, 8))(logits)


def test_a_pixel_without_any_class_is_refused_resized_or_not() -> None:
    logits = random_logits(1, 3, 4, 4)
    logits[:, :, 0, 0] = -math.inf
    for size in (None, (8, 8)):
        with pytest.raises(ValueError, match="softmax of the logits is NaN in 3 of 3"):
            RankSEGHead("softmax", size=size)(logits)


def test_resizing_to_the_same_size_copies_nothing() -> None:
    logits = random_logits(1, 2, 4, 5)
    assert resize(logits, (4, 5)) is logits


def test_resizing_needs_the_same_number_of_axes() -> None:
    with pytest.raises(ValueError, match=r"spatial shape \(4, 5\) to \(8,\)"):
        resize(random_logits(1, 2, 4, 5), (8,))
    with pytest.raises(ValueError, match="one to three"):
        resize(random_logits(1, 2, 3, 3, 3, 3), (4, 4, 4, 4))


# --- what networks return --------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: {"out": x},
        lambda x: OrderedDict(out=x, aux=torch.zeros_like(x)),
        lambda x: {"loss": torch.tensor(1.0), "logits": x},
        lambda x: SimpleNamespace(logits=x),
        lambda x: Pair(loss=torch.tensor(1.0), logits=x),
        lambda x: (x, torch.zeros_like(x)),
        lambda x: [x],
    ],
    ids=["tensor", "out", "torchvision", "logits", "object", "namedtuple", "tuple", "list"],
)
def test_head_finds_the_logits(wrap: Any) -> None:
    model = Returns()
    images = image()
    expected = RankSEG()(model(images).softmax(1))
    model.wrap = wrap
    found = nn.Sequential(model, RankSEGHead("softmax"))(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("key", "wrap"),
    [
        ("aux", lambda x: {"out": torch.zeros_like(x), "aux": x}),
        ("masks", lambda x: SimpleNamespace(masks=x, logits=torch.zeros_like(x))),
        (1, lambda x: (torch.tensor(1.0), x)),
        (-1, lambda x: [torch.zeros_like(x), x]),
    ],
    ids=["mapping", "object", "index", "last"],
)
def test_a_key_chooses_the_logits(key: str | int, wrap: Any) -> None:
    logits = random_logits(1, 3, 8, 8)
    found = RankSEGHead("softmax", key=key).probabilities(wrap(logits))
    torch.testing.assert_close(found, logits.softmax(1))


@pytest.mark.parametrize(
    ("key", "returned", "message"),
    [
        (None, {"masks": torch.zeros(1), "n": 2}, r"got dict\(masks: Tensor\(1,\), n: int\)"),
        (None, SimpleNamespace(x=1), "got SimpleNamespace; looked for out and logits"),
        (None, [], r"got list\(\)"),
        (None, None, "got NoneType"),
        (None, ({"out": torch.zeros(1, 2, 3, 3)},), r"got tuple\(dict\)"),
        ("seg", {"out": torch.zeros(1, 2, 3, 3)}, "looked for key='seg'"),
        ("seg", torch.zeros(1, 2, 3, 3), r"got Tensor\(1, 2, 3, 3\); looked for key='seg'"),
        (2, (torch.zeros(1, 2, 3, 3),), "looked for key=2"),
        (0, {"out": torch.zeros(1, 2, 3, 3)}, "looked for key=0"),
    ],
)
def test_unknown_answers_are_described(key: Any, returned: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        RankSEGHead("softmax", key=key)(returned)


def test_a_loss_in_front_is_no_logits() -> None:
    with pytest.raises(ValueError, match=r"got \(\) in tuple\(.*pass key="):
        RankSEGHead("softmax")((torch.tensor(0.3), torch.zeros(1, 2, 4, 4)))


# --- arguments -------------------------------------------------------------------------------


def test_wrong_arguments_are_refused_at_construction() -> None:
    with pytest.raises(ValueError, match="activation must be one of 'none', 'softmax', 'sigmoid'"):
        RankSEGHead("relu")
    with pytest.raises(ValueError, match="metric must be one of"):
        RankSEGHead("softmax", metric="f1")
    with pytest.raises(ValueError, match="no parameter 'sizes'"):
        RankSEGHead("softmax", sizes=(4, 4))
    with pytest.raises(TypeError, match="sequence of ints"):
        RankSEGHead("softmax", size=16)
    with pytest.raises(TypeError, match="head must be a RankSEGHead, got RankSEG"):
        RankSEGModel(Returns(), RankSEG())
    with pytest.raises(ValueError, match="exclude each other"):
        RankSEGModel(Returns(), RankSEGHead(size=(4, 4)), resize_to_input=True)


@pytest.mark.parametrize("size", [(), (0, 4), (4, -1)])
def test_a_size_is_positive(size: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="positive int for each spatial axis"):
        parse_size(size)


def test_a_size_may_be_any_kind_of_ints() -> None:
    assert parse_size(torch.Size([4, 5])) == (4, 5)
    assert parse_size(torch.tensor([4, 5])) == (4, 5)


@pytest.mark.parametrize("size", [(4.0, 5.0), (True, True), torch.tensor([True, True]), "45", 16])
def test_a_size_holds_nothing_but_ints(size: Any) -> None:
    with pytest.raises(TypeError, match="sequence of ints"):
        RankSEGHead("softmax", size=size)


@pytest.mark.parametrize("key", [1.5, True, ["out"], ("out",), torch.tensor(1), b"out"])
def test_a_key_is_a_name_or_a_place(key: Any) -> None:
    kind = type(key).__name__
    with pytest.raises(TypeError, match=f"key must be a str .* or an int .* got {kind} "):
        RankSEGHead("softmax", key=key)


def test_softmax_over_one_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="use activation='sigmoid'"):
        RankSEGHead("softmax")(random_logits(1, 1, 4, 4))


@pytest.mark.parametrize("size", [None, (8, 8), (4, 4)], ids=["as-is", "resized", "same-size"])
@pytest.mark.parametrize(
    ("tensor", "error", "message"),
    [
        (torch.zeros(1, 2, 4, 4, dtype=torch.int64), TypeError, "float32, float64; got int64"),
        (torch.zeros(1, 2, 4, 4, dtype=torch.bool), TypeError, "float32, float64; got bool"),
        (torch.zeros(1, 2, 4, 4, dtype=torch.cfloat), TypeError, "got complex64"),
        (torch.zeros(1, 2, 4, 4).to_sparse(), TypeError, "dense tensor.*got a torch.sparse_coo"),
        (torch.zeros(1, 2, 4, 4, device="meta"), TypeError, "dense tensor.*got a meta"),
        (torch.zeros(1, 2, 0, 4), ValueError, r"no empty class or spatial.*\(1, 2, 0, 4\)"),
        (torch.zeros(1, 0, 4, 4), ValueError, r"no empty class or spatial.*\(1, 0, 4, 4\)"),
    ],
    ids=["int", "bool", "complex", "sparse", "meta", "no-pixels", "no-classes"],
)
@pytest.mark.parametrize(
    ("activation", "name"), [("softmax", "logits"), ("sigmoid", "logits"), ("none", "probs")]
)
def test_what_cannot_be_decoded_is_refused_before_any_work(
    activation: Any,
    name: str,
    tensor: Tensor,
    error: type[Exception],
    message: str,
    size: tuple[int, int] | None,
) -> None:
    with pytest.raises(error, match=f"{name} must .*{message}"):
        RankSEGHead(activation, size=size)(tensor)


def test_logits_without_an_activation_are_refused() -> None:
    with pytest.raises(ValueError, match="apply softmax or sigmoid"):
        RankSEGHead()(random_logits(1, 3, 4, 4))


# --- the wrapper as a module -----------------------------------------------------------------


def test_model_runs_and_decodes() -> None:
    model = Returns(lambda x: {"out": x})
    images = image()
    wrapper = RankSEGModel(model, RankSEGHead("softmax", metric="iou"))
    expected = RankSEG(metric="iou")(model(images)["out"].softmax(1))
    torch.testing.assert_close(wrapper(images), expected, rtol=0, atol=0)
    torch.testing.assert_close(wrapper.solve(images).prediction, expected, rtol=0, atol=0)


def test_model_resizes_to_its_input() -> None:
    model = Returns(stride=4)
    images = image(2, 16, 20)
    wrapper = RankSEGModel(model, RankSEGHead("softmax"), resize_to_input=True)
    big = F.interpolate(model(images), size=(16, 20), mode="bilinear", align_corners=False)
    expected = RankSEG()(big.softmax(1))
    torch.testing.assert_close(wrapper(images), expected, rtol=0, atol=0)
    torch.testing.assert_close(wrapper(image=images), expected, rtol=0, atol=0)
    assert wrapper.solve(images).prediction.shape == (2, 16, 20)
    assert RankSEGModel(model, RankSEGHead("softmax"))(images).shape == (2, 4, 5)


def test_resizing_to_the_input_needs_a_tensor() -> None:
    wrapper = RankSEGModel(nn.Identity(), RankSEGHead("softmax"), resize_to_input=True)
    with pytest.raises(TypeError, match="needs a tensor among the arguments"):
        wrapper([random_logits(1, 3, 4, 4)])


class Tokens(nn.Module):
    """A network whose first argument is no image."""

    def forward(self, ids: Tensor, image: Tensor) -> dict[str, Tensor]:
        return {"logits": image[:, :, ::2, ::2] + ids.sum()}


@pytest.mark.parametrize(
    "ids", [torch.ones(2), torch.ones(2, 7), torch.ones(2, 7, 9), torch.ones(2, 7, 0, 9)]
)
def test_resizing_to_the_input_names_a_first_tensor_that_is_no_image(ids: Tensor) -> None:
    wrapper = RankSEGModel(Tokens(), RankSEGHead("softmax"), resize_to_input=True)
    images = random_logits(2, 3, 8, 10)
    told = rf"of shape \({', '.join(map(str, ids.shape))},?\).*\(2, 3, 4, 5\): pass the image"
    with pytest.raises(ValueError, match=f"positional argument 1 {told}"):
        wrapper(ids, images)
    with pytest.raises(ValueError, match=f"argument 'ids' {told}"):
        wrapper.solve(ids=ids, image=images)
    assert wrapper(image=images, ids=ids).shape == (2, 8, 10)


def test_no_gradient_is_recorded_and_the_input_is_kept() -> None:
    logits = random_logits(1, 3, 8, 8).requires_grad_()
    before = logits.detach().clone()
    head = RankSEGHead("softmax", size=(16, 16))
    assert not head.probabilities(logits).requires_grad
    assert not head.solve(logits).expected_score.requires_grad
    torch.testing.assert_close(logits.detach(), before, rtol=0, atol=0)
    seen = []
    model = Returns(lambda x: seen.append(x.requires_grad) or x)
    RankSEGModel(model, RankSEGHead("softmax"))(image())
    assert seen == [False], "the model's graph would be kept for nothing"


def test_inference_mode() -> None:
    wrapper = RankSEGModel(Returns(stride=2), RankSEGHead("softmax"), resize_to_input=True)
    images = image()
    with torch.inference_mode():
        found = wrapper(images)
    torch.testing.assert_close(found, wrapper(images), rtol=0, atol=0)


def test_state_dict_is_the_models_under_a_prefix() -> None:
    model = Returns()
    wrapper = RankSEGModel(model, RankSEGHead("softmax"))
    assert list(wrapper.state_dict()) == [f"model.{name}" for name in model.state_dict()]
    other = RankSEGModel(Returns(), RankSEGHead("softmax"))
    other.load_state_dict(wrapper.state_dict())
    images = image()
    torch.testing.assert_close(other(images), wrapper(images), rtol=0, atol=0)
    assert not list(RankSEGHead().parameters())


def test_mode_follows_the_user() -> None:
    wrapper = RankSEGModel(nn.Sequential(nn.Dropout(), Returns()), RankSEGHead("softmax"))
    images = image()
    wrapper(images)
    assert wrapper.model.training
    wrapper.eval()
    assert not wrapper.model.training
    torch.testing.assert_close(wrapper(images), wrapper(images), rtol=0, atol=0)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_decide_alike(twin: Any) -> None:
    head = RankSEGHead("softmax", size=(16, 20), key="out", metric="iou")
    wrapper = RankSEGModel(Returns(), RankSEGHead("softmax", metric="iou"))
    images, logits = image(), {"out": random_logits(1, 3, 8, 10)}
    torch.testing.assert_close(twin(wrapper)(images), wrapper(images), rtol=0, atol=0)
    torch.testing.assert_close(twin(head)(logits), head(logits), rtol=0, atol=0)


def test_printing_shows_the_settings() -> None:
    text = repr(RankSEGHead("softmax", size=[4, 5], metric="iou"))
    assert "activation='softmax', size=(4, 5), key=None" in text
    assert "metric='iou'" in text


# --- real networks ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "fcn_resnet50"])
def test_torchvision_models(name: str) -> None:
    segmentation = pytest.importorskip("torchvision.models.segmentation")
    options: dict[str, Any] = {"aux_loss": True} if name.startswith("fcn") else {}
    model = getattr(segmentation, name)(
        weights=None, weights_backbone=None, num_classes=3, **options
    ).eval()
    images = image(1, 64, 48)
    with torch.no_grad():
        returned = model(images)
    expected = RankSEG(metric="dice", pruning_prob=0.0)(returned["out"].softmax(1))
    head = RankSEGHead("softmax", metric="dice", pruning_prob=0.0)
    assert expected.shape == (1, 64, 48)
    assert expected.unique().numel() > 1
    torch.testing.assert_close(nn.Sequential(model, head)(images), expected, rtol=0, atol=0)
    torch.testing.assert_close(RankSEGModel(model, head)(images), expected, rtol=0, atol=0)
