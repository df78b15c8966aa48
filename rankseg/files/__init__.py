"""The only home of file handling: find inputs, read arrays, write results so that none is half.

Everything that can go wrong with a file is a :class:`FileError` or an ``OSError``; ``describe``
turns either into one line.
"""

from rankseg.files.errors import FileError, describe
from rankseg.files.labels import LABEL_SUFFIXES, read_labels
from rankseg.files.limits import default_max_bytes
from rankseg.files.names import find_inputs, output_path, suffix_of
from rankseg.files.nifti import NIFTI_SUFFIXES, read_nifti, write_nifti
from rankseg.files.raster import RASTER_SUFFIXES, Bands, Raster
from rankseg.files.read import ARRAY_SUFFIXES, read_array
from rankseg.files.table import TABLE_SUFFIXES, write_table
from rankseg.files.write import atomic_write, complete_or_absent, write_array

SUFFIXES = (*ARRAY_SUFFIXES, *NIFTI_SUFFIXES, *RASTER_SUFFIXES)

__all__ = [
    "ARRAY_SUFFIXES",
    "LABEL_SUFFIXES",
    "NIFTI_SUFFIXES",
    "RASTER_SUFFIXES",
    "SUFFIXES",
    "TABLE_SUFFIXES",
    "Bands",
    "FileError",
    "Raster",
    "atomic_write",
    "complete_or_absent",
    "default_max_bytes",
    "describe",
    "find_inputs",
    "output_path",
    "read_array",
    "read_labels",
    "read_nifti",
    "suffix_of",
    "write_array",
    "write_nifti",
    "write_table",
]
