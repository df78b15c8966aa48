"""``rankseg demo``: the numbers it promises, the table, the figure, its errors."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rankseg import RankSEG
from rankseg._require import pip_line
from rankseg.demo import Comparison, Outcome, compare, load_photo, person_probabilities
from rankseg.demo.network import without_notices
from rankseg.demo.report import sentence
from rankseg.demo.scores import dice, iou


@pytest.fixture(scope="module")
def photo():
    return load_photo()


@pytest.fixture(scope="module")
def probabilities(photo):
    return person_probabilities(photo.rgb)


def test_photo_and_truth(photo):
    assert photo.rgb.shape == (375, 500, 3)
    assert photo.rgb.dtype == np.uint8
    assert photo.persons == 7
    assert photo.truth.sum() == 62316


def test_probabilities(probabilities):
    assert probabilities.shape == (375, 500)
    assert probabilities.dtype == np.float32
    assert 0 <= probabilities.min() < 0.01
    assert 0.99 < probabilities.max() <= 1


def test_the_runtime_says_nothing_of_its_own():
    script = "import numpy, rankseg.demo as demo; demo.person_probabilities({})"
    script = script.format("numpy.zeros((8, 8, 3), numpy.uint8)")  # it speaks once in a process
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stderr == b""


def test_errors_of_the_runtime_are_passed_on(capfd):
    with suppress(RuntimeError), without_notices():
        os.write(2, b"INFO: made a delegate\nERROR: it fell over\nlast")
        raise RuntimeError
    assert capfd.readouterr().err == "ERROR: it fell over\nlast"


# Half a point: runs on other processors differ in the last digits of the network only.
@pytest.mark.parametrize("metric", ["dice", "iou"])
def test_promised_numbers(photo, probabilities, metric):
    found = compare(probabilities, photo.truth, RankSEG(metric=metric, output_mode="multilabel"))
    assert found.cut.dice == pytest.approx(0.753, abs=0.005)
    assert found.cut.iou == pytest.approx(0.604, abs=0.005)
    assert found.rankseg.dice == pytest.approx(0.784, abs=0.005)
    assert found.rankseg.iou == pytest.approx(0.645, abs=0.005)
    assert found.rankseg.expected > found.cut.expected
    assert found.rankseg.threshold == pytest.approx(0.419, abs=0.005)


def test_rows_are_what_the_solvers_say(photo, probabilities):
    found = compare(probabilities, photo.truth, RankSEG(metric="iou", output_mode="multilabel"))
    image = torch.from_numpy(probabilities)[None, None]
    np.testing.assert_array_equal(found.cut.mask, probabilities > 0.5)
    for row, solver in ((found.cut, "TR"), (found.rankseg, "RMA")):
        answer = RankSEG(metric="iou", output_mode="multilabel", solver=solver).solve(image)
        np.testing.assert_array_equal(row.mask, answer.prediction[0, 0].numpy())
        assert row.expected == answer.expected_score.item()
        assert row.volume == row.mask.sum() == answer.volume.item()
        assert row.dice == dice(row.mask, photo.truth)
        assert row.iou == iou(row.mask, photo.truth)
        assert row.milliseconds > 0


def test_timing_gives_the_threads_back(photo, probabilities):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        compare(probabilities, photo.truth, RankSEG(output_mode="multilabel"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def row(mask: list[int], threshold: float = 0.5) -> Outcome:
    array = np.array(mask, bool)
    return Outcome("x", array, threshold, 0.25, 0.125, 0.5, int(array.sum()), 1.0)


def test_changes_are_counted_by_right_and_wrong():
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    cut, new = row([0, 0, 1, 0, 1, 0, 1, 1]), row([1, 1, 0, 0, 0, 1, 0, 0])
    found = Comparison("dice", truth, cut, new)
    counts = {"gained_right": 2, "gained_wrong": 1, "lost_right": 3, "lost_wrong": 1}
    assert found.changes() == counts
    assert "added 3 pixels (2 rightly) and dropped 4 pixels (3 rightly)" in sentence(found)


def test_no_change_is_said_so():
    same = row([1, 0, 1])
    assert sentence(Comparison("dice", same.mask, same, same)).startswith("Nothing changed")


def test_scores_by_hand():
    mask, truth = np.array([1, 1, 1, 0, 0], bool), np.array([0, 1, 1, 1, 0], bool)
    assert dice(mask, truth) == 2 * 2 / 6
    assert iou(mask, truth) == 2 / 4
    nothing = np.zeros(5, bool)
    assert dice(nothing, nothing) == iou(nothing, nothing) == 0


@pytest.mark.filterwarnings("ignore:dice_score metric")  # its default will change
def test_scores_agree_with_torchmetrics(photo, probabilities):
    metrics = pytest.importorskip("torchmetrics.functional.segmentation")
    mask = probabilities > 0.5
    pair = [torch.from_numpy(one)[None, None].long() for one in (mask, photo.truth)]
    options = {"num_classes": 1, "input_format": "one-hot"}
    theirs = metrics.dice_score(*pair, average="micro", **options).item()
    assert dice(mask, photo.truth) == pytest.approx(theirs, abs=1e-6)  # theirs is float32
    theirs = metrics.mean_iou(*pair, **options).item()
    assert iou(mask, photo.truth) == pytest.approx(theirs, abs=1e-6)


def test_command_prints_table_sentence_and_path(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text = run("demo")
    assert code == 0
    row = r"{}\D+0\.{}\D+0\.{}\D+0\.8\d\d\D+{}\D"
    assert re.search(row.format("0.5 cut", r"75\d", r"60\d", r"6\d,\d{3}"), text)
    assert re.search(row.format("RankSEG", r"78\d", r"64\d", r"7\d,\d{3}"), text)
    assert "Expected" in text
    assert "added" in text
    picture = tmp_path / "rankseg-demo.png"
    assert text.endswith(f"Figure: {picture}\n")
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert image.width > 1500
        pixels = np.asarray(image.convert("RGB"))
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):  # gained pixels, right and wrong
        assert (pixels == colour).all(axis=-1).sum() > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["rankseg-demo.png"]


def test_command_for_machines(run, tmp_path):
    picture = tmp_path / "deep.png"
    code, text = run("demo", "--json", "--metric", "IoU", "--solver", "rma", "--output", picture)
    assert code == 0
    found = json.loads(text)
    assert (found["metric"], found["solver"]) == ("iou", "RMA")
    assert found["figure"] == str(picture)
    assert picture.is_file()
    assert found["rankseg"]["iou"] > found["cut"]["iou"]
    assert found["image"] == {"width": 500, "height": 375, "persons": 7, "truth_volume": 62316}
    assert found["changed"]["gained_right"] > 0


def test_the_same_mask_is_drawn_too(run, tmp_path):
    code, text = run("demo", "--solver", "TR", "--output", tmp_path / "same.png")
    assert code == 0
    assert "Nothing changed" in text
    assert (tmp_path / "same.png").is_file()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--solver", "argmax"], "makes no sense with --output-mode multilabel; possible there: "),
        (["--solver", "best"], "solver must be one of 'RMA', "),
        (["--metric", "fbeta"], "the demo shows dice, iou, acc; got --metric fbeta"),
        (["--metric", "f1"], "metric must be one of 'dice', 'iou', 'acc'"),
        (["--output", "x.jpg"], "--output must end in .png, got 'x.jpg'"),
        (["--output", "no/x.png"], "--output: there is no folder no"),
    ],
)
def test_senseless_option_is_one_line(run, tmp_path, monkeypatch, options, reason):
    monkeypatch.chdir(tmp_path)
    code, text = run("demo", *options)
    assert code == 2
    assert text.count("\n") == 1
    assert text.startswith("rankseg: ")
    assert reason in text
    assert not list(tmp_path.iterdir())


def test_figure_that_cannot_be_written(run, tmp_path):
    (tmp_path / "taken.png").mkdir()
    code, text = run("demo", "--output", tmp_path / "taken.png")
    assert (code, text) == (1, f"rankseg: {tmp_path / 'taken.png'}: Is a directory\n")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.png"]


@pytest.mark.parametrize("module", ["imgviz", "ai_edge_litert.interpreter", "matplotlib.figure"])
def test_missing_optional_package_is_one_line(run, tmp_path, monkeypatch, module):
    package = module.partition(".")[0]
    for name in {package, module}:
        monkeypatch.setitem(__import__("sys").modules, name, None)
    code, text = run("demo", "--output", tmp_path / "x.png")
    assert (code, text) == (1, f"rankseg: {package} is needed here: {pip_line('demo')}\n")


def test_network_is_the_one_its_notice_describes():
    folder = Path(str(resources.files("rankseg.demo")))
    notice = (folder / "selfie_segmentation.NOTICE.txt").read_text()
    digest = hashlib.sha256((folder / "selfie_segmentation.tflite").read_bytes()).hexdigest()
    assert digest in notice
    assert "Apache License" in (folder / "selfie_segmentation.LICENSE.txt").read_text()
