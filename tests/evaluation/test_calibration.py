"""Fitted calibrators find what bent the probabilities, and never see the images left out."""

import sys

import numpy as np
import pytest
import torch
from simulated import labels_of, masks_of, smooth_logits

from rankseg import Calibrator
from rankseg.evaluation import fit_calibrator
from rankseg.evaluation.calibration import METHODS, fit
from rankseg.evaluation.images import Images


def truth_and_logits(images: int, masks: bool, seed: int = 0, classes: int = 3):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(images):
        logits = smooth_logits(generator, classes)
        probs = logits.sigmoid() if masks else logits.softmax(1)
        truth = (masks_of if masks else labels_of)(probs, generator)
        found.append((logits, truth, f"{index}"))
    return found


def bent(pairs, masks: bool, factor: float = 1.0, shift=(0.0, 0.0, 0.0)):
    """Probabilities of a model whose logits are off by a factor and shifts."""
    column = torch.tensor(shift).reshape(1, -1, 1, 1)
    wrong = [(x * factor + column, y, n) for x, y, n in pairs]
    return [(x.sigmoid() if masks else x.softmax(1), y, n) for x, y, n in wrong]


def loss(pairs, masks: bool, calibrator=None) -> float:
    """Mean negative log likelihood, in float64."""
    total = count = 0.0
    for probs, truth, _ in pairs:
        p = (probs if calibrator is None else calibrator(probs)).double().clamp(1e-9, 1 - 1e-9)
        each = torch.where(truth, p, 1 - p) if masks else p.gather(1, truth[:, None])
        total, count = total - each.log().sum().item(), count + each.numel()
    return total / count


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_a_temperature_is_found(masks, factor):
    pairs = bent(truth_and_logits(30, masks), masks, factor)
    for method in ("temperature", "class_temperature", "vector"):
        found = fit_calibrator(pairs, method)
        assert found.kind == ("sigmoid" if masks else "softmax")
        assert found.slope == pytest.approx([1 / factor] * 3, rel=0.06)
        assert found.offset == pytest.approx([0.0] * 3, abs=0.12)  # three standard errors or so


@pytest.mark.parametrize("masks", [False, True])
def test_vector_scaling_finds_offsets(masks):
    pairs = bent(truth_and_logits(30, masks), masks, 1.0, (0.0, 1.0, -2.0))
    found = fit_calibrator(pairs, "vector")
    assert found.offset == pytest.approx([0.0, -1.0, 2.0], abs=0.1)
    assert found.slope == pytest.approx([1.0] * 3, abs=0.06)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [0.4, 3.0])
def test_four_fifths_of_the_loss_come_back(masks, method, factor):
    """On new images; the loss is that over the true probabilities."""
    train, test = truth_and_logits(30, masks), truth_and_logits(20, masks, seed=9)
    calibrator = fit_calibrator(bent(train, masks, factor), method)
    right, wrong = bent(test, masks), bent(test, masks, factor)
    lost = loss(wrong, masks) - loss(right, masks)
    left = loss(wrong, masks, calibrator) - loss(right, masks)
    assert left < 0.2 * lost


@pytest.mark.parametrize("masks", [False, True])
def test_newton_ends_where_nothing_is_better(masks):
    """The loss of neighbours in every direction is not lower (the prior is worth one pixel)."""
    pairs = bent(truth_and_logits(8, masks), masks, 2.0, (0.3, 0.0, -0.4))
    found = fit_calibrator(pairs, "vector")
    best = loss(pairs, masks, found)
    for place in range(6):
        for step in (-0.02, 0.02):
            numbers = [*found.slope, *found.offset]
            numbers[place] += step
            other = Calibrator(found.kind, tuple(numbers[:3]), tuple(numbers[3:]))
            assert loss(pairs, masks, other) > best - 1e-6


def test_isotonic_is_that_of_scikit_learn_on_the_pixels():
    pytest.importorskip("sklearn")
    from sklearn.isotonic import IsotonicRegression

    generator = torch.Generator().manual_seed(0)
    levels = torch.tensor([0.05, 0.2, 0.3, 0.5, 0.8, 0.9])
    rates = np.array([0.1, 0.05, 0.4, 0.3, 0.35, 0.95])  # not rising: blocks are pooled
    place = torch.randint(0, 6, (1, 1, 4000), generator=generator)
    truth = torch.rand(place.shape, generator=generator) < torch.tensor(rates)[place]
    found = fit_calibrator([(levels[place], truth)], "isotonic")
    p, y = levels[place].flatten().numpy(), truth.flatten().double().numpy()
    pooled = IsotonicRegression().fit(p, y).predict(p)
    for height in np.unique(pooled):
        centre = p[pooled == height].mean(dtype=np.float64)
        ours = found(torch.tensor([[[centre]]], dtype=torch.float64)).item()
        assert ours == pytest.approx(height, abs=1e-6)
    curve = np.array(found.points[0])
    assert (np.diff(curve, axis=0) > 0).all(), "ranks are kept: no plateau between the blocks"


def test_ignored_pixels_teach_nothing():
    pairs = bent(truth_and_logits(8, False), False, 2.0)
    spoiled = []
    for probs, truth, name in pairs:
        half = truth.clone()
        half[..., :16] = 255
        kept = (probs[..., 16:], truth[..., 16:], name)
        spoiled.append(((probs, half, name), kept))
    for method in METHODS:
        found = fit_calibrator([one for one, _ in spoiled], method, ignore_index=255)
        alone = fit_calibrator([one for _, one in spoiled], method)
        assert found.slope == pytest.approx(alone.slope, rel=1e-4)
        for mine, theirs in zip(found.points, alone.points, strict=True):
            assert np.allclose(mine, theirs, atol=1e-6) is True


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("masks", [False, True])
def test_what_is_left_out_teaches_nothing(method, masks):
    pairs = bent(truth_and_logits(9, masks), masks, 2.0)
    images = Images.of(pairs, None, "none", None, "raise")
    whole, *without = fit(images, method, 3, lambda name: int(name) % 3)
    assert _same(whole, fit_calibrator(pairs, method))
    for fold, found in enumerate(without):
        rest = [pair for pair in pairs if int(pair[2]) % 3 != fold]
        assert _same(found, fit_calibrator(rest, method))
        assert found != whole


def _same(one: Calibrator, other: Calibrator) -> bool:
    numbers = [
        [*c.slope, *c.offset, *(x for curve in c.points for point in curve for x in point)]
        for c in (one, other)
    ]
    return len(numbers[0]) == len(numbers[1]) and np.allclose(*numbers, atol=2e-3)


def test_logits_are_read_with_their_activation():
    pairs = truth_and_logits(10, False)
    logits = [(x * 2, y, n) for x, y, n in pairs]
    found = fit_calibrator(logits, activation="softmax")
    assert found.slope == pytest.approx(fit_calibrator(bent(pairs, False, 2.0)).slope, rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_extremes_end_in_a_calibrator(method):
    """A perfect model, one that is always wrong, classes that never come, hard zeros and ones."""
    pytest.importorskip("sklearn")
    labels = torch.randint(0, 2, (1, 9, 9), generator=torch.Generator().manual_seed(0))
    perfect = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    soft = perfect * 0.9 + 0.1 / 3
    for probs in (perfect, soft, perfect.flip(1), torch.full_like(soft, 1 / 3)):
        for masks in (False, True):
            truth = perfect.bool() if masks else labels
            found = fit_calibrator([(probs, truth)], method)
            calibrated = found(probs)
            assert bool(((calibrated >= 0) & (calibrated <= 1)).all())
    one = fit_calibrator([(soft[:, :1], labels == 0)], method, output_mode="multiclass")
    assert one.classes == 1


def test_a_pair_that_cannot_be_used_is_named():
    pairs = bent(truth_and_logits(3, False), False)
    pairs[1] = (pairs[1][0] * 3, *pairs[1][1:])
    with pytest.raises(ValueError, match="1: probs must lie in"):
        fit_calibrator(pairs)
    assert fit_calibrator(pairs, on_error="skip").classes == 3
    with pytest.raises(ValueError, match="there is no image to fit a calibrator on"):
        fit_calibrator([])
    with pytest.raises(ValueError, match="method must be one of"):
        fit_calibrator(pairs, "platt")
    with pytest.raises(TypeError, match="gives them once"):
        fit_calibrator(iter(pairs))


def test_isotonic_says_what_is_missing(monkeypatch):
    for name in ("sklearn", "sklearn.isotonic"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'sklearn .*pip install "scikit-learn>=1.4"'):
        fit_calibrator(bent(truth_and_logits(1, False), False), "isotonic")
