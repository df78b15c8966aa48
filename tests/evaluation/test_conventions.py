"""docs/metrics.md: which convention of ours is which of MONAI's, nnU-Net's, torchmetrics'."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rankseg.evaluation import Contender, evaluate

CLASSES = 4


def data(seed: int) -> tuple[Tensor, Tensor]:
    """Probs and labels of six images: class 3 is in some and predicted in others."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(6, CLASSES, 7, 7, generator=generator)
    logits[::2, 3] -= 30
    labels = torch.randint(0, 3, (6, 7, 7), generator=generator)
    labels[1::3, :3] = 3
    predicted, true = (logits.argmax(1) == 3).flatten(1).any(1), (labels == 3).flatten(1).any(1)
    cases = {(bool(p), bool(t)) for p, t in zip(predicted, true, strict=True)}
    assert len(cases) == 4, "every combination of predicted and true"
    return logits.softmax(1), labels


def argmax(probs: Tensor, labels: Tensor, **how: Any) -> Contender:
    return evaluate([(probs, labels)], {}, **how).contenders["argmax"]


def one_hot(labels: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(labels, CLASSES).movedim(-1, 1)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("name", ["dice", "iou"])
def test_monai_counting_empty_classes(name: str, background: bool) -> None:
    metrics = pytest.importorskip("monai.metrics")
    kind = {"dice": metrics.DiceMetric, "iou": metrics.MeanIoU}[name]
    probs, labels = data(0)
    ours = argmax(probs, labels, empty=1, include_background=background)
    metric = kind(include_background=background, ignore_empty=False)
    metric(y_pred=one_hot(probs.argmax(1)), y=one_hot(labels))
    assert metric.aggregate().item() == pytest.approx(ours.per_image[name].value, abs=1e-6)
    each = metric.aggregate(reduction="mean_batch").flatten().tolist()
    assert each == pytest.approx(ours.image_classes[name][0 if background else 1 :], abs=1e-6)


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_monai_leaving_out_classes_that_are_not_true(name: str) -> None:
    """Its default forgives a class that is predicted where it is not; none of ours does."""
    metrics = pytest.importorskip("monai.metrics")
    kind = {"dice": metrics.DiceMetric, "iou": metrics.MeanIoU}[name]
    probs, labels = data(0)
    metric = kind()
    metric(y_pred=one_hot(probs.argmax(1)), y=one_hot(labels))
    theirs = metric.aggregate(reduction="mean_batch").flatten()[3].item()
    ours = argmax(probs, labels).image_classes[name][3]
    there = (labels == 3).flatten(1).any(1)
    of_those = argmax(probs[there], labels[there]).image_classes[name][3]
    assert theirs == pytest.approx(of_those, abs=1e-6)
    assert theirs > ours + 0.01


class Arrays:
    """Stands for nnU-Net's reader of files: hands out arrays."""

    def __init__(self, files: dict[str, Tensor]) -> None:
        self.files = files

    def read_seg(self, name: str) -> tuple[np.ndarray, dict[str, Any]]:
        return self.files[name].numpy()[None], {}


@pytest.mark.parametrize("ignore", [None, 9])
def test_nnunet(ignore: int | None) -> None:
    module = pytest.importorskip("nnunetv2.evaluation.evaluate_predictions")
    probs, labels = data(0)
    if ignore is not None:
        labels[:, 5:] = ignore
    ours = argmax(probs, labels, ignore_index=ignore)
    cases = []
    for prediction, truth in zip(probs.argmax(1), labels, strict=True):
        reader = Arrays({"truth": truth, "prediction": prediction})
        found = module.compute_metrics("truth", "prediction", reader, [1, 2, 3], ignore)
        cases.append(found["metrics"])
    for name, key in (("dice", "Dice"), ("iou", "IoU")):
        means = [np.nanmean([case[label][key] for case in cases]) for label in (1, 2, 3)]
        assert means == pytest.approx(ours.image_classes[name][1:], abs=1e-12)


def test_torchmetrics_classes() -> None:
    segmentation = pytest.importorskip("torchmetrics.segmentation", exc_type=ImportError)
    probs, labels = data(0)
    ours = argmax(probs, labels)
    how = {"num_classes": CLASSES, "input_format": "index"}
    dice = segmentation.DiceScore(average="macro", **how)
    assert dice(probs.argmax(1), labels).item() == pytest.approx(ours.per_image["dice"].value)
    each = segmentation.MeanIoU(per_class=True, **how)
    assert each(probs.argmax(1), labels).tolist() == pytest.approx(ours.image_classes["iou"])
    pairs = segmentation.MeanIoU(**how)(probs.argmax(1), labels).item()
    counted = [
        argmax(p[None], y[None]).image_classes["iou"] for p, y in zip(probs, labels, strict=True)
    ]
    flat = [score for image in counted for score in image if not math.isnan(score)]
    assert pairs == pytest.approx(np.mean(flat))
    assert abs(pairs - ours.per_image["iou"].value) > 1e-4


def test_sums_over_a_data_set() -> None:
    """The mIoU of Cityscapes and ADE20K, from a table of all pixels."""
    probs, labels = data(0)
    labels[:, 6:] = 255
    found = argmax(probs, labels, ignore_index=255).per_dataset
    keep = labels != 255
    place = labels[keep] * CLASSES + probs.argmax(1)[keep]
    table = torch.bincount(place, minlength=CLASSES**2).reshape(CLASSES, CLASSES).double()
    hit, true, predicted = table.diagonal(), table.sum(1), table.sum(0)
    assert found["iou"].value == pytest.approx((hit / (true + predicted - hit)).mean().item())
    assert found["dice"].value == pytest.approx((2 * hit / (true + predicted)).mean().item())
    assert found["acc"].value == pytest.approx((hit.sum() / table.sum()).item())
