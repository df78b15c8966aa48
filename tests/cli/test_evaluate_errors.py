"""``rankseg evaluate`` on bad input: named or refused, never counted silently."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from pairs_on_disk import make, save, to_nifti, to_tif
from PIL import Image
from rasterio.transform import Affine

from rankseg import RankSEG, files


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return save(tmp_path, make(6), ".npy", ".npy")


def spoil(folders: tuple[Path, Path], probs: object = None, labels: object = None) -> None:
    """Put something else into the third pair."""
    for folder, array in zip(folders, (probs, labels), strict=True):
        if isinstance(array, bytes):
            (folder / "case 2.npy").write_bytes(array)
        elif array is not None:
            np.save(folder / "case 2.npy", array)


P, Y = make(1, seed=9)[0]
WRONG = {
    "corrupt probabilities": ({"probs": b"no array"}, "probs/case 2.npy: not a readable numpy"),
    "corrupt labels": ({"labels": b"no array"}, "labels/case 2.npy: not a readable numpy"),
    "empty file": ({"labels": b""}, "labels/case 2.npy: the file is empty"),
    "labels that are probabilities": (
        {"labels": P[0]},
        "labels/case 2.npy: holds float32 values, not labels: these look like probabilities",
    ),
    "labels as floats": ({"labels": Y.astype(float)}, "all are whole: store them as integers"),
    "labels outside the classes": (
        {"labels": np.where(Y == 2, 255, Y)},
        "labels from 0 to 255, but there are 0 to 2; say --ignore-index 255 if that marks pixels "
        "to leave out, or --label-values if classes have other labels",
    ),
    "negative labels": ({"labels": Y.astype(int) - 1}, "say --ignore-index -1 if that marks"),
    "labels of another size": (
        {"labels": np.zeros((24, 20), np.uint8)},
        "labels of shape (24, 20) do not go with probs of 3 classes and spatial shape (12, 10); "
        "bring the probabilities to the size of the labels first",
    ),
    "labels of other axes": (
        {"labels": np.zeros(12, np.uint8)},
        "labels of shape (12,) do not go with an image of 2 spatial axes",
    ),
    "other classes": (
        {"probs": np.full((4, 12, 10), 0.25, np.float32)},
        "probs have 4 classes, others 3",
    ),
    "NaN": ({"probs": np.where(P > 0.9, np.nan, P)}, "probs contains NaN"),
    "logits": (
        {"probs": np.log(P)},
        "probs must lie in [0, 1]",
    ),
    "integers": ({"probs": Y[None].repeat(3, 0)}, "only: these look like labels or a mask"),
    "channels last": ({"probs": P.transpose(1, 2, 0).copy()}, "check --channel-axis and"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_bad_pair_is_named_and_the_others_count(run, tmp_path, folders, wrong):
    content, reason = WRONG[wrong]
    spoil(folders, **content)
    report, table = tmp_path / "r.html", tmp_path / "r.json"
    code, text = run("evaluate", *folders, "--report", report, "--json", table)
    assert code == 1
    (line,) = [line for line in text.splitlines() if line.startswith("failed: ")]
    assert line.startswith("failed: case 2: ")
    assert reason in line
    found = json.loads(table.read_text())
    assert found["images"] == 5
    assert list(found["skipped"]) == ["case 2"]
    assert "Images that are not counted (1)" in report.read_text()
    code, text = run("evaluate", *folders, "--on-error", "raise", "--json", tmp_path / "no.json")
    assert code == 1
    assert text.startswith("rankseg: case 2: ")
    assert reason in text
    assert not (tmp_path / "no.json").exists()


def test_an_image_that_is_ignored_everywhere_is_named_and_is_no_failure(run, folders):
    spoil(folders, labels=np.full_like(Y, 255))
    code, text = run("evaluate", *folders, "--ignore-index", 255)
    assert code == 0
    assert "left out: case 2: no pixel counts: all are ignored" in text
    assert "Mean over 5 images" in text


def test_files_that_do_not_pair_are_listed_and_nothing_is_done(run, tmp_path, folders):
    np.save(folders[0] / "extra é.npy", P)
    np.save(folders[1] / "more.npy", Y)
    table = tmp_path / "r.json"
    code, text = run("evaluate", *folders, "--json", table)
    assert code == 1
    assert f"unpaired: {folders[0] / 'extra é.npy'}: no labels of this name" in text
    assert f"unpaired: {folders[1] / 'more.npy'}: no probabilities of this name" in text
    assert "2 files have no partner, 6 pairs do: say --allow-unpaired" in text
    assert not table.exists()
    report = tmp_path / "r.html"
    code, text = run("evaluate", *folders, "--allow-unpaired", "--report", report)
    assert code == 0
    assert "Files without a partner (2)" in report.read_text()


def test_no_pair_at_all(run, tmp_path):
    probs, _ = save(tmp_path, make(2), ".npy", ".npy")
    other = tmp_path / "other"
    other.mkdir()
    np.save(other / "else.npy", Y)
    for options in ([], ["--allow-unpaired"]):
        code, text = run("evaluate", probs, other, *options)
        assert code == 1
        assert "3 files have no partner, 0 pairs do" in text


def test_two_files_of_one_name(run, folders):
    np.savez(folders[0] / "case 2.npz", P)
    code, text = run("evaluate", *folders)
    assert code == 1
    assert "are both called 'case 2': choose with a pattern such as" in text
    assert run("evaluate", folders[0] / "*.npy", folders[1])[0] == 0


@pytest.mark.parametrize("side", [0, 1])
def test_empty_folders_and_missing_files(run, tmp_path, folders, side):
    empty = tmp_path / "empty"
    empty.mkdir()
    for name, reason in (
        (empty, "the folder holds no "),
        (tmp_path / "none.npy", "No such file or directory"),
        (tmp_path / "*.none", "no file matches this pattern"),
    ):
        sides = list(folders)
        sides[side] = name
        code, text = run("evaluate", *sides)
        assert code == 1
        assert text.startswith(f"rankseg: {name}: {reason}")


def test_every_pair_is_bad(run, tmp_path):
    sides = save(tmp_path, [(P, Y.astype(float))] * 25, ".npy", ".npy")
    code, text = run("evaluate", *sides)
    assert code == 1
    lines = text.splitlines()
    assert len(lines) == 22
    assert lines[-2:] == ["failed: 5 more", "rankseg: no pair can be read"]


def test_one_image_is_too_few(run, tmp_path):
    sides = save(tmp_path, make(1), ".npy", ".npy")
    code, text = run("evaluate", *sides)
    assert code == 0
    assert text.startswith("Too few images to tell (1; ")


def test_one_class_only_is_said(run, tmp_path):
    sides = save(tmp_path, [(p, np.zeros_like(y)) for p, y in make(6)], ".npy", ".npy")
    report = tmp_path / "r.html"
    assert run("evaluate", *sides, "--report", report)[0] == 0
    assert "All counted pixels are class 0: nothing can be said of other" in report.read_text()


def test_batches_of_another_length(run, tmp_path):
    pairs = make(3)
    np.save(tmp_path / "p.npy", np.stack([p for p, _ in pairs]))
    np.save(tmp_path / "y.npy", np.stack([y for _, y in pairs[:2]]))
    code, text = run("evaluate", tmp_path / "p.npy", tmp_path / "y.npy", "--batched")
    assert code == 1
    assert "3 images of probabilities, 2 of labels" in text


def test_pictures_with_colours_are_no_labels(run, tmp_path):
    sides = save(tmp_path, make(3), ".npy", ".png")
    Image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(sides[1] / "case 1.png")
    code, text = run("evaluate", *sides)
    assert code == 1
    assert "case 1.png: has colours (mode RGB), not labels: save one number for each" in text


def test_palettes_and_wide_greys_are_labels(tmp_path):
    picture = Image.fromarray(Y)
    picture.putpalette([0, 0, 0, 255, 0, 0, 9, 9, 9])
    picture.save(tmp_path / "palette.png")
    with Image.open(tmp_path / "palette.png") as written:
        assert written.mode == "P"
    wide = Y.astype(np.uint16) * 1000
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert (files.read_labels(tmp_path / "palette.png").numpy() == Y).all()
    assert (files.read_labels(tmp_path / "wide.png").numpy() == wide).all()


def test_label_values_that_are_not_named(run, tmp_path):
    sides = save(tmp_path, make(3), ".npy", ".npy")
    code, text = run("evaluate", *sides, "--label-values", "0,1,7")
    assert code == 1
    assert "label 2 is not among --label-values 0,1,7" in text


def test_labels_elsewhere(run, tmp_path):
    volumes = make(3, shape=(4, 6, 5))
    sides = save(tmp_path, volumes, ".nii.gz", ".nii.gz")
    moved = nibabel.Nifti1Image(volumes[1][1].T, np.diag([1.0, 2.0, 2.5, 1.0]))
    nibabel.save(moved, sides[1] / "case 1.nii.gz")
    code, text = run("evaluate", *sides)
    assert code == 1
    assert "case 1: labels lie elsewhere than the probabilities (affines differ by 0.5)" in text
    assert run("evaluate", *sides, "--ignore-place")[0] == 0


def test_rasters_elsewhere(run, tmp_path):
    pairs = make(4)
    sides = save(tmp_path, pairs, ".tif", ".tif")
    to_tif(sides[1] / "case 1.tif", pairs[1][1], transform=Affine(10, 0, 4e5 + 5, 0, -10, 5e6))
    to_tif(sides[1] / "case 2.tif", pairs[2][1], crs="EPSG:32633")
    code, text = run("evaluate", *sides)
    assert code == 1
    assert "case 1: labels lie 0.5 pixels from the probabilities" in text
    assert "case 2: labels are in EPSG:32633, probabilities in EPSG:32632" in text


def test_a_nodata_value_that_is_a_class_is_no_guess(run, tmp_path):
    pairs = make(3)
    sides = save(tmp_path, pairs, ".tif", ".tif")
    to_tif(sides[1] / "case 1.tif", pairs[1][1], nodata=0)
    code, text = run("evaluate", *sides)
    assert code == 1
    assert "case 1: the labels' nodata value 0 is a class, too: say --ignore-index 0" in text
    assert run("evaluate", *sides, "--ignore-index", 0)[0] == 0


def test_axes_beside_nifti_that_can_be_read_in_two_ways(run, tmp_path):
    sides = save(tmp_path, make(2, shape=(4, 5, 4)), ".npy", ".nii.gz")
    code, text = run("evaluate", *sides, "--no-batched")
    assert code == 1
    assert "can be read in two ways: say --nifti-order zyx (SimpleITK, nnU-Net) or xyz" in text


def test_nifti_labels_that_are_not_whole(run, tmp_path):
    volumes = make(2, shape=(4, 6, 5))
    sides = save(tmp_path, volumes, ".nii.gz", ".nii.gz")
    to_nifti(sides[1] / "case 1.nii.gz", np.full((4, 6, 5), 1.25, np.float32))
    code, text = run("evaluate", *sides)
    assert code == 1
    assert "case 1.nii.gz: holds 1.25, which is no label: labels are whole numbers" in text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--metric", "f1"], "--metric must be one of 'dice', 'iou', 'acc'; got 'f1'"),
        (["--solver", "none"], "solver must be one of"),
        (["--empty", "2"], "empty"),
        (["--output-mode", "labels"], "--output-mode must be one of"),
        (["--channel-axis", "x"], "--channel-axis must be an integer"),
        (["--scale", "0"], "--scale must be larger than 0"),
        (["--match", "("], "--match is no regular expression"),
        (["--group-by", "("], "--group-by is no regular expression"),
        (["--class-names", "a,b"], "--class-names has 2 names, probs have 3 classes"),
        (["--label-values", "a"], "--label-values must be integers"),
        (["--label-values", "1,1"], "--label-values has a number twice"),
        (["--pruning-prob", "x"], "--pruning-prob must be a number"),
        (["--report", "r.txt"], "--report must end in .html"),
        (["--json", "r.html"], "--json must end in .json"),
        (["--report", "none/r.html"], "there is no folder none"),
        (["--tuned", "none.json"], "No such file or directory"),
        (["--on-error", "stop"], "stop"),
    ],
)
def test_options_that_make_no_sense(run, folders, options, reason):
    code, text = run("evaluate", *folders, *options)
    assert code == 2
    assert reason in text


def test_results_are_not_replaced_unasked(run, tmp_path, folders):
    report = tmp_path / "r.html"
    report.write_text("mine")
    code, text = run("evaluate", *folders, "--report", report)
    assert (code, text) == (
        2,
        f"rankseg: {report} exists already: use --overwrite to replace it\n",
    )
    assert report.read_text() == "mine"


def test_a_folder_that_takes_no_file_is_refused_before_the_work(run, folders, monkeypatch):
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(30, "Read-only file system", "x")

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr("rankseg.cli.run.evaluate.open_pairs", lambda asked: 1 / 0)
    code, text = run("evaluate", *folders, "--report", "r.html")
    assert (code, text) == (2, "rankseg: r.html: Read-only file system\n")


def test_a_disk_that_is_full_leaves_nothing(run, tmp_path, folders, largest_file):
    report = tmp_path / "r.html"
    with largest_file(1000):
        code, text = run("evaluate", *folders, "--report", report)
    assert code == 1
    assert "File too large" in text
    assert {path.name for path in tmp_path.iterdir()} == {"probs", "labels"}


def test_contenders_of_one_name(run, folders, tmp_path):
    rule = RankSEG().decide([torch.from_numpy(P)[None]])
    for name in ("RMA.json", "other.json"):
        rule.save(tmp_path / name)
    options = ("--rule", tmp_path / "other.json", "--rule", tmp_path / "RMA.json")
    code, text = run("evaluate", *folders, *options)
    assert code == 2
    assert "--rule: two contenders are called 'RMA'" in text


def test_a_rule_for_other_classes_is_told_a_few_times(run, folders, tmp_path):
    RankSEG().decide([torch.rand(1, 4, 3, 3).softmax(1)]).save(tmp_path / "rule.json")
    code, text = run("evaluate", *folders, "--rule", tmp_path / "rule.json")
    assert code == 1
    assert text.count("the rule is for 4 classes; got 3") == 3
    assert text.endswith("; 3 more\n")


# Says when it visits its third image, and waits to be stopped.
SCRIPT = """
import signal, sys, time
from rankseg.cli import app
from rankseg.evaluation import file_pairs

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may ignore it
item, count = file_pairs.FilePairs._item, 0

def slow(*arguments):
    global count
    count += 1
    if count == 4:
        print("waiting", flush=True)
        time.sleep(60)
    return item(*arguments)

file_pairs.FilePairs._item = slow
app()
"""


def test_stopped_in_the_midst(tmp_path, folders):
    outputs = ("--report", tmp_path / "r.html", "--json", tmp_path / "r.json")
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "evaluate", *map(str, (*folders, *outputs))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "rankseg: interrupted: nothing was written\n")
    assert {path.name for path in tmp_path.iterdir()} == {"probs", "labels"}


def test_torch_labels_of_a_wide_type(tmp_path):
    torch.save(torch.tensor([[1, 65535]], dtype=torch.uint16), tmp_path / "y.pt")
    assert files.read_labels(tmp_path / "y.pt").tolist() == [[1, 65535]]
