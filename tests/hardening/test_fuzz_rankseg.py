"""RankSEG and its functional form: an answer with its laws, or a refusal in our own words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hardening import hostile_options, hostile_tensors
from hardening.fuzzing import examples
from hardening.outcome import (
    Refused,
    attempt,
    bits,
    check_prediction,
    check_regret,
    check_segmentation,
    same,
)
from hypothesis import given
from hypothesis import strategies as st

from rankseg import DecisionRule, RankSEG, Segmentation
from rankseg.functional import rankseg

SUITABLE = {"metric": "dice", "output_mode": "multiclass", "solver": "RMA"}


@st.composite
def questions(draw):
    """Probabilities in some form, and options that go with them."""
    probs = draw(hostile_tensors.served())
    options = draw(hostile_options.sensible(probs.shape[1]))
    return probs, options


def leaves_nothing(options, probs):
    """Whether the question has no answer: the only channel is background, or there is no pixel."""
    only = options.get("include_background") is False and probs.shape[1] == 1
    return only or (options.get("aggregation") == "dataset" and not len(probs))


def is_best_by_rma(options):
    """Whether the oracle knows what the masks should be."""
    masks = options["solver"] == "RMA" and options["output_mode"] == "multilabel"
    alone = options.get("aggregation") != "dataset" and options.get("empty", 0) != 1
    return masks and alone and options["metric"] != "acc"


@examples(400)
@given(questions())
def test_what_makes_sense_is_answered(question):
    probs, options = question
    decide = RankSEG(**options)
    before = bits(probs)
    found = attempt(lambda: decide.solve(probs))
    assert torch.equal(bits(probs), before), "the input was modified"
    if leaves_nothing(options, probs):
        assert isinstance(found, Refused)
        return
    assert isinstance(found, Segmentation), found
    copy = hostile_tensors.plain(probs)
    check_segmentation(found, copy, options)
    same(found, decide.solve(copy))
    same(attempt(lambda: decide(probs)), found.prediction)
    same(attempt(lambda: rankseg(probs, **options)), found.prediction)
    if is_best_by_rma(options):
        check_regret(found.prediction, copy, found.active, options)


@examples(200)
@given(questions(), st.booleans())
def test_logits_are_anything(question, many):
    """With an activation the input need not lie in [0, 1]."""
    probs, options = question
    activation = "softmax" if many and probs.shape[1] > 1 else "sigmoid"
    logits = 80 * hostile_tensors.plain(probs) - 30
    decide = RankSEG(**options, activation=activation)
    found = attempt(lambda: decide.solve(logits))
    if leaves_nothing(options, logits):
        assert isinstance(found, Refused)
        return
    assert isinstance(found, Segmentation), found
    check_segmentation(found, logits, options)


@examples(300)
@given(hostile_options.anything(), hostile_tensors.values())
def test_options_are_taken_or_refused(options, probs):
    decide = attempt(lambda: RankSEG(**options))
    found = attempt(lambda: rankseg(probs, **options))
    if isinstance(decide, Refused):
        assert isinstance(found, Refused)
        assert type(found.error) is type(decide.error)
    elif not isinstance(found, Refused):
        names = {name: getattr(decide.settings, name) for name in SUITABLE}
        check_prediction(found, probs, names | dict(decide.settings.parameters))


@examples(150)
@given(hostile_tensors.spoiled(), hostile_options.sensible(3), st.data())
def test_a_wrong_value_is_found_anywhere(probs, options, data):
    for name in ("class_weights", "pruning_prob", "threshold", "include_background"):
        options.pop(name, None)
    decide = RankSEG(**options)
    way = data.draw(st.sampled_from(["predict", "solve", "decide"]))
    found = attempt(lambda: getattr(decide, way)(probs))
    assert isinstance(found, Refused), found
    assert isinstance(found.error, ValueError)


@pytest.mark.parametrize("name", hostile_tensors.REFUSED)
@pytest.mark.parametrize("way", ["predict", "solve", "decide", "one_pass"])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_what_is_no_tensor_of_probabilities(name, way, backend):
    decide = RankSEG(output_mode="multilabel", backend=backend)
    ways = {"one_pass": lambda probs: decide.decide(probs, one_pass=True)}
    call = ways.get(way) or getattr(decide, way)
    found = attempt(lambda: call(hostile_tensors.refused(name)))
    assert isinstance(found, Refused), found


@st.composite
def masks(draw, probs):
    """Masks of valid pixels: of the right kind, or nearly."""
    batch, _, *spatial = probs.shape
    shape = draw(st.sampled_from([(batch, *spatial), (batch, 1, *spatial), (*spatial,), (1,)]))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    mask = torch.rand(shape, generator=random) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    form = draw(st.sampled_from(["bool", "uint8", "sparse", "meta", "expanded", "array", "class"]))
    return {
        "bool": mask,
        "uint8": mask.to(torch.uint8),
        "sparse": mask.to_sparse(),
        "meta": mask.to("meta"),
        "expanded": mask[..., :1].expand(shape),
        "array": mask.numpy(),
        "class": mask.as_subclass(hostile_tensors.Refusing),
    }[form]


@examples(200)
@given(questions(), st.data())
def test_valid_masks(question, data):
    probs, options = question
    mask = data.draw(masks(probs))
    decide = RankSEG(**options)
    found = attempt(lambda: decide(probs, mask))
    if isinstance(found, Refused):
        return
    assert found.shape[0] == len(probs)
    valid = hostile_tensors.plain(mask).reshape(len(probs), 1, *probs.shape[2:])
    fill = False if options["output_mode"] == "multilabel" else options.get("ignore_index", 255)
    outside = found if found.ndim == probs.ndim else found.unsqueeze(1)
    assert (outside == fill)[~valid.expand_as(outside)].all()
    copy = hostile_tensors.plain(probs)
    same(decide(copy.masked_fill(~valid, torch.nan), valid), found)


@examples(150)
@given(hostile_tensors.served(), st.data())
def test_decide_is_predict_for_an_image(probs, data):
    """A rule from one image, or from its pieces, makes the image's own prediction."""
    options = data.draw(hostile_options.sensible(probs.shape[1], dense=False))
    options.pop("aggregation", None)
    options.pop("ignore_index", None)
    decide = RankSEG(**options)
    for image in range(len(probs)):
        with torch._C.DisableTorchFunctionSubclass():
            one = probs[image : image + 1]
            pieces = [one[:, :, :1], one[:, :, 1:]] if one.shape[2] > 1 else [one]
        rule = attempt(lambda one=one: decide.decide(one))
        if leaves_nothing(options, one):
            assert isinstance(rule, Refused)
            continue
        if isinstance(rule, Refused) and options.get("metric") == "tversky":
            assert "sum to less than a pixel" in str(rule.error)
            assert one.double().flatten(2).sum(2).min() < 1
            continue
        assert isinstance(rule, DecisionRule), rule
        same(attempt(lambda rule=rule, one=one: rule.apply(one)), decide(one))
        same(attempt(lambda pieces=pieces: decide.decide(pieces)), rule)


TILES = [
    *(
        [],
        [torch.rand(1, 2, 3), torch.rand(1, 3, 3)],
        [torch.rand(1, 2, 3), torch.rand(1, 2, 3).half()],
    ),
    *(
        [torch.rand(0, 2, 3)],
        [None],
        [torch.rand(1, 2, 3), "x"],
        ["x"],
        "tiles",
        {},
        5,
        None,
        object(),
    ),
    *([[torch.rand(1, 2, 3), "name"]], {"a": torch.rand(1, 2, 3)}, iter([torch.rand(1, 2, 3)])),
    *([torch.rand(1, 2, 3) + 1], [torch.rand(2, 3)], [torch.full((1, 2, 3), torch.nan)]),
    *(torch.rand(0, 2, 3), range(3), (torch.rand(1, 2, 3) for _ in range(2)), RankSEG, b"ab"),
]


@pytest.mark.parametrize("place", range(len(TILES)))
@pytest.mark.parametrize("one_pass", [False, True])
def test_tiles_that_are_none(place, one_pass):
    decide = RankSEG(output_mode="multilabel")
    found = attempt(lambda: decide.decide(TILES[place], one_pass=one_pass))
    single = isinstance(TILES[place], type(iter([]))) or "generator" in type(TILES[place]).__name__
    assert isinstance(found, Refused) or (one_pass and single), found


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [1, 2])
def test_fuzz_at_length(seed):
    """Ten times as many examples, others for each seed."""
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow"]
    command += [f"--hypothesis-seed={seed}", "-p", "no:cacheprovider", "--timeout=3600"]
    found = subprocess.run(
        [*command, *map(str, sorted(here.glob("test_fuzz_*.py")))],
        env=os.environ | {"RANKSEG_FUZZ": "10"},
        cwd=here.parents[1],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout[-5000:]
