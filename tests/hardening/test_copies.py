"""Every public object through pickle and deepcopy: equal, and it decides the same."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from rankseg import Calibrator, DecisionRule, RankSEG, Segmentation
from rankseg.evaluation import TunedRankSEG, evaluate, fit_calibrator, tune
from rankseg_integrations.sam import RankSEGThreshold
from rankseg_integrations.torch import RankSEGHead, RankSEGModel

PROBS = torch.rand(2, 3, 12, 13, generator=torch.Generator().manual_seed(0)).softmax(1)
PAIRS = [(PROBS, PROBS.argmax(1), ["a", "b"])]
CALIBRATOR = Calibrator("softmax", (0.5, 1.0, 2.0), (0.0, 0.1, 0.2))
CURVES = Calibrator("isotonic", points=(((0.1, 0.2), (0.9, 0.95)),) * 3)
DECIDERS = {
    "RankSEG": RankSEG("iou", smooth=1.0, calibrator=CALIBRATOR, class_weights=(1, 2, 3)),
    "rule": RankSEG("iou").decide(PROBS),
    "rule of masks": RankSEG(output_mode="multilabel", calibrator=CURVES).decide(PROBS),
    "rule's module": RankSEG("iou").decide(PROBS).head(),
    "calibrator": CALIBRATOR,
    "isotonic": CURVES,
    "head": RankSEGHead("softmax", metric="iou", solver="coupled"),
    "model": RankSEGModel(torch.nn.Conv2d(3, 3, 1), RankSEGHead("softmax")),
    "tuned": tune(PAIRS, solvers=("RMA",), couplings=(), calibrations=("none",), folds=2),
}
WAYS = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "oldest pickle": lambda thing: pickle.loads(pickle.dumps(thing, protocol=0)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("name", DECIDERS)
@pytest.mark.parametrize("way", WAYS)
def test_deciders(name, way):
    decide = DECIDERS[name]
    again = WAYS[way](decide)
    assert type(again) is type(decide)
    assert repr(again) == repr(decide)
    assert torch.equal(again(PROBS), decide(PROBS))


@pytest.mark.parametrize("way", WAYS)
def test_results(way):
    found = RankSEG(solver="exact").solve(PROBS)
    again = WAYS[way](found)
    assert isinstance(again, Segmentation)
    for name, number in vars(found).items():
        assert torch.equal(number, getattr(again, name))
    evaluation = evaluate(PAIRS)
    assert WAYS[way](evaluation).verdict == evaluation.verdict
    assert WAYS[way](fit_calibrator(PAIRS)) == fit_calibrator(PAIRS)
    threshold = RankSEGThreshold("dice", temperature=2.0)
    logits = PROBS[0] * 9 - 4
    assert torch.equal(logits > WAYS[way](threshold), logits > threshold)


@pytest.mark.parametrize("way", WAYS)
def test_errors_travel_between_processes(way):
    for call in (lambda: RankSEG("f1"), lambda: RankSEG()(PROBS + 1), lambda: evaluate([(1, 2)])):
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert str(WAYS[way](caught.value)) == str(caught.value)


def test_through_torch_save(tmp_path):
    """Weights alone are not what these objects are; torch's loader is told so by the user."""
    for name in ("RankSEG", "head", "model", "tuned"):
        torch.save(DECIDERS[name], tmp_path / "object.pt")
        again = torch.load(tmp_path / "object.pt", weights_only=False)
        assert torch.equal(again(PROBS), DECIDERS[name](PROBS))
        assert isinstance(again, type(DECIDERS[name]))
    assert isinstance(DECIDERS["tuned"], TunedRankSEG)
    assert isinstance(DECIDERS["rule"], DecisionRule)
