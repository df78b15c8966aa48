"""The field's bins of windows: against NumPy, on edges, in regions, from logits."""

import numpy as np
import pytest
import torch

from rankseg.fields import field_for
from rankseg.fields.base import LabelRule, Windows

UNIT = 2.0**40


def truth(row, low, width, bins):
    """Counts and sums of distances, pixel by pixel; a pixel at an edge lies under it."""
    count, total = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
    for value in row:
        place = (value - low) / width
        if 0 < place <= 1:
            count[int(np.ceil(place * bins)) - 1] += 1
            total[int(np.ceil(place * bins)) - 1] += int(np.rint(place * UNIT))
    return np.stack([count, total])


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_bins_of_windows(backend, dtype):
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(2, 3, 30, 7, generator=generator, dtype=torch.float64).to(dtype)
    probs[0, 0, :5, 0] = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])  # at edges
    asked = [((0, 0), 0.0, 1.0), ((0, 0), 0.25, 0.5), ((1, 2), 0.5, 0.0625)]
    windows = Windows(*zip(*asked, strict=True), bins=8, unit=UNIT)
    labels = (3 * torch.rand(2, 30, 7, generator=generator)).long()
    masks = torch.rand(2, 3, 30, 7, generator=generator) < 0.5
    field = field_for(probs, backend=backend)
    for region in (None, labels, masks):
        found = field.spread(windows, region).numpy()
        for number, ((image, class_), low, width) in enumerate(asked):
            row = probs[image, class_].double()
            if region is labels:
                row = row[labels[image] == class_]
            elif region is masks:
                row = row[masks[image, class_]]
            expected = truth(row.flatten().numpy(), low, width, 8)
            np.testing.assert_array_equal(found[:, number], expected)
            values, counts = field.distinct((image, class_), low, low + width, region)
            inside = row[(row > low) & (row <= low + width)].flatten()
            assert torch.equal(values.double(), inside.unique())
            assert int(counts.sum()) == inside.numel()


def rule_of(field):
    one = torch.ones(field.batch, field.classes, dtype=torch.float64)
    return LabelRule(one, one.bool(), one, 0 * one, 0 * one, 255)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_logits_and_rules(activation):
    logits = torch.randn(2, 3, 400, generator=torch.Generator().manual_seed(1)).double()
    probs = logits.softmax(1) if activation == "softmax" else logits.sigmoid()
    rows = tuple((image, class_) for image in range(2) for class_ in range(3))
    windows = Windows(rows, (0.0,) * 6, (1.0,) * 6, 16, UNIT)
    plain = field_for(probs, backend="torch")
    for backend in ("torch", "numba"):
        field = field_for(logits, activation, backend)
        for region, same in ((None, None), (rule_of(field), probs.argmax(1))):
            found, expected = field.spread(windows, region), plain.spread(windows, same)
            assert torch.equal(found[0], expected[0])
            torch.testing.assert_close(found[1].double(), expected[1].double(), rtol=1e-9, atol=99)


def test_one_channel_is_the_label_1():
    probs = torch.rand(1, 1, 50)
    field = field_for(probs)
    windows = Windows(((0, 0),), (0.0,), (1.0,), 4, UNIT)
    labels = (torch.rand(1, 50) < 0.3).long()
    assert torch.equal(field.spread(windows, labels), field.spread(windows, labels.bool()[:, None]))
