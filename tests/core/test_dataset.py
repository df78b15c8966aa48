"""Metrics over a whole data set: one rule, and it wins where counts are summed over images."""

import numpy as np
import oracles
import pytest
import torch
import torch.nn.functional as F

from rankseg import RankSEG
from rankseg.functional import rankseg


def data_set(images=12, classes=4, size=32, seed=0):
    """Images whose classes differ in size and in how sure the network is of them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(images, classes, 5, 5, generator=generator)
    offsets = 2.5 * torch.randn(images, classes, 1, 1, generator=generator)
    maps = F.interpolate(coarse, size=(size, size), mode="bicubic") * 2.0 + offsets
    return maps.softmax(1)


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_is_the_decision_on_all_pixels_as_one_image(metric, mode):
    probs = data_set()
    one = probs.movedim(1, 0).flatten(1)[None]
    decide = RankSEG(metric, mode, aggregation="dataset")
    found, alone = decide.solve(probs), RankSEG(metric, mode).solve(one)
    expected = alone.prediction.unflatten(-1, (len(probs), *probs.shape[2:]))
    expected = expected[0].movedim(0, 1) if mode == "multilabel" else expected[0]
    assert torch.equal(found.prediction, expected)
    assert torch.equal(decide(probs), found.prediction)
    assert torch.equal(rankseg(probs, metric, mode, aggregation="dataset"), found.prediction)
    for name in ("expected_score", "threshold", "volume", "active", "objective", "bound", "exact"):
        assert torch.equal(getattr(found, name), getattr(alone, name)), name
    assert found.expected_score.shape == (1, 4)
    assert torch.equal(decide.decide(list(probs.split(5))).apply(probs), found.prediction)


def test_one_image_and_none():
    probs = data_set(1)
    assert torch.equal(RankSEG(aggregation="dataset")(probs), RankSEG()(probs))
    assert RankSEG(aggregation="dataset")(probs[:0]).shape == (0, 32, 32)
    with pytest.raises(ValueError, match="no pixels to decide on"):
        RankSEG(aggregation="dataset").solve(probs[:0])


def test_masks_are_the_best_over_the_data_set():
    probs = data_set(3, 2, 8).double()
    found = RankSEG("iou", "multilabel", aggregation="dataset", pruning_prob=0.0).solve(probs)
    for class_ in range(2):
        row = probs[:, class_].flatten().numpy()
        best = oracles.best_rma("iou", row)
        assert found.expected_score[0, class_].item() == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("metric", ["iou", "dice"])
def test_monte_carlo(metric):
    """Labels drawn from the probabilities: the metric from counts summed over the data set."""
    probs = data_set(seed=3)
    options = {"pruning_prob": 0.0}
    labels = {
        "data set": RankSEG(metric, aggregation="dataset", assignment="ascent", **options)(probs),
        "per image": RankSEG(metric, assignment="ascent", **options)(probs),
        "argmax": probs.argmax(1),
    }
    generator = torch.Generator().manual_seed(0)
    weight = probs.movedim(1, -1).reshape(-1, 4)
    scores = {name: [] for name in labels}
    for _ in range(200):
        truth = torch.multinomial(weight, 1, generator=generator)[:, 0]
        for name, found in labels.items():
            scores[name].append(over_classes(metric, found.flatten(), truth, 4))
    for other in ("per image", "argmax"):
        gain = np.array(scores["data set"]) - np.array(scores[other])
        assert gain.mean() > 4 * gain.std(ddof=1) / np.sqrt(gain.size), other


def over_classes(metric, labels, truth, classes):
    joint = torch.bincount(labels * classes + truth, minlength=classes**2).reshape(classes, -1)
    both, total = joint.diagonal(), joint.sum(0) + joint.sum(1)
    return (2 * both / total if metric == "dice" else both / (total - both)).mean().item()


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_valid_pixels_of_all_images_as_one(mode):
    probs = data_set(4)
    valid = torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(1)) < 0.7
    valid[2] = False
    decide = RankSEG(output_mode=mode, aggregation="dataset")
    found = decide.solve(probs, valid)
    rest = probs.movedim(1, -1)[valid].T[None]
    alone = RankSEG(output_mode=mode).solve(rest)
    if mode == "multiclass":
        assert torch.equal(found.prediction[valid], alone.prediction[0])
        assert (found.prediction[~valid] == 255).all()
    else:
        assert torch.equal(found.prediction.movedim(1, -1)[valid].T, alone.prediction[0])
        assert not found.prediction.movedim(1, -1)[~valid].any()
    assert torch.equal(decide(probs, valid), found.prediction)
    for name in ("expected_score", "threshold", "volume", "active", "objective", "bound"):
        assert torch.equal(getattr(found, name), getattr(alone, name)), name
    nowhere = torch.zeros_like(valid)
    assert decide(probs, nowhere).float().mean() == (255 if mode == "multiclass" else 0)
    with pytest.raises(ValueError, match="no pixels to decide on"):
        decide.solve(probs, nowhere)


def test_compiles():
    probs = data_set(3)
    decide = RankSEG(aggregation="dataset")
    compiled = torch.compile(decide.solve, fullgraph=True, backend="aot_eager")
    found, expected = compiled(probs), decide.solve(probs)
    assert torch.equal(found.prediction, expected.prediction)
    assert torch.equal(found.expected_score, expected.expected_score)
