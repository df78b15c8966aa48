"""The only home of file handling: find inputs, read arrays, write results so that none is half.

Everything that can go wrong with a file is a :class:`FileError` or an ``OSError``; ``describe``
turns either into one line.
"""

from rankseg.files.errors import FileError, describe
from rankseg.files.names import find_inputs, output_path
from rankseg.files.read import SUFFIXES, default_max_bytes, read_array
from rankseg.files.table import TABLE_SUFFIXES, write_table
from rankseg.files.write import atomic_write, write_array

__all__ = [
    "SUFFIXES",
    "TABLE_SUFFIXES",
    "FileError",
    "atomic_write",
    "default_max_bytes",
    "describe",
    "find_inputs",
    "output_path",
    "read_array",
    "write_array",
    "write_table",
]
