"""Files of ``torch.save``: what they describe is read before torch builds it."""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from pathlib import Path

import torch

from rankseg.files.errors import FileError
from rankseg.files.headers import corrupt_if
from rankseg.files.limits import refuse_name_without_text
from rankseg.files.zips import open_zip

LONGEST_DESCRIPTION = 16 * 1024**2
"""Bytes; a tensor takes some 200."""
MORE = (
    "holds more than tensors (or is corrupt); only a tensor or a dict of tensors is "
    "read and nothing else is unpickled: save the tensor alone"
)

# What torch.save writes for tensors. torch itself also calls bytearray and Counter for whoever
# asks, of which some bytes of file take all memory or time.
_KNOWN = re.compile(
    r"collections OrderedDict|torch (Size|device|[a-z]+\d\w*|bool)|torch(\.cuda)? \w+Storage"
    r"|torch\.storage (Untyped|Typed)Storage|torch\.nn\.parameter Parameter"
    r"|torch\.serialization _get_layout|torch per_(tensor|channel)_\w+"
    r"|torch\._utils _rebuild_(tensor(_v[23])?|parameter(_with_state)?|sparse_tensor|qtensor"
    r"|nested_tensor|meta_tensor_no_storage)|torch\._tensor _rebuild_from_type_v2"
)
_NO_VALUE = ("BINPUT", "LONG_BINPUT", "PROTO")


def read_torch(path: Path) -> object:
    """What ``torch.load`` makes of a file, with tensors that are mapped, not read.

    Raises
    ------
    FileError
        If the file is corrupt, or describes anything else than tensors and plain values.
    OSError
        If it cannot be read.
    """
    refuse_name_without_text(path, "torch")
    with corrupt_if("torch"):
        if not zipfile.is_zipfile(path):
            raise FileError("not a torch file: truncated, corrupt, or saved by torch before 1.6")
        _check_parts(path)
        try:  # mmap: the size of a storage in the file is the most it can take
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            raise FileError(MORE) from error


def _check_parts(path: Path) -> None:
    """Refuse packed members: torch.save packs nothing, and a mapped one would read as noise."""
    with open_zip(path) as archive:
        members = archive.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in members):
            raise FileError("not written by torch.save: its parts are compressed")
        for info in members:
            if info.filename.lower().endswith("data.pkl"):
                if info.file_size > LONGEST_DESCRIPTION:
                    raise FileError(MORE)
                _check_description(archive.read(info))


def _check_description(pickled: bytes) -> None:
    """Refuse other names than those of tensors, and tuples that hold a tuple more than once.

    Some levels of these are a key that takes forever to hash.
    """
    tuples: set[int] = set()
    made = ""  # by which operation the value on top was
    for operation, argument, _ in pickletools.genops(pickled):
        name = operation.name
        if name == "GLOBAL" and not _KNOWN.fullmatch(str(argument)):
            raise FileError(MORE)
        if name.endswith("BINGET") and int(argument or 0) in tuples:
            raise FileError(MORE)
        if name.endswith("BINPUT") and made.startswith("TUPLE"):
            tuples.add(int(argument or 0))
        made = made if name in _NO_VALUE else name
