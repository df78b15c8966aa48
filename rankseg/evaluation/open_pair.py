"""Probabilities and labels of one pair of files, each image when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rankseg.evaluation.places import GridPlace, Place, VolumePlace
from rankseg.files import NIFTI_SUFFIXES, RASTER_SUFFIXES, FileError, Raster, read_labels
from rankseg.files.matching import ZARR_SUFFIX, Entry
from rankseg.files.nifti import read_nifti_labels
from rankseg.files.read import as_values
from rankseg.files.whole import integers, whole_numbers
from rankseg.files.zarrs import ZarrArray
from rankseg.inputs import ArrayInput, RasterInput, Reading, VolumeInput, open_input
from rankseg.layout import ChannelAxis, Layout


@dataclass(frozen=True)
class Probs:
    """Open probabilities.

    Attributes
    ----------
    count : int
        Images.
    image : function
        From a number to values (1, C, *spatial).
    batched : bool
        Whether the file's first axis counts images.
    axis : int, 'first' or 'none'
        Of the classes in one image of the file.
    valid : Tensor, bool (height, width), or None
        Where a raster has data; None for everywhere.
    place : Place or None
        Where it lies.
    """

    count: int
    image: Callable[[int], Tensor]
    batched: bool
    axis: ChannelAxis
    valid: Tensor | None = None
    place: Place | None = None


@dataclass(frozen=True)
class Labels:
    """Open labels.

    Attributes
    ----------
    image : function
        From a number to labels (*spatial), or masks with the axis of the classes.
    axis : int, 'first' or 'none'
        Of the classes in masks.
    valid : Tensor, bool, or None
        As for ``Probs``.
    place : Place or None
    nodata : float or None
        What a raster has where it has no data.
    """

    image: Callable[[int], Tensor]
    axis: ChannelAxis
    valid: Tensor | None = None
    place: Place | None = None
    nodata: float | None = None


@contextmanager
def open_probs(entry: Entry, reading: Reading) -> Iterator[Probs]:
    """Open a file of any format.

    Raises
    ------
    FileError, OSError, ValueError
        As ``open_input``.
    """
    if entry.suffix == ZARR_SUFFIX:
        yield _zarr_probs(entry, reading)
        return
    with open_input(entry.path, reading) as opened:
        if isinstance(opened, RasterInput):
            yield _raster_probs(opened.raster)
        else:
            assert isinstance(opened, ArrayInput)
            yield _array_probs(opened)


def _array_probs(opened: ArrayInput) -> Probs:
    images, layout = opened.images, opened.layout
    place = VolumePlace(opened.image.affine) if isinstance(opened, VolumeInput) else None
    return Probs(
        count=len(images),
        image=lambda index: images[index : index + 1],
        batched=bool(layout.batched),
        axis=layout.channel_axis,
        place=place,
    )


def _zarr_probs(entry: Entry, reading: Reading) -> Probs:
    array = ZarrArray(entry.path, entry.member or reading.key, reading.limit)
    said = reading.layout.batched
    batched = entry.alone if said is None else said
    alone = Layout(reading.layout.channel_axis, batched=False)

    def image(index: int) -> Tensor:
        stored = array.image(index) if batched else array.whole()
        return alone.images(as_values(stored, reading.scale, reading.limit))

    return Probs(array.shape[0] if batched else 1, image, batched, alone.channel_axis)


def _raster_probs(raster: Raster) -> Probs:
    values, there = raster.read(raster.windows[0])
    valid = None if there.all() else torch.from_numpy(there)
    image = torch.from_numpy(values)[None]
    return Probs(1, lambda index: image, False, 0, valid, GridPlace.of(raster.dataset))


def open_labels(entry: Entry, key: str | None, max_bytes: int, probs: Probs) -> Labels:
    """Open labels of any format, for probabilities that are open.

    Raises
    ------
    FileError, OSError
        If they cannot be read, are no labels, or are those of another number of images.
    """
    if entry.suffix in RASTER_SUFFIXES or entry.suffix in NIFTI_SUFFIXES:
        if key is not None:
            raise FileError(f"a {entry.suffix} file has no keys: leave out --label-key {key}")
        _same_number(1, probs)
        kind = _raster_labels if entry.suffix in RASTER_SUFFIXES else _volume_labels
        return kind(entry, max_bytes, probs)
    if entry.suffix == ZARR_SUFFIX:
        return _zarr_labels(entry, key, max_bytes, probs)
    stored = read_labels(entry.path, key, max_bytes)
    if probs.batched and stored.ndim > _spatial_axes(probs):
        _same_number(len(stored), probs)
        return Labels(lambda index: stored[index], probs.axis)
    _same_number(1, probs)
    return Labels(lambda index: stored, probs.axis)


def _zarr_labels(entry: Entry, key: str | None, max_bytes: int, probs: Probs) -> Labels:
    array = ZarrArray(entry.path, entry.member or key, max_bytes)
    if probs.batched and len(array.shape) > _spatial_axes(probs):
        _same_number(array.shape[0], probs)
        return Labels(lambda index: integers(array.image(index)), probs.axis)
    _same_number(1, probs)
    return Labels(lambda index: integers(array.whole()), probs.axis)


def _volume_labels(entry: Entry, max_bytes: int, probs: Probs) -> Labels:
    volume = read_nifti_labels(entry.path, max_bytes)
    axis = probs.axis if isinstance(probs.place, VolumePlace) else -1
    return Labels(lambda index: volume.values, axis, place=VolumePlace(volume.image.affine))


def _raster_labels(entry: Entry, max_bytes: int, probs: Probs) -> Labels:
    with Raster(entry.path, max_bytes, scale=1.0, whole=True) as raster:
        values, there = raster.read(raster.windows[0])
        place, nodata = GridPlace.of(raster.dataset), raster.dataset.nodata
    stored = torch.from_numpy(whole_numbers(np.where(there, values, 0)))
    stored = stored[0] if len(stored) == 1 else stored
    valid = None if there.all() else torch.from_numpy(there)
    return Labels(lambda index: stored, 0, valid, place, nodata)


def _spatial_axes(probs: Probs) -> int:
    return probs.image(0).ndim - 2 if probs.count else 0


def _same_number(labels: int, probs: Probs) -> None:
    if labels != probs.count:
        raise FileError(f"{probs.count} images of probabilities, {labels} of labels")
