"""Read labels and masks from arrays and PNG."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rankseg._require import require
from rankseg.files.errors import FileError
from rankseg.files.headers import corrupt_if
from rankseg.files.limits import DEFLATE, default_max_bytes, refuse_other_than_files, within
from rankseg.files.read import ARRAY_SUFFIXES, read_stored
from rankseg.files.whole import integers, whole_numbers

PNG_SUFFIX = ".png"
LABEL_SUFFIXES = (*ARRAY_SUFFIXES, PNG_SUFFIX)


def read_labels(path: Path, key: str | None = None, max_bytes: int | None = None) -> Tensor:
    """Labels or masks of a file, integers or bool, in the shape stored.

    Parameters
    ----------
    path : Path
        Ends in one of ``LABEL_SUFFIXES``. The numbers of a PNG are its grey values or, with a
        palette, the places in it.
    key, max_bytes
        As for ``read_array``.

    Raises
    ------
    FileError
        As ``read_array``, and if the numbers are not integers or the PNG has colours.
    OSError
        If it is missing or cannot be read.
    """
    limit = default_max_bytes() if max_bytes is None else max_bytes
    if path.suffix.lower() == PNG_SUFFIX:
        if key is not None:
            raise FileError(f"a .png file has no keys: leave out the key {key}")
        return torch.from_numpy(_png(path, limit))
    return integers(read_stored(path, key, limit))


def _png(path: Path, max_bytes: int) -> npt.NDArray[np.int64]:
    library = require("PIL.Image", "files")
    refuse_other_than_files(path)
    with corrupt_if("PNG"), warnings.catch_warnings():
        warnings.simplefilter("ignore", library.DecompressionBombWarning)  # we have a limit
        try:
            picture = library.open(path, formats=["PNG"])
        except library.DecompressionBombError as error:
            raise FileError(f"too large: {error}") from error
        with picture:
            _has_no_colours(picture)
            pixels = picture.width * picture.height
            if pixels // 8 > path.stat().st_size * DEFLATE:  # a pixel takes a bit or more
                raise FileError(
                    f"truncated or corrupt: announces {picture.width} x {picture.height} pixels, "
                    "for which the file is too small"
                )
            within(8 * pixels, max_bytes)
            return whole_numbers(np.asarray(picture))


def _has_no_colours(picture: Any) -> None:
    if picture.mode in ("1", "L", "P", "I", "I;16", "I;16B"):
        return
    raise FileError(
        f"has colours (mode {picture.mode}), not labels: save one number for each pixel, as grey "
        "values or with a palette"
    )
