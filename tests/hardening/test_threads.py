"""Many threads, one RankSEG or several: the bits of one thread, whoever comes first."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hardening.programs import run

from rankseg import RankSEG

SHAPES = [(1, 3, 40, 41), (2, 5, 9), (1, 1, 300, 301), (3, 2, 64, 64)]
DECIDERS = {
    "shared": RankSEG(),
    "masks": RankSEG("iou", "multilabel", smooth=1.0),
    "ascent": RankSEG("iou", assignment="ascent", pruning_prob=0.0),
    "torch": RankSEG(backend="torch"),
    "exact": RankSEG(solver="auto", pruning_prob=0.3),
    "coupled": RankSEG(solver="coupled"),
}


def images():
    for seed, shape in enumerate(SHAPES):
        yield torch.randn(shape, generator=torch.Generator().manual_seed(seed)).sigmoid()


@pytest.fixture(autouse=True)
def _threads_as_they_were():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", DECIDERS)
def test_one_decider_many_threads(name):
    """While another thread keeps changing how many threads torch uses."""
    decide, probs = DECIDERS[name], list(images())
    expected = [decide(image) for image in probs]
    together, stop = threading.Barrier(6), threading.Event()

    def meddle():
        while not stop.wait(0.001):
            torch.set_num_threads(1 + torch.get_num_threads() % 3)

    def work(number):
        torch.set_num_threads(1 + number % 3)
        together.wait()
        mine = [(number + k) % len(probs) for k in range(12)]
        return all(torch.equal(decide(probs[k]), expected[k]) for k in mine)

    other = threading.Thread(target=meddle)
    other.start()
    try:
        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(work, range(6)))
    finally:
        stop.set()
        other.join()


def test_many_deciders_many_threads():
    probs = list(images())
    jobs = [(decide, image) for decide in DECIDERS.values() for image in probs] * 2
    expected = [copy.deepcopy(decide).solve(image) for decide, image in jobs]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: job[0].solve(job[1]), jobs))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.prediction, other.prediction)
        assert torch.equal(one.expected_score, other.expected_score)


def test_the_first_calls_come_at_once(tmp_path):
    """Nothing is compiled yet, and eight threads want it: they wait, or compile for themselves."""
    program = """
    import threading
    image, found = probs(), [None] * 8
    together = threading.Barrier(8)

    def work(number):
        torch.set_num_threads(1 + number % 2)
        together.wait()
        found[number] = RankSEG(output_mode="multilabel")(image)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(all(torch.equal(one, found[0]) for one in found))
    """
    assert run(program, 280, NUMBA_CACHE_DIR=str(tmp_path)) == "True\n"
