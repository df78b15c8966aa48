"""The compiled passes give the numbers of plain torch, bit for bit, and are safe to run."""

import numpy as np
import pytest
import torch
from interpreted_numba import INTERPRETED

from rankseg.fields import LabelRule, TensorField, field_for, numba_cpu
from rankseg.fields.base import Windows
from rankseg.fields.numba_cpu import NumbaField
from rankseg.objectives import Dice, IoU, ratio_family

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SHAPES = [(1, 1, 1), (3, 2, 2, 3, 4), (1, 9, 50, 51), (2, 3, 60, 71)]


@pytest.fixture(params=["whole", "cut up"], autouse=True)
def _cut_up(request, monkeypatch):
    """Small images as one piece, and as many pieces, as large ones are."""
    before = torch.get_num_threads()
    if request.param == "cut up":
        monkeypatch.setattr(numba_cpu, "ENOUGH", 10 if INTERPRETED else 1000)
        torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


KINDS = {
    "random": lambda random, shape: random.random(shape),
    "ties": lambda random, shape: random.integers(0, 5, shape) / 4,
    "confident": lambda random, shape: random.beta(0.05, 0.1, shape),
    "tiny rows": lambda random, shape: (
        random.random(shape)
        * 10.0 ** -random.integers(0, 12, (*shape[:2], *[1] * (len(shape) - 2)))
    ),
    "below the smallest normal number": lambda random, shape: random.random(shape) * 1e-40,
    "below the smallest float32": lambda random, shape: random.random(shape) * 1e-300,
    "zeros": lambda random, shape: np.zeros(shape),
    "ones": lambda random, shape: np.ones(shape),
    "negative zeros": lambda random, shape: -0.0 * random.random(shape),
}

CASES = [(shape, "random") for shape in SHAPES] + [((2, 3, 60, 71), kind) for kind in KINDS]
LONG_ROWS = [((1, 4, 70_001), kind) for kind in KINDS]
if INTERPRETED:  # microseconds a pixel: each line, with each type
    CASES = [((3, 2, 2, 3, 4), "random"), ((1, 9, 3, 4), "tiny rows")]
    LONG_ROWS = [((1, 2, 160), "confident")]


def values(shape, kind="random", dtype=torch.float32, seed=0):
    return torch.from_numpy(KINDS[kind](np.random.default_rng(seed), shape)).to(dtype)


def thresholds(shape, seed=1):
    return torch.rand(shape[:2], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layouts(tensor, kind="random"):
    """The same values in every order of memory; of unusual values in two of them."""
    yield "contiguous", tensor
    yield "classes last", tensor.movedim(1, -1).contiguous().movedim(-1, 1)
    if kind != "random" or INTERPRETED:
        return
    yield "every other pixel", torch.stack([tensor, tensor], -1)[..., 0]
    yield "one of many images", torch.cat([tensor, tensor])[: tensor.shape[0]]
    yield "first classes of more", torch.cat([tensor, tensor], 1)[:, : tensor.shape[1]]
    yield "classes reversed", tensor.flip(1).contiguous().flip(1)
    yield "transposed", tensor.transpose(-1, -2).contiguous().transpose(-1, -2)


def same(found, expected):
    assert torch.equal(found.selected_sum, expected.selected_sum)
    assert torch.equal(found.volume, expected.volume)


@pytest.mark.parametrize(("shape", "kind"), CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums(shape, kind, dtype):
    probs = values(shape, kind, dtype)
    plain = TensorField(probs)
    for _, tensor in layouts(probs, kind):
        fast = NumbaField(tensor)
        for name in ("mu", "lowest", "peak"):
            assert torch.equal(getattr(fast.totals(), name), getattr(plain.totals(), name)), name
        at_a_pixel = probs.flatten(2)[..., shape[-1] // 2].double().abs()
        for threshold in (at_a_pixel, thresholds(shape), thresholds(shape) * plain.totals().peak):
            same(fast.above(threshold), plain.above(threshold))
            same(fast.claimed_once(threshold), plain.claimed_once(threshold))
            assert torch.equal(fast.select(threshold), plain.select(threshold))
        assert torch.equal(fast.histogram(64, 2.0**30), plain.histogram(64, 2.0**30))
        everything, some = windows(shape)
        for ask in (everything, some):
            assert torch.equal(fast.spread(ask), plain.spread(ask))
        masks = values(shape, seed=2) < 0.4
        assert torch.equal(fast.spread(some, masks), plain.spread(some, masks))
        same(fast.within(masks), plain.within(masks))
        labels = (values((shape[0], *shape[2:]), seed=3) * (shape[1] + 2)).long() - 1
        same(fast.measure(labels), plain.measure(labels))
        assert torch.equal(fast.spread(some, labels), plain.spread(some, labels))


def windows(shape):
    """All of every row; and some windows, two of them in one row."""
    rows = [(image, class_) for image in range(shape[0]) for class_ in range(shape[1])]
    everything = Windows(tuple(rows), (0.0,) * len(rows), (1.0,) * len(rows), 256, 2.0**40)
    few = (*rows[:2], rows[0])
    low, width = (0.25, 0.0, 0.75)[: len(few)], (0.25, 2.0**-10, 2.0**-8)[: len(few)]
    return everything, Windows(few, low, width, 16, 2.0**38)


def rules(shape):
    """Label rules: nobody claims, few or all claim, few or all are eligible."""
    random = np.random.default_rng(4)
    for claims, share in ((1.0, 1.0), (0.7, 0.5), (0.2, 0.0), (0.0, 1.0)):
        numbers = (
            np.clip(claims + 0.2 * (random.random(shape[:2]) - 0.5), 0, 1),
            random.random(shape[:2]) < share,
            random.uniform(1, 2, shape[:2]),
            random.uniform(0, 1, shape[:2]),
            random.uniform(0, 0.5, shape[:2]) * (random.random() < 0.5),
        )
        yield LabelRule(*map(torch.from_numpy, numbers), void_index=-7)
    one, none = np.ones(shape[:2]), np.zeros(shape[:2])
    numbers = (one, one.astype(bool), one, none, none)  # argmax: the first of equal classes wins
    yield LabelRule(*map(torch.from_numpy, numbers), void_index=-7)
    for bend in (0.0, 0.5):  # nobody claims, some are eligible
        numbers = (
            one,
            random.random(shape[:2]) < 0.6,
            random.uniform(1, 2, shape[:2]),
            random.uniform(0, 1, shape[:2]),
            random.uniform(0, bend, shape[:2]),
        )
        yield LabelRule(*map(torch.from_numpy, numbers), void_index=255)


@pytest.mark.parametrize(("shape", "kind"), CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_labels(shape, kind, dtype):
    probs = values(shape, kind, dtype)
    plain = TensorField(probs)
    for rule in rules(shape):
        expected = plain.assign(rule)
        for name, tensor in layouts(probs, kind):
            fast = NumbaField(tensor)
            assert torch.equal(fast.assign(rule), expected), name
            same(fast.regions(rule), plain.measure(expected))


@pytest.mark.parametrize(("shape", "kind"), [*CASES, *LONG_ROWS])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", ["dice", "iou"])
def test_best(shape, kind, dtype, metric):
    probs = values(shape, kind, dtype)
    family = ratio_family(metric, 0.0, {})
    each = torch.rand(shape[1], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for limit in (torch.zeros_like(each), torch.full_like(each, 0.5), each):
        expected = TensorField(probs).best(family, limit, masks=True)
        for name, tensor in layouts(probs, kind):
            fast = NumbaField(tensor)
            found = fast.best(family, limit, masks=True)
            assert torch.equal(found.masks, expected.masks), name
            assert torch.equal(found.threshold, expected.threshold), name
            assert torch.equal(found.active, expected.active), name
            same(found.region, expected.region)
            assert fast.best(family, limit, masks=False).masks is None


@pytest.mark.parametrize("metric", [Dice, IoU])
def test_the_first_cut_changes_nothing(metric):
    probs = values((1, 3, 70_001), "confident")
    field = NumbaField(probs)
    everyone = torch.ones(1, 3, dtype=torch.bool)
    ratio = metric(field.totals().mu).ratio
    expected = field.maximise(ratio, everyone)
    for first in (0.0, 0.01, 0.3, 0.9, 0.9999):
        found = field.maximise(ratio, everyone, torch.full((1, 3), first, dtype=torch.float64))
        assert torch.equal(found[0], expected[0])
        same(found[1], expected[1])


@pytest.mark.parametrize("bad", [float("nan"), -1e-6, 1.0001, float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_that_are_no_probabilities_show_in_the_totals(bad, dtype):
    probs = values((2, 3, 5000), dtype=dtype)
    probs[1, 2, 4321] = bad
    probs[1, 1, :2] = torch.tensor([-1e-6, -0.5])  # bits of negative numbers rise as these fall
    plain = TensorField(probs).totals()
    for _, tensor in layouts(probs):
        limit = torch.full((3,), 0.5, dtype=torch.float64)
        family = ratio_family("dice", 0, {})
        for ask in (NumbaField.totals, lambda f: f.best(family, limit, True)):  # noqa: B023
            field = NumbaField(tensor)
            ask(field)
            found = field.totals()
            assert torch.equal(found.lowest, plain.lowest) or plain.lowest.isnan().any()
            assert torch.equal(found.peak.isnan(), plain.peak.isnan())
            assert torch.equal(found.peak.nan_to_num(), plain.peak.nan_to_num())


def test_automatic_choice():
    probs = values((1, 3, 5))
    assert isinstance(field_for(probs), NumbaField)
    assert isinstance(field_for(probs, backend="numba"), NumbaField)
    assert type(field_for(probs, backend="torch")) is TensorField
    many = torch.rand(1, numba_cpu.kernels.MOST_CLASSES + 1, 1)
    assert type(field_for(many)) is TensorField
    with pytest.raises(ValueError, match=r"'numba' takes 32768 classes at most, got 32769"):
        field_for(many, backend="numba")
