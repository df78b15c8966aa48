"""What is refused before anything is read: other things than files, and too much."""

from __future__ import annotations

import os
from pathlib import Path

from rankseg.files.errors import FileError
from rankseg.strict_json import LONGEST, why_not_read

GIB = 1024**3
LONGEST_DESCRIPTION = LONGEST
"""Bytes of what is read at once to say what a file holds: headers, lists of members, pickles."""
DEFLATE = 1032
"""Deflate makes nothing smaller than this part of it: https://zlib.net/zlib_tech.html"""


def default_max_bytes() -> int:
    """32 GiB, or the machine's memory where it is smaller and the system tells."""
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return 32 * GIB
    return min(32 * GIB, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def refuse_other_than_files(path: Path) -> None:
    """Missing, a folder, no permission: in the system's own words."""
    if why := why_not_read(path.stat().st_mode):
        raise FileError(why)
    with path.open("rb") as file:
        if not file.read(1):
            raise FileError("the file is empty")


def refuse_name_without_text(path: Path, library: str) -> None:
    """Refuse a name of bytes that are no UTF-8, which some libraries cannot open."""
    try:
        os.fspath(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise FileError(
            f"its path is no UTF-8 text, and {library} opens no other: rename it"
        ) from error


def within(size: int, max_bytes: int, why: str = "") -> None:
    """Refuse an array of more bytes than the limit, and say why it is needed at once."""
    if size > max_bytes:
        raise FileError(
            f"the array takes {size:,} bytes, more than the limit of {max_bytes:,}; "
            f"raise it with --max-bytes if you trust the file{why}"
        )
