"""The same input gives the same mask whatever surrounds it: bit for bit, not nearly."""

import numpy as np
import pytest
import strategies
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankseg import RankSEG
from rankseg.fields import blocks

MODES = st.sampled_from(["multiclass", "multilabel"])
BACKENDS = st.sampled_from(["torch", "numba"])


@st.composite
def images(draw):
    """A small batch of any shape, softmax or free probabilities, any float dtype."""
    shape = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 5)),
        draw(st.integers(1, 12)),
        draw(st.integers(1, 12)),
    )
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    logits = torch.randn(shape, generator=random, dtype=torch.float64) * draw(
        st.sampled_from([0.5, 3.0, 30.0])
    )
    probs = logits.softmax(1) if draw(st.booleans()) else logits.sigmoid()
    if draw(st.booleans()):
        probs = (probs * 4).round() / 4  # many ties, at the cut as well
    dtypes = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
    return probs.to(draw(st.sampled_from(dtypes)))


def decider(metric, output_mode, smooth, backend):
    return RankSEG(metric, output_mode, smooth=smooth, pruning_prob=0.3, backend=backend)


def same(found, expected):
    assert torch.equal(found.prediction, expected.prediction)
    for name in ("expected_score", "threshold", "volume", "objective", "bound"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@given(images(), strategies.metrics, MODES, strategies.smooths, BACKENDS, st.integers(0, 2**31))
@settings(max_examples=100)
def test_pixel_order(probs, metric, output_mode, smooth, backend, seed):
    decide = decider(metric, output_mode, smooth, backend)
    flat = probs.flatten(2)
    order = torch.randperm(flat.shape[2], generator=torch.Generator().manual_seed(seed))
    found, shuffled = decide.solve(flat), decide.solve(flat[..., order])
    assert torch.equal(found.prediction[..., order], shuffled.prediction)
    assert torch.equal(found.expected_score, shuffled.expected_score)
    assert torch.equal(found.threshold, shuffled.threshold)


@given(images(), strategies.metrics, MODES, strategies.smooths, BACKENDS)
@settings(max_examples=100)
def test_memory_layout(probs, metric, output_mode, smooth, backend):
    decide = decider(metric, output_mode, smooth, backend)
    expected = decide.solve(probs)
    same(decide.solve(probs.contiguous(memory_format=torch.channels_last)), expected)
    transposed = probs.transpose(2, 3).contiguous().transpose(2, 3)
    same(decide.solve(transposed), expected)
    wide = torch.zeros(*probs.shape[:3], 2 * probs.shape[3], dtype=probs.dtype)
    wide[..., ::2] = probs
    same(decide.solve(wide[..., ::2]), expected)


@given(images(), strategies.metrics, MODES, strategies.smooths, BACKENDS)
@settings(max_examples=100)
def test_batch_composition(probs, metric, output_mode, smooth, backend):
    decide = decider(metric, output_mode, smooth, backend)
    together = decide.solve(probs)
    for image in range(probs.shape[0]):
        alone = decide.solve(probs[image : image + 1])
        assert torch.equal(alone.prediction[0], together.prediction[image])
        assert torch.equal(alone.expected_score[0], together.expected_score[image])


@given(images(), strategies.metrics, MODES, strategies.smooths, st.integers(1, 64))
@settings(max_examples=100)
def test_block_size(probs, metric, output_mode, smooth, size):
    """The plain field's blocks are its tiles: any size gives the same numbers."""
    decide = decider(metric, output_mode, smooth, "torch")
    expected = decide.solve(probs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", size)
        same(decide.solve(probs), expected)


@given(images(), strategies.metrics, MODES, strategies.smooths, st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=200)
def test_backend(probs, metric, output_mode, smooth, pruning_prob):
    options = {"smooth": smooth, "pruning_prob": pruning_prob}
    compiled = RankSEG(metric, output_mode, backend="numba", **options)
    same(
        compiled.solve(probs), RankSEG(metric, output_mode, backend="torch", **options).solve(probs)
    )


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("output_mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("shape", [(2, 5, 300, 301), (1, 1, 40, 50, 60), (1, 3, 500, 500)])
@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_number_of_threads(metric, output_mode, shape, backend):
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    probs = logits.softmax(1) if shape[1] > 1 else logits.sigmoid()
    decide = RankSEG(metric, output_mode, pruning_prob=0.0, backend=backend)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = decide.solve(probs)
        for threads in (2, 3, 8):
            torch.set_num_threads(threads)
            same(decide.solve(probs), one)
    finally:
        torch.set_num_threads(before)


def test_float64_sums_would_depend_on_the_order():
    """Why the sums are integers: the plain sum of these numbers changes when they are shuffled."""
    random = np.random.default_rng(0)
    row = random.random(100_000) ** 8
    orders = [torch.from_numpy(random.permutation(row)) for _ in range(10)]
    assert len({order.sum().item() for order in orders}) > 1
    decide = RankSEG(output_mode="multilabel")
    scores = {decide.solve(order[None, None]).expected_score.item() for order in orders}
    assert len(scores) == 1
