"""Zarr: arrays too large for one file, read image by image. Local folders only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rankseg._require import require
from rankseg.files.errors import FileError
from rankseg.files.headers import corrupt_if
from rankseg.files.limits import within

MARKS = ("zarr.json", ".zarray", ".zgroup")


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
            self.array = opened[names[0] if key is None else key]
        self.max_bytes = max_bytes

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

    def _read(self, where: Any) -> Tensor:
        size = self.array.dtype.itemsize * self.array.size
        within(size if where is ... else size // max(self.shape[0], 1), self.max_bytes)
        with corrupt_if("zarr"):
            found = np.asarray(self.array[where])
        if found.dtype.kind not in "fiub" or found.dtype.itemsize > 8:
            raise FileError(f"holds {found.dtype} values; store numbers")
        return torch.from_numpy(found.astype(found.dtype.newbyteorder("="), copy=False))


def _opened(path: Path) -> Any:
    library = require("zarr", "dask")
    with corrupt_if("zarr"):
        return library.open(str(path), mode="r")
