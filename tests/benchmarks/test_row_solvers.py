"""Time of one row on one thread, printed (``make test ARGS="tests/benchmarks -s -n 0"``).

The limits are those the project set itself: milliseconds at 64x64 and at 512x512, for the whole
call. Processor time, minimum of many: what the machine does besides does not count. A limit is
doubled here because test machines differ; the printed figure is to be read against the limit.
"""

import time

import pytest
import torch
import torch.nn.functional as F

from rankseg import RankSEG

LIMITS = [("BA", 2, 250), ("TRNA", 10, 250), ("exact", 5, 250)]


def smooth_map(size):
    """Random blobs of about eight pixels, float32, as a network would give."""
    noise = torch.randn(1, 1, size // 8, size // 8, generator=torch.Generator().manual_seed(0))
    return torch.sigmoid(4 * F.interpolate(noise, size=(size, size), mode="bilinear") - 1)


def milliseconds(decide, probs, repeats):
    times = []
    for _ in range(repeats):
        start = time.process_time()
        decide(probs)
        times.append(1e3 * (time.process_time() - start))
    return min(times)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize(("solver", "small", "large"), LIMITS)
def test_time_of_one_row(solver, metric, small, large):
    decide = RankSEG(metric, "multilabel", solver)
    for size, limit, repeats in ((64, small, 40), (512, large, 5)):
        found = milliseconds(decide, smooth_map(size), repeats)
        print(f"{solver:6} {metric:5} {size:4}x{size}: {found:7.2f} ms (limit {limit} ms)")
        assert found < 2 * limit
