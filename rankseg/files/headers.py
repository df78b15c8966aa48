"""The numpy header, read without believing it, and what damaged files raise."""

from __future__ import annotations

import errno
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from rankseg.files.errors import FileError

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
    """Turn what a damaged file raises into one FileError that says so."""
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a seek to nowhere
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
    """Header of a ``.npy`` of ``size`` bytes, refused if it announces more than there is.

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
        If the header is damaged, announces Python objects, or more values than the file holds.
    """
    with corrupt_if(kind):
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):  # 2.0 and 3.0 differ in the text encoding only
            read = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise FileError("holds Python objects, which would have to be unpickled: store numbers")
    announced, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or announced > there:
        raise FileError(
            f"truncated or corrupt: announces shape {shape} of {dtype}, {announced:,} bytes, "
            f"but {there:,} follow"
        )
    return Header(shape, fortran, dtype, file.tell())
