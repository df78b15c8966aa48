"""The table of expected scores, as CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankseg.files.errors import FileError
from rankseg.files.write import atomic_write

TABLE_SUFFIXES = (".csv", ".json")


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV or JSON (a list of objects), whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in ``.csv`` or ``.json``.
    columns : sequence of str
        The order of the columns; a table without rows keeps its CSV header.
    rows : sequence of mappings
        One value per column. NaN becomes an empty cell, or ``null`` in JSON.

    Raises
    ------
    FileError
        For another suffix.
    OSError
        If the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise FileError(f"a table ends in {' or '.join(TABLE_SUFFIXES)}, got {path.name!r}")
    plain = [{column: _without_nan(row[column]) for column in columns} for row in rows]
    text = _csv(columns, plain) if suffix == ".csv" else json.dumps(plain, indent=1) + "\n"
    content = text.encode(errors="surrogateescape")  # the bytes of a file name need not be text
    atomic_write(path, lambda file: file.write(content))


def _without_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
