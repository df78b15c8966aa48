"""Every reduction of the plain-torch field against numpy, and what it costs."""

import numpy as np
import pytest
import torch

from rankseg.fields import LabelRule, TensorField, blocks, tensor
from rankseg.fields.exact_sum import ExactSum, Scale

SHAPES = [(1, 1, 1), (2, 3, 7), (1, 4, 5, 6), (3, 2, 2, 3, 4)]


@pytest.fixture(params=[3, 20, 1 << 18], ids=lambda size: f"block {size}", autouse=True)
def _block_size(request, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", request.param)
    monkeypatch.setattr(tensor, "PIECE", request.param)


def field_and_rows(shape, dtype=torch.float32, seed=0):
    probs = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return TensorField(probs), probs.double().flatten(2).numpy()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_totals(shape, dtype):
    field, rows = field_and_rows(shape, dtype)
    totals = field.totals()
    np.testing.assert_allclose(totals.mu, rows.sum(-1), rtol=1e-10)
    np.testing.assert_array_equal(totals.peak, rows.max(-1))
    np.testing.assert_array_equal(totals.lowest, rows.min(-1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_above_and_select(shape, dtype):
    field, rows = field_and_rows(shape, dtype)
    threshold = torch.rand(shape[:2], dtype=torch.float64)
    chosen = rows > threshold.numpy()[..., None]
    found = field.above(threshold)
    np.testing.assert_allclose(found.selected_sum, (rows * chosen).sum(-1), rtol=1e-10)
    np.testing.assert_array_equal(found.volume, chosen.sum(-1))
    np.testing.assert_array_equal(field.select(threshold).flatten(2), chosen)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_pixel_at_the_threshold_is_not_above_it(dtype):
    value = torch.tensor(0.3, dtype=dtype)
    field = TensorField(torch.stack([value] * 5 + [value + 0.5]).reshape(1, 1, 6))
    at = value.double().reshape(1, 1)
    assert field.above(at).volume.item() == 1
    assert field.above(at - 1e-9).volume.item() == 6  # between two numbers of a narrow dtype
    assert field.claimed_once(at).volume.item() == 1
    assert field.select(at).sum() == 1
    assert field.select(at - 1e-9).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_claimed_once(shape):
    field, rows = field_and_rows(shape)
    threshold = torch.rand(shape[:2], dtype=torch.float64)
    claims = rows > threshold.numpy()[..., None]
    once = claims & (claims.sum(1, keepdims=True) == 1)
    found = field.claimed_once(threshold)
    np.testing.assert_allclose(found.selected_sum, (rows * once).sum(-1), rtol=1e-10)
    np.testing.assert_array_equal(found.volume, once.sum(-1))


def test_between():
    field, rows = field_and_rows((2, 3, 50))
    row = rows[1, 2]
    low, high = np.sort(row)[[10, 30]]
    found = field.row(1, 2).between(float(low), float(high))
    assert found.dtype == torch.float64
    np.testing.assert_array_equal(np.sort(found), np.sort(row)[11:31])


def test_moments():
    field, rows = field_and_rows((2, 3, 50))
    p = rows[1, 2][(rows[1, 2] > 0.2) & (rows[1, 2] <= 0.7)]
    expected = [p.sum(), (p * (1 - p)).sum(), (p * (1 - p) * (1 - 2 * p)).sum()]
    np.testing.assert_allclose(field.row(1, 2).moments(0.2, 0.7), expected, rtol=1e-12, atol=1e-13)


def test_chebyshev():
    field, rows = field_and_rows((2, 3, 50))
    p = rows[0, 1][(rows[0, 1] > 0.2) & (rows[0, 1] <= 0.7)]
    z = (2 * p - 0.9) / 0.5
    expected = (p[:, None] * np.polynomial.chebyshev.chebvander(z, 17)).sum(0)
    found = field.row(0, 1).chebyshev(0.2, 0.7, 18)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_within(shape):
    field, rows = field_and_rows(shape)
    masks = torch.rand(shape) < 0.4
    found = field.within(masks)
    chosen = masks.flatten(2).numpy()
    np.testing.assert_array_equal(found.volume, chosen.sum(-1))
    np.testing.assert_allclose(found.selected_sum, (rows * chosen).sum(-1), rtol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_measure_counts_each_label_and_ignores_others(shape):
    field, rows = field_and_rows(shape)
    labels = torch.randint(-1, shape[1] + 1, (shape[0], *shape[2:]))
    found = field.measure(labels)
    flat = labels.flatten(1).numpy()
    for class_ in range(shape[1]):
        region = flat == class_
        np.testing.assert_array_equal(found.volume[:, class_], region.sum(1))
        expected = (rows[:, class_] * region).sum(1)
        np.testing.assert_allclose(found.selected_sum[:, class_], expected, rtol=1e-10)


@pytest.mark.parametrize("shape", [(1, 3, 40), (3, 4, 5, 6)])
def test_assign(shape):
    field, rows = field_and_rows(shape)
    random = np.random.default_rng(0)
    small = shape[:2]
    claim = random.uniform(0.6, 0.9, small)
    eligible = random.random(small) < 0.6
    eligible[0] = False
    slope, offset = random.uniform(1, 2, small), random.uniform(0, 1, small)
    bend = random.uniform(0, 0.5, small)
    rule = LabelRule(
        *(torch.from_numpy(a) for a in (claim, eligible, slope, offset, bend)), void_index=77
    )
    labels = field.assign(rule).flatten(1)
    for b in range(shape[0]):
        for pixel in range(rows.shape[2]):
            p = rows[b, :, pixel]
            candidates = np.flatnonzero(p > claim[b])
            if not len(candidates):
                candidates = np.flatnonzero(eligible[b])
            score = (slope[b] * p - offset[b]) / (1 - bend[b] * p)
            best = 77 if not len(candidates) else candidates[score[candidates].argmax()]
            assert labels[b, pixel] == best


def test_integer_sums_do_not_overflow_and_round_once():
    """2^31 ones in one row, as 2^13 blocks; and the smallest float32 beside a one."""
    peak = torch.ones(1, 1, dtype=torch.float64)
    total = ExactSum(Scale(peak, 2**31 + 8, torch.float32))
    block = torch.ones(1, 1, 2**13)
    for limb in total.limbs:
        assert limb.item() == 0
    total.add((slice(None), slice(None)), block)
    total.limbs[0] *= 2**18
    assert total.value().item() == 2.0**31
    fine = ExactSum(Scale(peak, 2, torch.float64))
    fine.add((slice(None), slice(None)), torch.tensor([[[1.0, 2.0**-70]]], dtype=torch.float64))
    assert fine.value().item() == 1.0 + 2.0**-70
    assert fine.limbs[1].item() == 2**10
