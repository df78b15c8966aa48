"""What Python's messages say reaches the command line in its own words."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from rankseg import RankSEG
from rankseg.cli.wording import as_typed

PYTHON = re.compile(r"\b[a-z_]+=['\w(]|(?<![-\w/])(?!max_score)[a-z]+_[a-z_]+\b")
"""Arguments as they are written in Python: name=value, or names with an underscore."""


@pytest.mark.parametrize(
    ("said", "typed"),
    [
        ("metric='acc' has no smoothing", "--metric acc has no smoothing"),
        (
            "or say activation='softmax' or 'sigmoid'",
            "or say --activation softmax or sigmoid",
        ),
        ("include_background=False leaves nothing", "--no-include-background leaves nothing"),
        ("class_weights=[1.0, 0.5] count", "--class-weights 1.0,0.5 count"),
        ("say ignore_index=-1 if that", "say --ignore-index -1 if that"),
        ("takes no parameter 'coupling'; parameters: 'void_index'", None),
        ("pruning_prob must lie in [0, 1]; got 2.0", "--pruning-prob must lie in [0, 1]; got 2.0"),
        ("eps must lie in", "--eps must lie in"),
        ("choose the other output_mode", "choose the other --output-mode"),
        ("void_index=-1 or", "--void-index -1 or"),
    ],
)
def test_arguments_become_options(said, typed):
    wanted = typed or "takes no parameter --coupling; parameters: --void-index"
    assert as_typed(said) == wanted
    assert as_typed(wanted) == wanted


@pytest.mark.parametrize(
    "text",
    [
        *("probs/class_weights/a.npy: empty", "void_index.npz has no key", "the metric is fine"),
        *("my_output_mode", "a=1", "x.output_mode", "unknown suffix '.key'"),
        *("labels must be integers", "holds several arrays: 'metric', 'scale'", "got 'scale'"),
    ],
)
def test_names_of_files_and_plain_words_stay(text):
    assert as_typed(text) == text


@pytest.mark.parametrize(
    "options",
    [
        ["--coupling", 0.3],
        ["--coupling", 3, "--solver", "coupled"],
        ["--metric", "acc", "--smooth", 1],
        ["--metric", "acc", "--empty", 1],
        ["--metric", "acc", "--unassigned-policy", "void"],
        ["--metric", "tversky", "--alpha", 0, "--beta", 0],
        ["--metric", "fbeta", "--solver", "BA"],
        ["--metric", "best"],
        ["--beta", 2],
        ["--smooth", 1, "--empty", 1],
        ["--smooth", -1],
        ["--eps", 2, "--solver", "BA"],
        ["--void-index", 9],
        ["--void-index", 1, "--unassigned-policy", "void"],
        ["--unassigned-policy", "never"],
        ["--assignment", "no"],
        ["--output-mode", "labels"],
        ["--output-mode", "multilabel", "--solver", "argmax"],
        ["--class-weights", "1,2"],
        ["--class-weights", "1,0,0", "--no-include-background"],
        ["--pruning-prob", "0.1,0.2"],
        ["--pruning-prob", 7],
        ["--threshold", "0.1,0.2", "--solver", "TR", "--output-mode", "multilabel"],
        ["--empty", "all"],
        ["--aggregation", "dataset", "--solver", "exact"],
        ["--aggregation", "dataset", "--empty", 1],
        ["--activation", "softmax", "--channel-axis", "none"],
        ["--channel-axis", "none", "--no-include-background"],
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_what_predict_refuses_is_told_in_options(run, saved, out, tmp_path, options):
    if "none" in options:
        np.save(saved, np.full((4, 5), 0.4))
    code, text = run("predict", saved, "--output", out, *options)
    assert code in (1, 2), text
    text = text.replace(str(tmp_path), "")
    assert not PYTHON.search(text), text


@pytest.mark.parametrize("command", ["evaluate", "tune", "calibrate"])
def test_one_channel_without_background(run, tmp_path, command):
    np.save(tmp_path / "p.npy", np.full((1, 4, 4), 0.4))
    np.save(tmp_path / "y.npy", np.ones((4, 4), int))
    files = (tmp_path / "p.npy", tmp_path / "y.npy")
    options = {
        "evaluate": ["--no-include-background"],
        "tune": ["--no-include-background", "--output", tmp_path / "t.json"],
        "calibrate": ["--activation", "softmax", "--output", tmp_path / "c.json"],
    }[command]
    code, text = run(command, *files, *options)
    assert code in (1, 2)
    assert not PYTHON.search(text.replace(str(tmp_path), "")), text


def test_logits_are_told_the_option_once(run, tmp_path, out):
    np.save(tmp_path / "p.npy", np.linspace(-9, 9, 48).reshape(3, 4, 4))
    np.save(tmp_path / "y.npy", np.ones((4, 4), int))
    for command in (["evaluate", tmp_path / "p.npy", tmp_path / "y.npy"], ["predict"]):
        more = [tmp_path / "p.npy", "--output", out] if command == ["predict"] else []
        code, text = run(*command, *more)
        assert code == 1
        assert text.count("--activation") == 1, text
        assert "activation=" not in text


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({}, "is no decision rule: it lacks "),
        ({"smooth": 1.0}, "a rule takes no parameter 'smooth'; parameters: 'output_mode'"),
    ],
)
def test_entries_of_a_file_are_no_options(run, saved, out, tmp_path, entries, says):
    rule = RankSEG("dice", aggregation="dataset").decide([torch.rand(1, 3, 9)])
    rule.save(tmp_path / "rule.json")
    content = json.loads((tmp_path / "rule.json").read_text())
    if entries:
        content |= entries
    else:
        del content["output_mode"]
    (tmp_path / "rule.json").write_text(json.dumps(content))
    code, text = run("predict", saved, "--output", out, "--rule", tmp_path / "rule.json")
    assert code == 2
    assert says in text
    assert "--output-mode" not in text


def test_scaled_values_are_not_told_the_same_scale(run, tmp_path, out):
    np.save(tmp_path / "p.npy", np.arange(48, dtype=np.uint8).reshape(3, 4, 4) * 5)
    text = run("predict", tmp_path / "p.npy", "--output", out, "--scale", 100)[1]
    assert "after --scale 100, probs must lie in [0, 1], got min=0, max=2.3" in text
    assert "say --scale" not in text
