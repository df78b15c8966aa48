"""NIfTI: a volume of probabilities in, a volume of labels or masks in the same place out."""

from __future__ import annotations

import gzip
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rankseg._require import require
from rankseg.files.errors import FileError
from rankseg.files.headers import corrupt_if
from rankseg.files.limits import DEFLATE, refuse_other_than_files, within
from rankseg.files.scaling import Scaling
from rankseg.files.whole import whole_numbers
from rankseg.files.write import atomic_write

NIFTI_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Volume:
    """Values of a NIfTI file, in its axis order, and the image that tells where they lie."""

    values: Tensor
    image: Any


@contextmanager
def _damage(library: Any) -> Iterator[None]:
    """Damage as one FileError; what the library prints about headers is left out."""
    with library.imageglobals.LoggingOutputSuppressor(), corrupt_if("NIfTI"):
        try:
            yield
        except (
            library.filebasedimages.ImageFileError,
            library.spatialimages.HeaderDataError,
        ) as error:
            raise ValueError(str(error)) from error


def open_nifti(path: Path) -> Any:
    """Image of a NIfTI file, its values unread.

    Raises
    ------
    FileError
        If the file is corrupt, truncated or another format.
    OSError
        If it is missing or cannot be read.
    """
    library = require("nibabel", "files")
    refuse_other_than_files(path)
    with _damage(library):
        image = library.load(path)
    if not isinstance(image, library.Nifti1Image):  # Nifti2Image is one
        raise FileError(f"holds a {type(image).__name__}, not a NIfTI volume")
    return image


def read_nifti(path: Path, max_bytes: int, scale: float | None = None) -> Volume:
    """Values of a NIfTI file; those of an uncompressed one are mapped unless they are scaled.

    Raises
    ------
    FileError
        If the file is corrupt, truncated, too large, or holds other than (scaled) real numbers.
    OSError
        If it is missing or cannot be read.
    """
    library = require("nibabel", "files")
    image, shape, dtype = _loaded(library, path)
    stored = image.dataobj
    scaling = Scaling(dtype, (stored.slope,), (stored.inter,), scale)
    loaded = path.suffix.lower() == ".gz" or not scaling.plain or not dtype.isnative
    if loaded:
        within(math.prod(shape) * (dtype.itemsize if scaling.plain else 8), max_bytes)
    with _damage(library):
        values = scaling.values(stored.get_unscaled())
        return Volume(torch.from_numpy(values), image)


def read_nifti_labels(path: Path, max_bytes: int) -> Volume:
    """Labels of a NIfTI file, int64; floats that are whole numbers are labels, too.

    Raises
    ------
    FileError, OSError
        As ``read_nifti``, and if a number is not whole.
    """
    library = require("nibabel", "files")
    image, shape, _ = _loaded(library, path)
    within(8 * math.prod(shape), max_bytes)
    with _damage(library):
        values = np.asanyarray(image.dataobj)
    return Volume(torch.from_numpy(whole_numbers(values)), image)


def _loaded(library: Any, path: Path) -> tuple[Any, tuple[int, ...], np.dtype[Any]]:
    """The image, its shape and the type stored; no value is read yet."""
    image = open_nifti(path)
    with _damage(library):
        stored = image.dataobj
        shape, dtype, offset = tuple(map(int, stored.shape)), stored.dtype, int(stored.offset)
    packed = path.suffix.lower() == ".gz"
    _check_size(shape, dtype, offset, path.stat().st_size * (DEFLATE if packed else 1))
    return image, shape, dtype


def _check_size(shape: tuple[int, ...], dtype: np.dtype[Any], offset: int, most: int) -> None:
    """Refuse more values than a file of this size can hold."""
    announced = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or announced > min(most - offset, sys.maxsize):
        raise FileError(
            f"truncated or corrupt: announces shape {shape} of {dtype}, "
            f"for which the file is too small"
        )


def write_nifti(path: Path, array: npt.NDArray[Any], image: Any) -> None:
    """Write labels or masks in the place of an image: affine, codes and units.

    Packed if the name ends in ``.gz``.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    header = image.header.copy()
    masks = array.dtype == np.bool_
    numbers = array.view(np.uint8) if masks else array
    header.set_data_dtype(numbers.dtype)
    header["cal_min"] = header["cal_max"] = 0  # the range of colours for probabilities
    header.set_intent("none" if masks else "label")
    result = type(image)(numbers, image.affine, header)

    def write(file: Any) -> None:
        if path.suffix.lower() != ".gz":
            result.to_stream(file)
            return
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
            result.to_stream(packed)

    atomic_write(path, write)
