"""The rest of the public names, and what adapters make of hostile input."""

from __future__ import annotations

import tempfile

import numpy as np
import torch
from hardening import hostile_options, hostile_tensors
from hardening.fuzzing import examples
from hardening.hostile_options import STRANGE
from hardening.outcome import Refused, attempt, bits, same
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rankseg import Calibrator, DecisionRule, RankSEG, expected_score

strange = st.sampled_from(STRANGE)
anything = strange | st.sampled_from(sorted(hostile_tensors.REFUSED)).map(hostile_tensors.refused)


@st.composite
def predictions(draw, probs):
    """Labels or masks for these probabilities, or nearly."""
    batch, classes, *spatial = probs.shape
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    kinds = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
    if draw(st.booleans()):
        shape = draw(st.sampled_from([(batch, *spatial), (batch, 1, *spatial), (batch,)]))
        labels = torch.randint(-1 if draw(st.booleans()) else 0, 7, shape, generator=rng)
        return labels.to(draw(st.sampled_from(kinds)))
    masks = torch.rand((batch, classes, *spatial), generator=rng) < draw(st.floats(0, 1))
    return draw(st.sampled_from([masks, masks.to_sparse(), masks.float(), masks.to("meta")]))


@examples(200)
@given(hostile_tensors.served(), st.data())
def test_expected_score(probs, data):
    prediction = data.draw(predictions(probs))
    options = {
        "metric": data.draw(st.sampled_from(["dice", "iou", "acc", "fbeta", "tversky"])),
        "method": data.draw(st.sampled_from(["exact", "RMA", "BA", "TRNA", "coupled"])),
        "smooth": data.draw(st.sampled_from([0, 0.5, 1e300])),
        "empty": data.draw(st.sampled_from([0, 1, "nan"])),
    }
    before = bits(probs)
    found = attempt(lambda: expected_score(probs, prediction, **options))
    assert torch.equal(bits(probs), before)
    if isinstance(found, Refused):
        return
    assert type(found) is Tensor
    assert found.dtype == torch.float64
    assert tuple(found.shape) == tuple(probs.shape[:2])
    unknown = found.isnan() if options["empty"] == "nan" else torch.zeros_like(found) > 0
    assert (((found >= 0) & (found <= 1 + 2e-6)) | unknown).all(), found
    same(found, expected_score(hostile_tensors.plain(probs), prediction, **options))


@examples(150)
@given(st.dictionaries(st.sampled_from(["metric", "method", "smooth", "coupling", "empty", "beta"]),
                       strange, max_size=2), anything, anything)  # fmt: skip
def test_expected_score_of_anything(options, probs, prediction):
    attempt(lambda: expected_score(probs, prediction))
    attempt(lambda: expected_score(hostile_tensors.BASE, prediction))
    attempt(lambda: expected_score(hostile_tensors.BASE, torch.zeros(1, 3).long(), **options))


NUMBERS = strange | st.lists(st.sampled_from([0, 0.5, 1, -1, np.nan, "x", None, 1e400]), max_size=3)


@examples(300)
@given(st.dictionaries(
    st.sampled_from(["output_mode", "activation", "threshold", "eligible", "slope", "offset",
                     "bend", "void_index", "regret", "calibrator"]), NUMBERS, max_size=3),
    st.booleans())  # fmt: skip
def test_rules_made_by_hand(given_, labels):
    good = vars(RankSEG("iou").decide(hostile_tensors.BASE)) if labels else {
        "output_mode": "multilabel", "activation": "none", "threshold": (0.5, 0.4)}  # fmt: skip
    rule = attempt(lambda: DecisionRule(**{**good, **given_}))
    if isinstance(rule, Refused):
        return
    found = attempt(lambda: rule.apply(hostile_tensors.BASE))
    assert isinstance(found, (Tensor, Refused))


@examples(150)
@given(hostile_tensors.served(), st.data())
def test_rules_on_any_pixels(probs, data):
    """A rule of other pixels decides these, the same after a visit to a file."""
    options = data.draw(hostile_options.sensible(probs.shape[1], dense=False))
    other = torch.rand(1, probs.shape[1], 9, generator=torch.Generator().manual_seed(0))
    rule = attempt(lambda: RankSEG(**options).decide(other))
    if isinstance(rule, Refused):
        assert "include_background" in str(rule.error) or options["metric"] == "tversky"
        return
    found = attempt(lambda: rule.apply(probs))
    assert isinstance(found, Tensor), found
    same(rule.apply(hostile_tensors.plain(probs)), found)
    with tempfile.TemporaryDirectory() as folder:
        rule.save(f"{folder}/rule.json")
        again = DecisionRule.load(f"{folder}/rule.json")
    assert again == rule
    same(again.apply(probs), found)


@examples(300)
@given(st.sampled_from(["softmax", "sigmoid", "isotonic"]) | strange, NUMBERS, NUMBERS, NUMBERS)
def test_calibrators_made_by_hand(kind, slope, offset, points):
    for arguments in (
        (kind, slope, offset, points),
        (kind, slope, offset),
        (kind, (1.0, 2.0), offset),
    ):
        calibrator = attempt(lambda arguments=arguments: Calibrator(*arguments))
        if not isinstance(calibrator, Refused):
            found = attempt(lambda calibrator=calibrator: calibrator(hostile_tensors.BASE))
            assert isinstance(found, (Tensor, Refused))


@examples(100)
@given(hostile_tensors.served(), st.sampled_from(["softmax", "sigmoid", "isotonic"]))
def test_calibrated_probabilities_are_probabilities(probs, kind):
    classes = probs.shape[1]
    if kind == "isotonic":
        calibrator = Calibrator(kind, points=(((0.1, 0.0), (0.5, 0.7)),) * classes)
    elif kind == "softmax" and classes == 1:
        return
    else:
        calibrator = Calibrator(kind, (0.02, 50.0, 1.0, 1.0, 1.0)[:classes], (-100.0,) * classes)
    found = attempt(lambda: calibrator(probs))
    assert type(found) is Tensor
    assert ((found >= 0) & (found <= 1)).all()
    same(found, calibrator(hostile_tensors.plain(probs)))
