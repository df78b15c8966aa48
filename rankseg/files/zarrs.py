"""Zarr: arrays too large for one file, read image by image. Local folders only."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rankseg._require import require
from rankseg.files.errors import FileError
from rankseg.files.headers import corrupt_if
from rankseg.files.limits import LONGEST_DESCRIPTION, within
from rankseg.files.unpacking import BLOCK
from rankseg.files.zarr_codecs import bounded
from rankseg.strict_json import why_not_read

MARKS = ("zarr.json", ".zarray", ".zgroup")
DESCRIPTIONS = (*MARKS, ".zattrs", ".zmetadata")
CODECS = {
    *("adler32", "astype", "bitround", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta"),
    *("endian", "fixedscaleoffset", "fletcher32", "gzip", "lz4", "lzma", "packbits", "quantize"),
    *("sharding_indexed", "shuffle", "transpose", "zlib", "zstd"),
}
"""Those of numbers. Of the others, pickle runs what a chunk holds, and zfpy takes what it says."""
TYPES = ("dtype", "astype", "encode_dtype", "decode_dtype")


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return any((path / mark).is_file() for mark in MARKS)


def zarr_members(path: Path) -> list[str]:
    """Names of the arrays directly in a group; none of an array.

    Raises
    ------
    FileError
        If it cannot be read, or is a group without arrays.
    """
    opened = _opened(path)
    if hasattr(opened, "shape"):
        return []
    with corrupt_if("zarr"):
        names = sorted(name for name, _ in opened.arrays())
    if not names:
        raise FileError("a zarr group without arrays directly in it")
    return names


class ZarrArray:
    """One array; nothing of it is read before it is asked for.

    Parameters
    ----------
    path : Path
    key : str, optional
        Which array of a group.
    max_bytes : int
        The most that is unpacked at once.

    Raises
    ------
    FileError
        If there is no such array.
    """

    def __init__(self, path: Path, key: str | None, max_bytes: int) -> None:
        opened = _opened(path)
        if hasattr(opened, "shape"):
            if key is not None:
                raise FileError(f"a zarr array has no keys: leave out the key {key}")
            self.array = opened
        else:
            names = zarr_members(path)
            if key is None and len(names) > 1:
                raise FileError(f"holds several arrays; keys: {', '.join(names)}")
            if key is not None and key not in names:
                raise FileError(f"has no key {key!r}; keys: {', '.join(names)}")
            name = names[0] if key is None else key
            self.array, path = opened[name], path / name
        self.max_bytes = max_bytes
        _check_type(self.array.dtype)
        with corrupt_if("zarr"):
            _check_codecs(self.array)
        self._check_chunks(path)
        self.array = bounded(self.array, _most(self.array, self.array.chunks))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""
        return tuple(self.array.shape)

    def whole(self) -> Tensor:
        """All of it."""
        return self._read(...)

    def image(self, index: int) -> Tensor:
        """One entry along the first axis."""
        return self._read(index)

    def _check_chunks(self, path: Path) -> None:
        """Refuse chunks too large to unpack, and files that hold more than a chunk or never end."""
        sides = getattr(self.array, "shards", None) or self.array.chunks  # those of a file
        within(math.prod(sides) * self.array.dtype.itemsize, self.max_bytes)
        most = _most(self.array, sides)
        for folder, _, names in os.walk(path):
            for name in names:
                described = name in DESCRIPTIONS
                _check_file(Path(folder, name), LONGEST_DESCRIPTION if described else most)

    def _read(self, where: Any) -> Tensor:
        size = self.array.dtype.itemsize * self.array.size
        within(size if where is ... else size // max(self.shape[0], 1), self.max_bytes)
        with corrupt_if("zarr"):
            found = np.asarray(self.array[where])
        _check_type(found.dtype)
        return torch.from_numpy(found.astype(found.dtype.newbyteorder("="), copy=False))


def _most(array: Any, sides: tuple[int, ...]) -> int:
    """Bytes that part of an array may take, packed or as its filters have it.

    Filters may widen numbers; those that pack add some bytes, and a shard says where each chunk is.
    """
    pieces = math.prod(sides) // max(math.prod(array.chunks), 1)
    return int(2 * math.prod(sides) * array.dtype.itemsize + 64 * pieces + 2 * BLOCK)


def _check_type(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise FileError(f"holds {dtype} values; store numbers")


def _check_codecs(array: Any) -> None:
    """Refuse codecs that may do more than to unpack numbers."""
    if hasattr(array, "metadata"):  # zarr 3
        described = array.metadata.to_dict()
    else:
        configs = [
            codec.get_config() for codec in (*(array.filters or ()), array.compressor) if codec
        ]
        described = {"filters": configs}
    parts = [described.get(name) for name in ("filters", "compressor", "codecs")]
    others = sorted({name for name in _names(parts)} - CODECS)
    if others:
        raise FileError(f"is packed by {', '.join(map(repr, others))[:200]}, which is not read")


def _names(codecs: Any) -> Iterator[str]:
    """Names of codecs, and of those inside them; refuses types that are no numbers."""
    if isinstance(codecs, dict):
        for key in TYPES:
            _check_type(np.dtype(codecs.get(key, "u1")))
        name = codecs.get("id", codecs.get("name"))
        if name is not None:
            yield str(name).removeprefix("numcodecs.")
        codecs = list(codecs.values())
    if isinstance(codecs, (list, tuple)):
        for codec in codecs:
            yield from _names(codec)


def _check_file(path: Path, most: int) -> None:
    found = path.stat()
    if why := why_not_read(found.st_mode):
        raise FileError(f"{path.name} in it is {why}")
    if found.st_size > most:
        raise FileError(f"{path.name} in it takes {found.st_size:,} bytes, more than {most:,}")


def _opened(path: Path) -> Any:
    library = require("zarr", "dask")
    for folder in (path, *(child for child in path.iterdir() if child.is_dir())):
        for name in DESCRIPTIONS:
            if os.path.lexists(folder / name):
                _check_file(folder / name, LONGEST_DESCRIPTION)
    with corrupt_if("zarr"):
        return library.open(str(path.absolute()), mode="r")
