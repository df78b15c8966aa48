"""Small healthy files of every format that is read, and ways to damage them."""

from __future__ import annotations

import io
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import rasterio
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from rankseg import Calibrator, DecisionRule, RankSEG
from rankseg.bench import check
from rankseg.evaluation import TunedRankSEG, tune
from rankseg.files import FileError, read_array, read_labels, read_nifti
from rankseg.files.raster import Raster
from rankseg.files.zarrs import ZarrArray

ROOT = Path(__file__).parents[2]
LIMIT = 10**7
OURS = (FileError, ValueError, OSError)
"""What readers raise, and nothing else."""
LABELS = np.arange(30, dtype=np.uint8).reshape(6, 5) % 3


def probabilities(seed: int = 0) -> np.ndarray:
    """Softmax of three classes, float32 (3, 6, 5)."""
    logits = 2 * np.random.default_rng(seed).normal(size=(3, 6, 5))
    return (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)


ARRAY = probabilities()
TENSOR = torch.from_numpy(ARRAY)


def made(write: Callable[[Path], Any], suffix: str) -> bytes:
    """What is written to a file of a suffix."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"x{suffix}")
        write(path)
        return path.read_bytes()


def content(write: Callable[[Any], Any]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _volume(path: Path) -> None:
    image = nibabel.Nifti1Image(ARRAY.transpose(2, 1, 0)[:, :, None], np.diag([1.0, 2, 3, 1]))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"of a test"))
    nibabel.save(image, path)


def _raster(path: Path, **more: Any) -> None:
    profile = {"driver": "GTiff", "count": 3, "height": 6, "width": 5, "dtype": "float32", **more}
    place = rasterio.Affine(10, 0, 4e5, 0, -10, 5e6)
    with rasterio.open(path, "w", crs="EPSG:32632", transform=place, **profile) as dataset:
        dataset.write(ARRAY)


def _tuned(path: Path) -> None:
    pairs = [
        (torch.from_numpy(probabilities(seed))[None], torch.from_numpy(LABELS)[None])
        for seed in range(4)
    ]
    tune(pairs, solvers=["RMA"], couplings=[], calibrations=["temperature"], folds=2).save(path)


BENCH = {
    "format": 1,
    "times": [
        {"shape": "1x2x8", "threads": 1, "name": "dice", "ratios": {"argmax": {"median": 1.5}}}
    ],
}
ISOTONIC = Calibrator("isotonic", points=(((0.1, 0.0), (0.9, 1.0)),) * 3)
HEALTHY: dict[str, bytes] = {
    "plain.npy": content(lambda file: np.save(file, ARRAY)),
    "stored.npz": content(lambda file: np.savez(file, p=ARRAY)),
    "packed.npz": content(lambda file: np.savez_compressed(file, p=ARRAY)),
    "tensor.pt": content(lambda file: torch.save(TENSOR, file)),
    "dict.pt": content(lambda file: torch.save({"p": TENSOR}, file)),
    "plain.safetensors": save({"p": TENSOR}),
    "volume.nii": made(_volume, ".nii"),
    "volume.nii.gz": made(_volume, ".nii.gz"),
    "strips.tif": made(_raster, ".tif"),
    "tiles.tif": made(
        lambda path: _raster(
            path, tiled=True, blockxsize=16, blockysize=16, compress="deflate", interleave="band"
        ),
        ".tif",
    ),
    "labels.png": made(lambda path: Image.fromarray(LABELS).save(path), ".png"),
    "rule.json": made(lambda path: RankSEG().decide([TENSOR[None]]).save(path), ".json"),
    "calibrator.json": made(Calibrator("softmax", (0.5,) * 3, (0.0, -0.3, 0.4)).save, ".json"),
    "isotonic.json": made(ISOTONIC.save, ".json"),
    "tuned.json": made(_tuned, ".json"),
    "bench.json": json.dumps(BENCH).encode(),
}
CHECKED = ("stored.npz", "packed.npz", "volume.nii.gz")
"""A checksum covers all values: they are right or refused."""


def _read_raster(path: Path) -> Any:
    with Raster(path, LIMIT) as raster:
        values = [raster.read(window) for window in raster.windows[:4]]
        return values[0][0]


READERS: dict[str, Callable[[Path], Any]] = {
    ".nii": lambda path: read_nifti(path, LIMIT).values,
    ".gz": lambda path: read_nifti(path, LIMIT).values,
    ".tif": _read_raster,
    ".png": lambda path: read_labels(path, max_bytes=LIMIT),
    "rule": lambda path: DecisionRule.load(path).apply(TENSOR[None]),
    "calibrator": lambda path: Calibrator.load(path)(TENSOR[None]),
    "isotonic": lambda path: Calibrator.load(path)(TENSOR[None]),
    "tuned": lambda path: TunedRankSEG.load(path).verdict,
    "bench": check.load,
}


def read(path: Path) -> Any:
    """What the project's own reader makes of a file."""
    reader = READERS.get(path.stem if path.suffix == ".json" else path.suffix)
    return read_array(path, max_bytes=LIMIT) if reader is None else reader(path)


def read_zarr(path: Path) -> np.ndarray:
    """First image of a zarr array."""
    return ZarrArray(path, None, LIMIT).image(0).numpy()


ABSURD = (b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + b"\0" * 7, b"\0" * 6 + b"\x10\0")


def boundaries(healthy: bytes) -> list[int]:
    """Where a part of a file may begin: signatures, changes from zeros to others, round numbers."""
    found = {at for at in range(1, len(healthy)) if (healthy[at - 1] == 0) != (healthy[at] == 0)}
    found |= {at for mark in (b"PK", b"\x93N", b"IDAT", b"IEND", b"n+1", b"{", b"}", b'"')
              for at in range(len(healthy)) if healthy.startswith(mark, at)}  # fmt: skip
    return sorted(found | {0, 8, 348, 352, len(healthy) - 1, len(healthy) - 8})


def damages(healthy: bytes, seed: int, most: int) -> Iterator[bytes]:
    """Every kind of damage at places chosen anew for every seed; not more than ``most`` a kind."""
    chance = random.Random(seed)
    places = [at for at in boundaries(healthy) if 0 <= at < len(healthy)]

    def some(of: list[int]) -> list[int]:
        return of if len(of) <= most else chance.sample(of, most)

    for at in some(list(range(len(healthy)))):
        yield healthy[:at] + bytes([healthy[at] ^ 1 << chance.randrange(8)]) + healthy[at + 1 :]
    for at in some(places):
        yield healthy[:at]
    for at in some(places):
        number = chance.choice(ABSURD)[: chance.choice((1, 2, 4, 8))]
        yield healthy[:at] + number + healthy[at + len(number) :]
    for at in some(places):
        end = chance.choice(places)
        first, last = min(at, end), max(at, end)
        yield healthy[:last] + healthy[first:]  # a part twice
        yield healthy[:first] + healthy[last:]  # a part lost
        yield healthy[last:] + healthy[first:last] + healthy[:first]  # parts in another order


@st.composite
def damaged(draw: st.DrawFn, healthy: bytes) -> bytes:
    """Several damages at once, anywhere."""
    found = bytearray(healthy)
    for _ in range(draw(st.integers(1, 4))):
        if not found:
            break
        at = draw(st.integers(0, len(found) - 1))
        kind = draw(st.sampled_from(["flip", "set", "cut", "insert", "repeat"]))
        if kind == "flip":
            found[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set":
            number = draw(st.binary(min_size=1, max_size=8))
            found[at : at + len(number)] = number
        elif kind == "cut":
            del found[at : at + draw(st.integers(1, len(found)))]
        elif kind == "insert":
            found[at:at] = draw(st.binary(min_size=1, max_size=20))
        else:
            found[at:at] = found[at : at + draw(st.integers(1, 200))]
    return bytes(found)


def nnunet(folder: Path) -> Path:
    """A folder as nnU-Net leaves it: one case, its segmentation, and what the channels are."""
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "a.npz", probabilities=ARRAY[:, None])
    nibabel.save(nibabel.Nifti1Image(LABELS.T[:, :, None], np.eye(4)), folder / "a.nii.gz")
    labels = {"background": 0, "organ": 1, "lesion": 2}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
    (folder / "plans.json").write_text(json.dumps({"image_reader_writer": "SimpleITKIO"}))
    return folder
