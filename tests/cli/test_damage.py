"""Damaged and lying files: refused in words, and before they take memory."""

from __future__ import annotations

import random
import re
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hardening.damaged_files import ARRAY, HEALTHY, TENSOR, content

from rankseg.files import FileError, default_max_bytes, read_array

FILES = {
    name: healthy
    for name, healthy in HEALTHY.items()
    if name.endswith((".npy", ".npz", ".pt", ".safetensors"))
}


def damage(healthy: bytes, seed: int) -> bytes:
    """Cut the end off, or change some bytes anywhere, or near either end."""
    chance = random.Random(seed)
    if seed % 5 == 0:
        return healthy[: chance.randrange(len(healthy))]
    damaged = bytearray(healthy)
    reach = (len(healthy), 300, -300)[seed % 3]
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(abs(reach))
        damaged[place if reach > 0 else -place] = chance.randrange(256)
    return bytes(damaged)


@pytest.mark.parametrize("name", FILES)
def test_damage_is_a_file_error_or_unseen(tmp_path: Path, name: str) -> None:
    refused = 0
    for seed in range(250):
        path = tmp_path / f"{seed}-{name}"
        path.write_bytes(damage(FILES[name], seed))
        try:
            assert read_array(path, max_bytes=10**7).is_floating_point()
        except FileError:
            refused += 1
    assert refused > 80


@pytest.mark.parametrize("name", FILES)
def test_healthy_files_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    assert torch.equal(read_array(tmp_path / name), TENSOR)


def announcing(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """A ``.npy`` of 100 values that claims another shape."""
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    return content(
        lambda file: (
            np.lib.format.write_array_header_1_0(file, header),
            file.write(bytes(400)),
        )
    )


NO_ARRAY = [(3, 0, 10**30), (10**10, 10**10, 0), (0, 10**20, 10**20), (10**4000, 10**4000)]


@pytest.mark.parametrize("shape", [(10**6, 10**6, 3), (10**30,), (-5, -20), (101,), *NO_ARRAY])
@pytest.mark.parametrize("packing", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_announced_size_is_not_believed(tmp_path: Path, shape, packing) -> None:
    path = tmp_path / ("x.npy" if packing is None else "x.npz")
    if packing is None:
        path.write_bytes(announcing(shape))
    else:
        with zipfile.ZipFile(path, "w", packing) as archive:
            archive.writestr("a.npy", announcing(shape))
    tracemalloc.start()
    with pytest.raises(FileError, match="truncated or corrupt: announces shape"):
        read_array(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
    ("dtype", "shape", "name"),
    [("|V0", (10**30,), "|V0"), ("<U0", (10**10, 10**10), "<U0"), ("<f16", (2, 3), "float128")],
)
def test_type_without_tensor_is_refused_before_it_is_mapped(
    tmp_path: Path, suffix, dtype, shape, name
) -> None:
    path, content = tmp_path / f"x.{suffix}", announcing(shape, dtype)
    path.write_bytes(content)
    if suffix == "npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", content)
    with pytest.raises(FileError, match=rf"^holds {re.escape(name)} values; store float16"):
        read_array(path)


def test_map_that_numpy_refuses_is_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(announcing((100, *(1,) * 70)))  # more axes than numpy has
    with pytest.raises(FileError, match="not a readable numpy file: truncated or corrupt"):
        read_array(tmp_path / "x.npy")


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_long_header_is_refused_unread(tmp_path: Path, suffix) -> None:
    path, length = tmp_path / f"x.{suffix}", 30_000_000
    header = b"\x93NUMPY\x02\x00" + length.to_bytes(4, "little") + b" " * length
    path.write_bytes(header)
    if suffix == "npz":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.npy", header)
    tracemalloc.start()
    with pytest.raises(FileError, match="a header of 30,000,000 bytes, more than 10,000"):
        read_array(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_header_version_is_read(tmp_path: Path, version) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, ARRAY, version)
    assert torch.equal(read_array(tmp_path / "x.npy"), TENSOR)


def test_limit_comes_before_the_header(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", b"no header" * 200)
    with pytest.raises(FileError, match="takes 1,800 bytes, more than the limit of 1,000"):
        read_array(tmp_path / "x.npz", max_bytes=1000)


def test_packed_array_over_the_limit_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, a=np.zeros((3, 2000, 1000), np.float32))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    with pytest.raises(FileError, match=r"takes 24,000,128 bytes, more than the limit of 9,999"):
        read_array(path, max_bytes=9_999)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6
    assert read_array(path, max_bytes=24_000_128).shape == (3, 2000, 1000)


def test_limit_reaches_the_reader(run, tmp_path: Path, out: Path) -> None:
    np.savez(tmp_path / "x.npz", a=ARRAY)
    code, text = run("predict", tmp_path / "x.npz", "--output", out, "--max-bytes", 400)
    assert code == 1
    assert "more than the limit of 400; raise it with --max-bytes if you trust the file" in text


def test_a_mapped_file_takes_no_memory_until_used(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((30, 1000, 1000), np.float32))
    tracemalloc.start()
    array = read_array(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert array.shape == (30, 1000, 1000)
    assert peak < 10**6
    array[0] = 1
    assert not np.load(path, mmap_mode="r")[0].any(), "the file itself must not change"


def test_default_limit_is_at_most_32_gib() -> None:
    assert 2**27 < default_max_bytes() <= 2**35
