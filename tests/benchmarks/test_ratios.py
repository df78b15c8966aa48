"""Ratios that must not get worse, each within one run: no time of day, no other machine.

One thread, and the time that this thread spent on a processor: what else the machine does counts
little. The two sides take turns, the median of their ratios counts, and a measurement that went
wrong is repeated; a real regression fails every time. Limits are about twice what was measured on
a busy machine; plain torch in place of the compiled passes exceeds the first three several times.
``make bench-check`` is the stricter guard.
"""

from statistics import median
from time import thread_time

import pytest
import torch

from rankseg import RankSEG
from rankseg.bench.worker import logits
from rankseg.fields.choose import field_for

ROUNDS, TRIES = 7, 3
CITY, TWO, FOUR_TIMES = (1, 19, 256, 512), (1, 2, 512, 512), (1, 2, 1024, 1024)

LABELS, MASKS = RankSEG(), RankSEG(output_mode="multilabel")
FROM_LOGITS = RankSEG(activation="softmax")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _compiled():
    if type(field_for(torch.zeros(1, 1, 1))).__name__ == "TensorField":
        pytest.skip("plain torch decides here: numba is not installed")


def probs(shape):
    return logits(shape, "noise").softmax(1)


def argmax(values):
    return values.argmax(1)


def seconds(work, values):
    start = thread_time()
    work(values)
    return thread_time() - start


def ratio(work, values, reference, reference_values, limit):
    """Median ratio of processor times: the first of three tries that holds, or the last."""
    for _ in range(TRIES):
        for call, given in ((work, values), (reference, reference_values)):
            call(given)  # warm
        found = median(
            seconds(work, values) / seconds(reference, reference_values) for _ in range(ROUNDS)
        )
        if found <= limit:
            break
    print(f"{found:.3f} (limit {limit})")
    return found


@pytest.mark.parametrize(
    ("decide", "shape", "limit"),
    [(LABELS, CITY, 0.5), (LABELS, TWO, 0.25), (MASKS, CITY, 0.4), (MASKS, TWO, 0.15)],
    ids=["labels", "labels of two", "masks", "masks of two"],
)
def test_decisions_from_probabilities_cost_less_than_argmax(decide, shape, limit):
    values = probs(shape)
    assert ratio(decide, values, argmax, values, limit) <= limit


def test_softmax_and_decision_cost_no_more_than_argmax():
    values = logits(CITY, "noise")
    assert ratio(FROM_LOGITS, values, argmax, values, 1.0) <= 1.0


@pytest.mark.parametrize("shape", [CITY, TWO], ids=["19 classes", "2 classes"])
def test_masks_cost_less_than_labels(shape):
    values = probs(shape)
    assert ratio(MASKS, values, LABELS, values, 0.95) <= 0.95


@pytest.mark.parametrize("decide", [LABELS, MASKS], ids=["labels", "masks"])
def test_four_times_the_pixels_cost_about_four_times_as_much(decide):
    # Sorting would add a tenth, a pass for each pixel four times as much again.
    assert ratio(decide, probs(FOUR_TIMES), decide, probs(TWO), 6) <= 6
