"""Every example runs; the quickstart shows a gain, and so does the real data."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


SMALL = {
    "huggingface_nuclei": ["--steps", "2", "--data", "."],
    "lightning_nuclei": ["--epochs", "1", "--data", "."],
    "monai_brain": ["--data", ".", "--spacing", "3"],
    "monai_volumes": ["--steps", "2", "--volumes", "2"],
}
"""Arguments with which an example takes seconds."""


def run(example: Path, folder: Path, *arguments: str, timeout: float = 120) -> str:
    warnings = "default" if example.stem in SMALL else "error"  # frameworks warn of themselves
    done = subprocess.run(
        [sys.executable, "-W", warnings, str(example), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example: Path, tmp_path: Path) -> None:
    if example.stem == "huggingface_nuclei":
        pytest.importorskip("transformers")
        draw_nuclei(tmp_path)
    if example.stem == "lightning_nuclei":
        pytest.importorskip("lightning")
        draw_nuclei(tmp_path)
    if example.stem == "deployment":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    if example.stem == "larger_than_memory":
        needs_dask_and_zarr()
    if example.stem.startswith("monai"):
        pytest.importorskip("monai")
        draw_brain(tmp_path)
    output = run(example, tmp_path, *SMALL.get(example.stem, []))
    assert output.strip(), "an example shows something"
    if example.stem == "quickstart":
        check_quickstart(output)
    if example.stem == "deployment":
        check_deployment(output)
    if example.stem == "lightning_nuclei":
        check_lightning(output, tmp_path / "rankseg-lightning")
    if example.stem == "monai_brain":
        check_brain(output)
    if example.stem == "monai_volumes":
        assert "same labels: True" in output
    if example.stem == "larger_than_memory":
        check_larger_than_memory(output)
        assert not list(tmp_path.iterdir()), "it leaves nothing behind"


def check_lightning(output: str, folder: Path) -> dict[str, list[float]]:
    """Scores of the classes, and of the epochs: Dice of argmax and RankSEG, then their IoU."""
    lines = [line.split() for line in output.splitlines()]
    numbers = [words for words in lines if len(words) == 5 and words[1].startswith("0.")]
    rows = {words[0]: list(map(float, words[1:])) for words in numbers}
    assert {"0", "background", "nucleus", "rim"} <= set(rows)
    for dice, better, iou, best in rows.values():
        assert 0 <= iou <= dice <= 1
        assert 0 <= best <= better <= 1
    assert set(np.unique(Image.open(folder / "masks" / "tile_0_0.png"))) <= {0, 1, 2}
    assert (folder / "before-after.png").read_bytes().startswith(b"\x89PNG")
    return rows


def needs_dask_and_zarr() -> None:
    pytest.importorskip("resource", reason="peak memory is read the Unix way")
    pytest.importorskip("dask.array")
    pytest.importorskip("zarr", minversion="3")


def check_larger_than_memory(output: str) -> None:
    """Shares of the pixels add up, and memory stays below what the issue allows."""
    lines = [line.split() for line in output.splitlines()]
    shares = [list(map(float, words[1:])) for words in lines[-4:]]
    assert [words[0] for words in lines[-4:]] == ["ground", "forest", "water", "road"]
    for column in zip(*shares, strict=True):
        assert sum(column) == pytest.approx(1, abs=4 * 5e-5)  # four numbers of four digits
    peaks = [float(number) for number in re.findall(r"peak memory so far ([\d.]+) GB", output)]
    assert len(peaks) == 4
    assert 0.1 < peaks[-1] < 1.5


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_four_gigabytes_take_less_than_one_and_a_half(tmp_path: Path) -> None:
    needs_dask_and_zarr()
    if shutil.disk_usage(tmp_path).free < 6e9:
        pytest.skip("needs 6 GB of disk")
    (example,) = (path for path in EXAMPLES if path.stem == "larger_than_memory")
    output = run(example, tmp_path, "--gigabytes", "4", "--no-bars", timeout=1100)
    (size,) = re.findall(r"float32: ([\d.]+) GB", output)
    assert float(size) >= 4
    check_larger_than_memory(output)


def check_deployment(output: str) -> None:
    """The same masks from the file, but for a pixel that two libraries' softmax may move."""
    rows = [line.split() for line in output.splitlines()[2:]]
    assert len(rows) == 3
    assert sum(int(row[-2]) for row in rows) <= 1
    assert all(int(row[-1]) > 0 for row in rows)


def check_quickstart(output: str) -> None:
    rows = {words[0]: [float(word) for word in words[1:]] for words in table(output)}
    assert list(rows) == ["background", "organ", "lesion", "mean"]
    assert rows["mean"][1] > rows["mean"][0] + 0.02
    assert rows["lesion"][1] > rows["lesion"][0] + 0.05


def table(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()[1:]]


def draw_nuclei(folder: Path) -> None:
    """Stand-ins for the files of the nuclei example: discs on a noisy ground."""
    y, x = np.mgrid[:128, :96]
    instances = np.zeros((128, 96), np.uint16)
    for number, (top, left) in enumerate(itertools.product(range(12, 128, 24), range(12, 96, 24))):
        instances[(y - top) ** 2 + (x - left) ** 2 < 60] = number + 1
    noise = np.random.default_rng(0).integers(0, 30, instances.shape)
    image = (100 * (instances > 0) + noise).astype(np.uint16)
    for name, values in (("img2d.tif", image), ("mask2d.tif", instances)):
        Image.fromarray(values).save(folder / name)


def draw_brain(folder: Path) -> None:
    """Stand-ins for the maps of the brain example: a blurred shell and what is inside it."""
    nib = pytest.importorskip("nibabel")
    grid = np.stack(
        np.meshgrid(*[np.linspace(-1, 1, side) for side in (30, 36, 28)], indexing="ij")
    )
    inner, outer = (1 / (1 + np.exp((np.hypot(*grid[:2], grid[2]) - r) * 12)) for r in (0.4, 0.7))
    for name, probs in (("gm", outer - inner), ("wm", inner)):
        values = (255 * probs.clip(0, 1)).astype(np.uint8)
        path = folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
        nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 1.0, 1.0])), path)


def check_brain(output: str) -> None:
    """The mean expected Dice never falls, and rises with the ascent; the file keeps its place."""
    assert "affine of the result equal: True" in output
    rows = [line.split() for line in output.splitlines()]
    means = {row[0]: float(row[-1]) for row in rows if row and row[0] in BRAIN}
    assert list(means) == BRAIN
    assert means["argmax"] < means["rankseg"] <= means["ascent"]


BRAIN = ["argmax", "rankseg", "ascent"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_brain_on_real_data(tmp_path: Path) -> None:
    """Fetches nilearn's wheel with pip, unless it is installed."""
    pytest.importorskip("monai")
    (example,) = (path for path in EXAMPLES if path.stem == "monai_brain")
    check_brain(run(example, tmp_path, timeout=1100))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_volumes_with_ground_truth(tmp_path: Path) -> None:
    """A network trained for about a minute gains, and slabs decide what the buffer does."""
    pytest.importorskip("monai")
    (example,) = (path for path in EXAMPLES if path.stem == "monai_volumes")
    output = run(example, tmp_path, timeout=1100)
    rows = {line.split()[0]: line.split() for line in output.splitlines()}
    assert float(rows["RankSEG"][1]) > float(rows["argmax"][1])
    assert "same labels: True" in output


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nuclei_on_real_data(tmp_path: Path) -> None:
    """Fetches the image with pip; takes 14 seconds on two idle cores."""
    pytest.importorskip("transformers")
    (example,) = (path for path in EXAMPLES if path.stem == "huggingface_nuclei")
    output = run(example, tmp_path, timeout=1100)
    rim = {}
    for line in output.splitlines():
        name, *numbers = re.split(r"\s{2,}|\s/\s", line.strip())
        if len(numbers) == 8 and name != "Dice / IoU":
            rim[name] = float(numbers[4])
    assert rim["argmax"] < 0.1
    assert rim["Dice, no pruning"] > 0.3
    assert (tmp_path / "rankseg-nuclei.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_lightning_on_real_data(tmp_path: Path) -> None:
    """Fetches the image with pip; takes 20 seconds on two idle cores."""
    pytest.importorskip("lightning")
    (example,) = (path for path in EXAMPLES if path.stem == "lightning_nuclei")
    rows = check_lightning(run(example, tmp_path, timeout=1100), tmp_path / "rankseg-lightning")
    assert rows["4"][1] > rows["4"][0] + 0.02
    assert rows["rim"][1] > rows["rim"][0] + 0.1
    assert len(list((tmp_path / "rankseg-lightning" / "masks").iterdir())) == 8
