"""Every refusal says what was got and what to do."""

import numpy as np
import pytest
import torch

from rankseg import RankSEG
from rankseg.functional import rankseg


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metric": "f1"}, ValueError, r"metric must be one of 'dice', 'iou', 'acc'.*; got 'f1'"),
        ({"metric": 3}, TypeError, r"metric must be a string, one of 'dice'.*got int"),
        ({"output_mode": "binary"}, ValueError, r"'multiclass', 'multilabel'; got 'binary'"),
        (
            {"solver": "fast"},
            ValueError,
            r"one of 'RMA', 'exact', 'auto', 'coupled', 'BA'.*; got 'fast'",
        ),
        ({"solver": "TR"}, ValueError, r"'TR' makes no sense.*'multiclass'.*'RMA'.*'argmax'"),
        (
            {"solver": "argmax", "output_mode": "multilabel"},
            ValueError,
            r"'argmax' makes no sense.*'multilabel'; possible there: 'RMA'.*'TR'",
        ),
        (
            {"solver": "BA", "metric": "acc"},
            ValueError,
            r"'BA' makes no sense with metric='acc'; possible there: 'RMA', 'exact', 'auto'",
        ),
        ({"solver": "BA", "eps": 0}, ValueError, r"eps must lie strictly between 0 and 1; got 0"),
        ({"solver": "TRNA", "eps": 1.0}, ValueError, r"eps must lie strictly between 0 and 1"),
        ({"solver": "BA", "eps": "tiny"}, TypeError, r"eps must be a number between 0 and 1"),
        (
            {"solver": "exact", "eps": 1e-4},
            ValueError,
            r"solver='exact', .* takes no parameter 'eps'; parameters: 'assignment'",
        ),
        ({"smooth": -1}, ValueError, r"smooth must be a finite number >= 0; got -1"),
        ({"smooth": float("nan")}, ValueError, r"smooth must be a finite number >= 0; got nan"),
        ({"smooth": float("inf")}, ValueError, r"smooth must be a finite number"),
        ({"smooth": "1"}, TypeError, r"smooth must be a finite number >= 0; got str '1'"),
        ({"smooth": True}, TypeError, r"smooth must be .*; got bool True"),
        (
            {"smooth": 1.0, "metric": "acc"},
            ValueError,
            r"'acc' has no smoothing; got smooth=1.0",
        ),
        ({"pruning_prob": 1.5}, ValueError, r"pruning_prob must lie in \[0, 1\]; got 1.5"),
        ({"pruning_prob": float("nan")}, ValueError, r"pruning_prob must lie in \[0, 1\]; got nan"),
        ({"pruning_prob": None}, TypeError, r"pruning_prob must be a number in \[0, 1\]"),
        (
            {"pruning_prob": "0.5"},
            TypeError,
            r"\[0, 1\] or a sequence of them; got str",
        ),
        ({"pruning_prob": ()}, ValueError, r"pruning_prob must have a number for each class"),
        (
            {"pruning_prob": torch.tensor([0.5, 1.0]).to_sparse()},
            TypeError,
            r"^pruning_prob must be a dense tensor with values; got a (torch.)?sparse_coo",
        ),
        (
            {"class_weights": torch.ones(2, device="meta")},
            TypeError,
            r"^class_weights must be a dense tensor with values; got a meta tensor$",
        ),
        ({"pruning_prob": [0.5, 2]}, ValueError, r"of every class must lie in \[0, 1\]; got 2"),
        ({"pruning_prob": [0.5, "a"]}, TypeError, r"of every class must be a number.*got str 'a'"),
        ({"class_weights": 1.0}, TypeError, r"None or a sequence of numbers >= 0; got float 1.0"),
        ({"class_weights": [1, -1]}, ValueError, r"every class weight must be .* >= 0; got -1"),
        ({"class_weights": [1, float("inf")]}, ValueError, r"every class weight must be a finite"),
        ({"class_weights": [1e308, 1e308]}, ValueError, r"class_weights must have a finite sum"),
        ({"class_weights": [0, 0]}, ValueError, r"class_weights must have a number > 0"),
        (
            {"class_weights": [1, 0], "include_background": False},
            ValueError,
            r"count class 0 only.*: give another class a number > 0",
        ),
        ({"empty": 2}, ValueError, r"empty must be 0, 1 or 'nan'; got 2"),
        ({"empty": True}, ValueError, r"empty must be 0, 1 or 'nan'; got True"),
        ({"empty": "zero"}, ValueError, r"empty must be 0, 1 or 'nan'; got 'zero'"),
        (
            {"empty": 1, "smooth": 0.5},
            ValueError,
            r"smooth=0.5 already gives .*; got empty=1",
        ),
        ({"empty": "nan", "metric": "acc"}, ValueError, r"scores absent classes like others"),
        ({"include_background": 0}, TypeError, r"must be True or False; got int 0"),
        ({"eps": 1e-4}, ValueError, r"takes no parameter 'eps'; parameters: 'assignment'"),
        (
            {"pruning": 0.1},
            ValueError,
            r"takes no parameter 'pruning'.* did you mean 'pruning_prob'\?",
        ),
        ({"metrics": "dice"}, ValueError, r"did you mean 'metric'\?"),
        ({"nonsense": 1}, ValueError, r"'ignore_index'$"),
        (
            {"eps": 1e-4, "output_mode": "multilabel"},
            ValueError,
            r"output_mode='multilabel' takes no parameter 'eps'; parameters: none",
        ),
        (
            {"unassigned_policy": "void", "output_mode": "multilabel"},
            ValueError,
            r"takes no parameter 'unassigned_policy'",
        ),
        ({"unassigned_policy": "zero"}, ValueError, r"one of 'max_score', 'void'; got 'zero'"),
        ({"void_index": 7}, ValueError, r"only with unassigned_policy='void'; got 'max_score'"),
        (
            {"unassigned_policy": "void", "void_index": 1.5},
            TypeError,
            r"void_index must be an integer; got float 1.5",
        ),
        (
            {"unassigned_policy": "void", "metric": "acc"},
            ValueError,
            r"'void' makes no sense with metric='acc', whose labels are argmax",
        ),
        (
            {"unassigned_policy": "void", "void_index": 2**63},
            ValueError,
            r"void_index must fit into 64 bits; got 9223372036854775808",
        ),
        ({"smooth": 10**400}, ValueError, r"smooth must be .*; got a number beyond float64"),
        (
            {"metric": "fbeta", "solver": "exact"},
            ValueError,
            r"'exact' makes no sense with metric='fbeta'; possible there: 'RMA', 'argmax'",
        ),
        ({"metric": "fbeta", "beta": -1}, ValueError, r"beta must be a finite number >= 0; got -1"),
        ({"metric": "tversky", "alpha": 3}, ValueError, r"alpha must lie in \[0, 1\]; got 3"),
        ({"metric": "fbeta", "beta": 1e154}, ValueError, r"beta must be at most 1e6; got 1e\+154"),
        ({"solver": "BA", "eps": 5e-324}, ValueError, r"eps must lie strictly between 0 and 1"),
        ({"metric": "tversky", "beta": "x"}, TypeError, r"beta must be a finite number >= 0"),
        ({"metric": "tversky", "alpha": 0, "beta": 0}, ValueError, r"is 1 for every mask"),
        ({"beta": 2.0}, ValueError, r"metric='dice', .* takes no parameter 'beta'"),
        ({"assignment": "best"}, ValueError, r"assignment must be one of 'published', 'ascent'"),
        (
            {"solver": "TR", "output_mode": "multilabel", "threshold": 2},
            ValueError,
            r"threshold must lie in \[0, 1\]; got 2",
        ),
    ],
)
def test_bad_configuration(options, error, message):
    with pytest.raises(error, match=message):
        RankSEG(**options)
    with pytest.raises(error, match=message):
        rankseg(torch.rand(1, 2, 4), **options)


def test_names_are_matched_in_any_case_and_kept_as_users_write_them():
    settings = RankSEG("DICE", "MultiLabel", "rma").settings
    assert (settings.metric, settings.output_mode, settings.solver) == ("dice", "multilabel", "RMA")


def spoiled(value):
    probs = torch.rand(2, 3, 8)
    probs[1, 2, 4] = value
    return probs


@pytest.mark.parametrize(
    ("probs", "error", "message"),
    [
        (spoiled(1.7), ValueError, r"must lie in \[0, 1\], got min=.*max=1.7.*softmax or sigmoid"),
        (spoiled(-0.2), ValueError, r"must lie in \[0, 1\], got min=-0.2.*softmax or sigmoid"),
        (spoiled(1.0000002), ValueError, r"max=1.00000024; clamp\(0, 1\) if this is rounding"),
        (spoiled(float("nan")), ValueError, r"contains NaN, in 1 of 6 \(image, class\) pairs"),
        (spoiled(float("inf")), ValueError, r"max=inf; apply softmax or sigmoid"),
        (spoiled(float("-inf")), ValueError, r"min=-inf"),
        (torch.full((1, 2, 4), float("nan")), ValueError, r"NaN, in 2 of 2"),
        (torch.randn(1, 3, 64) * 9, ValueError, r"apply softmax or sigmoid first"),
        (torch.rand(4), ValueError, r"shape \(B, C, \*spatial\).*got shape \(4,\)"),
        (torch.rand(2, 4), ValueError, r"at least one spatial dimension; got shape \(2, 4\)"),
        (torch.tensor(0.5), ValueError, r"got shape \(\)"),
        (torch.rand(2, 0, 4), ValueError, r"empty class or spatial.*\(2, 0, 4\)"),
        (torch.rand(2, 3, 0), ValueError, r"empty class or spatial.*\(2, 3, 0\)"),
        (torch.rand(2, 3, 5, 0), ValueError, r"empty class or spatial"),
        (torch.ones(1, 2, 4, dtype=torch.int64), TypeError, r"float32.*got int64.*not labels"),
        (torch.ones(1, 2, 4, dtype=torch.uint8), TypeError, r"got uint8.*8-bit"),
        (torch.ones(1, 2, 4, dtype=torch.bool), TypeError, r"got bool"),
        (torch.ones(1, 2, 4, dtype=torch.complex64), TypeError, r"got complex64"),
        (np.ones((1, 2, 4), np.float32), TypeError, r"got ndarray: use torch.from_numpy\(probs\)"),
        ([[[0.5]]], TypeError, r"must be a torch.Tensor.*got list"),
        (None, TypeError, r"got NoneType"),
        (torch.rand(1, 2, 4).to_sparse(), TypeError, r"dense tensor.*sparse_coo"),
        (torch.rand(1, 2, 4, device="meta"), TypeError, r"dense tensor.*got a meta tensor"),
    ],
)
@pytest.mark.parametrize("output_mode", ["multiclass", "multilabel"])
def test_bad_probs(probs, error, message, output_mode):
    decide = RankSEG(output_mode=output_mode)
    for call in (decide, decide.predict, decide.solve):
        with pytest.raises(error, match=message):
            call(probs)


def test_logits_inside_the_interval_are_not_guessed_to_be_logits():
    probs = torch.rand(1, 2, 16) * 0.4  # could be logits, sums to less than one: taken as given
    assert RankSEG(pruning_prob=0.0)(probs).shape == (1, 16)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensor():
    probs = torch.nested.nested_tensor([torch.rand(1, 2), torch.rand(1, 3)])
    with pytest.raises(TypeError, match="dense tensor with values; got a nested tensor"):
        RankSEG()(probs)
