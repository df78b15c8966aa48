"""NIfTI in ``rankseg predict``: the labels of RankSEG, where the volume lay."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from rankseg import RankSEG
from rankseg._require import pip_line
from rankseg.files import FileError, read_nifti
from rankseg.inputs import Reading, open_input
from rankseg.layout import Layout

AFFINE = np.array(
    [[-0.8, 0.1, 0, 12.5], [0.1, 0.9, 0.2, -30], [0, -0.2, 2.5, 7], [0, 0, 0, 1]], np.float64
)


@pytest.fixture
def volume() -> np.ndarray:
    """Softmax of four classes on 5 x 6 x 7 voxels, classes last."""
    logits = 2 * np.random.default_rng(3).normal(size=(5, 6, 7, 4))
    return (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)


def store(path: Path, array: np.ndarray, kind: type = nibabel.Nifti1Image) -> Path:
    image = kind(array, AFFINE)
    image.set_sform(AFFINE, code="mni")
    image.set_qform(AFFINE, code="scanner", strip_shears=True)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"from a test"
    nibabel.save(image, path)
    return path


def decided(volume: np.ndarray, **options: object) -> np.ndarray:
    """Labels (X, Y, Z), or masks with the classes last."""
    channels_first = torch.from_numpy(np.ascontiguousarray(np.moveaxis(volume, -1, 0)))
    found = RankSEG(**options)(channels_first[None])[0].numpy()
    return np.moveaxis(found, 0, -1) if options.get("output_mode") == "multilabel" else found


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_labels_lie_where_the_volume_lay(run, tmp_path, out, volume, suffix, kind):
    source = store(tmp_path / f"case.0{suffix.lower()}", volume, kind)
    source = source.rename(tmp_path / f"case.0{suffix}")
    code, text = run("predict", source, "--output", out, "--solver", "exact")
    assert (code, text) == (0, f"wrote 1 file to {out}\n")
    assert [path.name for path in out.iterdir()] == ["case.0.nii.gz"]
    got = nibabel.load(out / "case.0.nii.gz")
    assert type(got) is kind
    assert got.get_data_dtype() == np.uint8
    assert (got.dataobj.slope, got.dataobj.inter) == (1, 0)
    np.testing.assert_array_equal(np.asarray(got.dataobj), decided(volume, solver="exact"))
    before = nibabel.load(store(tmp_path / "again.nii", volume, kind))
    np.testing.assert_array_equal(got.affine, before.affine)
    for form in ("get_sform", "get_qform"):
        matrix, code = getattr(got.header, form)(coded=True)
        expected_matrix, expected_code = getattr(before.header, form)(coded=True)
        assert code == expected_code > 0
        np.testing.assert_array_equal(matrix, expected_matrix)
    assert got.header.get_xyzt_units() == ("mm", "sec")
    assert got.header["descrip"] == before.header["descrip"]
    assert got.header.get_intent()[0] == "label"


def test_masks_are_bytes_with_the_classes_axis(run, tmp_path, out, volume):
    source = store(tmp_path / "x.nii.gz", volume)
    options = ("--output-mode", "multilabel", "--metric", "iou")
    assert run("predict", source, "--output", out, *options)[0] == 0
    got = nibabel.load(out / "x.nii.gz")
    assert got.get_data_dtype() == np.uint8
    expected = decided(volume, output_mode="multilabel", metric="iou")
    np.testing.assert_array_equal(np.asarray(got.dataobj), expected)


@pytest.mark.parametrize("axis", [0, 1])
def test_classes_on_another_axis(run, tmp_path, out, volume, axis):
    source = store(tmp_path / "x.nii", np.moveaxis(volume, -1, axis))
    options = ("--output-mode", "multilabel", "--channel-axis", axis)
    assert run("predict", source, "--output", out, *options)[0] == 0
    got = np.asarray(nibabel.load(out / "x.nii.gz").dataobj)
    np.testing.assert_array_equal(
        got, np.moveaxis(decided(volume, output_mode="multilabel"), -1, axis)
    )


def test_three_axes_are_one_map_if_that_is_said(run, tmp_path, out, volume):
    source = store(tmp_path / "x.nii", volume[..., 0])
    code, text = run("predict", source, "--output", out)
    assert code == 1
    assert "shape (5, 6, 7) has no fourth axis for the classes: say --channel-axis none" in text
    assert run("predict", source, "--output", out, "--channel-axis", "none")[0] == 0
    got = np.asarray(nibabel.load(out / "x.nii.gz").dataobj)
    np.testing.assert_array_equal(got, decided(volume[..., :1]))


@pytest.mark.parametrize(
    ("options", "reason"),
    [(["--batched"], "holds one image"), (["--key", "a"], "a NIfTI file has no keys")],
)
def test_option_that_does_not_fit(run, tmp_path, out, volume, options, reason):
    code, text = run("predict", store(tmp_path / "x.nii", volume), "--output", out, *options)
    assert code == 1
    assert reason in text


@pytest.mark.parametrize("kind", ["f8", ">f4"])
def test_other_floats_are_read_as_stored(tmp_path, volume, kind):
    image = nibabel.Nifti1Image(volume.astype(kind), AFFINE, dtype=np.dtype(kind))
    header = image.header.as_byteswapped(">") if kind[0] == ">" else image.header
    nibabel.save(nibabel.Nifti1Image(volume.astype(kind), AFFINE, header), tmp_path / "x.nii")
    values = read_nifti(tmp_path / "x.nii", 10**6).values
    assert values.dtype == (torch.float64 if kind == "f8" else torch.float32)
    np.testing.assert_array_equal(values.numpy(), volume)


def whole_numbers(volume: np.ndarray, most: int) -> np.ndarray:
    return np.rint(volume * most).astype(np.uint8 if most < 256 else np.uint16)


@pytest.mark.parametrize("most", [255, 65535])
def test_integers_take_the_scale_of_the_file(run, tmp_path, out, volume, most):
    stored = whole_numbers(np.minimum(volume * 1.3, 1), most)
    assert stored.max() == most, "probability 1 must survive the rounded slope of the header"
    image = nibabel.Nifti1Image(stored, AFFINE)
    image.header.set_slope_inter(1 / most, 0)
    nibabel.save(image, tmp_path / "x.nii.gz")
    raw = nibabel.load(tmp_path / "x.nii.gz")
    assert raw.dataobj.slope != 1
    code, text = run("predict", tmp_path / "x.nii.gz", "--output", out)
    assert code == 0, text
    got = np.asarray(nibabel.load(out / "x.nii.gz").dataobj)
    unscaled = np.asarray(raw.dataobj.get_unscaled())
    expected = (unscaled * np.float64(raw.dataobj.slope)).astype(np.float32)
    np.testing.assert_array_equal(got, decided(expected))
    code, text = run("predict", tmp_path / "x.nii.gz", "--output", out, "--scale", most)
    assert code == 1


def test_integers_without_a_scale_need_one(run, tmp_path, out, volume):
    stored = whole_numbers(volume, 255)
    source = store(tmp_path / "x.nii", stored)
    code, text = run("predict", source, "--output", out)
    assert code == 1
    assert "holds uint8 values, not floating-point probabilities or logits; labels and" in text
    assert "say it: --scale 255" in text
    assert run("predict", source, "--output", out, "--scale", 255)[0] == 0
    got = np.asarray(nibabel.load(out / "x.nii.gz").dataobj)
    np.testing.assert_array_equal(got, decided((stored / 255).astype(np.float32)))


def test_scale_and_a_scale_of_the_file_are_too_many(run, tmp_path, out, volume):
    image = nibabel.Nifti1Image(whole_numbers(volume, 255), AFFINE)
    image.header.set_slope_inter(0.5, 0)
    nibabel.save(image, tmp_path / "x.nii")
    code, text = run("predict", tmp_path / "x.nii", "--output", out, "--scale", 255)
    assert code == 1
    assert "has a scale of its own, 0.5: leave out --scale" in text


def test_other_formats_are_written_if_asked_for(run, tmp_path, out, volume):
    source = store(tmp_path / "x.nii.gz", volume)
    assert run("predict", source, "--output", out, "--format", "npy")[0] == 0
    np.testing.assert_array_equal(np.load(out / "x.npy"), decided(volume))


def test_table(run, tmp_path, out, volume):
    table = tmp_path / "t.csv"
    source = store(tmp_path / "x.nii.gz", volume)
    assert run("predict", source, "--output", out, "--expected-score", table)[0] == 0
    assert len(table.read_text().splitlines()) == 5


def test_an_uncompressed_volume_is_mapped(tmp_path):
    path = tmp_path / "x.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((100, 100, 100, 8), np.float32), AFFINE), path)
    tracemalloc.start()
    values = read_nifti(path, 10**5).values
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values.shape == (100, 100, 100, 8)
    assert peak < 10**6
    values[:] = 1
    assert not np.asarray(nibabel.load(path).dataobj).any(), "the file itself must not change"


def test_a_volume_is_decided_as_it_lies(tmp_path, volume):
    source = store(tmp_path / "x.nii", volume)
    with open_input(source, Reading(Layout(), masks=False, void_index=None)) as opened:
        assert next(iter(opened)).is_contiguous(), "other orders would be copied"


def test_a_packed_volume_over_the_limit_is_not_unpacked(tmp_path):
    path = tmp_path / "x.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((50, 50, 50, 8), np.float32), AFFINE), path)
    with pytest.raises(FileError, match="takes 4,000,000 bytes, more than the limit of 99"):
        read_nifti(path, 99)


@pytest.mark.parametrize("packed", [False, True])
def test_announced_size_is_not_believed(tmp_path, volume, packed):
    content = bytearray(store(tmp_path / "x.nii", volume).read_bytes())
    content[42:50] = np.array([32767] * 4, "<i2").tobytes()
    path = tmp_path / ("lie.nii.gz" if packed else "lie.nii")
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    tracemalloc.start()
    with pytest.raises(FileError, match=r"announces shape .* the file is too small"):
        read_nifti(path, 10**30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_damage_is_a_file_error_or_unseen(tmp_path, volume, suffix, capfd):
    healthy, refused = store(tmp_path / f"x{suffix}", volume).read_bytes(), 0
    for seed in range(200):
        chance = random.Random(seed)
        damaged = bytearray(healthy)
        if seed % 4 == 0:
            damaged = damaged[: chance.randrange(len(damaged))]
        else:
            for _ in range(chance.randint(1, 6)):
                damaged[chance.randrange((len(damaged), 352)[seed % 2])] = chance.randrange(256)
        path = tmp_path / f"{seed}{suffix}"
        path.write_bytes(damaged)
        try:
            assert read_nifti(path, 10**7).values.is_floating_point()
        except FileError:
            refused += 1
    assert refused > 60
    assert capfd.readouterr() == ("", "")


def test_cut_file_is_named_and_leaves_nothing(run, tmp_path, out, volume):
    source = store(tmp_path / "x.nii.gz", volume)
    source.write_bytes(source.read_bytes()[:-300])
    code, text = run("predict", source, "--output", out)
    assert code == 1
    assert f"failed: {source}: not a readable NIfTI file: truncated or corrupt" in text
    assert not list(out.iterdir())


def test_complex_values_and_foreign_images_are_refused(tmp_path, volume):
    store(tmp_path / "x.nii", volume.astype(np.complex64))
    with pytest.raises(FileError, match="holds complex64 values; store float32"):
        read_nifti(tmp_path / "x.nii", 10**6)


def test_missing_package_says_how_to_get_it(run, tmp_path, out, volume, monkeypatch):
    source = store(tmp_path / "x.nii", volume)
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    code, text = run("predict", source, "--output", out)
    assert code == 1
    assert f"nibabel is needed here: {pip_line('files')}" in text
