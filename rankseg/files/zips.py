"""Zip archives, opened without believing what they announce."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rankseg.files.errors import FileError
from rankseg.files.limits import DEFLATE, LONGEST_DESCRIPTION


class _Careful(io.BufferedReader):
    """A file that gives no more at once than any honest archive asks for."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As that of the file."""
        if size is not None and size > LONGEST_DESCRIPTION:  # more than 200,000 members
            raise FileError(f"its list of members takes {size:,} bytes, too many to hold arrays")
        return super().read(size)


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Archive of distinct members, none of which announces more than the file can hold.

    Raises
    ------
    FileError
        If one does, or the list of members is too long.
    BadZipFile, OSError
        If it is no archive, or cannot be read.
    """
    with _Careful(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len({info.filename for info in members}) < len(members):
            raise FileError("truncated or corrupt: it holds two members of one name")
        for info in members:
            _check(info, path.stat().st_size)
        yield archive


def _check(info: zipfile.ZipInfo, size: int) -> None:
    ratio = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: DEFLATE}.get(info.compress_type)
    if ratio is None:  # some of the others expand a byte to any size
        raise FileError("a member is packed in a way that numpy and torch never write")
    if info.file_size > ratio * min(info.compress_size, size):
        raise FileError(
            f"truncated or corrupt: a member announces {info.file_size:,} bytes, "
            "more than its part of the file can hold"
        )
