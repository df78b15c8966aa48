"""Read one array of probabilities or logits. Nothing is unpickled, no header is believed."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rankseg._require import require
from rankseg.files.errors import FileError
from rankseg.files.headers import corrupt_if, read_header
from rankseg.files.limits import (
    default_max_bytes,
    refuse_name_without_text,
    refuse_other_than_files,
    within,
)
from rankseg.files.nifti import NIFTI_SUFFIXES
from rankseg.files.raster import RASTER_SUFFIXES
from rankseg.files.scaling import like_labels, unscaled
from rankseg.files.torch_file import read_torch
from rankseg.files.zips import open_zip

LONGEST_LIST = 10 * 1024**2
"""Bytes of the list of arrays in a ``.safetensors`` file, some 100,000 of them."""
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
FEW, SAMPLE = 8, 40
"""So few different integers are labels or a mask; looked for at so many places along each axis."""
SHOWN = 20
"""Keys that a message names."""
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_array(
    path: Path,
    key: str | None = None,
    max_bytes: int | None = None,
    scale: float | None = None,
) -> Tensor:
    """Floating-point tensor stored in a file, on the CPU.

    ``.npy`` and ``.pt`` are mapped, so that only the parts in use take memory; changing the
    tensor does not change the file.

    What a file announces is compared with what it can hold before memory is taken: exactly, where
    values lie as they are, and at deflate's best ratio, 1032 to 1, where they are packed. What may
    be true is then unpacked up to ``max_bytes``.

    Parameters
    ----------
    path : Path
        Ends in one of ``ARRAY_SUFFIXES``.
    key : str, optional
        Which array, for ``.npz``, ``.safetensors`` and dicts in ``.pt``; not needed where there
        is only one.
    max_bytes : int, optional
        Largest array that is unpacked into memory; default ``default_max_bytes()``.
    scale : float, optional
        What the stored numbers, integers or not, are divided by.

    Returns
    -------
    Tensor
        float16, bfloat16, float32 or float64, in the shape stored.

    Raises
    ------
    FileError
        If the file is corrupt, truncated, too large, no file but a pipe or device, holds
        something else, or the key is wrong.
    OSError
        If it is missing or cannot be read.
    """
    limit = default_max_bytes() if max_bytes is None else max_bytes
    return as_values(read_stored(path, key, limit), scale, limit)


def read_stored(path: Path, key: str | None, max_bytes: int) -> Tensor:
    """Tensor stored in a file, of whatever type; errors as those of ``read_array``."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        path.stat()  # a name mistyped is missing, whatever it ends in
        known = ", ".join((*_READERS, *NIFTI_SUFFIXES, *RASTER_SUFFIXES))
        picture = f"a {path.suffix} file is a picture and holds no probabilities of classes"
        unknown = f"unknown suffix {path.suffix!r}"
        kind = picture if path.suffix.lower() in PICTURES else unknown
        raise FileError(f"{kind}; known: {known}")
    refuse_other_than_files(path)
    return reader(path, key, max_bytes)


def as_values(array: Tensor, scale: float | None, max_bytes: int) -> Tensor:
    """Floats that are stored, or what is stored divided by the scale."""
    return _floating(array) if scale is None else _scaled(array, scale, max_bytes)


def _floating(array: Tensor) -> Tensor:
    name = str(array.dtype).removeprefix("torch.")
    if array.dtype not in _FLOATS and array.is_floating_point():
        raise FileError(f"holds {name} values; store float16, float32 or float64")
    if array.dtype not in _FLOATS:
        few = _few_values(array)
        raise FileError(like_labels(name, few) if few else unscaled(name))
    return array.detach()


def _few_values(array: Tensor) -> list[int]:
    """All the integers there are, if they are few; empty if more or none. A sample tells."""
    if array.is_complex():
        return []
    sample = array[tuple(slice(None, None, -(-length // SAMPLE) or 1) for length in array.shape)]
    found = np.unique(sample.numpy()).tolist()
    return [int(one) for one in found] if len(found) <= FEW else []


def _scaled(array: Tensor, scale: float, max_bytes: int) -> Tensor:
    if array.dtype == torch.bool or array.is_complex():
        _floating(array)
    within(8 * array.numel(), max_bytes)
    wide = array.itemsize > (4 if array.is_floating_point() else 2)
    values = array.detach().double() / scale
    return values if wide else values.float()


def _npy(path: Path, key: str | None, max_bytes: int) -> Tensor:
    _no_key(key, "a .npy file")
    with path.open("rb") as file:
        header = read_header(file, os.fstat(file.fileno()).st_size, "numpy")
    with corrupt_if("numpy"):
        mapped: npt.NDArray[Any] = np.memmap(
            path,
            dtype=header.dtype,
            mode="c",  # copy on write: torch wants writable memory, the file must not change
            offset=header.offset,
            shape=header.shape,
            order="F" if header.fortran else "C",
        )
        return _as_tensor(mapped)


def _npz(path: Path, key: str | None, max_bytes: int) -> Tensor:
    with corrupt_if("npz"), open_zip(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise FileError("truncated or corrupt: holds two arrays of one name")
        info = members[_choose(key, members)]
        within(info.file_size, max_bytes)
        with archive.open(info) as file:
            read_header(file, info.file_size, "npz")
        with archive.open(info) as file:  # zipfile stops at file_size, whatever is packed
            return _as_tensor(np.lib.format.read_array(file, allow_pickle=False))


def _torch(path: Path, key: str | None, max_bytes: int) -> Tensor:
    tensor = _member(read_torch(path), key)
    _refuse_other_than_dense(tensor)
    within(tensor.numel() * tensor.element_size(), max_bytes)  # an expanded tensor is larger
    return tensor


def _refuse_other_than_dense(tensor: Tensor) -> None:
    if tensor.is_meta:
        raise FileError("holds a meta tensor, which has no values")
    if tensor.is_nested:
        raise FileError("holds a nested tensor; store one dense tensor for each image")
    if tensor.layout != torch.strided:
        layout = str(tensor.layout).removeprefix("torch.")
        raise FileError(f"holds a {layout} tensor; store it dense: tensor.to_dense()")
    if tensor.is_quantized:
        raise FileError("holds a quantized tensor; store its values: tensor.dequantize()")


def _member(content: object, key: str | None) -> Tensor:
    if isinstance(content, Tensor):
        _no_key(key, "the file holds one tensor, which")
        return content
    if isinstance(content, Mapping):
        tensors = {str(name): item for name, item in content.items() if isinstance(item, Tensor)}
        return tensors[_choose(key, tensors)]
    kind = type(content).__name__
    raise FileError(f"holds a {kind}, neither a tensor nor a dict of tensors")


def _safetensors(path: Path, key: str | None, max_bytes: int) -> Tensor:
    library = require("safetensors", "files")
    refuse_name_without_text(path, "safetensors")
    with path.open("rb") as file:
        listed = int.from_bytes(file.read(8), "little")
    if listed > LONGEST_LIST:
        raise FileError(
            f"not a readable safetensors file: truncated or corrupt (a header of {listed:,} bytes)"
        )
    with corrupt_if("safetensors"):
        try:  # the library checks every announced size against the file's
            with library.safe_open(path, framework="pt") as archive:
                tensor: Tensor = archive.get_tensor(_choose(key, archive.keys()))
        except library.SafetensorError as error:
            raise FileError(
                f"not a readable safetensors file: truncated or corrupt ({error})"
            ) from error
    return tensor


def _as_tensor(array: npt.NDArray[Any]) -> Tensor:
    """Tensor that shares the array's memory, unless the byte order is foreign."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(array)


def _choose(key: str | None, keys: Collection[str]) -> str:
    names = _listed(keys)
    if not keys:
        raise FileError("holds no array")
    if key is None and len(keys) > 1:
        raise FileError(f"holds several arrays: choose one with --key; keys: {names}")
    if key is not None and key not in keys:
        raise FileError(f"has no key {key!r}; keys: {names}")
    return next(iter(keys)) if key is None else key


def _listed(keys: Collection[str]) -> str:
    """Keys for a message: the first of many, the beginning of long ones."""
    names = [repr(name if len(name) <= 80 else f"{name[:80]}...") for name in islice(keys, SHOWN)]
    more = [f"{len(keys) - SHOWN:,} more"] if len(keys) > SHOWN else []
    return ", ".join(names + more)


def _no_key(key: str | None, what: str) -> None:
    if key is not None:
        raise FileError(f"{what} has no keys: leave out --key {key}")


_READERS = {
    ".npy": _npy,
    ".npz": _npz,
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": _safetensors,
}
ARRAY_SUFFIXES = tuple(_READERS)
