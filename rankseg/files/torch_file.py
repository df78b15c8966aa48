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
from rankseg.files.limits import LONGEST_DESCRIPTION, refuse_name_without_text
from rankseg.files.zips import open_zip

MORE = (
    "holds more than tensors (or is corrupt); only a tensor or a dict of tensors is "
    "read and nothing else is unpickled: save the tensor alone"
)

SUBCLASS = (
    "holds a tensor of another class or with attributes of its own, which are not read: "
    "save tensor.as_subclass(torch.Tensor)"
)

# What torch.save writes for tensors. torch itself also calls bytearray and Counter for whoever
# asks, of which some bytes of file take all memory or time.
_KNOWN = re.compile(
    r"collections OrderedDict|(__builtin__|builtins) set|torch (Size|device|[a-z]+\d\w*|bool)"
    r"|torch(\.cuda)? \w+Storage|torch\.storage (Untyped|Typed)Storage"
    r"|torch\.nn\.parameter (Parameter|Buffer)"
    r"|torch\.serialization _get_layout|torch per_(tensor|channel)_\w+"
    r"|torch\._utils _rebuild_(tensor(_v[23])?|parameter(_with_state)?|sparse_tensor|qtensor"
    r"|nested_tensor|meta_tensor_no_storage)|torch\._tensor _rebuild_from_type_v2"
)
_OF_A_KIND = "torch._tensor _rebuild_from_type_v2"
_PLAIN = re.compile(r"BININT\d?|BINFLOAT|BINUNICODE|LONG1|NONE|NEW(TRUE|FALSE)|EMPTY_TUPLE")
_NEW = re.compile("GLOBAL|.*UNICODE.*|.*BYTES.*|.*STRING.*|EMPTY_TUPLE")
_CONTAINERS = ("EMPTY_LIST", "EMPTY_DICT", "REDUCE")
FEW = 16
"""Plain values of a tuple that may be held again and again, as a spacing or a shape is."""


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
                if info.file_size > LONGEST_DESCRIPTION:  # a tensor takes some 200
                    raise FileError(MORE)
                _check_description(archive.read(info))


def _check_description(pickled: bytes) -> None:
    """Refuse other names than those of tensors, and what is small here and endless in memory."""
    shared = _Shared()
    kinds = False
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name == "GLOBAL":
            kinds |= argument == _OF_A_KIND
            if not _KNOWN.fullmatch(str(argument)):
                raise FileError(SUBCLASS if kinds else MORE)
        shared.follow(operation.name, argument)


class _Shared:
    """Tuples that hold tuples and are held again: some levels of them take forever to hash.

    So are containers that are copied by several calls.
    """

    def __init__(self) -> None:
        self.made = ""  # by which operation the value on top was
        self.plain = 0  # values in a row that hold no others
        self.since = ""  # the operation before them
        self.flat = self.copies = False
        self.tuples: set[int] = set()
        self.holding: set[int] = set()  # other values, which are plain in tuples
        self.containers: set[int] = set()

    def follow(self, name: str, argument: object) -> None:
        """Take one more operation into account; FileError if it is one to refuse."""
        place = argument if isinstance(argument, int) else 0
        if name.endswith("BINPUT"):
            self._keep(place)
            return
        if name.endswith("BINGET") and place in self.tuples:
            raise FileError(MORE)
        if name == "REDUCE" and self.copies:
            raise FileError(MORE)
        if name.startswith("TUPLE"):
            few = self.since == "MARK" and self.plain <= FEW
            self.flat = few if name == "TUPLE" else self.plain >= int(name[-1])
            self.copies = self.made == "SHARED"
        else:
            self.copies = False
        got = name.endswith("BINGET")
        if _PLAIN.fullmatch(name) or (got and place not in self.holding):
            self.plain += 1
        else:
            self.plain, self.since = 0, name
        self.made = "SHARED" if got and place in self.containers else name

    def _keep(self, place: int) -> None:
        if self.made.startswith("TUPLE"):
            (self.holding if self.flat else self.tuples).add(place)
        elif self.made in _CONTAINERS:
            self.holding.add(place)
            self.containers.add(place)
        elif not _NEW.fullmatch(self.made):  # a second place of a value, which pickle never gives
            raise FileError(MORE)
