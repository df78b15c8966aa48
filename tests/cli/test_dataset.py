"""One rule for all files of ``rankseg predict``, saved and used again."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import rasterio
import torch

from rankseg import DecisionRule, RankSEG
from rankseg.files import raster


@pytest.fixture
def images() -> list[np.ndarray]:
    """Three images of different sizes and very different amounts of each class."""
    rng = np.random.default_rng(11)
    found = []
    for height, lean in ((8, 2.0), (13, 0.0), (20, -2.0)):
        logits = 1.5 * rng.normal(size=(3, height, 9)) + np.array([lean, 0, 0])[:, None, None]
        found.append((np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32))
    return found


@pytest.fixture
def files(tmp_path: Path, images) -> list[Path]:
    """The images as numpy, NIfTI and GeoTIFF."""
    paths = [tmp_path / name for name in ("a.npy", "b.nii.gz", "c.tif")]
    np.save(paths[0], images[0])
    volume = np.ascontiguousarray(images[1].transpose(1, 2, 0)[:, :, None])
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), paths[1])
    with rasterio.open(
        paths[2],
        "w",
        driver="GTiff",
        count=3,
        height=20,
        width=9,
        dtype="float32",
        crs="EPSG:32632",
        transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
    ) as dataset:
        dataset.write(images[2])
    return paths


def results(out: Path) -> list[np.ndarray]:
    with rasterio.open(out / "c.tif") as dataset:
        found = dataset.read().squeeze()
    volume = np.asarray(nibabel.load(out / "b.nii.gz").dataobj).squeeze(2)
    return [np.load(out / "a.npy"), volume, found]


def together(images: list[np.ndarray], **options: object) -> DecisionRule:
    """Rule in memory, from all pixels side by side."""
    pixels = np.concatenate([image.reshape(3, -1) for image in images], 1)
    return RankSEG(**options).decide(torch.from_numpy(pixels)[None])


@pytest.mark.parametrize(
    "options",
    [{}, {"metric": "iou", "assignment": "ascent"}, {"output_mode": "multilabel"}],
)
@pytest.mark.parametrize("window_bytes", [1, 10**8])
def test_one_rule_for_all_formats(
    run, tmp_path, out, images, files, monkeypatch, options, window_bytes
):
    monkeypatch.setattr(raster, "WINDOW_BYTES", window_bytes)
    typed = [x for name, value in options.items() for x in ("--" + name.replace("_", "-"), value)]
    saved = tmp_path / "rule.json"
    typed += ["--aggregation", "dataset", "--save-rule", saved]
    code, text = run("predict", *files, "--output", out, *typed)
    assert (code, text) == (0, f"wrote 3 files to {out}\n")
    rule = together(images, **options)
    assert DecisionRule.load(saved) == rule
    alone = RankSEG(**options)
    differs = False
    for image, found in zip(images, results(out), strict=True):
        expected = rule.apply(torch.from_numpy(image)[None])[0].numpy()
        differs |= bool((alone(torch.from_numpy(image)[None])[0].numpy() != expected).any())
        if found.shape[-1] == 3:  # NIfTI
            found = np.moveaxis(found, -1, 0)
        np.testing.assert_array_equal(found, expected)
    assert differs, "the rule of all is not the rule of each"


def test_saved_rule_decides_other_runs(run, tmp_path, out, images, files):
    saved = tmp_path / "rule.json"
    together(images[:1], metric="iou").save(saved)
    code, text = run("predict", *files, "--output", out, "--rule", saved)
    assert (code, text) == (0, f"wrote 3 files to {out}\n")
    rule = DecisionRule.load(saved)
    for image, found in zip(images, results(out), strict=True):
        np.testing.assert_array_equal(found, rule(torch.from_numpy(image)[None])[0].numpy())


def test_rule_carries_masks_activation_and_void(run, tmp_path, out, images):
    logits = torch.from_numpy(np.log(images[0]))[None]
    np.save(tmp_path / "x.npy", logits[0].numpy())
    masks, void = tmp_path / "masks.json", tmp_path / "void.json"
    RankSEG(output_mode="multilabel", activation="softmax").decide(logits).save(masks)
    settings = {"unassigned_policy": "void", "void_index": 300, "pruning_prob": 0.9}
    RankSEG(activation="softmax", **settings).decide(logits).save(void)
    assert run("predict", tmp_path / "x.npy", "--output", out, "--rule", masks)[0] == 0
    got = np.load(out / "x.npy")
    assert got.dtype == np.bool_
    np.testing.assert_array_equal(got, DecisionRule.load(masks)(logits)[0].numpy())
    options = ("--rule", void, "--overwrite")
    assert run("predict", tmp_path / "x.npy", "--output", out, *options)[0] == 0
    got = np.load(out / "x.npy")
    assert got.dtype == np.uint16
    assert (got == 300).any()
    np.testing.assert_array_equal(got, DecisionRule.load(void)(logits)[0].numpy())


def test_images_of_a_batch_are_tiles(run, tmp_path, out, images):
    batch = np.stack([images[0], images[1][:, :8], images[2][:, 3:11]])
    np.save(tmp_path / "x.npy", batch)
    options = ("--batched", "--aggregation", "dataset", "--metric", "iou")
    assert run("predict", tmp_path / "x.npy", "--output", out, *options)[0] == 0
    expected = RankSEG(metric="iou", aggregation="dataset")(torch.from_numpy(batch)).numpy()
    assert (RankSEG(metric="iou")(torch.from_numpy(batch)).numpy() != expected).any()
    np.testing.assert_array_equal(np.load(out / "x.npy"), expected)


def spoil(path: Path) -> str:
    if path.suffix == ".npy":
        path.write_bytes(path.read_bytes()[:-40])
        return "truncated or corrupt"
    if path.suffix == ".gz":
        path.write_bytes(path.read_bytes()[:-40])
        return "not a readable NIfTI file"
    path.unlink()
    return "No such file"


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_bad_file_stops_all_of_them(run, tmp_path, out, files, number):
    reason = spoil(files[number])
    saved = tmp_path / "rule.json"
    options = ("--aggregation", "dataset", "--save-rule", saved)
    code, text = run("predict", *files, "--output", out, *options)
    assert code == 1
    assert text.startswith(f"rankseg: {files[number]}: ")
    assert reason in text
    assert not list(out.iterdir())
    assert not saved.exists()


def test_a_pattern_without_files_stops_all_of_them(run, tmp_path, out, files):
    names = (*files, tmp_path / "none-*.npy")
    code, text = run("predict", *names, "--output", out, "--aggregation", "dataset")
    assert code == 1
    assert "none-*.npy: no file matches this pattern" in text
    assert not list(out.iterdir())


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (np.full((4, 5, 5), 0.25, np.float32), "in the number of classes: one has 3, another 4"),
        (np.full((3, 5, 5), 0.25), "tiles disagree: one is float32, another float64"),
        (np.full((3, 5, 5), 1.25, np.float32), "d.npy: probs must lie in [0, 1]"),
    ],
)
def test_files_that_do_not_go_together(run, tmp_path, out, files, other, reason):
    np.save(tmp_path / "d.npy", other)
    names = (*files, tmp_path / "d.npy")
    code, text = run("predict", *names, "--output", out, "--aggregation", "dataset")
    assert code == 1
    assert reason in text
    assert not list(out.iterdir())


def test_rule_for_other_classes(run, tmp_path, out, images):
    saved = tmp_path / "rule.json"
    together(images).save(saved)
    np.save(tmp_path / "x.npy", np.full((4, 5, 5), 0.25, np.float32))
    code, text = run("predict", tmp_path / "x.npy", "--output", out, "--rule", saved)
    assert code == 1
    assert "the rule is for 3 classes; got 4" in text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--rule", "R", "--metric", "iou"], "--rule has decided what --metric would"),
        (["--rule", "R", "--metric", "dice"], "--rule has decided what --metric would"),
        (["--rule", "R", "--aggregation", "dataset"], "what --aggregation would"),
        (["--rule", "R", "--activation", "none"], "what --activation would"),
        (["--rule", "R", "--class-weights", "9,1,0"], "what --class-weights would"),
        (["--rule", "R", "--no-include-background"], "what --include-background would"),
        (["--rule", "R", "--empty", "1"], "what --empty would"),
        (["--aggregation", "dataset", "--save-rule", "x.npy"], "must end in .json"),
        (["--rule", "R", "--save-rule", "new.json"], "say --aggregation dataset"),
        (["--rule", "R", "--expected-score", "t.csv"], "leave one of them out"),
        (["--rule", "none.json"], "none.json: No such file or directory"),
        (["--rule", "BAD"], "is no decision rule"),
        (["--save-rule", "new.json"], "say --aggregation dataset"),
        (["--aggregation", "dataset", "--expected-score", "t.csv"], "leave one of them out"),
        (["--aggregation", "dataset", "--solver", "exact"], "needs all pixels of a class"),
        (["--aggregation", "dataset", "--save-rule", "R"], "exists already: use --overwrite"),
        (["--aggregation", "dataset", "--save-rule", "no/r.json"], "there is no folder no"),
        (["--aggregation", "class"], "class"),
    ],
)
def test_options_that_make_no_sense(run, tmp_path, out, images, files, options, reason):
    together(images).save(tmp_path / "rule.json")
    (tmp_path / "bad.json").write_text(json.dumps({"format": "another"}))
    places = {"R": tmp_path / "rule.json", "BAD": tmp_path / "bad.json"}
    typed = [places.get(option, option) for option in options]
    code, text = run("predict", *files, "--output", out, *typed)
    assert code == 2
    assert reason in text
    assert not out.exists()


def test_refused_rule_leaves_nothing(run, tmp_path, out, files, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rankseg.files.write.os.fsync", refuse)
    saved = tmp_path / "rule.json"
    options = ("--aggregation", "dataset", "--save-rule", saved)
    code, text = run("predict", *files, "--output", out, *options)
    assert code == 1
    assert "No space left on device" in text
    assert not list(out.iterdir())
    assert not saved.exists()
