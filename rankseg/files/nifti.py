"""NIfTI: a volume of probabilities in, a volume of labels or masks in the same place out."""

from __future__ import annotations

import gzip
import io
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
from rankseg.files.limits import (
    DEFLATE,
    LONGEST_DESCRIPTION,
    refuse_other_than_files,
    within,
)
from rankseg.files.names import suffix_of
from rankseg.files.scaling import Scaling
from rankseg.files.whole import whole_numbers
from rankseg.files.write import atomic_write

NIFTI_SUFFIXES = (".nii", ".nii.gz")
LONGEST_START = 544
"""Bytes of the longer header, NIfTI-2, and of the mark of extensions."""
CHUNK = 1024**2


@dataclass(frozen=True)
class Volume:
    """Values of a NIfTI file, in its axis order, and the image that tells where they lie."""

    values: Tensor
    image: Any


@contextmanager
def _damage(library: Any) -> Iterator[None]:
    """Damage as one FileError; what the library prints about headers is left out."""
    logger = library.imageglobals.logger
    logger.addFilter(_never)  # without handlers it would be printed by Python's own
    try:
        with corrupt_if("NIfTI"), _as_value_errors(library):
            yield
    finally:
        logger.removeFilter(_never)


def _never(record: object) -> bool:
    return False


@contextmanager
def _as_value_errors(library: Any) -> Iterator[None]:
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
        kind = _kind(library, path)
        return kind.from_filename(path)


def _kind(library: Any, path: Path) -> Any:
    """Class of the image, once its header and extensions were found to be short and sound.

    nibabel reads an extension of a length below 8 to the end of the file, however far it unpacks.
    """
    packed = suffix_of(path) == ".nii.gz"
    with gzip.open(path) if packed else path.open("rb") as file:
        start = file.read(LONGEST_START)
        kinds = (library.Nifti2Image, library.Nifti1Image)
        found = [kind for kind in kinds if kind.header_class.may_contain_header(start)]
        if not found:
            raise FileError("holds no NIfTI volume, or a damaged one")
        kind = found[0]
        header = kind.header_class(start[: kind.header_class.template_dtype.itemsize], check=False)
        if 3000 <= int(header["intent_code"]) < 3100:
            raise FileError("holds CIFTI data, not a NIfTI volume")
        offset = float(header["vox_offset"])
        if not offset <= LONGEST_DESCRIPTION:  # extensions are kilobytes of XML or DICOM
            raise FileError(f"its values begin {offset:g} bytes into the file, which is damage")
        start += file.read(max(0, int(offset) - len(start)))
    kind.header_class.from_fileobj(io.BytesIO(start))
    return kind


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
        values = scaling.values(_stored(image, path))
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
        values = library.volumeutils.apply_read_scaling(
            _stored(image, path), np.float64(image.dataobj.slope), np.float64(image.dataobj.inter)
        )
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


def _stored(image: Any, path: Path) -> npt.NDArray[Any]:
    """Numbers as they are stored; those of a packed file with its checksum compared."""
    stored = image.dataobj
    if suffix_of(path) != ".nii.gz":
        unscaled: npt.NDArray[Any] = stored.get_unscaled()
        return unscaled
    # nibabel would have all of it in memory twice.
    values: npt.NDArray[Any] = np.empty(math.prod(map(int, stored.shape)), stored.dtype)
    numbers = values.view(np.uint8)
    with gzip.open(path) as file:
        file.seek(int(stored.offset))
        for at in range(0, len(numbers), CHUNK):
            part = numbers[at : at + CHUNK]
            if file.readinto(part.data) != len(part):
                raise EOFError("it ends before its values do")
        for _ in range(0, len(numbers) + 1, CHUNK):
            if not file.read(CHUNK):  # the end, where gzip compares the checksum
                break
    shaped: npt.NDArray[Any] = values.reshape(stored.shape, order="F")
    return shaped


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
