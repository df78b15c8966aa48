"""Files that promise, or unpack to, more than there is memory for: refused before it is taken."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import nibabel
import numpy as np
import pytest
import torch
import zarr
from hardening import damaged_files
from hardening.damaged_files import HEALTHY
from numcodecs import BZ2, LZ4, LZMA, Blosc, Delta, GZip, Shuffle, Zlib, Zstd
from numcodecs.abc import Codec

from rankseg.files.unpacking import announced

MEGA = 1024**2
MOST = 64 * MEGA
"""What a refusal may take: libraries loaded on the way, and parts of files of some megabytes."""


def zipped(path: Path, members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", packing, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def header(shape: tuple[int, ...]) -> bytes:
    form = {"descr": "<f4", "fortran_order": False, "shape": shape}
    return damaged_files.content(lambda file: np.lib.format.write_array_header_1_0(file, form))


def lying_size(path: Path) -> None:
    """A member of some bytes, for which the list says as many gigabytes as the header does."""
    size = 20 * 1024**3
    inside = header((size // 4,))
    zipped(path, {"a.npy": inside + bytes(400)})
    content = bytearray(path.read_bytes())
    at = content.rfind(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 0xFFFF0000)
    path.write_bytes(bytes(content))


def many_members() -> bytes:
    """The end of an archive, of a list of 17 MiB."""
    return b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 17 * MEGA, 0, 0)


def volume(shape: tuple[int, ...], offset: float = 352, extension: bytes = b"\0\0\0\0") -> bytes:
    """NIfTI header and extensions, and no values."""
    found = bytearray(HEALTHY["volume.nii"][:348])
    struct.pack_into("<8h", found, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<f", found, 108, offset)
    return bytes(found) + extension


def packed(path: Path, start: bytes, zeros: int) -> None:
    with gzip.open(path, "wb", 1) as file:
        file.write(start)
        for _ in range(zeros // MEGA):
            file.write(bytes(MEGA))


def picture(width: int, height: int, packed: bytes, more: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    sides = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", sides), more, chunk(b"IDAT", packed), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def text_bomb() -> bytes:
    text = b"zTXta\0\0" + zlib.compress(bytes(100 * MEGA), 1)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return picture(5, 6, zlib.compress(bytes(36)), chunk)


def tiff(tags: dict[int, tuple[int, int, int]]) -> bytes:
    """Little-endian TIFF whose only directory holds tags: type, count and value."""
    usual = {256: (4, 1, 6), 257: (4, 1, 5), 258: (3, 1, 32), 259: (3, 1, 1), 262: (3, 1, 1)}
    usual |= {273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 5), 279: (4, 1, 120), 339: (3, 1, 3)}
    found = sorted((usual | tags).items())
    body = b"".join(struct.pack("<HHII", tag, *rest) for tag, rest in found)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(found)) + body + b"\0" * 4


class Calls:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.all = function, arguments

    def __reduce__(self) -> Any:
        return self.all


def described(path: Path, pickled: bytes) -> None:
    """A torch file with another description of its tensors."""
    with zipfile.ZipFile(io.BytesIO(HEALTHY["dict.pt"])) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for name in parts:
        if name.endswith("data.pkl"):
            parts[name] = pickled
    zipped(path, parts, zipfile.ZIP_STORED)


def endless_key() -> bytes:
    """A dict whose key is a pair of pairs of pairs, sixty deep: 2^60 steps to hash it."""
    pairs = b"".join(bytes([104, at, 104, at, 0x86, 113, at + 1]) for at in range(1, 60))
    return b"\x80\x02}q\x00)q\x01" + pairs + b"K\x01s."


def endless_alias() -> bytes:
    """The same, whose pairs are kept a second time, under another number."""
    pairs = b"".join(
        bytes([104, at, 113, at + 100, 104, at + 100, 104, at + 100, 0x86, 113, at + 1])
        for at in range(1, 60)
    )
    return b"\x80\x02](K\x01\x85q\x01" + pairs + b"e}h\x3cK\x01s."


def listed(names: int) -> bytes:
    """A safetensors file of many arrays without values."""
    one = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    text = b"{" + b",".join(b'"%d":%b' % (at, one) for at in range(names)) + b"}"
    return struct.pack("<Q", len(text)) + text


def tensors(path: Path, **more: Any) -> None:
    text = json.dumps({"p": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | more}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))


def writes(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


def saves(thing: Any) -> Callable[[Path], Any]:
    return lambda path: torch.save({"p": torch.ones(3, 4, 5), "q": thing}, path)


BOMBS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "elements.npy": (writes(header((10**12,)) + bytes(400)), "announces shape"),
    "less than there is.npy": (writes(header((90,)) + bytes(400)), "but 400 bytes follow"),
    "brackets.npy": (
        writes(b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"-" * 9000),
        "not a readable numpy",
    ),
    "elements.npz": (
        lambda path: zipped(path, {"a.npy": header((10**12,)) + bytes(400)}),
        "announces shape",
    ),
    "beyond its header.npz": (
        lambda path: zipped(path, {"a.npy": header((100,)) + bytes(100 * MEGA)}),
        "more than the limit of",
    ),
    "lying size.npz": (lying_size, "more than its part of the file can hold"),
    "bzip2.npz": (
        lambda path: zipped(path, {"a.npy": header((100,)) + bytes(400)}, zipfile.ZIP_BZIP2),
        "packed in a way that numpy and torch never write",
    ),
    "members.npz": (writes(bytes(17 * MEGA) + many_members()), "its list of members takes"),
    "bytearray.pt": (saves(Calls(bytearray, 10**10)), "holds more than tensors"),
    "counter.pt": (saves(Calls(Counter, Calls(bytearray, 10**9))), "holds more than tensors"),
    "made by size.pt": (saves(Calls(torch.Tensor, 10**9)), "holds more than tensors"),
    "endless key.pt": (lambda path: described(path, endless_key()), "holds more than tensors"),
    "endless alias.pt": (lambda path: described(path, endless_alias()), "holds more than"),
    "header.safetensors": (writes(struct.pack("<Q", 10**11) + b"{}"), "a header of 100,000,000"),
    "names.safetensors": (writes(listed(3 * 10**5)), "a header of"),
    "outside.safetensors": (
        lambda path: tensors(path, data_offsets=[0, 10**12], shape=[25 * 10**10]),
        "not a readable safetensors",
    ),
    "overlap.safetensors": (
        lambda path: tensors(path, data_offsets=[2, 4]),
        "not a readable safetensors",
    ),
    "shape.nii": (writes(volume((32767, 32767, 32767))), "the file is too small"),
    "ten gigabytes.nii.gz": (
        lambda path: packed(path, volume((1290, 1290, 1600)), 100 * MEGA),
        "the file is too small",
    ),
    "late values.nii.gz": (
        lambda path: packed(path, volume((6, 5, 1), 2.0**31, b"\1\0\0\0"), 100 * MEGA),
        "its values begin 2.14748e+09 bytes into the file",
    ),
    "endless extension.nii.gz": (
        lambda path: packed(
            path, volume((6, 5, 1), 2.0**23, b"\1\0\0\0" + struct.pack("<ii", 0, 6)), 100 * MEGA
        ),
        "not a readable NIfTI",
    ),
    "giga.png": (writes(picture(10**5, 10**4, b"")), "too large"),
    "empty rows.png": (writes(picture(13000, 13000, zlib.compress(b"0"))), "the file is too small"),
    "text.png": (writes(text_bomb()), "not a readable PNG"),
    "sides.tif": (
        writes(tiff({256: (4, 1, 2**31 - 1), 257: (4, 1, 2**31 - 1), 278: (4, 1, 2**31 - 1)})),
        "",
    ),
    "strips.tif": (writes(tiff({257: (4, 1, 2**31 - 1), 278: (4, 1, 1)})), ""),
    "strip count.tif": (writes(tiff({273: (4, 2**31, 8), 279: (4, 2**31, 8)})), ""),
    "bands.tif": (writes(tiff({277: (3, 1, 65535)})), "has 65,535 bands, more than 4,096"),
    "long.json": (lambda path: path.write_bytes(b"[" + b"1," * (9 * MEGA) + b"1]"), "more than"),
    "deep.json": (writes(b"[" * 10**5), "is no"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_words(tmp_path: Path, name: str) -> None:
    make, reason = BOMBS[name]
    path = tmp_path / ("rule.json" if name.endswith(".json") else name)
    make(path)
    with pytest.raises(damaged_files.OURS) as caught:
        damaged_files.read(path)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 1000


# Reads each file in turn; prints how much the peak of memory has grown, and what came of it.
SCRIPT = """
import re, sys, warnings
from pathlib import Path
from hardening import damaged_files

warnings.simplefilter("error")
damaged_files.LIMIT = int(sys.argv[1])
for healthy in ("volume.nii", "strips.tif", "labels.png", "tensor.pt"):  # what they load is no bomb
    path = Path(sys.argv[2], "healthy", healthy)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(damaged_files.HEALTHY[healthy])
    damaged_files.read(path)
status = Path("/proc/self/status")
peak = lambda: 1024 * int(re.search("VmHWM:\\s*(\\d+)", status.read_text())[1])
for name in sys.argv[3:]:
    read = damaged_files.read_zarr if name.endswith("zarr") else damaged_files.read
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = peak()
    try:
        found = read(Path(name))
    except damaged_files.OURS:
        found = None
    print(peak() - before, "" if found is None else tuple(getattr(found, "shape", ())), sep="\\t")
"""


def peaks(
    folder: Path, paths: list[Path], limit: int = damaged_files.LIMIT
) -> list[tuple[int, str]]:
    """How much more memory each of the files took, and the shape of those that were read."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(limit), str(folder), *map(str, paths)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return [(int(grown), shape) for grown, shape in lines]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="tells no peak of memory")
def test_no_bomb_takes_memory(tmp_path: Path) -> None:
    paths = []
    for name, (make, _) in BOMBS.items():
        paths.append(tmp_path / name)
        if name.endswith(".json"):
            paths[-1] = tmp_path / name.removesuffix(".json") / "rule.json"
            paths[-1].parent.mkdir()
        make(paths[-1])
    grown = dict(zip(BOMBS, peaks(tmp_path, paths), strict=True))
    assert {name: one for name, one in grown.items() if one[0] > MOST or one[1]} == {}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="tells no peak of memory")
def test_honest_files_that_pack_well_are_read(tmp_path: Path) -> None:
    """Zeros at deflate's best ratio, as background often is; in one copy, not two."""
    size = 128 * MEGA
    shape = (1024, 1024, size // MEGA // 4)
    zeros, small = tmp_path / "zeros.nii.gz", tmp_path / "zeros.npz"
    with gzip.open(zeros, "wb", 9) as file:
        file.write(volume(shape))
        for _ in range(size // MEGA):
            file.write(bytes(MEGA))
    np.savez_compressed(small, a=np.zeros(shape, np.float32))
    assert max(zeros.stat().st_size, small.stat().st_size) < size / 900
    (one, first), (_, second) = peaks(tmp_path, [zeros, small], limit=10 * size)
    assert first == second == str(shape)
    assert size < one < 1.3 * size


# --- zarr ------------------------------------------------------------------------------------


def store(folder: Path, version: int) -> Path:
    path = folder / f"z{version}.zarr"
    array = zarr.create_array(
        str(path), shape=(2, 3, 6, 5), chunks=(1, 3, 6, 5), dtype="f4", zarr_format=version
    )
    array[...] = np.stack([damaged_files.ARRAY] * 2)
    return path


def described_otherwise(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    (file,) = (path / name for name in (".zarray", "zarr.json") if (path / name).exists())
    table = json.loads(file.read_text())
    change(table)
    file.write_text(json.dumps(table))


def chunk_of(length: int) -> Callable[[dict[str, Any]], Any]:
    def change(table: dict[str, Any]) -> None:
        sides = [length, 3, 6, 5]
        if "chunks" in table:
            table["chunks"] = sides
        else:
            table["chunk_grid"]["configuration"]["chunk_shape"] = sides

    return change


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (chunk_of(2**40), "more than the limit of"),
        (lambda table: table.update(shape=[2**62, 2**62, 6, 5]), "zarr"),
        (lambda table: table.update(shape=[-1, 3, 6, 5]), "not a readable zarr"),
        (lambda table: table.update(shape=[2, 2**40, 6, 5]), "more than the limit of"),
        (lambda table: table.update(shape=None), "not a readable zarr"),
        (lambda table: table.update(zarr_format=10**30), "not a readable zarr"),
    ],
)
def test_zarr_that_describes_itself_absurdly(
    tmp_path: Path, version: int, change: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    path = store(tmp_path, version)
    np.testing.assert_array_equal(damaged_files.read_zarr(path), damaged_files.ARRAY)
    described_otherwise(path, change)
    with pytest.raises(damaged_files.OURS, match=reason):
        damaged_files.read_zarr(path)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("text", [b"[" * 10**5, b'{"a":' * 10**5, b"", b"\xff\xfe{}", b"[]"])
def test_zarr_without_a_description(tmp_path: Path, version: int, text: bytes) -> None:
    path = store(tmp_path, version)
    (file,) = (path / name for name in (".zarray", "zarr.json") if (path / name).exists())
    file.write_bytes(text)
    with pytest.raises(damaged_files.OURS):
        damaged_files.read_zarr(path)


@pytest.mark.parametrize("version", [2, 3])
def test_parts_of_a_zarr_that_never_end(tmp_path: Path, version: int) -> None:
    path = store(tmp_path, version)
    chunk = path / ("0.0.0.0" if version == 2 else "c/0/0/0/0")
    chunk.unlink()
    for make in (os.mkfifo, lambda one: one.symlink_to("/dev/zero")):
        make(chunk)
        with pytest.raises(damaged_files.OURS, match="in it is not a regular file: a pipe or dev"):
            damaged_files.read_zarr(path)
        chunk.unlink()
    with chunk.open("wb") as file:
        file.truncate(10**12)  # of a disk that has no such room: a hole
    with pytest.raises(damaged_files.OURS, match="takes 1,000,000,000,000 bytes, more than"):
        damaged_files.read_zarr(path)
    chunk.unlink()
    assert not damaged_files.read_zarr(path).any(), "a chunk that is missing is zeros, in zarr"
    attributes = path / ".zattrs"
    attributes.unlink(missing_ok=True)
    os.mkfifo(attributes)
    with pytest.raises(damaged_files.OURS, match="in it is not a regular file: a pipe or dev"):
        damaged_files.read_zarr(path)


@pytest.mark.parametrize("version", [2, 3])
def test_damage_to_a_zarr(tmp_path: Path, version: int) -> None:
    path = store(tmp_path, version)
    for file in [one for one in path.rglob("*") if one.is_file()]:
        healthy = file.read_bytes()
        for content in damaged_files.damages(healthy, 0, 25):
            file.write_bytes(content)
            with contextlib.suppress(*damaged_files.OURS):
                assert damaged_files.read_zarr(path).dtype.kind in "fiub"
        file.write_bytes(healthy)


def stated(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "configuration": more}


def endless_frame(size: int) -> bytes:
    """A Zstandard frame that announces no size: blocks of one byte that is repeated."""
    block = lambda last: (BLOCK << 3 | 1 << 1 | last).to_bytes(3, "little") + b"\0"  # noqa: E731
    return b"\x28\xb5\x2f\xfd\0\x58" + block(0) * (size // BLOCK - 1) + block(1)


def lying_frame(size: int) -> bytes:
    """One that announces a byte, after an honest one without a size."""
    return endless_frame(BLOCK) + b"\x28\xb5\x2f\xfd\x20\x01" + endless_frame(size)[6:]


def sharded(packed: bytes) -> bytes:
    """A shard of one chunk."""
    index = struct.pack("<QQ", 0, len(packed))
    return packed + index + struct.pack("<I", google_crc32c.value(index))


BLOCK = 128 * 1024
BYTES = stated("bytes", endian="little")
NUMCODECS = ("bz2", "lzma", "zlib", "lz4", "zstd")
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "bz2": bz2.compress,
    "lzma": lambda zeros: lzma.compress(zeros, preset=0),
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "zstd": Zstd().encode,
    "lz4": LZ4().encode,
    "blosc": Blosc("zstd").encode,
    "zstd without a size": lambda zeros: endless_frame(len(zeros)),
    "zstd with a lie": lambda zeros: lying_frame(len(zeros)),
}
"""A chunk that should hold 360 bytes, by the codec that its name begins with."""


def bomb(folder: Path, name: str, version: int, packed: bytes) -> Path:
    """A zarr whose first chunk it is; of version 4 one of the third format, in a shard."""
    path, codec = store(folder, min(version, 3)), name.split()[0]
    if version == 2:
        described_otherwise(path, lambda table: table.update(compressor={"id": codec}))
        (path / "0.0.0.0").write_bytes(packed)
        return path
    long = f"numcodecs.{codec}" if codec in NUMCODECS and name != "zstd" else codec
    codecs = [BYTES, stated(long)]
    if version == 4:
        crc = stated("crc32c")
        inside = {"chunk_shape": [1, 3, 6, 5], "codecs": codecs, "index_codecs": [BYTES, crc]}
        codecs, packed = [stated("sharding_indexed", **inside)], sharded(packed)
    described_otherwise(path, lambda table: table.update(codecs=codecs))
    (path / "c/0/0/0/0").write_bytes(packed)
    return path


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="tells no peak of memory")
def test_no_chunk_takes_memory(tmp_path: Path) -> None:
    paths = []
    for name, pack in PACKERS.items():
        packed = pack(bytes(100 * MEGA))
        for version in (2, 3, 4):
            folder = tmp_path / f"{name} {version}"
            folder.mkdir()
            paths.append(bomb(folder, name, version, packed))
    grown = dict(zip(paths, peaks(tmp_path, paths), strict=True))
    assert {path.parent.name: one for path, one in grown.items() if one[0] > MOST or one[1]} == {}


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("name", [name for name in PACKERS if " " not in name])
def test_chunks_of_more_than_a_chunk_are_named(tmp_path: Path, name: str, version: int) -> None:
    pack = PACKERS[name]
    path = bomb(tmp_path, name, version, pack(damaged_files.ARRAY.tobytes()))
    np.testing.assert_array_equal(damaged_files.read_zarr(path), damaged_files.ARRAY)
    path = bomb(tmp_path / "more", name, version, pack(bytes(MEGA)))
    with pytest.raises(damaged_files.OURS, match="a chunk holds more than"):
        damaged_files.read_zarr(path)


@pytest.mark.parametrize("packers", ["auto", None])
def test_shards_are_larger_than_their_chunks(tmp_path: Path, packers: str | None) -> None:
    values = np.random.default_rng(0).random((2, 4, 200, 200))
    path, sides = tmp_path / "x.zarr", {"chunks": (1, 1, 20, 20), "shards": (1, 4, 200, 200)}
    array = zarr.create_array(
        str(path), shape=values.shape, dtype="f8", compressors=packers, **sides
    )
    array[...] = values
    np.testing.assert_array_equal(damaged_files.read_zarr(path), values[0])
    os.truncate(path / "c/1/0/0/0", 10**10)
    with pytest.raises(damaged_files.OURS, match="takes 10,000,000,000 bytes, more than"):
        damaged_files.read_zarr(path)


@pytest.mark.parametrize("codec", [GZip(), Zlib(), BZ2(), LZMA(), LZ4(), Zstd(), Blosc()])
def test_packed_zarr_is_read_as_written(tmp_path: Path, codec: Codec) -> None:
    """Bytes of chunks on the way are ours, where zarr's own would take what a file says."""
    values = np.random.default_rng(0).random((2, 3, 40, 50))
    usual: dict[str, Any] = {"shape": values.shape, "chunks": (1, 3, 20, 25), "dtype": "f8"}
    for filters in ([], [Shuffle(8)], [Delta("<f8")]):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr"
        usual |= {"filters": filters, "compressors": codec, "zarr_format": 2}
        array = zarr.create_array(str(path), **usual)
        array[...] = values
        np.testing.assert_allclose(damaged_files.read_zarr(path), values[0], rtol=1e-12)


def test_types_of_filters_that_make_a_byte_a_million(tmp_path: Path) -> None:
    path = store(tmp_path, 2)
    wide = {"id": "astype", "encode_dtype": "|u1", "decode_dtype": "|S1000000"}
    described_otherwise(path, lambda table: table.update(filters=[wide]))
    with pytest.raises(damaged_files.OURS, match="store numbers"):
        damaged_files.read_zarr(path)


@pytest.mark.parametrize("length", [0, 3, 4, 5, 6, 7, 8, 12])
def test_zstandard_that_is_cut_off(length: int) -> None:
    whole = lying_frame(2 * BLOCK)
    assert announced("zstd", whole) == 3 * BLOCK
    assert announced("zstd", Zstd().encode(bytes(300))) == 300
    assert announced("zstd", b"\x50\x2a\x4d\x18\x02\0\0\0ab" + whole) == 3 * BLOCK
    if length:
        with pytest.raises((EOFError, ValueError)):
            announced("zstd", whole[:length])


def test_nifti_of_the_healthy_files_is_one() -> None:
    """Offsets above are those of the format."""
    assert nibabel.Nifti1Header(volume((6, 5, 1))[:348]).get_data_shape() == (6, 5, 1)
