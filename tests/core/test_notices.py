"""What is allowed and most probably not meant is warned of: once, and never a sound call."""

import math
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from simulated import smooth_logits
from torch import Tensor

from rankseg import RankSEG, expected_score
from rankseg.functional import rankseg
from rankseg.layout import check_classes_axis

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def logits(classes: int, scale: float = 20.0, size: int = 64) -> Tensor:
    """Of a network that is sure of most pixels, as many as it takes to be judged."""
    return smooth_logits(torch.Generator().manual_seed(classes), classes, size, scale)


def notices(call: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(one.category is UserWarning for one in caught)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", [2, 3, 19, 150])
def test_softmax_twice(classes: int, dtype: torch.dtype) -> None:
    once = logits(classes).softmax(1).to(dtype)
    ends = f"from {1 / (math.e + classes - 1):.3g} to {math.e / (math.e + classes - 1):.3g}"
    (text,) = notices(lambda: RankSEG("dice")(once.softmax(1)))
    assert text.startswith(f"probs fill the range {ends}, as softmax applied twice does; if so")
    (text,) = notices(lambda: RankSEG("dice", activation="softmax")(once))
    assert text.startswith(f"softmax of the logits fills the range {ends}, as softmax of prob")
    assert text.endswith("leave out activation='softmax'")
    assert notices(lambda: RankSEG("dice")(once)) == []
    assert notices(lambda: RankSEG("dice", activation="softmax")(logits(classes).to(dtype))) == []


@pytest.mark.parametrize("classes", [1, 3])
def test_sigmoid_twice(classes: int) -> None:
    once = logits(classes).sigmoid()
    plain, activated = RankSEG("iou", "multilabel"), RankSEG("iou", activation="sigmoid")
    (text,) = notices(lambda: plain(once.sigmoid()))
    assert text.startswith("probs fill the range from 0.5 to 0.731, as sigmoid applied twice does")
    (text,) = notices(lambda: activated(once))
    assert text.startswith("sigmoid of the logits fills the range from 0.5 to 0.731")
    assert notices(lambda: plain(once)) == []
    assert notices(lambda: activated(logits(classes))) == []


TWICE = torch.cat([logits(3), logits(3).flip(1)]).softmax(1).softmax(1)
COUNTED = torch.ones(2, 64, 64, dtype=torch.bool).index_fill(0, torch.tensor(1), False)


@pytest.mark.parametrize(
    "call",
    [
        lambda: rankseg(TWICE),
        lambda: RankSEG("dice").solve(TWICE),
        lambda: RankSEG("dice", backend="torch").predict(TWICE),
        lambda: RankSEG("dice", aggregation="dataset").predict(TWICE),
        lambda: RankSEG("dice").predict(TWICE, COUNTED),
        lambda: RankSEG("dice").decide([TWICE[:1], TWICE[1:]]),
        lambda: RankSEG("dice", "multilabel").decide([TWICE], one_pass=True),
        lambda: expected_score(TWICE, TWICE.argmax(1)),
    ],
    ids=["function", "solve", "torch", "dataset", "valid_mask", "tiles", "one pass", "score"],
)
def test_every_door_says_it_once(call: Callable[[], object]) -> None:
    assert [text.split("; ")[0] for text in notices(call)] == [
        "probs fill the range from 0.212 to 0.576, as softmax applied twice does"
    ]


def test_it_is_said_of_the_line_that_calls_and_once_in_a_loop() -> None:
    network = torch.nn.Sequential(torch.nn.Identity(), RankSEG("dice"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for strength in (20.0, 30.0, 40.0):
            network(logits(3, strength).softmax(1).softmax(1))
    assert [one.filename for one in caught] == [__file__]


def unsure_maps() -> Iterator[Tensor]:
    """Softmax and sigmoid maps from nearly flat to nearly certain, and a few odd ones."""
    for classes in (1, 3, 8, 19):
        for scale in (0.02, 0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 4.0, 10.0):
            values = logits(classes, scale)
            yield values.sigmoid()
            if classes > 1:
                yield values.softmax(1)
    flat = torch.ones(1, 2, 64, 64)
    yield from (flat / 2, flat * 0.72, flat[:, :1] * 0.5, flat[:, :1] * 0.73, flat * 0, flat)


def test_unsure_networks_are_left_alone() -> None:
    assert notices(lambda: [RankSEG("iou", "multilabel")(probs) for probs in unsure_maps()]) == []


def test_a_range_that_ends_somewhat_inside_is_left_alone() -> None:
    one = torch.linspace(0.29, 0.71, 80 * 80).reshape(1, 1, 80, 80)
    assert notices(lambda: RankSEG("dice")(torch.cat([one, 1 - one], 1))) == []


def test_small_crops_are_left_alone() -> None:
    crop = logits(3, size=63).softmax(1).softmax(1)
    assert notices(lambda: RankSEG("dice")(crop)) == []
    assert len(notices(lambda: RankSEG("dice")(torch.cat([crop, crop])))) == 1


WRONG = {
    "one image": (3, 64, 48),
    "one volume": (4, 33, 8, 8),
    "channels last": (2, 16, 16, 3),
    "one channels last": (16, 16, 3),
}


def wrong(name: str, dtype: torch.dtype = torch.float32) -> Tensor:
    values = torch.randn(WRONG[name], generator=torch.Generator().manual_seed(0))
    return values.softmax(-1 if "last" in name else 0).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("one image", "axis 0, of length 3, and.*: for one image .* pass probs\\[None\\]$"),
        ("one volume", "axis 0, of length 4, and.*: for one image .* pass probs\\[None\\]$"),
        ("channels last", "axis 3, of length 3, and.*pass probs.movedim\\(-1, 1\\)$"),
        ("one channels last", "axis 2, of length 3, and.* is probs.movedim\\(-1, 0\\)\\[None\\]$"),
    ],
)
def test_another_axis_is_the_classes(name: str, text: str, dtype: torch.dtype) -> None:
    probs = wrong(name, dtype)
    with pytest.warns(UserWarning, match=f"^probs sum to 1 along {text}"):
        RankSEG("dice")(probs)
    with pytest.warns(UserWarning, match=text):
        expected_score(probs, torch.zeros(probs.shape, dtype=torch.bool))


@pytest.mark.parametrize("classes", [2, 3, 19])
@pytest.mark.parametrize("factor", [8, 16])
def test_axes_of_enlarged_maps(classes: int, factor: int) -> None:
    """Whose pixels at a corner are all alike."""
    small = torch.randn(1, classes, 20, 20, generator=torch.Generator().manual_seed(0)) * 4
    probs = F.interpolate(small, scale_factor=factor, mode="bilinear").softmax(1)
    assert notices(lambda: RankSEG("dice")(probs)) == []
    for given in (probs[0], probs[0].movedim(0, -1), probs.movedim(1, -1)):
        assert len(notices(lambda given=given: RankSEG("dice")(given))) == 1
    with pytest.raises(ValueError, match="sum to 1 along another axis"):
        check_classes_axis(probs[0].movedim(0, -1)[None])


@pytest.mark.parametrize("images", [1, 2, 3])
def test_tokens_with_their_classes_last(images: int) -> None:
    probs = torch.randn(images, 400, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
    assert len(notices(lambda: RankSEG("dice")(probs))) == 1


@pytest.mark.parametrize(
    "shape", [(3, 4, 100), (1, 64, 48), (5, 40, 6, 6), (2, 9, 16, 4), (1, 9, 1), (0, 5, 3)]
)
def test_right_axes_are_left_alone(shape: tuple[int, ...]) -> None:
    probs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert notices(lambda: RankSEG("dice")(probs.softmax(1))) == []
    assert notices(lambda: RankSEG("dice")(probs.sigmoid())) == []
    assert notices(lambda: RankSEG("dice")(torch.full(shape, 1 / max(shape[0], 1)))) == []
    assert notices(lambda: RankSEG("dice", activation="softmax")(probs)) == []


def test_images_that_complement_one_another_are_left_alone() -> None:
    one = torch.rand(1, 1, 100, generator=torch.Generator().manual_seed(0))
    both = torch.cat([torch.cat([one, 1 - one], 1), torch.cat([1 - one, one], 1)])
    assert notices(lambda: RankSEG("dice")(both)) == []  # they sum to 1 along both axes


def test_an_image_of_ones_beside_one_of_zeros_is_left_alone() -> None:
    ones = torch.ones(1, 5, 40)
    assert notices(lambda: RankSEG("dice", "multilabel")(torch.cat([ones, 0 * ones]))) == []
    sure = 1 - torch.rand(4, 3, 6, 1, generator=torch.Generator().manual_seed(0)) / 1000
    assert notices(lambda: RankSEG("dice", "multilabel")(sure)) == []  # along the last axis alone
    few = torch.rand(1, 3, 4, generator=torch.Generator().manual_seed(0))
    assert notices(lambda: RankSEG("dice", "multilabel")(torch.cat([few, 1 - few]))) == []


@pytest.mark.parametrize("probs", [TWICE, wrong("one image")], ids=["twice", "axes"])
def test_graphs_are_not_disturbed(probs: Tensor) -> None:
    decide = RankSEG("dice")
    compiled = torch.compile(decide, fullgraph=True, backend="eager")
    program = torch.export.export(decide, (probs,)).module()
    for call in (compiled, program, lambda probs: torch.vmap(decide)(probs[None])):
        assert notices(lambda call=call: call(probs)) == []


def test_the_meaning_of_usual_shapes_costs_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*given: object) -> bool:
        raise AssertionError("the values were read")

    monkeypatch.setattr("rankseg.validation.axes.classes_lie_along", look)
    for shape in ((2, 19, 32, 64), (1, 3, 8, 8, 8), (1, 150, 160, 160), (1, 2, 100)):
        RankSEG("dice")(torch.rand(shape).softmax(1))
    with pytest.raises(AssertionError, match="were read"):
        RankSEG("dice")(wrong("one image"))
