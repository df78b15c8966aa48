"""Scores are torchmetrics' under every convention, and a plain computation's where it has none."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankseg import RankSEG
from rankseg.evaluation import evaluate

tm = pytest.importorskip("torchmetrics.functional.segmentation", exc_type=ImportError)
classification = pytest.importorskip("torchmetrics.functional.classification")


def some(seed: int, images: int = 6, classes: int = 4, side: int = 7):
    """Pairs where some classes are absent from some images."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, side, side, generator=generator) * 3
    logits[::2, -1] -= 30  # hardly ever predicted
    labels = torch.randint(0, classes - 1, (images, side, side), generator=generator)
    labels[1::3, :3] = classes - 1
    return logits.softmax(1), labels


def fixed(predictions: torch.Tensor):
    """A decider that returns known predictions, image by image."""
    left = iter(predictions.split(1))
    return lambda probs: next(left)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_labels_against_torchmetrics(seed, background):
    probs, labels = some(seed)
    found = evaluate([(probs, labels)], {}, include_background=background)
    predicted, classes = probs.argmax(1), probs.shape[1]
    row = found.contenders["argmax"]
    how = {"num_classes": classes, "include_background": background, "input_format": "index"}
    for level, table in (("samplewise", row.per_image), ("global", row.per_dataset)):
        score = tm.dice_score(predicted, labels, average="macro", aggregation_level=level, **how)
        assert table["dice"].value == pytest.approx(score.double().nanmean().item(), abs=1e-6)
    each = tm.dice_score(
        predicted, labels, average="none", num_classes=classes, input_format="index"
    ).double()
    assert row.image_classes["dice"] == pytest.approx(
        each.nanmean(0).tolist(), abs=1e-6, nan_ok=True
    )
    iou = tm.mean_iou(predicted, labels, per_class=True, **how).double()
    iou[iou < 0] = torch.nan  # torchmetrics' mark of a class that is nowhere
    assert row.per_image["iou"].value == pytest.approx(iou.nanmean(1).nanmean().item(), abs=1e-6)
    accuracy = classification.multiclass_accuracy(
        predicted, labels, classes, average="micro", multidim_average="samplewise"
    )
    assert row.per_image["acc"].value == pytest.approx(accuracy.double().mean().item(), abs=1e-6)
    assert row.per_dataset["acc"].value == pytest.approx(
        classification.multiclass_accuracy(predicted, labels, classes, average="micro").item(),
        abs=1e-6,
    )


@pytest.mark.parametrize("seed", range(4))
def test_masks_against_torchmetrics(seed):
    probs, labels = some(seed)
    truth = torch.nn.functional.one_hot(labels, probs.shape[1]).movedim(-1, 1).bool()
    truth[:, 1] |= truth[:, 2]  # classes may overlap
    found = evaluate([(probs, truth)], {})
    row, predicted = found.contenders["0.5"], probs > 0.5
    for level, table in (("samplewise", row.per_image), ("global", row.per_dataset)):
        score = tm.dice_score(
            predicted.int(), truth.int(), probs.shape[1], average="macro", aggregation_level=level
        )
        assert table["dice"].value == pytest.approx(score.double().nanmean().item(), abs=1e-6)
    iou = tm.mean_iou(predicted, truth, probs.shape[1], per_class=True).double()
    iou[iou < 0] = torch.nan
    assert row.per_image["iou"].value == pytest.approx(iou.nanmean(1).nanmean().item(), abs=1e-6)
    accuracy = classification.multilabel_accuracy(
        predicted.float(), truth.int(), probs.shape[1], average="micro"
    )
    assert row.per_dataset["acc"].value == pytest.approx(accuracy.item(), abs=1e-6)


@pytest.mark.parametrize("masks", [True, False])
def test_ignored_pixels_are_as_if_they_were_not_there(masks):
    probs, labels = some(5)
    generator = torch.Generator().manual_seed(1)
    ignored = torch.rand(labels.shape, generator=generator) < 0.3
    if masks:
        truth = (torch.rand(probs.shape, generator=generator) < probs).to(torch.uint8)
        ignored = torch.rand(probs.shape, generator=generator) < 0.3
        truth[ignored] = 255
        dropped = None
    else:
        truth = labels.masked_fill(ignored, 255)
        dropped = [
            (probs[i : i + 1, :, ~ignored[i]], labels[i : i + 1, ~ignored[i]])
            for i in range(len(labels))
        ]
    found = evaluate([(probs, truth)], {}, ignore_index=255)
    row = next(iter(found.contenders.values()))
    if dropped is not None:
        without = evaluate(dropped, {})
        alone = without.contenders["argmax"]
        assert torch.equal(found.reliability.count, without.reliability.count)
        for name in ("sum_of_probs", "sum_of_labels", "squares"):
            mine, theirs = (getattr(one.reliability, name) for one in (found, without))
            torch.testing.assert_close(mine, theirs)
        for metric in ("dice", "iou", "acc"):
            assert row.per_image[metric].value == alone.per_image[metric].value
            assert row.per_dataset[metric].value == alone.per_dataset[metric].value
        return
    here = ~ignored
    assert found.reliability.count.sum(1).tolist() == here.sum((0, 2, 3)).tolist()
    assert found.reliability.sum_of_labels.sum(1).tolist() == ((truth == 1).sum((0, 2, 3)).tolist())
    predicted, true = (probs > 0.5) & here, (truth == 1) & here
    hit = (predicted & true).flatten(2).sum(2).double()
    bottom = (predicted.flatten(2).sum(2) + true.flatten(2).sum(2)).double()
    assert row.per_image["dice"].value == pytest.approx(
        (2 * hit / bottom).nanmean(1).nanmean().item(), abs=1e-12
    )


@pytest.mark.parametrize(("empty", "score"), [(0, 0.0), (1, 1.0), ("nan", math.nan)])
def test_a_class_that_is_neither_predicted_nor_true(empty, score):
    probs = torch.tensor([[[0.9, 0.8], [0.1, 0.2], [0.0, 0.0]]])
    found = evaluate([(probs, torch.tensor([[0, 1]]))], {}, empty=empty)
    row = found.contenders["argmax"]
    assert row.image_classes["dice"] == pytest.approx([2 / 3, 0, score], nan_ok=True)
    mean = np.nanmean([2 / 3, 0, score])
    assert row.per_image["dice"].value == pytest.approx(mean)


def test_a_label_that_is_no_class_is_a_prediction_of_none():
    probs, labels = torch.full((1, 2, 4), 0.5), torch.tensor([[0, 0, 1, 1]])
    decide = fixed(torch.tensor([[0, 255, 1, -7]]))
    row = evaluate([(probs, labels)], {"void": decide}).contenders["void"]
    assert row.image_classes["dice"] == pytest.approx([2 / 3, 2 / 3])
    assert row.per_image["acc"].value == 0.5


@given(seed=st.integers(0, 1000), beta=st.floats(0.2, 3), smooth=st.sampled_from([0.0, 1.5]))
@settings(max_examples=25, deadline=None)
def test_other_metrics_and_smoothing_are_those_of_the_definition(seed, beta, smooth):
    """What RankSEG promises is compared with what it achieved, under its own definition."""
    probs, labels = some(seed, images=1)
    for metric, options, top, bottom in (
        ("fbeta", {"beta": beta}, 1 + beta**2, lambda p, t, _: p + beta**2 * t),
        (
            "tversky",
            {"alpha": 0.3, "beta": beta},
            1.0,
            lambda p, t, hit: hit + 0.3 * (p - hit) + beta * (t - hit),
        ),
        ("iou", {}, 1.0, lambda p, t, hit: p + t - hit),
        ("dice", {}, 2.0, lambda p, t, _: p + t),
    ):
        decide = RankSEG(metric, smooth=smooth, **options)
        found = evaluate([(probs, labels)], {"one": decide}).contenders["one"]
        predicted = decide(probs)
        scores = []
        for class_ in range(probs.shape[1]):
            p, t = predicted == class_, labels == class_
            hit = float((p & t).sum())
            p, t = float(p.sum()), float(t.sum())
            if p + t:
                scores.append((top * hit + smooth) / (bottom(p, t, hit) + smooth))
        assert found.promise.achieved == pytest.approx(np.mean(scores), rel=1e-9)
        assert found.promise.count == len(scores)


@pytest.mark.parametrize("masks", [True, False])
def test_reliability_against_torchmetrics(masks):
    probs, labels = some(3, images=5)
    truth = torch.nn.functional.one_hot(labels, probs.shape[1]).movedim(-1, 1)
    found = evaluate([(probs, truth.bool() if masks else labels)], {}).reliability
    for class_ in range(probs.shape[1]):
        error = classification.binary_calibration_error(
            probs[:, class_].flatten(), truth[:, class_].flatten(), n_bins=20, norm="l1"
        )
        # The binary metric folds p and 1 - p onto one axis, where errors of both cancel.
        assert found.error[class_].item() >= error.item() - 1e-6
        p, y = probs[:, class_].flatten().double(), truth[:, class_].flatten().double()
        place = (p * 20).long().clamp(max=19)
        assert found.count[class_].tolist() == torch.bincount(place, minlength=20).tolist()
        wanted = sum(
            (p[place == b].sum() - y[place == b].sum()).abs().item() for b in range(20)
        ) / len(p)
        assert found.error[class_].item() == pytest.approx(wanted, abs=1e-12)
        assert found.brier[class_].item() == pytest.approx(((p - y) ** 2).mean().item())
        assert found.expected_share[class_].item() == pytest.approx(p.mean().item())
        assert found.true_share[class_].item() == pytest.approx(y.mean().item())
