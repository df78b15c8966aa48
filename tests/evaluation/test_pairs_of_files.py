"""What pairs that were read from files need of ``evaluate``."""

from __future__ import annotations

import pytest
import torch

from rankseg.evaluation import evaluate
from rankseg.evaluation.pairs import PairError

PROBS = torch.tensor([0.6, 0.3, 0.1])[None, :, None, None].expand(1, 3, 4, 4).contiguous()


@pytest.mark.parametrize("index", [-1, 256])
def test_an_index_to_ignore_that_the_labels_type_cannot_hold_is_nowhere(index):
    labels = torch.zeros(1, 4, 4, dtype=torch.uint8)
    wanted = evaluate([(PROBS, labels)]).to_dict()
    assert evaluate([(PROBS, labels)], ignore_index=index).to_dict() == wanted
    with pytest.raises(ValueError, match="labels from 0 to 255"):
        evaluate([(PROBS, labels.index_fill(1, torch.tensor([0]), 255))], ignore_index=index)


def test_a_pair_that_could_not_be_read_is_skipped_by_its_name():
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    pairs = [PairError("broken", "truncated"), (PROBS, labels, "whole")]
    found = evaluate(pairs, on_error="skip")
    assert (found.images, found.skipped) == (1, {"broken": "truncated"})
    with pytest.raises(PairError, match=r"^broken: truncated$"):
        evaluate(pairs)


def test_names_are_told_where_a_pair_does_not_go_together():
    labels = torch.zeros(2, 4, 4, dtype=torch.int64)
    with pytest.raises(PairError, match=r"^case 7: 1 images of probs, 2 of labels"):
        evaluate([(PROBS, labels, "case 7")])


def test_pixels_without_data_leave_holes_in_pictures():
    canvas = torch.ones(5, 6, dtype=torch.bool)
    canvas[:2] = False
    values = torch.rand(1, 3, 18, generator=torch.Generator().manual_seed(1)).softmax(1)
    labels = torch.arange(18)[None] % 3
    found = evaluate([(values, labels, "a", canvas)])
    (example,) = found.best["RMA"] or found.worst["RMA"]
    assert {picture.shape for picture in example.maps.values()} == {(5, 6)}
    assert (example.maps["truth"][:2] == 255).all()
    assert (example.maps["probability"][:2] == 0).all()
    assert (example.maps["truth"][2:].ravel() == labels.numpy()[0]).all()


def test_nothing_to_compare_is_said():
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    pairs = [(PROBS, labels, str(number)) for number in range(8)]
    found = evaluate(pairs, include_background=False)
    assert found.verdict == (
        "Nothing to compare: no image has a mean Dice, because no class that counts is ever true "
        "or predicted."
    )
