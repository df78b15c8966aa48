"""GeoTIFF in ``rankseg predict``: the labels of RankSEG, by windows or whole, in their place."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from rankseg import RankSEG
from rankseg._require import pip_line
from rankseg.files import raster as module

CRS = "EPSG:32632"
TRANSFORM = Affine(10.0, 0.5, 399960.0, -0.25, -10.0, 5300040.0)
NAMES = ("water", "forest", "field")


@pytest.fixture
def image() -> np.ndarray:
    """Softmax of three classes, float32 (3, 610, 540), smooth enough that classes have regions."""
    coarse = np.random.default_rng(5).normal(size=(3, 61, 54))
    logits = 2 * np.kron(coarse, np.ones((10, 10))) + np.random.default_rng(6).normal(
        size=(3, 610, 540)
    )
    return (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)


def store(path: Path, array: np.ndarray, **profile: object) -> Path:
    settings = {
        "driver": "GTiff",
        "count": len(array),
        "height": array.shape[1],
        "width": array.shape[2],
        "dtype": array.dtype.name,
        "crs": CRS,
        "transform": TRANSFORM,
        "photometric": "minisblack",
        **profile,
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    with rasterio.open(path, "w", **settings) as dataset:
        dataset.write(array)
        if len(array) == len(NAMES):
            dataset.descriptions = NAMES
        dataset.update_tags(AREA_OR_POINT="Point", campaign="2024")
    return path


@pytest.fixture
def small_windows(monkeypatch) -> None:
    """Windows of one block, so that the image takes nine."""
    monkeypatch.setattr(module, "WINDOW_BYTES", 1)


def decided(image: np.ndarray, valid: np.ndarray | None = None, **options: object) -> np.ndarray:
    """Labels (H, W), or masks (C, H, W), of the pixels that count; 255 elsewhere."""
    valid = np.ones(image.shape[1:], bool) if valid is None else valid
    found = RankSEG(**options)(torch.from_numpy(image[:, valid])[None])[0].numpy()
    result = np.full((*found.shape[:-1], *valid.shape), 255, np.uint8)
    result[..., valid] = found
    return result


PROFILES = {
    "strips": {},
    "tiles": {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"},
    "bands": {"tiled": True, "blockxsize": 64, "blockysize": 512, "interleave": "band"},
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("window_bytes", [1, 10**6, 10**8])
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_windows_give_what_the_image_in_memory_gives(
    run, tmp_path, out, image, monkeypatch, profile, window_bytes, mode
):
    monkeypatch.setattr(module, "WINDOW_BYTES", window_bytes)
    source = store(tmp_path / "x.tif", image, **PROFILES[profile])
    with module.Raster(source, 10**9) as opened:
        assert (len(opened.windows) == 1) is (window_bytes == 10**8)
    code, text = run("predict", source, "--output", out, "--output-mode", mode)
    assert (code, text) == (0, f"wrote 1 file to {out}\n")
    assert [path.name for path in out.iterdir()] == ["x.tif"]
    with rasterio.open(out / "x.tif") as result:
        got = result.read()
        assert result.dtypes == ("uint8",) * len(got)
        assert result.nodata is None
    expected = decided(image, output_mode=mode)
    np.testing.assert_array_equal(got, expected if mode == "multilabel" else expected[None])


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "iou", "assignment": "ascent"},
        {"solver": "argmax"},
        {"metric": "acc"},
        {"unassigned_policy": "void", "void_index": 77},
    ],
)
def test_solvers_by_windows(run, tmp_path, out, image, small_windows, options):
    source = store(tmp_path / "x.tif", image)
    typed = [x for name, value in options.items() for x in ("--" + name.replace("_", "-"), value)]
    code, text = run("predict", source, "--output", out, *typed)
    assert code == 0, text
    with rasterio.open(out / "x.tif") as result:
        np.testing.assert_array_equal(result.read(1), decided(image, **options))


@pytest.mark.parametrize("solver", ["exact", "BA", "auto"])
def test_other_solvers_take_the_image_into_memory(run, tmp_path, out, image, small_windows, solver):
    part = image[:, :60, :300]
    source = store(tmp_path / "x.tif", part)
    assert run("predict", source, "--output", out, "--solver", solver)[0] == 0
    with rasterio.open(out / "x.tif") as result:
        np.testing.assert_array_equal(result.read(1), decided(part, solver=solver))
    options = ("--solver", solver, "--max-bytes", 100_000, "--overwrite")
    code, text = run("predict", source, "--output", out, *options)
    assert code == 1
    assert "takes 216,000 bytes, more than the limit of 100,000" in text
    assert "solvers other than RMA, argmax and TR, and the table, take the image whole" in text


def test_table_takes_the_image_into_memory(run, tmp_path, out, image, small_windows):
    source, table = store(tmp_path / "x.tif", image), tmp_path / "t.json"
    assert run("predict", source, "--output", out, "--expected-score", table)[0] == 0
    rows = json.loads(table.read_text())
    expected = RankSEG().solve(torch.from_numpy(image)[None])
    assert [row["expected_score"] for row in rows] == expected.expected_score[0].tolist()
    assert [row["volume"] for row in rows] == expected.volume[0].tolist()


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_place_and_names_are_kept(run, tmp_path, out, image, mode):
    source = store(tmp_path / "x.tiff", image)
    assert run("predict", source, "--output", out, "--output-mode", mode)[0] == 0
    with rasterio.open(out / "x.tif") as result:
        assert result.crs.to_epsg() == 32632
        assert result.transform == TRANSFORM
        assert result.tags()["campaign"] == "2024"
        assert result.tags()["AREA_OR_POINT"] == "Point"
        assert result.photometric.name == "minisblack" if result.photometric else True
        if mode == "multilabel":
            assert result.descriptions == NAMES
        else:
            names = {f"class_{at}": name for at, name in enumerate(NAMES)}
            assert names.items() <= result.tags(1).items()


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_ground_control_points_are_kept(run, tmp_path, out, image):
    source = store(tmp_path / "x.tif", image, transform=None, crs=None)
    points = [
        GroundControlPoint(row, column, 9 + column, 47 - row, 0)
        for row, column in ((0, 0), (0, 500), (600, 0), (600, 500))
    ]
    with rasterio.open(source, "r+") as dataset:
        dataset.gcps = (points, rasterio.CRS.from_epsg(4326))
    assert run("predict", source, "--output", out)[0] == 0
    with rasterio.open(out / "x.tif") as result:
        found, system = result.gcps
    with rasterio.open(source) as dataset:
        points = dataset.gcps[0]
    assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]
    assert system.to_epsg() == 4326


def test_rational_polynomials_are_kept(run, tmp_path, out, image):
    source = store(tmp_path / "x.tif", image)
    ones = [1.0] + [0.0] * 19
    numbers = {
        f"{name}_{kind}": value
        for name in ("height", "lat", "line", "long", "samp")
        for kind, value in (("off", 5.0), ("scale", 2.0))
    }
    parts = ("line_den", "line_num", "samp_den", "samp_num")
    polynomials = RPC(**numbers, **{f"{part}_coeff": ones for part in parts})
    with rasterio.open(source, "r+") as dataset:
        dataset.rpcs = polynomials
    assert run("predict", source, "--output", out)[0] == 0
    with rasterio.open(source) as before, rasterio.open(out / "x.tif") as result:
        assert before.rpcs is not None
        assert result.rpcs == before.rpcs


def with_holes(image: np.ndarray, nodata: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that lack data in one band or in all, among them a whole window and more."""
    holed = image.copy()
    valid = np.ones(image.shape[1:], bool)
    holed[1, 20:200, 300:500] = nodata
    valid[20:200, 300:500] = False
    holed[:, 250:, :280] = nodata
    valid[250:, :280] = False
    return holed, valid


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("nodata", [-9999.0, float("nan"), 0.0])
@pytest.mark.parametrize("window_bytes", [1, 10**8])
def test_pixels_without_data_count_for_nothing(
    run, tmp_path, out, image, monkeypatch, mode, nodata, window_bytes
):
    monkeypatch.setattr(module, "WINDOW_BYTES", window_bytes)
    holed, valid = with_holes(image, nodata)
    if nodata == 0.0:  # a probability in one band, no data in all
        image, valid = holed, (holed != 0).any(0)
    source = store(tmp_path / "x.tif", holed, nodata=nodata)
    code, text = run("predict", source, "--output", out, "--output-mode", mode)
    assert code == 0, text
    expected = decided(image, valid, output_mode=mode)
    with rasterio.open(out / "x.tif") as result:
        assert result.nodata == 255
        got = result.read()
    np.testing.assert_array_equal(got, expected if mode == "multilabel" else expected[None])
    everything = decided(image, output_mode=mode)
    if nodata != 0.0:  # zeros count for nothing anyway
        assert (everything[..., valid] != expected[..., valid]).any(), "holes change the decision"


def test_mask_of_the_data_set(run, tmp_path, out, image, small_windows):
    valid = with_holes(image, 0)[1]
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        source = store(tmp_path / "x.tif", image)
        with rasterio.open(source, "r+") as dataset:
            dataset.write_mask(valid)
    assert run("predict", source, "--output", out)[0] == 0
    with rasterio.open(out / "x.tif") as result:
        np.testing.assert_array_equal(result.read(1), decided(image, valid))
        assert result.nodata == 255


def test_void_label_is_the_label_of_no_data(run, tmp_path, out, image, small_windows):
    holed, valid = with_holes(image, -1)
    source = store(tmp_path / "x.tif", holed, nodata=-1)
    options = ("--unassigned-policy", "void", "--void-index", -7)
    assert run("predict", source, "--output", out, *options)[0] == 0
    expected = decided(image, valid, unassigned_policy="void", void_index=100).astype(int)
    expected[(expected == 255) | (expected == 100)] = -7
    with rasterio.open(out / "x.tif") as result:
        assert result.nodata == -7
        np.testing.assert_array_equal(result.read(1), expected)


def test_label_of_no_data_is_no_class(run, tmp_path, out):
    many = np.random.default_rng(1).random((256, 3, 4), dtype=np.float32) / 2
    many[255, 0, 0] = 0.9
    many[:, 2, 3] = -1
    assert run("predict", store(tmp_path / "x.tif", many, nodata=-1), "--output", out)[0] == 0
    with rasterio.open(out / "x.tif") as result:
        assert (result.dtypes, result.nodata) == (("uint16",), 65535)
        assert (result.read(1)[0, 0], result.read(1)[2, 3]) == (255, 65535)


@pytest.mark.parametrize("window_bytes", [1, 10**8])
def test_no_pixel_has_data(run, tmp_path, out, image, monkeypatch, window_bytes):
    monkeypatch.setattr(module, "WINDOW_BYTES", window_bytes)
    source = store(tmp_path / "x.tif", np.full_like(image, -1), nodata=-1)
    code, text = run("predict", source, "--output", out)
    assert code == 0, text
    with rasterio.open(out / "x.tif") as result:
        assert (result.read(1) == 255).all()


@pytest.mark.parametrize("most", [255, 65535])
@pytest.mark.parametrize("own", [True, False])
def test_scaled_integers(run, tmp_path, out, image, small_windows, most, own):
    stored = np.rint(image * most).astype(np.uint8 if most == 255 else np.uint16)
    source = store(tmp_path / "x.tif", stored)
    code, text = run("predict", source, "--output", out)
    assert code == 1
    assert f"holds {stored.dtype} values, not floating-point" in text
    assert f"say it: --scale {255 if stored.itemsize == 1 else 65535}" in text
    if own:
        with rasterio.open(source, "r+") as dataset:
            dataset.scales = [1 / most] * 3
    options = () if own else ("--scale", most)
    assert run("predict", source, "--output", out, *options)[0] == 0
    with rasterio.open(out / "x.tif") as result:
        np.testing.assert_array_equal(result.read(1), decided((stored / most).astype(np.float32)))
    if own:
        code, text = run("predict", source, "--output", out, "--overwrite", "--scale", most)
        assert code == 1
        assert "leave out --scale" in text


def test_every_band_has_its_own_scale_and_offset(run, tmp_path, out, image):
    stored = np.rint((image - [[[0.0]], [[0.1]], [[-0.2]]]) * [[[100]], [[200]], [[50]]])
    source = store(tmp_path / "x.tif", stored.astype(np.int16))
    with rasterio.open(source, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.01, 0.005, 0.02), (0.0, 0.1, -0.2)
    values = stored * np.array([0.01, 0.005, 0.02])[:, None, None]
    values += np.array([0.0, 0.1, -0.2])[:, None, None]
    inside = values.astype(np.float32)
    code, text = run("predict", source, "--output", out)
    assert code == 0, text
    with rasterio.open(out / "x.tif") as result:
        np.testing.assert_array_equal(result.read(1), decided(inside))


def test_four_bands_that_gdal_takes_for_colours(run, tmp_path, out, image):
    four = np.rint(np.concatenate([image, image[:1]]) * 127).astype(np.uint8)
    source = store(tmp_path / "x.tif", four, photometric=None)
    code, text = run("predict", source, "--output", out, "--scale", 127)
    assert code == 1
    assert "a band is declared transparency" in text
    with rasterio.open(source, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.undefined] * 4
    assert run("predict", source, "--output", out, "--scale", 127)[0] == 0
    options = ("--scale", 127, "--output-mode", "multilabel", "--overwrite")
    assert run("predict", source, "--output", out, *options)[0] == 0
    with rasterio.open(out / "x.tif") as result:
        assert result.count == 4
        assert ColorInterp.alpha not in result.colorinterp
        assert [flags[0].name for flags in result.mask_flag_enums] == ["all_valid"] * 4


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--key", "a"], "a GeoTIFF file has no keys"),
        (["--channel-axis", "-1"], "the bands of a GeoTIFF are the classes"),
        (["--batched"], "the bands of a GeoTIFF are the classes"),
    ],
)
def test_option_that_does_not_fit(run, tmp_path, out, image, options, reason):
    code, text = run("predict", store(tmp_path / "x.tif", image), "--output", out, *options)
    assert code == 1
    assert reason in text


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_other_formats_are_written_if_asked_for(run, tmp_path, out, image, small_windows, mode):
    holed, valid = with_holes(image, -1)
    source = store(tmp_path / "x.tif", holed, nodata=-1)
    options = ("--format", "npy", "--output-mode", mode)
    assert run("predict", source, "--output", out, *options)[0] == 0
    expected = decided(image, valid, output_mode=mode)
    got = np.load(out / "x.npy")
    np.testing.assert_array_equal(got, expected == 1 if mode == "multilabel" else expected)


def test_logits(run, tmp_path, out, image, small_windows):
    source = store(tmp_path / "x.tif", np.log(image))
    assert run("predict", source, "--output", out, "--activation", "softmax")[0] == 0
    with rasterio.open(out / "x.tif") as result:
        expected = decided(np.log(image), activation="softmax")
        np.testing.assert_array_equal(result.read(1), expected)


@pytest.mark.parametrize("value", [float("nan"), 1.5])
def test_values_that_are_no_probabilities(run, tmp_path, out, image, small_windows, value):
    image[1, 600, 500] = value
    code, text = run("predict", store(tmp_path / "x.tif", image), "--output", out)
    assert code == 1
    assert ("probs contains NaN" if value != 1.5 else "max=1.5") in text
    assert not list(out.iterdir())


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_corrupt_block_leaves_nothing(run, tmp_path, out, image, small_windows, damage):
    source = store(tmp_path / "x.tif", image, **PROFILES["tiles"])
    with rasterio.open(source) as dataset:
        start = int(dataset.get_tag_item("BLOCK_OFFSET_3_4", "TIFF", bidx=1))
    content = source.read_bytes()
    end = b"" if damage == "cut" else bytes(64) + content[start + 64 :]
    source.write_bytes(content[:start] + end)
    code, text = run("predict", source, "--output", out)
    assert code == 1
    assert f"failed: {source}: not a readable GeoTIFF file: truncated or corrupt" in text
    assert not list(out.iterdir())


def test_file_that_changes_between_deciding_and_writing(
    run, tmp_path, out, image, small_windows, monkeypatch
):
    source = store(tmp_path / "x.tif", image)
    whole = module.Raster.write

    def cut(self, path, bands, parts):
        def some():
            for at, part in enumerate(parts):
                if at == 3:
                    raise OSError(5, "Input/output error")
                yield part

        whole(self, path, bands, some())

    monkeypatch.setattr(module.Raster, "write", cut)
    out.mkdir()
    (out / "x.tif").write_bytes(b"old")
    code, text = run("predict", source, "--output", out, "--overwrite")
    assert (code, text) == (
        1,
        f"wrote 0 files to {out}\nfailed: {source}: Input/output error\n",
    )
    assert [(p.name, p.read_bytes()) for p in out.iterdir()] == [("x.tif", b"old")]


@pytest.mark.parametrize("size", [300, 3_000, 20_000])
def test_a_full_disk_leaves_nothing(run, tmp_path, out, largest_file, size):
    noise = np.random.default_rng(0).random((2, 610, 540), dtype=np.float32)
    source = store(tmp_path / "x.tif", noise)
    with largest_file(size):
        code, text = run("predict", source, "--output", out, "--metric", "acc")
    assert code == 1
    assert f"failed: {source}: " in text
    assert not list(out.iterdir())


def test_what_reads_otherwise_than_written_gets_no_name(run, tmp_path, out, image, monkeypatch):
    source = store(tmp_path / "x.tif", image)
    healthy = module.Raster._confirm

    def spoiled(path, sums):
        with rasterio.open(path, "r+", driver="GTiff") as result:
            block = result.read(1)
            block[5, 5] ^= 1
            result.write(block, 1)
        healthy(path, sums)

    monkeypatch.setattr(module.Raster, "_confirm", staticmethod(spoiled))
    code, text = run("predict", source, "--output", out)
    assert code == 1
    assert "the result reads otherwise than written: is the disk full?" in text
    assert not list(out.iterdir())


def test_damage_is_refused_or_unseen(tmp_path, image, capfd):
    source = store(tmp_path / "x.tif", image[:, :40, :50], compress="deflate")
    healthy, refused = source.read_bytes(), 0
    for seed in range(200):
        chance = random.Random(seed)
        damaged = bytearray(healthy)
        if seed % 4 == 0:
            damaged = damaged[: chance.randrange(len(damaged))]
        else:
            for _ in range(chance.randint(1, 6)):
                damaged[chance.randrange((len(damaged), 600)[seed % 2])] = chance.randrange(256)
        path = tmp_path / f"{seed}.tif"
        path.write_bytes(damaged)
        try:
            with module.Raster(path, 10**7) as opened:
                for window in opened.windows[:4]:
                    opened.read(window)
        except module.FileError:
            refused += 1
    assert refused > 80


def test_announced_block_is_not_believed(tmp_path):
    path = tmp_path / "x.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=1,
        height=40_000,
        width=50_000,
        dtype="float32",
        blockysize=40_000,
        compress="deflate",
        sparse_ok=True,
        crs=CRS,
        transform=TRANSFORM,
    ):
        pass
    tracemalloc.start()
    with pytest.raises(module.FileError, match="more than the limit of 1,000,000"):
        module.Raster(path, 10**6)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_memory_does_not_grow_with_the_image(run, tmp_path, out, small_windows, mode):
    path = store(tmp_path / "x.tif", np.full((2, 1500, 1500), 0.25, np.float32), compress="lzw")
    assert run("predict", path, "--output", tmp_path / "warm", "--output-mode", mode)[0] == 0
    tracemalloc.start()
    assert run("predict", path, "--output", out, "--output-mode", mode)[0] == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000, "the image takes 18 MB, a window 0.5 MB"


def test_other_formats_under_this_name_are_not_opened(run, tmp_path, out, image):
    inner = store(tmp_path / "inner.tif", image)
    with rasterio.open(inner) as dataset, WarpedVRT(dataset) as vrt:
        rasterio.shutil.copy(vrt, tmp_path / "x.vrt", driver="VRT")
    (tmp_path / "x.vrt").rename(tmp_path / "x.tif")
    code, text = run("predict", tmp_path / "x.tif", "--output", out)
    assert code == 1
    assert "not a readable GeoTIFF file" in text


def test_missing_package_says_how_to_get_it(run, tmp_path, out, image, monkeypatch):
    source = store(tmp_path / "x.tif", image)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    code, text = run("predict", source, "--output", out)
    assert code == 1
    assert f"rasterio is needed here: {pip_line('files')}" in text


SCRIPT = """
import signal, time
from rankseg.cli import app
from rankseg.files import raster

signal.signal(signal.SIGINT, signal.default_int_handler)
raster.WINDOW_BYTES = 1
whole = raster.Raster.write

def half(self, path, bands, parts):
    def some():
        for at, part in enumerate(parts):
            if at == 3:
                print("writing", flush=True)
                time.sleep(60)
            yield part
    whole(self, path, bands, some())

raster.Raster.write = half
app()
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_stopped_in_the_midst_of_a_write(tmp_path, out, image, number, code):
    source = store(tmp_path / "x.tif", image)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "predict", str(source), "--output", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert len(list(out.iterdir())) == 1, "the temporary file"
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    left = [path.name for path in out.iterdir()]
    assert all(name.startswith(".rankseg-") for name in left)
    assert len(left) == (number == signal.SIGKILL), "nothing can clean up after SIGKILL"


def test_a_nodata_value_that_is_a_probability_counts_where_all_bands_have_it(
    run, tmp_path, out, image
):
    """Byte rasters often call 0 nodata, and confident maps are full of zeros."""
    sure = np.round(np.clip(2 * image - 0.5, 0, 1) * 255).astype(np.uint8)
    sure[:, :50, :60] = 0
    source = store(tmp_path / "x.tif", sure, nodata=0)
    assert run("predict", source, "--output", out, "--scale", 255)[0] == 0
    with rasterio.open(out / "x.tif") as result:
        lacking = result.read(1) == 255
    assert np.array_equal(lacking, (sure == 0).all(0))
    assert (sure == 0).any(0).mean() > lacking.mean() + 0.1
