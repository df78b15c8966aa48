"""GeoTIFF: probabilities as bands in, read by windows; labels or masks in the same place out."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from rankseg._require import require
from rankseg.files.errors import FileError
from rankseg.files.headers import corrupt_if
from rankseg.files.limits import refuse_name_without_text, refuse_other_than_files, within
from rankseg.files.scaling import Scaling
from rankseg.files.write import complete_or_absent

RASTER_SUFFIXES = (".tif", ".tiff")
WINDOW_BYTES = 64 * 1024**2
"""Values of a window in memory; some 1.7 million pixels of ten classes."""
BLOCK = 256
"""Side of the blocks that results are made of."""
MOST_BANDS = 4096
"""GDAL asks for their masks in a time that grows with the square of their number."""
CACHE = 128 * 1024**2
"""What GDAL may keep of blocks read and yet to be written; its own choice is 5 % of the memory."""

WHOLE = "; solvers other than RMA, argmax and TR, and the table, take the image whole"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Bands:
    """What a result is to hold: how many bands of which type, and their label for no data."""

    count: int
    dtype: np.dtype[Any]
    nodata: int | None


@contextmanager
def _gdal(writing: bool = False) -> Iterator[Any]:
    """The library, set up; what it finds damaged, or the disk refuses, is one FileError."""
    library = require("rasterio", "files")
    trouble = (library.errors.RasterioError, library._err.CPLE_BaseError)
    with ExitStack() as stack:
        stack.enter_context(corrupt_if("GeoTIFF"))
        stack.enter_context(library.Env(GDAL_CACHEMAX=CACHE))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", library.errors.NotGeoreferencedWarning)
        try:
            yield library
        except trouble as error:
            reason = str(error.__cause__ or error)  # "Read failed. See previous exception"
            if writing:
                raise FileError(f"the result cannot be written: {reason}") from error
            raise ValueError(reason) from error


class Raster:
    """An open GeoTIFF of probabilities.

    Parameters
    ----------
    path : Path
        The file.
    max_bytes : int
        Largest array that is unpacked into memory.
    scale : float, optional
        What stored numbers are divided by.
    whole : bool
        Read the raster as one window, within the limit; else by windows of ``WINDOW_BYTES``.

    Raises
    ------
    FileError
        If the file is corrupt, too large, or holds other than bands of (scaled) real numbers.
    OSError
        If it is missing or cannot be read.
    """

    def __init__(
        self, path: Path, max_bytes: int, scale: float | None = None, whole: bool = False
    ) -> None:
        refuse_other_than_files(path)
        refuse_name_without_text(path, "GDAL")
        with _gdal() as library:  # this driver only: other formats name files and addresses to read
            self.dataset: Any = library.open(path.absolute(), driver="GTiff", sharing=False)
        try:
            with _gdal():  # outside of it GDAL prints what it warns of
                self.scaling = self._checked(max_bytes, scale)
            if whole:
                size = self._bytes(self.dataset.height * self.dataset.width)
                within(size, max_bytes, WHOLE)
            self.windows = self._whole() if whole else self._parts()
        except BaseException:
            self.dataset.close()
            raise

    def __enter__(self) -> Raster:
        """Itself, open already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.dataset.close()

    @property
    def classes(self) -> int:
        """Bands."""
        count: int = self.dataset.count
        return count

    @property
    def may_lack_data(self) -> bool:
        """Whether the file has a nodata value or a mask."""
        return any([flag.name for flag in flags] != ["all_valid"] for flags in self._flags)

    def read(self, window: Any) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Values (C, h, w) of a window, and where there are data, (h, w)."""
        with _gdal():
            values = self.scaling.values(self.dataset.read(window=window))
            if not self.may_lack_data:
                return values, np.ones(values.shape[1:], np.bool_)
            present = self.dataset.read_masks(window=window)
            return values, (present.any(0) if self._nodata_is_a_value else present.all(0))

    @property
    def _nodata_is_a_value(self) -> bool:
        """Whether nodata may be a probability: a 0 in one band is one, and only in all is none."""
        stored = [0 if number is None else number for number in self.dataset.nodatavals]
        numbers = np.array(stored, np.float64).reshape(-1, 1, 1)
        with np.errstate(all="ignore"):
            found = np.asarray(self.scaling.values(numbers), np.float64)
        known = [number is not None for number in self.dataset.nodatavals]
        return bool(((found >= 0) & (found <= 1))[known].any())

    def write(self, path: Path, bands: Bands, parts: Iterable[tuple[Any, Array]]) -> None:
        """Write a GeoTIFF in the place of this one, window by window, whole or not at all.

        What was written is read again before it gets its name: GDAL may hold blocks back until a
        file is closed, when nobody hears of a full disk.

        Parameters
        ----------
        path : Path
            Final name; a file already there is replaced.
        bands : Bands
            What it holds.
        parts : iterable of (window, ndarray of (bands, h, w))
            All windows.

        Raises
        ------
        FileError, OSError
            If the disk refuses, or the parts do.
        """
        with complete_or_absent(path) as temporary:
            with self._result(temporary, bands) as result:
                sums = []
                for window, part in parts:
                    with _gdal(writing=True):
                        result.write(part, window=window)
                    sums.append((window, zlib.crc32(part.tobytes())))
            self._confirm(temporary, sums)

    @staticmethod
    def _confirm(path: Path, sums: list[tuple[Any, int]]) -> None:
        with (
            _gdal(writing=True) as library,
            library.open(path, driver="GTiff", sharing=False) as back,
        ):
            for window, checksum in sums:
                if zlib.crc32(back.read(window=window).tobytes()) != checksum:
                    raise FileError("the result reads otherwise than written: is the disk full?")

    @contextmanager
    def _result(self, path: Path, bands: Bands) -> Iterator[Any]:
        with _gdal(writing=True) as library:
            result = library.open(path, "w", **self._profile(bands))
        try:
            with _gdal(writing=True):
                self._describe(result, bands)
            yield result
        finally:
            with _gdal(writing=True):
                result.close()

    def _profile(self, bands: Bands) -> dict[str, Any]:
        source = self.dataset
        return {
            "driver": "GTiff",
            "height": source.height,
            "width": source.width,
            "crs": source.crs,
            "transform": source.transform,
            "count": bands.count,
            "dtype": bands.dtype.name,
            "nodata": bands.nodata,
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "interleave": "band",
            "compress": "deflate",
            "photometric": "minisblack",  # four bands of 8 bits would be colours and transparency
            "bigtiff": "if_safer",
        }

    def _describe(self, result: Any, bands: Bands) -> None:
        """Tags, control points and polynomials of the place, and the names of the classes."""
        source = self.dataset
        points, system = source.gcps
        tags = source.tags()
        if points:
            result.gcps = (points, system)
            tags.pop("AREA_OR_POINT", None)  # GDAL has moved the points, and would once more
        if source.rpcs is not None:
            result.rpcs = source.rpcs
        result.update_tags(**tags)
        names = source.descriptions
        if bands.count == len(names):
            result.descriptions = names
        else:
            known = {f"class_{at}": name for at, name in enumerate(names) if name}
            result.update_tags(1, **known)

    def _checked(self, max_bytes: int, scale: float | None) -> Scaling:
        source = self.dataset
        if source.count > MOST_BANDS:
            raise FileError(f"has {source.count:,} bands, more than {MOST_BANDS:,} classes")
        if source.subdatasets:
            raise FileError(f"holds {len(source.subdatasets)} images: store each in its own file")
        if len(set(source.dtypes)) > 1:
            raise FileError(f"bands differ in type: {', '.join(sorted(set(source.dtypes)))}")
        self._flags = source.mask_flag_enums
        if any(flag.name == "alpha" for flags in self._flags for flag in flags):
            raise FileError(
                "a band is declared transparency, as GDAL does by itself with four bands of 8 "
                "bits; if it is a class, say so: rasterio.open(path, 'r+').colorinterp = "
                "[rasterio.enums.ColorInterp.undefined] * 4"
            )
        high, wide = source.block_shapes[0]
        within(self._bytes(min(high, source.height) * min(wide, source.width)), max_bytes)
        return Scaling(np.dtype(source.dtypes[0]), source.scales, source.offsets, scale)

    def _bytes(self, pixels: int) -> int:
        size = max(4, np.dtype(self.dataset.dtypes[0]).itemsize)
        return int(pixels * self.classes * size)

    def _whole(self) -> list[Any]:
        window = require("rasterio.windows", "files").Window
        return [window(0, 0, self.dataset.width, self.dataset.height)]

    def _parts(self) -> list[Any]:
        """Windows of whole blocks, of the file and of the result, as far as these are small."""
        window = require("rasterio.windows", "files").Window
        height, width = self.dataset.height, self.dataset.width
        tall, wide = (_unit(side) for side in self.dataset.block_shapes[0])
        pixels = WINDOW_BYTES // self._bytes(1)
        columns = min(width, max(wide, pixels // tall // wide * wide))
        rows = min(height, max(tall, pixels // columns // tall * tall))
        return [
            window(left, top, min(columns, width - left), min(rows, height - top))
            for top in range(0, height, rows)
            for left in range(0, width, columns)
        ]


def _unit(side: int) -> int:
    both = math.lcm(side, BLOCK)
    return both if both <= 4 * BLOCK else BLOCK
