"""``rankseg predict --nnunet`` on folders made by hand: no nnU-Net is needed for NIfTI."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tiny_nnunet
import torch

from rankseg import DecisionRule, RankSEG
from rankseg.evaluation import tune

SHAPE = tiny_nnunet.SHAPE  # (x, y, z), as nibabel has it
CLASSES = {"background": 0, "organ": 1, "lesion": 2}


def probabilities(seed: int, regions: bool = False, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """As nnU-Net saves them, (C, z, y, x); certain background in a frame."""
    logits = 2 * np.random.default_rng(seed).normal(size=(2 if regions else 3, *shape[::-1]))
    if regions:
        probs = 1 / (1 + np.exp(-logits))
        probs[:, :2] = 0
    else:
        probs = np.exp(logits) / np.exp(logits).sum(0)
        probs[:, :2] = np.array([1, 0, 0])[:, None, None, None]
    return probs.astype(np.float32)


def fill(folder: Path, cases: dict[str, np.ndarray], regions: bool = False, **more: Any) -> Path:
    """A folder as ``nnUNetv2_predict --save_probabilities`` leaves it, but for segmentations."""
    folder.mkdir(parents=True)
    for name, probs in cases.items():
        np.savez_compressed(folder / f"{name}.npz", probabilities=probs)
    content = tiny_nnunet.dataset(regions, **more)
    (folder / "dataset.json").write_text(json.dumps(content))
    (folder / "plans.json").write_text(json.dumps({"image_reader_writer": "SimpleITKIO"}))
    return folder


def images(folder: Path, *names: str, shape: tuple[int, ...] = SHAPE) -> Path:
    """Reference images of some cases."""
    folder.mkdir(exist_ok=True)
    for name in names:
        values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        nibabel.save(tiny_nnunet.image(values), folder / f"{name}_0000.nii.gz")
    return folder


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return images(tmp_path / "imagesTs", "a", "b", "c")


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    return fill(tmp_path / "pred", {name: probabilities(at) for at, name in enumerate("abc")})


def read(path: Path) -> np.ndarray:
    """Labels (z, y, x)."""
    return np.asarray(nibabel.load(path).dataobj).transpose()


def labels(probs: np.ndarray, **options: Any) -> np.ndarray:
    return RankSEG(**options)(torch.from_numpy(probs)[None])[0].numpy()


@pytest.mark.parametrize("options", [[], ["--metric", "iou", "--solver", "exact"]])
def test_classes_become_labels(run, predictions, reference, out, options):
    arguments = ("predict", predictions, "--output", out, "--nnunet", "--reference", reference)
    code, text = run(*arguments, *options)
    assert (code, text) == (0, f"wrote 3 files to {out}\n")
    chosen = dict(zip([name[2:] for name in options[::2]], options[1::2], strict=True))
    for at, name in enumerate("abc"):
        got = nibabel.load(out / f"{name}.nii.gz")
        assert got.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(
            read(out / f"{name}.nii.gz"), labels(probabilities(at), **chosen)
        )
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"{name}.nii.gz" for name in "abc"),
        *("dataset.json", "plans.json"),
    ]


def test_the_default_differs_from_argmax(run, predictions, reference, out):
    run("predict", predictions, "--output", out, "--nnunet", "--reference", reference)
    assert (read(out / "a.nii.gz") != probabilities(0).argmax(0)).any()


def test_geometry_is_that_of_the_image_to_the_bit(run, predictions, reference, out):
    run("predict", predictions, "--output", out, "--nnunet", "--reference", reference)
    got, given = nibabel.load(out / "a.nii.gz"), nibabel.load(reference / "a_0000.nii.gz")
    assert got.affine.tobytes() == given.affine.tobytes()
    assert got.header.get_zooms() == given.header.get_zooms()
    assert nibabel.aff2axcodes(got.affine) == nibabel.aff2axcodes(given.affine)
    for form in ("get_sform", "get_qform"):
        assert getattr(got.header, form)(coded=True)[1] == 1
        assert getattr(got.header, form)().tobytes() == getattr(given.header, form)().tobytes()
    assert got.header.get_xyzt_units() == given.header.get_xyzt_units()


@pytest.mark.parametrize("codes", [(0, 1), (1, 0)])
def test_geometry_told_by_one_form_only(run, predictions, out, tmp_path, codes):
    folder = images(tmp_path / "images", *"abc")
    for path in folder.iterdir():
        made = nibabel.load(path)
        data = np.asarray(made.dataobj)
        made.set_sform(tiny_nnunet.affine(), codes[0])
        made.set_qform(tiny_nnunet.affine(), codes[1])
        nibabel.save(nibabel.Nifti1Image(data, None, made.header), path)
    run("predict", predictions, "--output", out, "--nnunet", "--reference", folder)
    got, given = nibabel.load(out / "b.nii.gz"), nibabel.load(folder / "b_0000.nii.gz")
    assert got.affine.tobytes() == given.affine.tobytes()
    assert [int(got.header[f"{form}form_code"]) for form in "sq"] == list(codes)


def test_regions_are_painted_in_order(run, tmp_path, reference, out):
    probs = probabilities(0, regions=True)
    arguments = ("--output", out, "--nnunet", "--reference", reference)
    folder = fill(tmp_path / "regions", {"a": probs}, regions=True)
    assert run("predict", folder, *arguments)[0] == 0
    masks = labels(probs, output_mode="multilabel")
    expected = np.where(masks[1], 2, np.where(masks[0], 1, 0))
    np.testing.assert_array_equal(read(out / "a.nii.gz"), expected)
    assert (masks[1] & ~masks[0]).any(), "or the order of painting does not show"
    other = tiny_nnunet.dataset(True) | {"regions_class_order": [2, 1]}
    (folder / "dataset.json").write_text(json.dumps(other))
    assert run("predict", folder, *arguments, "--overwrite")[0] == 0
    np.testing.assert_array_equal(
        read(out / "a.nii.gz"), np.where(masks[1], 1, np.where(masks[0], 2, 0))
    )


@pytest.mark.parametrize(("label", "kind"), [(254, np.uint8), (255, np.uint16), (9000, np.uint16)])
def test_region_labels_of_any_size(run, tmp_path, reference, out, label, kind):
    folder = fill(tmp_path / "regions", {"a": probabilities(0, regions=True)}, regions=True)
    content = tiny_nnunet.dataset(True) | {"regions_class_order": [1, label]}
    (folder / "dataset.json").write_text(json.dumps(content))
    run("predict", folder, "--output", out, "--nnunet", "--reference", reference)
    got = nibabel.load(out / "a.nii.gz")
    assert got.get_data_dtype() == kind
    assert set(np.unique(np.asarray(got.dataobj))) == {0, 1, label}


def test_the_segmentation_beside_tells_the_place(run, predictions, tmp_path, out):
    for name in "abc":
        nibabel.save(tiny_nnunet.image(np.zeros(SHAPE, np.uint8)), predictions / f"{name}.nii.gz")
    assert run("predict", predictions, "--output", out, "--nnunet")[0] == 0
    np.testing.assert_array_equal(read(out / "c.nii.gz"), labels(probabilities(2)))
    before = nibabel.load(predictions / "c.nii.gz")
    assert nibabel.load(out / "c.nii.gz").affine.tobytes() == before.affine.tobytes()


def test_folds_are_averaged(run, tmp_path, reference, out):
    parts = [probabilities(seed) for seed in range(3)]
    folders = [fill(tmp_path / f"fold_{at}", {"a": part}) for at, part in enumerate(parts)]
    arguments = ("--output", out, "--nnunet", "--reference", reference)
    assert run("predict", *folders, *arguments)[0] == 0
    total = parts[0].copy()
    total += parts[1]
    total += parts[2]
    np.testing.assert_array_equal(read(out / "a.nii.gz"), labels(total / 3))
    assert (labels(parts[0]) != labels(total / 3)).any()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": {**CLASSES, "organ": 2, "lesion": 1}}, "disagree about labels"),
        ({"file_ending": ".nrrd"}, "file_ending"),
    ],
)
def test_folds_that_disagree_are_refused(run, tmp_path, reference, out, change, reason):
    first = fill(tmp_path / "fold_0", {"a": probabilities(0)})
    second = fill(tmp_path / "fold_1", {"a": probabilities(1)})
    content = {**tiny_nnunet.dataset(False), **change}
    (second / "dataset.json").write_text(json.dumps(content))
    arguments = ("--output", out, "--nnunet", "--reference", reference)
    code, text = run("predict", first, second, *arguments)
    assert code == 2
    assert reason in text
    assert not out.exists()


def test_a_fold_is_not_counted_twice(run, predictions, reference, out):
    code, text = run(
        "predict", predictions, predictions, "--output", out, "--nnunet", "--reference", reference
    )
    assert code == 2
    assert "named twice" in text


def test_folds_whose_cases_do_not_pair(run, tmp_path, reference, out):
    first = fill(tmp_path / "fold_0", {"a": probabilities(0), "b": probabilities(1)})
    smaller = probabilities(2, shape=(5, 6, 7))
    second = fill(tmp_path / "fold_1", {"b": smaller, "c": probabilities(1)})
    arguments = ("--output", out, "--nnunet", "--reference", reference)
    code, text = run("predict", first, second, *arguments)
    assert code == 1
    assert f"failed: a: there is no a.npz in {second}" in text
    assert f"failed: c: there is no c.npz in {first}" in text
    assert "b.npz has shape (3, 7, 6, 5)" in text
    assert "wrote 0 files" in text


# --- failures --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, 1.5])
@pytest.mark.parametrize("folds", [1, 2])
def test_one_bad_case_of_many_is_named(run, tmp_path, reference, out, value, folds):
    bad = probabilities(1)
    bad[1, 3, 4, 5] = value
    cases = {"a": probabilities(0), "b": bad, "c": probabilities(2)}
    folders = [fill(tmp_path / f"fold_{at}", cases) for at in range(folds)]
    arguments = ("--output", out, "--nnunet", "--reference", reference)
    code, text = run("predict", *folders, *arguments)
    assert code == 1
    assert "wrote 2 files" in text
    (line,) = [line for line in text.splitlines() if line.startswith("failed")]
    assert line.startswith(f"failed: {folders[0] / 'b.npz'}: ")
    assert ("NaN" if np.isnan(value) else "max=1.5") in line
    assert sorted(path.name for path in out.glob("*.gz")) == ["a.nii.gz", "c.nii.gz"]


def test_case_without_an_image(run, predictions, reference, out):
    (reference / "b_0000.nii.gz").unlink()
    code, text = run("predict", predictions, "--output", out, "--nnunet", "--reference", reference)
    assert code == 1
    assert "wrote 2 files" in text
    assert f"neither b_0000.nii.gz nor b.nii.gz is in {reference}" in text
    assert not (out / "b.nii.gz").exists()


def test_image_of_another_shape(run, predictions, tmp_path, out):
    folder = images(tmp_path / "images", "a", "c")
    images(folder, "b", shape=SHAPE[::-1])
    code, text = run("predict", predictions, "--output", out, "--nnunet", "--reference", folder)
    assert code == 1
    assert "b_0000.nii.gz has (12, 30, 26): they are not of one image" in text
    assert "wrote 2 files" in text


def test_wrong_number_of_channels(run, tmp_path, reference, out):
    folder = fill(tmp_path / "pred", {"a": probabilities(0)[:2], "b": probabilities(1)})
    code, text = run("predict", folder, "--output", out, "--nnunet", "--reference", reference)
    assert code == 1
    expected = "has 2 channels, but dataset.json announces 3 classes: background, organ, lesion"
    assert f"failed: {folder / 'a.npz'}: {expected}" in text
    assert "wrote 1 file" in text


def test_dataset_json_is_missing_or_elsewhere(run, predictions, reference, out, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    arguments = ("--output", out, "--nnunet", "--reference", reference)
    (predictions / "dataset.json").rename(model / "dataset.json")
    code, text = run("predict", predictions, *arguments)
    assert code == 2
    assert f"there is no dataset.json in {predictions}" in text
    assert "--model" in text
    assert not out.exists()
    assert run("predict", predictions, *arguments, "--model", model)[0] == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("nothing", "is no JSON"),
        ("[]", "must hold a JSON object, got a list"),
        ("[" * 10**6, "is no JSON"),
        ({"labels": CLASSES, "file_ending": "./../x.nii"}, "file_ending must be a suffix"),
        ({"file_ending": ".nii.gz"}, "has no entry 'labels'"),
        ({"labels": CLASSES}, "has no entry 'file_ending'"),
        ({"labels": CLASSES, "file_ending": 3}, "file_ending must be a suffix"),
        ({"labels": {"organ": 1}, "file_ending": ".nii"}, "labels must hold background: 0"),
        ({"labels": {"background": 0, "x": -1}, "file_ending": ".nii"}, "label 'x' must be"),
        ({"labels": {"background": 0, "x": "1"}, "file_ending": ".nii"}, "label 'x' must be"),
        ({"labels": 3, "file_ending": ".nii"}, "dataset.json: "),
        (
            {"labels": tiny_nnunet.REGIONS, "file_ending": ".nii"},
            "must list one label for each of the 2 regions, got None",
        ),
        (
            {"labels": tiny_nnunet.REGIONS, "file_ending": ".nii", "regions_class_order": [1]},
            "must list one label for each of the 2 regions, got [1]",
        ),
    ],
)
def test_dataset_json_that_makes_no_sense(run, predictions, out, content, reason):
    text = content if isinstance(content, str) else json.dumps(content)
    (predictions / "dataset.json").write_text(text)
    code, text = run("predict", predictions, "--output", out, "--nnunet")
    assert code == 2
    assert reason in text
    assert str(predictions / "dataset.json") in text


def test_dataset_json_of_an_editor_that_marks_utf8(run, predictions, reference, out):
    for name in ("dataset.json", "plans.json"):
        path = predictions / name
        text = path.read_bytes() if path.exists() else b"{}"
        path.write_bytes(b"\xef\xbb\xbf" + text)
    code, text = run("predict", predictions, "--output", out, "--nnunet", "--reference", reference)
    assert code == 0, text


def test_plans_json_that_makes_no_sense(run, predictions, out):
    (predictions / "plans.json").write_text(json.dumps({"image_reader_writer": ["x"]}))
    code, text = run("predict", predictions, "--output", out, "--nnunet")
    assert code == 2
    assert "image_reader_writer must be a class's name, got ['x']" in text


def test_memory_does_not_grow_with_the_cases(run, tmp_path, reference, out):
    """One array in memory, and what is on the way out: not one a case."""
    shape = (40, 50, 60)
    probs = probabilities(0, shape=shape)
    peaks = []
    for count in (1, 6):
        names = [f"case_{at}" for at in range(count)]
        folder = fill(tmp_path / f"pred_{count}", dict.fromkeys(names, probs))
        place = images(tmp_path / f"images_{count}", *names, shape=shape)
        arguments = ("--output", out / str(count), "--nnunet", "--reference", place)
        run("predict", folder, *arguments)  # what is compiled and imported does not count
        tracemalloc.start()
        assert run("predict", folder, *arguments, "--overwrite")[0] == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] > probs.nbytes, "or the array was not seen"
    assert peaks[1] < peaks[0] + probs.nbytes / 2


def test_other_files_than_probabilities(run, tmp_path, reference, out):
    folder = fill(tmp_path / "pred", {"a": probabilities(0)})
    np.savez(folder / "b.npz", softmax=probabilities(1))
    np.savez(folder / "c.npz", probabilities=probabilities(1)[0])
    code, text = run("predict", folder, "--output", out, "--nnunet", "--reference", reference)
    assert code == 1
    assert "has no key 'probabilities'; keys: 'softmax'" in text
    assert "has shape (26, 30, 12); nnU-Net writes (C, z, y, x)" in text
    assert "wrote 1 file" in text


def test_nothing_is_unpickled_unless_asked(run, tmp_path, reference, out):
    folder = fill(tmp_path / "pred", {"a": probabilities(0)})

    class Trap:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    (folder / "a.pkl").write_bytes(pickle.dumps(Trap()))
    objects = np.array([Trap()], object)
    np.savez(folder / "b.npz", probabilities=objects)
    code, text = run("predict", folder, "--output", out, "--nnunet", "--reference", reference)
    assert code == 1
    assert "would have to be unpickled" in text
    assert "wrote 1 file" in text
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--key", "x", "--scale", 2], "decide what --key, --scale would: leave it out"),
        (["--format", "npy"], "decide what --format would"),
        (["--output-mode", "multilabel"], "decide what --output-mode would"),
        (["--reference", "nowhere"], "--reference must be a folder of images, got nowhere"),
        (["--reference", ".", "--unpickle"], "leave one of them out"),
        (["--model", "nowhere"], "there is no dataset.json in nowhere"),
    ],
)
def test_options_that_make_no_sense(run, predictions, out, options, reason):
    code, text = run("predict", predictions, "--output", out, "--nnunet", *options)
    assert code == 2
    assert reason in text
    assert not out.exists()


def test_options_without_nnunet(run, predictions, out):
    code, text = run("predict", predictions, "--output", out, "--unpickle", "--model", ".")
    assert code == 2
    assert "--model, --unpickle goes with --nnunet" in text


def test_folders_that_are_none(run, predictions, out, tmp_path):
    code, text = run("predict", tmp_path / "nowhere", "--output", out, "--nnunet")
    assert code == 2
    assert "nowhere is not a folder" in text
    for path in predictions.glob("*.npz"):
        path.unlink()
    code, text = run("predict", predictions, "--output", out, "--nnunet")
    assert code == 2
    assert "holds no .npz: nnUNetv2_predict writes them with --save_probabilities" in text


@pytest.mark.parametrize("which", ["predictions", "reference"])
def test_results_go_elsewhere(run, predictions, reference, which, request):
    output = request.getfixturevalue(which)
    code, text = run(
        *("predict", predictions, "--output", output / ".", "--nnunet"),
        *("--reference", reference, "--overwrite"),
    )
    assert code == 2
    assert "is a folder that is read: choose another one" in text


def test_results_are_replaced_only_if_asked(run, predictions, reference, out):
    arguments = ("predict", predictions, "--output", out, "--nnunet", "--reference", reference)
    assert run(*arguments)[0] == 0
    before = (out / "a.nii.gz").read_bytes()
    code, text = run(*arguments, "--metric", "acc")
    assert code == 1
    assert "a.nii.gz exists already: use --overwrite" in text
    assert (out / "a.nii.gz").read_bytes() == before
    assert run(*arguments, "--metric", "acc", "--overwrite")[0] == 0
    np.testing.assert_array_equal(read(out / "a.nii.gz"), probabilities(0).argmax(0))
    (out / "dataset.json").write_text("{}")
    code, text = run(*arguments)
    assert code == 2
    assert "dataset.json is of other results: use --overwrite" in text


def test_read_only_folder(run, predictions, reference, out, monkeypatch):
    """Also as root, whom permissions do not stop: the system's own error, where files are made."""
    out.mkdir()
    for name in ("dataset.json", "plans.json"):
        (out / name).write_bytes((predictions / name).read_bytes())
    whole = Path.open

    def refuse(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if path.parent == out and set(mode) & set("wxa"):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", refuse)
    code, text = run("predict", predictions, "--output", out, "--nnunet", "--reference", reference)
    assert code == 1
    assert text.count("Permission denied") == 3
    assert not list(out.glob("*.gz"))
    assert not list(out.glob(".*"))


def test_full_disk_leaves_no_half_file(run, predictions, reference, out, largest_file):
    out.mkdir()
    for name in ("dataset.json", "plans.json"):
        (out / name).write_bytes((predictions / name).read_bytes())
    with largest_file(500):
        code, text = run(
            "predict", predictions, "--output", out, "--nnunet", "--reference", reference
        )
    assert code == 1
    assert "File too large" in text
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "plans.json"]


KILLED = """
import gzip, sys, time
from rankseg.cli import app

whole, count = gzip.GzipFile.close, 0

def close(file):
    global count
    if file.mode == gzip.WRITE:
        count += 1
        if count == 2:
            print("writing", flush=True)
            time.sleep(60)
    return whole(file)

gzip.GzipFile.close = close
app()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_in_the_midst_of_a_write(predictions, reference, out, number):
    arguments = ("predict", predictions, "--output", out, "--nnunet", "--reference", reference)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(number)
    process.communicate(timeout=30)
    assert sorted(path.name for path in out.glob("*.gz")) == ["a.nii.gz"]
    np.testing.assert_array_equal(read(out / "a.nii.gz"), labels(probabilities(0)))
    hidden = [path.name for path in out.iterdir() if path.name.startswith(".")]
    assert len(hidden) == (number == signal.SIGKILL)
    assert not any(name.endswith(".gz") for name in hidden), "nothing takes it for a result"


# --- what predict has besides ----------------------------------------------------------------


def test_table_and_rules(run, predictions, reference, out, tmp_path):
    arguments = ("--nnunet", "--reference", reference)
    table, rule = tmp_path / "table.csv", tmp_path / "rule.json"
    first = ("predict", predictions, "--output", out, *arguments)
    assert run(*first, "--expected-score", table)[0] == 0
    assert len(table.read_text().splitlines()) == 1 + 3 * 3
    together = ("--aggregation", "dataset", "--save-rule", rule)
    assert run(*first, "--overwrite", *together)[0] == 0
    probs = [torch.from_numpy(probabilities(seed))[None] for seed in range(3)]
    expected = RankSEG().decide(probs).apply(probs[1])[0].numpy()
    np.testing.assert_array_equal(read(out / "b.nii.gz"), expected)
    other = tmp_path / "by_rule"
    again = ("predict", predictions, "--output", other, *arguments, "--rule", rule)
    assert run(*again)[0] == 0
    np.testing.assert_array_equal(read(other / "b.nii.gz"), expected)


def test_rule_of_the_other_kind(run, predictions, reference, out, tmp_path):
    masks = RankSEG(output_mode="multilabel").decide(torch.rand(1, 3, 4, 4))
    assert isinstance(masks, DecisionRule)
    masks.save(tmp_path / "rule.json")
    code, text = run(
        "predict", predictions, "--output", out, "--nnunet", "--rule", tmp_path / "rule.json"
    )
    assert code == 2
    assert "the channels are classes and need a multiclass rule; this one is multilabel" in text


def test_what_was_tuned_for_the_other_kind(run, predictions, reference, out, tmp_path):
    given = [(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4) > 0.5)]
    tune(given, solvers=[], couplings=[], calibrations=[], thresholds=False).save(
        tmp_path / "tuned.json"
    )
    options = ("--nnunet", "--tuned", tmp_path / "tuned.json")
    code, text = run("predict", predictions, "--output", out, *options)
    assert code == 2
    assert "the channels are classes and need a multiclass rule; this one is multilabel" in text


def test_void_pixels(run, predictions, reference, out):
    options = ("--unassigned-policy", "void")
    arguments = ("predict", predictions, "--output", out, "--nnunet", "--reference", reference)
    assert run(*arguments, *options)[0] == 0
    got = nibabel.load(out / "a.nii.gz")
    expected = labels(probabilities(0), unassigned_policy="void")
    assert (expected == 255).any()
    np.testing.assert_array_equal(read(out / "a.nii.gz"), expected)
    assert got.get_data_dtype() == np.uint16, "nnU-Net's own rule for a label of 255"
    code, text = run(*arguments, *options, "--void-index", 70000, "--overwrite")
    assert code == 1
    assert "segmentations hold 0 to 65535, got labels 0 to 70000" in text


def test_images_of_other_dimensions(run, tmp_path, out):
    """Modalities on a fourth axis; a single slice, which nnU-Net gives a z axis."""
    flat = (8, 9)
    one_slice = probabilities(2, shape=(*flat, 3))[:, 2:]  # behind the frame
    cases = {"deep": probabilities(0), "flat": one_slice}
    folder = fill(tmp_path / "pred", cases)
    place = images(tmp_path / "images", "deep", shape=(*SHAPE, 2))
    images(place, "flat", shape=flat)
    assert run("predict", folder, "--output", out, "--nnunet", "--reference", place)[0] == 0
    assert nibabel.load(out / "deep.nii.gz").shape == SHAPE
    np.testing.assert_array_equal(read(out / "deep.nii.gz"), labels(cases["deep"]))
    np.testing.assert_array_equal(read(out / "flat.nii.gz"), labels(cases["flat"])[0])


def test_unpacked_nifti(run, tmp_path, out):
    folder = fill(tmp_path / "pred", {"a": probabilities(0)}, file_ending=".nii")
    place = tmp_path / "images"
    place.mkdir()
    nibabel.save(tiny_nnunet.image(np.zeros(SHAPE, np.int16)), place / "a.nii")
    assert run("predict", folder, "--output", out, "--nnunet", "--reference", place)[0] == 0
    content = (out / "a.nii").read_bytes()
    assert content[:2] != gzip.compress(b"")[:2]
    np.testing.assert_array_equal(read(out / "a.nii"), labels(probabilities(0)))


def test_nnunet_is_not_needed(predictions, reference, out):
    script = (
        "import sys; sys.modules['nnunetv2'] = None; sys.modules['SimpleITK'] = None\n"
        "from rankseg.cli import app; app()"
    )
    arguments = ("predict", predictions, "--output", out, "--nnunet", "--reference", reference)
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"wrote 3 files to {out}\n"), done.stderr
    (predictions / "a.pkl").write_bytes(b"any")
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments[:-2]), "--unpickle", "--overwrite"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"failed: {predictions / 'b.npz'}: there is no b.pkl beside it" in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "a.npz" in line]
    assert line.endswith(': pip install "nibabel>=5.2" "nnunetv2>=2.5"')
