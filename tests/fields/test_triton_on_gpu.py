"""The Triton field on a real GPU: the bits of plain torch, where the pixels stay, what it takes."""

import warnings

import pytest
import torch

from rankseg import RankSEG
from rankseg.fields import TensorField, field_for
from rankseg.fields.numba_cpu import NumbaField
from rankseg.objectives import Dice, IoU

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SHAPES = [(2, 19, 97, 131), (1, 2, 512, 512), (3, 1, 1000), (1, 150, 64, 65), (2, 3, 16, 24, 20)]


def some_logits(shape, dtype=torch.float32):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3).to(dtype)


def same(found, expected):
    for name, number in vars(expected).items():
        assert torch.equal(getattr(found, name).cpu(), number), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_same_bits_as_plain_torch_on_the_cpu(shape, dtype, channels_last):
    probs = some_logits(shape).sigmoid().to(dtype)
    probs[:, 0] *= 2.0**-12  # sums of a small peak are lifted
    here = probs.cuda()
    if channels_last:
        here = here.movedim(1, -1).contiguous().movedim(-1, 1)
    field, plain = field_for(here), TensorField(probs)
    assert type(field).__name__ == "TritonField"
    same(field.totals(), plain.totals())
    mu = plain.totals().mu
    cut = torch.rand(mu.shape, dtype=torch.float64)
    for name in ("above", "claimed_once"):
        same(getattr(field, name)(cut.cuda()), getattr(plain, name)(cut))
    assert torch.equal(field.select(cut.cuda()).cpu(), plain.select(cut))
    masks = torch.rand(shape) < 0.4
    same(field.within(masks.cuda()), plain.within(masks))
    labels = torch.randint(-1, shape[1] + 1, (shape[0], *shape[2:]))
    same(field.measure(labels.cuda()), plain.measure(labels))
    for objective in (Dice, IoU):
        active = plain.totals().peak > 0.1
        ratio, there = objective(mu).ratio, objective(mu.cuda()).ratio
        found, expected = field.maximise(there, active.cuda()), plain.maximise(ratio, active)
        assert torch.equal(found[0].cpu(), expected[0])
        same(found[1], expected[1])


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("smooth", [0.0, 10.0])
def test_same_decisions_as_on_the_cpu(metric, mode, smooth):
    probs = some_logits((2, 7, 200, 300)).softmax(1)
    decide = RankSEG(metric, output_mode=mode, smooth=smooth, pruning_prob=0.2)
    found, expected = decide.solve(probs.cuda()), decide.solve(probs)
    for name, number in vars(expected).items():
        assert torch.equal(getattr(found, name).cpu(), number), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("activation", "classes"), [("softmax", 2), ("softmax", 19), ("sigmoid", 3)]
)
def test_logits_have_the_bits_of_the_compiled_field_on_the_cpu(dtype, activation, classes):
    logits = some_logits((2, classes, 100, 120), dtype)
    field, twin = field_for(logits.cuda(), activation), NumbaField(logits, activation)
    same(field.totals(), twin.totals())
    assert torch.equal(field._row_values(1, 1).cpu(), twin._row_values(1, 1))


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_pixels_stay_where_they_are(mode, monkeypatch):
    """Only numbers per class may cross, and the host waits a few times, not once a pass."""
    logits = some_logits((1, 19, 512, 1024)).cuda()
    decide = RankSEG(output_mode=mode, activation="softmax")
    decide(logits)
    for name in ("cpu", "numpy", "tolist"):
        whole = getattr(torch.Tensor, name)

        def small(tensor, *arguments, whole=whole, **more):
            assert tensor.numel() <= 2 * 19
            return whole(tensor, *arguments, **more)

        monkeypatch.setattr(torch.Tensor, name, small)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            decide(logits)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(waits) <= 6, [str(wait.message) for wait in waits]


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize(("activation", "kept"), [("none", 0), ("softmax", 2 / 19)])
def test_peak_memory(mode, activation, kept):
    """The result, and for a softmax two numbers a pixel."""
    values = some_logits((1, 19, 512, 1024)).cuda()
    values = values.softmax(1) if activation == "none" else values
    decide = RankSEG(output_mode=mode, activation=activation)
    decide(values)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = decide(values)
    torch.cuda.synchronize()
    extra = torch.cuda.max_memory_allocated() - before - result.nbytes
    assert extra <= (kept + 0.02) * values.nbytes


def test_current_stream():
    """Work is queued in the caller's stream, behind what fills the input."""
    stream = torch.cuda.Stream()
    expected = RankSEG()(some_logits((1, 5, 300, 300)).softmax(1))
    with torch.cuda.stream(stream):
        big = torch.randn(4096, 4096, device="cuda")
        for _ in range(20):
            big = big @ big / 4096
        probs = torch.zeros(1, 5, 300, 300, device="cuda")
        probs.copy_(some_logits((1, 5, 300, 300)).softmax(1).cuda())
        assert torch.equal(RankSEG()(probs).cpu(), expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_device_that_is_not_the_current_one():
    probs = some_logits((1, 5, 300, 300)).softmax(1)
    found = RankSEG()(probs.to("cuda:1"))
    assert found.device == torch.device("cuda:1")
    assert torch.equal(found.cpu(), RankSEG()(probs))


@pytest.mark.slow
def test_more_than_2_to_the_31_pixels():
    pixels = 2**31 + 8
    if torch.cuda.get_device_properties(0).total_memory < 16e9:
        pytest.skip("needs 16 GB")
    probs = torch.zeros(1, 1, pixels, dtype=torch.float16, device="cuda")
    probs[..., -5:] = 0.75
    probs[..., :3] = 0.5
    found = RankSEG(output_mode="multilabel").solve(probs)
    assert found.volume.item() == 8
    assert found.prediction[..., -5:].all()
    assert found.prediction.sum().item() == 8
