"""The numpy header, read without believing it, and what damaged files raise."""

from __future__ import annotations

import errno
import io
import lzma
import math
import struct
import sys
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from rankseg.files.errors import FileError

LONGEST_HEADER = 10_000  # bytes; numpy's own limit, which it checks when all has been read

# What numpy, zipfile and torch let through when bytes are flipped or missing; found by flipping
# and cutting small files (tests/cli/test_damage.py).
_DAMAGE = (
    ValueError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    SyntaxError,
    EOFError,
    LookupError,
    AttributeError,
    AssertionError,
    TypeError,
    OverflowError,
)


@contextmanager
def corrupt_if(kind: str) -> Iterator[None]:
    """Turn what a damaged file raises into one FileError that says so; its warnings are lost."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bad escapes and the like; an error says more
            yield
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (
            None,  # a library's, not the system's
            errno.EINVAL,  # a seek to nowhere
        ):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise FileError(
            f"not a readable {kind} file: truncated or corrupt ({lines[0][:200]})"
        ) from error


@dataclass(frozen=True)
class Header:
    """What a ``.npy`` announces, and where its values begin (bytes)."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int


def read_header(file: IO[bytes], size: int, kind: str) -> Header:
    """Header of a ``.npy`` of ``size`` bytes, refused if it announces more or less than there is.

    Parameters
    ----------
    file : binary file
        At its beginning; left at the first value.
    size : int
        Bytes of the whole ``.npy``.
    kind : str
        For the message.

    Raises
    ------
    FileError
        If the header is damaged or too long, announces values that torch has no type for, or
        more or fewer of them than the file holds.
    """
    with corrupt_if(kind):
        shape, fortran, dtype = _parse(file)
        offset = file.tell()
    _check_type(dtype)
    _check_shape(shape, dtype, size - offset)
    return Header(shape, fortran, dtype, offset)


def _parse(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read, width = np.lib.format.read_array_header_1_0, 2
    if version != (1, 0):  # 2.0 and 3.0 differ in the text encoding only
        read, width = np.lib.format.read_array_header_2_0, 4
    announced = file.read(width)
    length = int.from_bytes(announced, "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"a header of {length:,} bytes, more than {LONGEST_HEADER:,}")
    try:
        return read(io.BytesIO(announced + file.read(length)))
    except MemoryError as error:  # of the parser, whose stack a few hundred brackets fill
        raise ValueError("a header that cannot be parsed") from error


def _check_type(dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise FileError("holds Python objects, which would have to be unpickled: store numbers")
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise FileError(f"holds {dtype} values; store float16, float32 or float64")


def _check_shape(shape: tuple[int, ...], dtype: np.dtype[Any], there: int) -> None:
    """Refuse more or fewer values than ``there`` are bytes for, and sizes that no array can have.

    An axis of length 0 makes any other fit into no bytes at all, but numpy counts with them.
    """
    counted = math.prod(length for length in shape if length) * dtype.itemsize
    announced = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or counted > sys.maxsize or announced != there:
        raise FileError(
            f"truncated or corrupt: announces shape {_short(shape)} of {dtype}, "
            f"but {there:,} bytes follow"
        )


def _short(shape: tuple[int, ...]) -> str:
    text = str(shape)
    return text if len(text) <= 100 else f"{text[:100]}..."
