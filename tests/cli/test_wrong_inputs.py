"""What is no probabilities is told what it looks like, and which option helps if one does."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

LOGITS = 2 * np.random.default_rng(0).normal(size=(3, 24, 20))
P = (np.exp(LOGITS) / np.exp(LOGITS).sum(0)).astype(np.float32)
Y = P.argmax(0).astype(np.uint8)

WRONG = {
    "percent": (100 * P, "say --scale 100 if they are percent"),
    "8-bit floats": ((255 * P).round(), "say --scale 255 if they are 8-bit values"),
    "16-bit floats": ((65535 * P).round(), "say --scale 65535 if they are 16-bit values"),
    "float labels": (np.stack([Y * 1.0] * 3), "labels are no probabilities"),
    "logits": (LOGITS, "apply softmax or sigmoid first, or say --activation softmax or sigmoid"),
    "log-probabilities": (np.log(P), "say --activation softmax or sigmoid"),
    "labels": (Y, "holds uint8 values, 0, 1, 2 only: these look like labels or a mask"),
    "wide labels": (Y.astype(np.int64) + 1, "holds int64 values, 1, 2, 3 only: these look like"),
    "bool": (Y > 0, "holds bool values, 0, 1 only: these look like labels or a mask"),
    "picture": (np.uint8(255) * (Y > 0), "holds uint8 values, 0, 255 only: these look like labels"),
    "grey labels": (127 * Y, "holds uint8 values, 0, 127, 254 only: these look like labels"),
    "one-hot": (np.eye(3, dtype=np.uint8)[:, Y], "holds uint8 values, 0, 1 only: these look like"),
    "8-bit": ((255 * P).round().astype(np.uint8), "times a number, say it: --scale 255"),
    "16-bit": ((65535 * P).round().astype(np.uint16), "times a number, say it: --scale 65535"),
}


@pytest.mark.parametrize("command", ["predict", "evaluate"])
@pytest.mark.parametrize("kind", WRONG)
def test_it_is_told_what_it_looks_like(run, tmp_path, out, command, kind):
    array, advice = WRONG[kind]
    np.save(tmp_path / "p.npy", array)
    np.save(tmp_path / "y.npy", Y)
    more = ["--output", out] if command == "predict" else [tmp_path / "y.npy"]
    code, text = run(command, tmp_path / "p.npy", *more)
    assert code == 1
    assert advice in text
    assert "activation=" not in text
    helpful = {"8-bit": 255, "16-bit": 65535, "percent": 100, "8-bit floats": 255}
    if kind in helpful:
        assert run(command, tmp_path / "p.npy", *more, "--scale", helpful[kind])[0] == 0
    assert ("--scale" in advice) or ("--scale" not in text) or kind == "float labels"


def test_few_values_at_the_edge_are_no_labels(run, tmp_path, out):
    steep = np.zeros((2, 64, 64), np.uint8)
    steep[0] = 255
    steep[:, 20:40] = np.random.default_rng(0).integers(0, 255, (2, 20, 64))
    np.save(tmp_path / "p.npy", steep)
    text = run("predict", tmp_path / "p.npy", "--output", out)[1]
    assert "look like labels" not in text
    assert "--scale 255" in text


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_is_no_probabilities(run, tmp_path, out, suffix):
    path = tmp_path / f"p{suffix}"
    Image.fromarray(Y).save(path)
    np.save(tmp_path / "y.npy", Y)
    for code, text in (
        run("predict", path, "--output", out),
        run("evaluate", path, tmp_path / "y.npy"),
    ):
        assert code == 1
        assert f"a {suffix} file is a picture and holds no probabilities of classes" in text
        assert "known: .npy" in text


def test_one_channel_is_named_where_labels_have_more_classes(run, tmp_path):
    np.save(tmp_path / "p.npy", 1.0 * Y)
    np.save(tmp_path / "y.npy", Y)
    files = (tmp_path / "p.npy", tmp_path / "y.npy", "--channel-axis", "none")
    code, text = run("evaluate", *files)
    assert code == 1
    assert "labels from 0 to 2, but there are 0 to 1, because probs have one channel;" in text
