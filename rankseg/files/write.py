"""Results are written under a temporary name, made safe on disk, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from rankseg._require import require
from rankseg.files.errors import FileError

PNG_LIMIT = 65536  # grey values of a 16-bit PNG


def atomic_write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a file that appears under its name only when it is complete.

    The temporary file lies in the same folder, so that the rename cannot cross file systems, and
    is removed whatever stops the writing, Ctrl-C included.

    Parameters
    ----------
    path : Path
        Final name; a file already there is replaced.
    write : callable
        Gets the open binary file.

    Raises
    ------
    OSError
        If the folder or the disk refuses.
    """
    with complete_or_absent(path) as temporary, temporary.open("xb") as file:
        write(file)


@contextmanager
def complete_or_absent(path: Path) -> Iterator[Path]:
    """Name of a temporary file beside ``path`` that gets its name when the block ends well.

    As ``atomic_write``, for libraries that open their files themselves.
    """
    # Not made of the name, which may already be as long as the file system allows.
    temporary = path.with_name(f".rankseg-{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # the name its reader knows
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut; only POSIX systems can open a folder."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_array(path: Path, array: npt.NDArray[Any], name: str) -> None:
    """Write labels or masks in the format of the suffix: ``.npy``, ``.npz`` or ``.png``.

    Parameters
    ----------
    path : Path
        Where to.
    array : ndarray of integers or bool
        A PNG holds one 2-D array (a single image or class is taken out): labels as 8-bit grey
        values, 16-bit where their type is wider; a mask as 0 and 255.
    name : str
        Key inside an ``.npz``.

    Raises
    ------
    FileError
        If a PNG cannot hold the array.
    OSError
        If the file cannot be written.
    """
    suffix = path.suffix
    if suffix == ".npz":
        named: dict[str, Any] = {name: array}
        atomic_write(path, lambda file: np.savez_compressed(file, **named))
    elif suffix == ".png":
        picture = require("PIL.Image", "files").fromarray(_grey(array))
        atomic_write(path, lambda file: picture.save(file, format="PNG"))
    else:
        atomic_write(path, lambda file: np.save(file, array, allow_pickle=False))


def _grey(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    while array.ndim > 2 and 1 in (array.shape[0], array.shape[-1]):  # a single image or class
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != 2:
        raise FileError(
            f"a PNG holds one 2-D array, this one has shape {array.shape}: use npy or npz"
        )
    if array.dtype == np.bool_:
        grey: npt.NDArray[np.uint8] = np.where(array, np.uint8(255), np.uint8(0))
        return grey
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0 or high >= PNG_LIMIT:
        raise FileError(f"a PNG holds values 0 to {PNG_LIMIT - 1}, got {low} to {high}: use npy")
    return array if array.dtype == np.uint8 else array.astype(np.uint16)
