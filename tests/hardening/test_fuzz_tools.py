"""Tools on pairs, and what adapters make of hostile input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hardening import hostile_tensors
from hardening.fuzzing import examples
from hardening.hostile_options import STRANGE
from hardening.outcome import attempt
from hypothesis import assume, given
from hypothesis import strategies as st

from rankseg import RankSEG
from rankseg.evaluation import evaluate, fit_calibrator, tune
from rankseg_integrations.torch import RankSEGHead, RankSEGModel

strange = st.sampled_from(STRANGE)
anything = strange | st.sampled_from(sorted(hostile_tensors.REFUSED)).map(hostile_tensors.refused)

PAIR = (hostile_tensors.BASE, hostile_tensors.BASE.argmax(1), "image")
SMALL = {"solvers": ("RMA",), "couplings": (), "calibrations": ("temperature",), "folds": 2}
TOOLS = {
    "evaluate": evaluate,
    "fit_calibrator": fit_calibrator,
    "tune": lambda pairs, **options: tune(pairs, **{**SMALL, **options}),
}
OPTIONS = {
    "evaluate": ["contenders", "metric", "aggregation", "output_mode", "activation", "ignore_index",
                 "include_background", "empty", "class_names", "groups", "on_error", "replicates",
                 "seed"],
    "fit_calibrator": ["method", "output_mode", "activation", "ignore_index", "on_error"],
    "tune": ["metric", "aggregation", "solvers", "couplings", "calibrations", "thresholds",
             "options", "groups", "folds", "confidence", "replicates", "seed"],
}  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", ["2^40 images", "2^40 pixels", "array", "meta"])
def test_a_tensor_is_no_pairs(tool, name):
    with pytest.raises(TypeError, match="pairs must be a list"):
        TOOLS[tool](hostile_tensors.refused(name))


def test_arrays_that_cannot_be_written_or_are_masked():
    probs, labels, name = PAIR[0].numpy().copy(), PAIR[1].numpy().copy(), PAIR[2]
    expected = repr(evaluate([PAIR], replicates=2).contenders)
    for array in (probs, labels):
        array.flags.writeable = False  # as np.load(mmap_mode="r") has them; torch would warn
    found = evaluate([(probs, labels, name)], replicates=2).contenders
    assert repr(found) == expected  # NaN is NaN
    with pytest.raises(ValueError, match="masked one: fill it"):  # values behind it would count
        evaluate([(probs, np.ma.masked_equal(labels, 1), name)])


@pytest.mark.parametrize("tool", TOOLS)
@examples(40)
@given(anything, st.data())
def test_pairs_that_are_none(tool, thing, data):
    shapes = [[thing], thing, [(thing, PAIR[1])], [(PAIR[0], thing)], [PAIR, (*PAIR[:2], thing)]]
    attempt(lambda: TOOLS[tool](data.draw(st.sampled_from(shapes))))


@pytest.mark.parametrize("tool", TOOLS)
@examples(40)
@given(st.data())
def test_options_of_the_tools(tool, data):
    given_ = st.dictionaries(st.sampled_from(OPTIONS[tool]), strange, min_size=1, max_size=2)
    options = data.draw(given_)
    assume(not any(map(callable, options.values())))  # what users' functions raise is theirs
    attempt(lambda: TOOLS[tool]([PAIR, (*PAIR[:2], "other")], **options))


@pytest.mark.slow  # first calls of many kinds: some 20 s of processor time
@examples(50)
@given(anything | hostile_tensors.served(), strange, strange)
def test_heads(returned, key, size):
    for activation in ("none", "softmax"):
        head = RankSEGHead(activation)
        attempt(lambda head=head: head(returned))
        attempt(lambda head=head: head({"out": returned}))
        attempt(lambda head=head: head((returned, "loss")))
    attempt(lambda: RankSEGHead("sigmoid", key=key))
    attempt(lambda: RankSEGHead("sigmoid", size=size))
    attempt(lambda: RankSEGHead(size)(hostile_tensors.BASE, size=size))
    attempt(lambda: RankSEGModel(torch.nn.Identity(), returned))
    attempt(lambda: RankSEGModel(torch.nn.Identity(), RankSEGHead())(returned))


@examples(50)
@given(anything | hostile_tensors.served(), strange)
def test_adapters(thing, option):
    """Cheap ones: MONAI, SAM, Dask, Hugging Face."""
    monai = pytest.importorskip("rankseg_integrations.monai")
    sam = pytest.importorskip("rankseg_integrations.sam")
    dask = pytest.importorskip("rankseg_integrations.dask")
    transformers = pytest.importorskip("rankseg_integrations.transformers")
    attempt(lambda: monai.AsRankSEG()(thing))
    attempt(lambda: monai.AsRankSEG()(hostile_tensors.BASE[0], thing))
    attempt(lambda: monai.AsRankSEG(to_onehot=option, dtype=option))
    attempt(lambda: sam.RankSEGThreshold().above(thing))
    attempt(lambda: sam.RankSEGThreshold(temperature=option))
    attempt(lambda: sam.RankSEGThreshold(option))
    attempt(lambda: dask.decide(thing, RankSEG()))
    attempt(lambda: transformers.postprocess_semantic_segmentation(thing))
