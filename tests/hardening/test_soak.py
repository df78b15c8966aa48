"""Memory is flat over many calls, errors among them."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import tracemalloc

import pytest
import torch

from rankseg import Calibrator, RankSEG, expected_score

GROWTH = 2e6
"""Bytes that resident memory may grow by, once warm.

Measured: 0 over 90,000 calls, -16 to 57 KB over 4,000 (AMD EPYC, torch 2.14.1, numba 0.68.1). Left
behind by each of 90,000 calls, 24 bytes are 2.2 MB.
"""

TRACED = 200e3
"""Bytes of Python objects that may be alive more after 700 calls than before; measured: 77 KB.

Left behind by each call, 300 bytes are 210 KB.
"""

CLASSES = 3
CALIBRATOR = Calibrator("sigmoid", (0.8,) * CLASSES, (0.1,) * CLASSES)
DECIDERS = [
    *(
        RankSEG(),
        RankSEG("iou", "multilabel", smooth=1.0),
        RankSEG("acc"),
        RankSEG(backend="torch"),
    ),
    *(RankSEG("iou", assignment="ascent"), RankSEG(solver="auto"), RankSEG(solver="exact")),
    *(RankSEG(solver="BA"), RankSEG(solver="coupled"), RankSEG(calibrator=CALIBRATOR)),
    *(RankSEG(activation="softmax"), RankSEG(aggregation="dataset"), RankSEG(empty=1)),
    RankSEG("tversky", class_weights=(1, 0, 2), pruning_prob=(0.1, 0.2, 0.3)),
]
SHAPES = [(1, CLASSES, 7), (2, CLASSES, 6, 5), (1, CLASSES, 12, 11), (1, CLASSES, 4, 3, 5)]
IMAGES = [torch.rand(shape, generator=torch.Generator().manual_seed(0)) for shape in SHAPES]


def calls():
    """One call after the other, without end; every fifth is refused."""
    wrong = [IMAGES[0] + 1, IMAGES[1].int(), IMAGES[2] * torch.nan, None, IMAGES[0][0]]
    for number in itertools.count():
        decide = DECIDERS[number % len(DECIDERS)]
        image = IMAGES[number // len(DECIDERS) % len(IMAGES)]
        way = number % 5
        if way == 0:
            yield lambda decide=decide, image=image: decide(image)
        elif way == 1:
            yield lambda decide=decide, image=image: decide.solve(image)
        elif way == 2:
            valid = image[:, 0] > 0.3
            yield lambda decide=decide, image=image, valid=valid: decide(image, valid)
        elif way == 3:
            decide = DECIDERS[number % 5]  # these serve tiles
            yield lambda decide=decide, image=image: decide.decide([image, image]).apply(image)
            yield lambda image=image: expected_score(image, image.argmax(1), "iou")
        else:
            spoiled = wrong[number // 5 % len(wrong)]
            yield lambda decide=decide, spoiled=spoiled: refused(decide, spoiled)


def refused(decide, spoiled):
    with pytest.raises((TypeError, ValueError)):
        decide.solve(spoiled) if decide.settings.activation == "none" else decide.solve(None)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def settled():
    gc.collect()
    return resident()


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def soak(count, warm):
    """Resident memory after so many calls to get warm, and after the others."""
    endless = calls()
    for call in itertools.islice(endless, warm):
        call()
    before = settled()
    for call in itertools.islice(endless, count - warm):
        call()
    return before, settled()


@linux
def test_resident_memory_over_5000_calls():
    before, after = soak(5_000, 1_000)
    assert after - before < GROWTH


@linux
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_resident_memory_over_100000_calls():
    before, after = soak(100_000, 10_000)
    print(f"{before / 1e6:.1f} MB after 10,000 calls, {after / 1e6:.1f} MB after 100,000")
    assert after - before < GROWTH


def alive():
    gc.collect()
    return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())


def test_no_tensor_and_no_object_stays():
    endless = calls()
    for call in itertools.islice(endless, 700):
        call()
    gc.disable()  # what reference counting alone does not free would show in long rounds
    tracemalloc.start()
    try:
        tensors, begin = alive(), tracemalloc.get_traced_memory()[0]
        for call in itertools.islice(endless, 700):
            call()
        assert alive() <= tensors
        assert tracemalloc.get_traced_memory()[0] - begin < TRACED
    finally:
        tracemalloc.stop()
        gc.enable()
