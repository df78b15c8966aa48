"""One input file as tiles of pixels, whatever its format, and what is written for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rankseg.files import (
    NIFTI_SUFFIXES,
    RASTER_SUFFIXES,
    Bands,
    FileError,
    Raster,
    default_max_bytes,
    read_array,
    read_nifti,
    suffix_of,
    write_array,
    write_nifti,
)
from rankseg.layout import Layout, check_classes_axis, compact, label_type

NODATA = 255

Answer: TypeAlias = Callable[[int, Tensor], Tensor]
"""Labels (1, *spatial) or masks (1, C, *spatial) of one tile, from its number and values."""


@dataclass(frozen=True)
class Reading:
    """How files are read and what kind of result they get; see ``rankseg predict``."""

    layout: Layout
    masks: bool
    void_index: int | None
    key: str | None = None
    max_bytes: int | None = None
    scale: float | None = None
    probabilities: bool = True
    """Values are probabilities, not logits."""
    whole: bool = False
    """Rasters are read whole: the solver or the table needs all pixels at once."""

    @property
    def limit(self) -> int:
        """Largest array that is unpacked into memory, in bytes."""
        return default_max_bytes() if self.max_bytes is None else self.max_bytes

    @property
    def name(self) -> str:
        """What results are called."""
        return "masks" if self.masks else "labels"


class Input(Protocol):
    """One open file."""

    in_parts: bool
    """Its tiles are parts of one image; else each is an image."""

    def __iter__(self) -> Iterator[Tensor]:
        """Tiles (1, C, *spatial), the same on every visit."""
        ...

    def write(self, target: Path, answer: Answer) -> None:
        """Ask for an answer to every tile, and write all of them, whole or not at all."""
        ...


@contextmanager
def open_input(path: Path, reading: Reading) -> Iterator[Input]:
    """Open a file of any known format.

    Raises
    ------
    FileError, OSError, ValueError
        If it cannot be read, or does not fit the options.
    """
    suffix = suffix_of(path)
    if suffix in RASTER_SUFFIXES:
        _bands_are_classes(reading)
        with Raster(path, reading.limit, reading.scale, reading.whole) as raster:
            yield RasterInput(raster, reading)
    elif suffix in NIFTI_SUFFIXES:
        yield _volume(path, reading)
    else:
        array = read_array(path, reading.key, reading.max_bytes, reading.scale)
        yield ArrayInput(array, reading.layout, reading)


class ArrayInput:
    """Images of an array in memory, or mapped into it."""

    in_parts = False

    def __init__(self, array: Tensor, layout: Layout, reading: Reading) -> None:
        self.layout = layout
        self.reading = reading
        self.images = layout.images(array)
        if reading.probabilities and not reading.masks and self.images.shape[0]:
            check_classes_axis(self.images)

    def __iter__(self) -> Iterator[Tensor]:
        """Images."""
        # One at a time: a mapped file of many images never lies in memory as a whole.
        return (self.images[at : at + 1] for at in range(self.images.shape[0]))

    def write(self, target: Path, answer: Answer) -> None:
        """Write in the layout that the array came in."""
        # An empty batch is one empty part.
        parts = [answer(at, self.images[at : at + 1]) for at in range(max(self.images.shape[0], 1))]
        prediction = self.layout.restore(torch.cat(parts), self.reading.masks)
        array = compact(prediction, self.images.shape[1], self.reading.void_index)
        self._save(target, array)

    def _save(self, target: Path, array: npt.NDArray[Any]) -> None:
        write_array(target, array, self.reading.name)


class VolumeInput(ArrayInput):
    """Volume of a NIfTI file; the result lies where it lay.

    NIfTI stores the first axis densest. Pixels are shown in that order, last axis first, so that a
    mapped volume is read as it lies and not copied.
    """

    def __init__(self, array: Tensor, layout: Layout, reading: Reading, image: Any) -> None:
        super().__init__(array, layout, reading)
        self.image = image
        self.images = _turned(self.images, 2)

    def write(self, target: Path, answer: Answer) -> None:
        """Write in the axis order of the file."""
        first = 2 if self.reading.masks else 1
        super().write(target, lambda at, tile: _turned(answer(at, tile), first))

    def _save(self, target: Path, array: npt.NDArray[Any]) -> None:
        if suffix_of(target) in NIFTI_SUFFIXES:
            write_nifti(target, array, self.image)
        else:
            super()._save(target, array)


class RasterInput:
    """Windows of a raster, without the pixels that lack data: these count for nothing."""

    def __init__(self, raster: Raster, reading: Reading) -> None:
        self.raster = raster
        self.reading = reading
        self.in_parts = len(raster.windows) > 1

    def __iter__(self) -> Iterator[Tensor]:
        """Pixels that have data, of every window that has some."""
        for window in self.raster.windows:
            values, valid = self.raster.read(window)
            if valid.any():
                yield _pixels(values, valid)

    def write(self, target: Path, answer: Answer) -> None:
        """Write every window; pixels that lack data get the label for that."""
        bands = self._bands()
        fill = NODATA if bands.nodata is None else bands.nodata
        if suffix_of(target) in RASTER_SUFFIXES:
            self.raster.write(target, bands, self._parts(bands, fill, answer))
            return
        array = np.empty((bands.count, *self.raster.dataset.shape), bands.dtype)
        for window, part in self._parts(bands, fill, answer):
            rows, columns = window.toslices()
            array[:, rows, columns] = part
        if self.reading.masks:
            write_array(target, array == 1, self.reading.name)
        else:
            write_array(target, array[0], self.reading.name)

    def _parts(
        self, bands: Bands, fill: int, answer: Answer
    ) -> Iterator[tuple[Any, npt.NDArray[Any]]]:
        for at, window in enumerate(self.raster.windows):
            values, valid = self.raster.read(window)
            part = np.full((bands.count, *valid.shape), fill, bands.dtype)
            if valid.any():
                part[:, valid] = answer(at, _pixels(values, valid)).reshape(bands.count, -1).numpy()
            yield window, part

    def _bands(self) -> Bands:
        lacking = self.raster.may_lack_data
        classes, void = self.raster.classes, self.reading.void_index
        if self.reading.masks:
            return Bands(classes, np.dtype(np.uint8), NODATA if lacking else None)
        if not lacking:
            return Bands(1, label_type(classes, void), None)
        nodata = int(np.iinfo(np.min_scalar_type(classes)).max) if void is None else void
        return Bands(1, label_type(classes, nodata), nodata)


def _pixels(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> Tensor:
    """Pixels that have data, (1, C, n)."""
    chosen = values.reshape(len(values), -1) if valid.all() else values[:, valid]
    return torch.from_numpy(chosen)[None]


def _turned(tensor: Tensor, first: int) -> Tensor:
    """Axes from the first on, in reverse."""
    return tensor.permute(*range(first), *reversed(range(first, tensor.ndim)))


def _volume(path: Path, reading: Reading) -> VolumeInput:
    _no_key(reading, "NIfTI")
    if reading.layout.batched:
        raise FileError("a NIfTI file holds one image: leave out --batched")
    volume = read_nifti(path, reading.limit, reading.scale)
    axis, shape = reading.layout.channel_axis, tuple(volume.values.shape)
    if axis == "first":  # nothing was said
        if len(shape) < 4:
            raise FileError(
                f"shape {shape} has no fourth axis for the classes: say --channel-axis none for "
                "one map, or which axis it is"
            )
        axis = -1
    return VolumeInput(volume.values, Layout(axis, batched=False), reading, volume.image)


def _bands_are_classes(reading: Reading) -> None:
    _no_key(reading, "GeoTIFF")
    if reading.layout.channel_axis not in ("first", 0) or reading.layout.batched:
        raise FileError(
            "the bands of a GeoTIFF are the classes: leave out --channel-axis, --batched"
        )


def _no_key(reading: Reading, kind: str) -> None:
    if reading.key is not None:
        raise FileError(f"a {kind} file has no keys: leave out --key {reading.key}")
