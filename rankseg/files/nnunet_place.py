"""Where a case of nnU-Net lay, and how its segmentation is written there.

A NIfTI reference image needs nibabel only. Other formats, and nnU-Net's pickled properties, are
left to the class of nnU-Net that read the images.
"""

from __future__ import annotations

import pickle
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from rankseg._require import require
from rankseg.files.errors import FileError
from rankseg.files.limits import refuse_other_than_files
from rankseg.files.nifti import NIFTI_SUFFIXES, open_nifti, write_nifti
from rankseg.files.nnunet import Case, Dataset
from rankseg.files.write import complete_or_absent

# Classes whose arrays are the file's voxels with the axes reversed; no class is named where
# plans.json is missing, and then nnU-Net chooses SimpleITKIO for NIfTI.
_AS_STORED = {None, "SimpleITKIO", "NibabelIO"}
_TO_RAS = "NibabelIOWithReorient"


class Place(Protocol):
    """Where the segmentation of one case belongs."""

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse a segmentation (z, y, x) of another shape than the image."""
        ...

    def write(self, target: Path, segmentation: npt.NDArray[Any]) -> None:
        """Write a segmentation (z, y, x), whole or not at all."""
        ...


def place_of(case: Case, dataset: Dataset, reference: Path | None, unpickle: bool) -> Place:
    """Place of a case.

    Parameters
    ----------
    case : Case
        Whose segmentation is to be written.
    dataset : Dataset
        What its folder says.
    reference : Path, optional
        Folder of images ``CASE_0000`` or segmentations ``CASE``; by default the folder of the
        probabilities, where nnU-Net has written its own segmentation.
    unpickle : bool
        Take the properties that nnU-Net has pickled beside the probabilities.

    Raises
    ------
    FileError
        If there is no such file, or it cannot be read.
    ImportError
        If nnU-Net's own class is needed and nnU-Net is not installed.
    """
    if unpickle:
        return _Own.pickled(case, dataset)
    folder = case.files[0].parent if reference is None else reference
    path = _reference(case.name, dataset.ending, folder)
    by_nibabel = dataset.reader in {*_AS_STORED, _TO_RAS}
    if dataset.ending.lower() in NIFTI_SUFFIXES and by_nibabel:
        return _Nifti(path, dataset.reader == _TO_RAS)
    return _Own.read(path, path.name == case.name + dataset.ending, dataset)


def _reference(name: str, ending: str, folder: Path) -> Path:
    wanted = [folder / f"{name}_0000{ending}", folder / f"{name}{ending}"]
    for path in wanted:
        if path.is_file():
            return path
    raise FileError(
        f"no reference image tells its place: neither {wanted[0].name} nor {wanted[1].name} "
        f"is in {folder}; name the folder of images with --reference"
    )


class _Nifti:
    """Place of a NIfTI image: the header of the result is that of the image."""

    def __init__(self, path: Path, to_ras: bool) -> None:
        self.path = path
        self.image = open_nifti(path)
        self.turn = self._turn() if to_ras else None

    def _turn(self) -> npt.NDArray[Any]:
        """From the RAS order of the probabilities to the order of the file."""
        order = require("nibabel.orientations", "files")
        stored = order.io_orientation(self.image.affine)
        turn: npt.NDArray[Any] = order.ornt_transform(order.axcodes2ornt("RAS"), stored)
        return turn

    def check(self, shape: tuple[int, ...]) -> None:
        # A fourth axis holds modalities; nnU-Net gives a 2-D image a z axis of length 1.
        sides = tuple(map(int, self.image.shape[:3]))
        padded = sides + (1,) * (3 - len(sides))
        if self.turn is not None:
            padded = tuple(padded[int(axis)] for axis in self.turn[:, 0])
        _same_shape(self.path, padded[::-1], shape)

    def write(self, target: Path, segmentation: npt.NDArray[Any]) -> None:
        voxels = segmentation.transpose()
        if self.turn is not None:
            apply = require("nibabel.orientations", "files").apply_orientation
            voxels = apply(voxels, self.turn)
        write_nifti(target, voxels.reshape(self.image.shape[:3]), self.image)


@dataclass(frozen=True)
class _Own:
    """Place that a reader of nnU-Net has read, and writes."""

    source: Path
    writer: Any
    properties: Any
    shape: tuple[int, ...]
    """Shape of the image, (z, y, x); of pickled properties in any order."""

    @classmethod
    def read(cls, path: Path, is_segmentation: bool, dataset: Dataset) -> _Own:
        reader = _reader(dataset)
        with _guest(reader, f"{path.name} cannot be read"):
            if is_segmentation:
                array, properties = reader.read_seg(str(path))
            else:
                array, properties = reader.read_images([str(path)])
        return cls(path, reader, properties, tuple(array.shape[1:]))

    @classmethod
    def pickled(cls, case: Case, dataset: Dataset) -> _Own:
        path = case.files[0].with_name(f"{case.name}.pkl")
        if not path.is_file():
            raise FileError(f"there is no {path.name} beside it, which --unpickle asks for")
        refuse_other_than_files(path)
        reader = _reader(dataset)
        try:
            properties = pickle.loads(path.read_bytes())
            shape = tuple(int(side) for side in properties["shape_before_cropping"])
        except Exception as error:  # what a file runs may raise anything
            raise FileError(f"{path.name} does not hold nnU-Net's properties: {error}") from error
        return cls(path, reader, properties, shape)

    def check(self, shape: tuple[int, ...]) -> None:
        if self.source.suffix == ".pkl":  # in the axis order of the network
            _same_shape(self.source, tuple(sorted(self.shape)), tuple(sorted(shape)))
        else:
            _same_shape(self.source, self.shape, shape)

    def write(self, target: Path, segmentation: npt.NDArray[Any]) -> None:
        # Writers go by the suffix, and some write a second file beside the first.
        with _complete_together(target) as temporary, _guest(self.writer, "cannot be written"):
            self.writer.write_seg(segmentation, str(temporary), self.properties)


def _same_shape(path: Path, there: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if there != shape:
        raise FileError(
            f"its probabilities have shape (z, y, x) = {shape}, {path.name} has {there}: "
            "they are not of one image"
        )


def _reader(dataset: Dataset) -> Any:
    """Instance of the class that ``plans.json`` names, or that nnU-Net takes for the suffix."""
    registry = require("nnunetv2.imageio.reader_writer_registry", "nnunet")
    with _guest(registry, f"no reader for {dataset.ending}"):
        if dataset.reader is None:
            kind = registry.determine_reader_writer_from_file_ending(dataset.ending, verbose=False)
        else:
            kind = registry.recursive_find_reader_writer_by_name(dataset.reader)
        return kind()


@contextmanager
def _guest(reader: Any, what: str) -> Iterator[None]:
    """Turn what nnU-Net's readers raise into a FileError; what they print goes to stderr."""
    name = getattr(reader, "__name__", type(reader).__name__)
    with redirect_stdout(sys.stderr):
        try:
            yield
        except OSError:
            raise
        except (AssertionError, RuntimeError, ValueError, TypeError, LookupError) as error:
            raise FileError(f"{what} by {name}: {error or type(error).__name__}") from error


@contextmanager
def _complete_together(target: Path) -> Iterator[Path]:
    """Name in a hidden folder beside the target; all files there appear when the block ends well.

    The file asked for comes last, so that it is never there without its companions.
    """
    folder = target.with_name(f".rankseg-{secrets.token_hex(8)}.tmp")
    folder.mkdir()
    try:
        yield folder / target.name
        companions = [path for path in folder.iterdir() if path.name != target.name]
        for path in [*companions, folder / target.name]:
            with complete_or_absent(target.with_name(path.name)) as temporary:
                path.rename(temporary)
    finally:
        shutil.rmtree(folder)
