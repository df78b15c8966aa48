"""JSON files of ours: read without believing them; numbers come back as they were written."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LONGEST = 16 * 1024**2
"""Bytes of a description, in JSON or of another kind; as Python objects, some twenty times that."""


def write(path: str | Path, form: str, version: int, content: Mapping[str, Any]) -> None:
    """Write a JSON object that says what it is; ValueError for numbers that are not finite."""
    whole = {"format": form, "version": version, **content}
    Path(path).write_text(json.dumps(whole, indent=2, allow_nan=False) + "\n", encoding="utf-8")


@contextmanager
def reading(path: str | Path, kind: str) -> Iterator[None]:
    """Turn whatever is wrong with the content into one ValueError that names the file."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path} is no {kind}: {error}") from error


def read(path: str | Path, form: str, version: int) -> dict[str, Any]:
    """What ``write`` wrote, without its first two entries.

    Raises
    ------
    ValueError
        If it is no JSON object of this form and version, or an entry occurs twice.
    """
    return checked(
        json.loads(text(path), parse_constant=_refuse, object_pairs_hook=_once), form, version
    )


def text(path: str | Path) -> str:
    """What a JSON file holds.

    Raises
    ------
    ValueError
        If it is longer than ``LONGEST``, no UTF-8, or a pipe or device, which may never end.
    OSError
        If it is missing or cannot be read.
    """
    found = os.stat(path)
    if why := why_not_read(found.st_mode):
        raise ValueError(f"it is {why}")
    if found.st_size > LONGEST:
        raise ValueError(f"it takes {found.st_size:,} bytes, more than {LONGEST:,}")
    return Path(path).read_text(encoding="utf-8-sig")  # some editors begin with a mark


def why_not_read(mode: int) -> str:
    """What is wrong with reading from a path of such a mode; folders are left to the system."""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    return "not a regular file: a pipe or device is not read"  # it may wait forever


def checked(content: Any, form: str, version: int) -> dict[str, Any]:
    """The object without its form and version, which must be these."""
    if not isinstance(content, dict) or content.get("format") != form:
        raise ValueError(f'it has no "format": "{form}"')
    if type(content.get("version")) is not int or content["version"] != version:
        raise ValueError(f"its version is {content.get('version')!r}, this rankseg reads {version}")
    return {name: value for name, value in content.items() if name not in ("format", "version")}


def numbers(given: Mapping[str, Any], name: str, length: int | None) -> tuple[float, ...]:
    """Finite numbers of an entry; without the entry none, if a length is wanted."""
    if length is not None and name not in given:
        return ()
    values = entries(given, name, length)
    if not all(type(value) in (int, float) and math.isfinite(value) for value in values):
        raise ValueError(f"{name} must be finite numbers")
    return tuple(map(float, values))


def entries(given: Mapping[str, Any], name: str, length: int | None) -> list[Any]:
    """A list that is not empty, of a length if one is wanted."""
    values = given[name]
    if not isinstance(values, list) or not values or length not in (None, len(values)):
        many = "be a list of numbers" if length is None else f"hold {length}, as threshold does"
        raise ValueError(f"{name} must {many}")
    return values


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found
