"""``rankseg predict``: every format and layout in, what RankSEG decides out."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from rankseg import RankSEG


def labels(probs: np.ndarray, **options: object) -> np.ndarray:
    return RankSEG(**options)(torch.from_numpy(probs)[None])[0].numpy()


def masks(probs: np.ndarray, **options: object) -> np.ndarray:
    return labels(probs, output_mode="multilabel", **options)


def store(path: Path, probs: np.ndarray) -> Path:
    tensor = torch.from_numpy(probs)
    if path.suffix == ".npy":
        np.save(path, probs)
    elif path.suffix == ".npz":
        np.savez_compressed(path, only=probs)
    elif path.suffix == ".safetensors":
        save_file({"only": tensor}, path)
    else:
        torch.save(tensor if path.suffix == ".pt" else {"only": tensor}, path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".pth", ".safetensors"])
def test_every_input_format_gives_the_labels_of_ranksegs(run, tmp_path, out, probs, suffix):
    source = store(tmp_path / f"image{suffix}", probs)
    code, text = run("predict", source, "--output", out)
    assert (code, text) == (0, f"wrote 1 file to {out}\n")
    got = np.load(out / "image.npy")
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, labels(probs))


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_key_chooses_the_array(run, tmp_path, out, probs, suffix):
    path, arrays = tmp_path / f"two{suffix}", {"a": probs, "b": probs[::-1].copy()}
    tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        (torch.save if suffix == ".pt" else save_file)(tensors, path)
    assert run("predict", path, "--output", out, "--key", "b")[0] == 0
    np.testing.assert_array_equal(np.load(out / "two.npy"), labels(arrays["b"]))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_numpy_orders_and_float_types(run, tmp_path, out, probs, order, dtype):
    stored = np.asarray(probs, dtype=dtype, order=order)
    np.save(tmp_path / "x.npy", stored)
    assert run("predict", tmp_path / "x.npy", "--output", out)[0] == 0
    native = np.ascontiguousarray(stored.astype(dtype.replace(">", "<")))
    np.testing.assert_array_equal(np.load(out / "x.npy"), labels(native))


def test_bfloat16_is_read(run, tmp_path, out, probs):
    tensor = torch.from_numpy(probs).bfloat16()
    torch.save(tensor, tmp_path / "x.pt")
    assert run("predict", tmp_path / "x.pt", "--output", out)[0] == 0
    np.testing.assert_array_equal(np.load(out / "x.npy"), RankSEG()(tensor[None])[0].numpy())


def test_masks_keep_the_layout_of_the_input(run, tmp_path, out, probs):
    np.save(tmp_path / "last.npy", probs.transpose(1, 2, 0))
    options = ("--channel-axis", -1, "--output-mode", "multilabel")
    assert run("predict", tmp_path / "last.npy", "--output", out, *options)[0] == 0
    got = np.load(out / "last.npy")
    assert got.dtype == np.bool_
    np.testing.assert_array_equal(got, masks(probs).transpose(1, 2, 0))


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_a_map_without_channel_axis(run, tmp_path, out, probs, mode):
    np.save(tmp_path / "map.npy", probs[0])
    options = ("--channel-axis", "none", "--output-mode", mode)
    assert run("predict", tmp_path / "map.npy", "--output", out, *options)[0] == 0
    np.testing.assert_array_equal(np.load(out / "map.npy"), masks(probs[:1])[0])


@pytest.mark.parametrize("axis", [1, -2])
def test_a_batch_axis_does_not_count(run, tmp_path, out, probs, axis):
    batch = np.stack([probs, probs[:, ::-1], 1 - probs])  # (3, C, H, W)
    np.save(tmp_path / "batch.npy", batch.transpose(0, 2, 1, 3))
    options = ("--batched", "--channel-axis", axis, "--output-mode", "multilabel")
    assert run("predict", tmp_path / "batch.npy", "--output", out, *options)[0] == 0
    expected = RankSEG(output_mode="multilabel")(torch.from_numpy(batch)).numpy()
    np.testing.assert_array_equal(np.load(out / "batch.npy"), expected.transpose(0, 2, 1, 3))


def test_an_empty_batch_gives_an_empty_result(run, tmp_path, out):
    np.save(tmp_path / "none.npy", np.zeros((0, 3, 4, 5), np.float32))
    table = tmp_path / "scores.csv"
    options = ("--batched", "--expected-score", table)
    assert run("predict", tmp_path / "none.npy", "--output", out, *options)[0] == 0
    assert np.load(out / "none.npy").shape == (0, 4, 5)
    assert table.read_text() == "file,image,class,expected_score,volume,threshold,active\n"


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_logits_are_activated_in_float32(run, tmp_path, out, activation):
    logits = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(1)).half()
    torch.save(logits, tmp_path / "logits.pt")
    options = ("--activation", activation, "--output-mode", "multilabel")
    assert run("predict", tmp_path / "logits.pt", "--output", out, *options)[0] == 0
    wide = logits.float().softmax(0) if activation == "softmax" else logits.float().sigmoid()
    np.testing.assert_array_equal(np.load(out / "logits.npy"), masks(wide.numpy()))


def test_options_reach_the_solver(run, saved, out, probs):
    options = {"metric": "iou", "smooth": 3.0, "pruning_prob": 0.2}
    typed = [x for k, v in options.items() for x in ("--" + k.replace("_", "-"), v)]
    void = ["--unassigned-policy", "void", "--void-index", 9]
    assert run("predict", saved, "--output", out, *typed, *void)[0] == 0
    expected = labels(probs, **options, unassigned_policy="void", void_index=9)
    np.testing.assert_array_equal(np.load(out / "image.npy"), expected)
    cut = ("--output-mode", "multilabel", "--solver", "tr", "--threshold", 0.3, "--overwrite")
    assert run("predict", saved, "--output", out, *cut)[0] == 0
    np.testing.assert_array_equal(np.load(out / "image.npy"), probs > np.float32(0.3))


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "fbeta", "beta": 3.0},
        {"metric": "tversky", "alpha": 0.2, "beta": 0.9},
        {"solver": "BA", "eps": 0.5},
        {"solver": "coupled", "coupling": 1.0},
    ],
)
def test_parameters_of_metrics_and_solvers_reach_them(run, saved, out, probs, tmp_path, options):
    typed = [x for name, value in options.items() for x in ("--" + name, value)]
    table = tmp_path / "scores.json"
    typed += ["--expected-score", table]
    assert run("predict", saved, "--output", out, *typed)[0] == 0
    found = [row["expected_score"] for row in json.loads(table.read_text())]
    expected = RankSEG(**options).solve(torch.from_numpy(probs)[None]).expected_score[0]
    assert found == pytest.approx(expected.tolist())
    names = {name for name in options if name not in ("metric", "solver")}
    plain = {name: value for name, value in options.items() if name not in names}
    default = RankSEG(**plain).solve(torch.from_numpy(probs)[None]).expected_score[0]
    assert found != pytest.approx(default.tolist())


@pytest.mark.parametrize(
    ("classes", "void", "dtype"),
    [(2, None, "u1"), (256, None, "u1"), (257, None, "u2"), (3, 300, "u2"), (3, -1, "i2")],
)
def test_labels_take_the_smallest_type(run, tmp_path, out, classes, void, dtype):
    np.save(tmp_path / "x.npy", np.full((classes, 2, 2), 1 / classes, np.float32))
    options = () if void is None else ("--unassigned-policy", "void", "--void-index", void)
    assert run("predict", tmp_path / "x.npy", "--output", out, *options)[0] == 0
    assert np.load(out / "x.npy").dtype == np.dtype(dtype)


@pytest.mark.parametrize(("mode", "key"), [("multiclass", "labels"), ("multilabel", "masks")])
def test_npz_names_what_it_holds(run, saved, out, probs, mode, key):
    options = ("--format", "npz", "--output-mode", mode)
    assert run("predict", saved, "--output", out, *options)[0] == 0
    with np.load(out / "image.npz") as archive:
        assert archive.files == [key]
        np.testing.assert_array_equal(archive[key], labels(probs, output_mode=mode))


def test_png_of_labels(run, saved, out, probs):
    assert run("predict", saved, "--output", out, "--format", "png")[0] == 0
    with Image.open(out / "image.png") as picture:
        assert picture.mode == "L"
        np.testing.assert_array_equal(np.asarray(picture), labels(probs))


def test_png_of_many_classes_has_16_bits(run, tmp_path, out):
    peaks = np.full((300, 2, 2), 0.001, np.float32)
    for class_, pixel in zip((0, 7, 280, 299), np.ndindex(2, 2), strict=True):
        peaks[(class_, *pixel)] = 0.9
    np.save(tmp_path / "x.npy", peaks)
    assert run("predict", tmp_path / "x.npy", "--output", out, "--format", "png")[0] == 0
    with Image.open(out / "x.png") as picture:
        assert np.asarray(picture).tolist() == [[0, 7], [280, 299]]


@pytest.mark.parametrize("axis", [0, -1])
def test_png_of_a_single_mask_is_black_and_white(run, tmp_path, out, probs, axis):
    np.save(tmp_path / "x.npy", np.moveaxis(probs[:1], 0, axis))
    options = ("--format", "png", "--output-mode", "multilabel", "--channel-axis", axis)
    assert run("predict", tmp_path / "x.npy", "--output", out, *options)[0] == 0
    with Image.open(out / "x.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), 255 * masks(probs[:1])[0])


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_table_of_expected_scores(run, saved, tmp_path, out, probs, suffix):
    table = tmp_path / f"scores.{suffix}"
    options = ("--expected-score", table, "--pruning-prob", 0.8)
    assert run("predict", saved, "--output", out, *options)[0] == 0
    answer = RankSEG(pruning_prob=0.8).solve(torch.from_numpy(probs)[None])
    assert answer.active.any()
    assert not answer.active.all()
    if suffix == "csv":
        rows = list(csv.DictReader(table.read_text().splitlines()))
    else:
        rows = json.loads(table.read_text())
    assert [(row["file"], int(row["image"]), int(row["class"])) for row in rows] == [
        (str(saved), 0, class_) for class_ in range(3)
    ]
    for name in ("expected_score", "volume", "threshold"):
        assert [float(row[name]) for row in rows] == getattr(answer, name)[0].tolist()
    assert [str(row["active"]) for row in rows] == [str(x) for x in answer.active[0].tolist()]


@pytest.mark.parametrize(("suffix", "empty"), [("csv", ""), ("json", None)])
def test_table_has_no_threshold_where_there_is_none(run, saved, tmp_path, out, suffix, empty):
    table = tmp_path / f"scores.{suffix}"
    options = ("--expected-score", table, "--solver", "argmax")
    assert run("predict", saved, "--output", out, *options)[0] == 0
    text = table.read_text()
    rows = list(csv.DictReader(text.splitlines())) if suffix == "csv" else json.loads(text)
    assert [row["threshold"] for row in rows] == [empty] * 3


def test_table_numbers_the_images_of_a_batch(run, tmp_path, out, probs):
    np.save(tmp_path / "x.npy", np.stack([probs, probs]))
    options = ("--batched", "--expected-score", tmp_path / "t.json")
    assert run("predict", tmp_path / "x.npy", "--output", out, *options)[0] == 0
    rows = json.loads((tmp_path / "t.json").read_text())
    assert [(row["image"], row["class"]) for row in rows] == [
        (image, class_) for image in range(2) for class_ in range(3)
    ]


def test_folders_patterns_and_repeated_names(run, tmp_path, out, probs):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.npy", "b.PT", "c.npz"):
        store(folder / name.lower(), probs).rename(folder / name)
    (folder / "notes.txt").write_text("not an input")
    names = (folder, folder / "a.npy", tmp_path / "**" / "*.npz")
    code, text = run("predict", *names, "--output", out)
    assert (code, text) == (0, f"wrote 3 files to {out}\n")
    assert sorted(path.name for path in out.iterdir()) == ["a.npy", "b.npy", "c.npy"]


def test_a_link_under_another_name_is_another_input(run, saved, tmp_path, out):
    (tmp_path / "link.npy").symlink_to(saved)
    (tmp_path / "again").symlink_to(tmp_path)
    names = (saved, tmp_path / "link.npy", tmp_path / "again" / "image.npy")
    table = tmp_path / "t.json"
    code, text = run("predict", *names, "--output", out, "--expected-score", table)
    assert (code, text) == (0, f"wrote 2 files to {out}\n")
    assert sorted(path.name for path in out.iterdir()) == ["image.npy", "link.npy"]
    assert list(dict.fromkeys(row["file"] for row in json.loads(table.read_text()))) == [
        str(saved),
        str(tmp_path / "link.npy"),
    ], "a file named twice keeps its first name"


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_file_name_that_is_no_text(run, saved, tmp_path, suffix):
    names = [os.fsdecode(name) for name in (b"bad\xff.npy", b"out\xff")]
    source, out, table = tmp_path / names[0], tmp_path / names[1], tmp_path / f"t.{suffix}"
    saved.rename(source)
    code, text = run("predict", source, "--output", out, "--expected-score", table)
    assert (code, text) == (0, f"wrote 1 file to {tmp_path}/out\\udcff\n")
    assert (out / source.name).is_file()
    content = table.read_bytes()
    if suffix == "csv":
        assert content.splitlines()[1].startswith(os.fsencode(source) + b",0,0,")
    else:
        assert json.loads(content)[0]["file"] == str(source)


def test_name_as_long_as_the_file_system_allows(run, saved, tmp_path, out):
    source = tmp_path / ("x" * 251 + ".npy")
    saved.rename(source)
    assert run("predict", source, "--output", out)[0] == 0
    assert [path.name for path in out.iterdir()] == [source.name]


@pytest.mark.parametrize(
    ("options", "readings"),
    [
        (["--no-batched"], "image"),
        (["--channel-axis", 0], "image"),
        (["--batched"], "batch"),
        (["--batched", "--channel-axis", 0], "batch"),
    ],
)
def test_four_axes_are_read_as_said(run, tmp_path, out, probs, options, readings):
    array = np.stack([probs, probs[:, ::-1]])
    np.save(tmp_path / "x.npy", array)
    mode = ("--output-mode", "multilabel", "--expected-score", tmp_path / "t.json")
    assert run("predict", tmp_path / "x.npy", "--output", out, *mode, *options)[0] == 0
    batch = torch.from_numpy(array if readings == "batch" else array[None])
    expected = RankSEG(output_mode="multilabel")(batch).numpy()
    np.testing.assert_array_equal(np.load(out / "x.npy"), expected.reshape(array.shape))
    assert len(json.loads((tmp_path / "t.json").read_text())) == batch.shape[0] * batch.shape[1]


def test_the_input_is_not_changed_and_nothing_else_is_left(run, saved, out):
    before = saved.read_bytes()
    assert run("predict", saved, "--output", out)[0] == 0
    assert saved.read_bytes() == before
    assert [path.name for path in out.iterdir()] == ["image.npy"]


def test_a_limit_for_each_class(run, saved, out, probs):
    limits = [0.97, 0.2, 0.2]
    typed = ("--pruning-prob", ",".join(map(str, limits)))
    assert run("predict", saved, "--output", out, *typed)[0] == 0
    expected = labels(probs, pruning_prob=limits)
    assert (expected != labels(probs)).any()
    np.testing.assert_array_equal(np.load(out / "image.npy"), expected)
    code, text = run("predict", saved, "--output", out, "--pruning-prob", "0.5,x")
    assert code == 2
    assert "--pruning-prob must be a number or numbers with commas between; got '0.5,x'" in text


def test_classes_that_count_more_or_not_at_all(run, saved, out, probs):
    typed = ("--class-weights", "1,5,0.2", "--no-include-background", "--overwrite")
    assert run("predict", saved, "--output", out, *typed)[0] == 0
    expected = labels(probs, class_weights=[1, 5, 0.2], include_background=False)
    assert (expected != labels(probs)).any()
    np.testing.assert_array_equal(np.load(out / "image.npy"), expected)
    code, text = run("predict", saved, "--output", out, "--class-weights", "1", "--overwrite")
    assert code == 1
    assert "--class-weights has 1 number, probs has 3 classes" in text


def test_what_an_absent_class_scores(run, saved, out, probs, tmp_path):
    for empty, expected in (("1", 1), ("nan", "nan")):
        table = tmp_path / f"{empty}.json"
        typed = ("--empty", empty, "--overwrite", "--expected-score", table)
        assert run("predict", saved, "--output", out, *typed)[0] == 0
        found = [row["expected_score"] for row in json.loads(table.read_text())]
        solved = RankSEG(empty=expected).solve(torch.from_numpy(probs)[None])
        assert found == solved.expected_score[0].tolist()
    code, text = run("predict", saved, "--output", out, "--empty", "two")
    assert code == 2
    assert "empty must be 0, 1 or 'nan'; got 'two'" in text
