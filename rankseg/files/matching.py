"""Which file of probabilities belongs to which file of labels."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rankseg.files.errors import FileError
from rankseg.files.names import suffix_of
from rankseg.files.zarrs import is_zarr, zarr_members

ZARR_SUFFIX = ".zarr"


@dataclass(frozen=True)
class Entry:
    """A file, a zarr array, or an array in a zarr group.

    ``alone`` if it is a zarr array that was given by itself, and so holds all images.
    """

    path: Path
    member: str | None = None
    alone: bool = False

    @property
    def suffix(self) -> str:
        """Lower case with the dot."""
        return ZARR_SUFFIX if self.path.is_dir() else suffix_of(self.path)

    @property
    def stem(self) -> str:
        """What it is called: the name without suffix, or that of the array in a group."""
        if self.member is not None:
            return self.member
        return self.path.name[: len(self.path.name) - len(suffix_of(self.path))]

    @property
    def place(self) -> str:
        """Path without suffix, with slashes, for patterns."""
        if self.member is not None:
            return f"{self.path.as_posix()}/{self.member}"
        return self.path.with_name(self.stem).as_posix()

    def __str__(self) -> str:
        """Path as the user knows it."""
        return str(self.path) if self.member is None else f"{self.path}/{self.member}"


@dataclass(frozen=True)
class Match:
    """Probabilities and labels of one name."""

    name: str
    probs: Entry
    labels: Entry


@dataclass(frozen=True)
class Matched:
    """All of them, and the files that are alone."""

    pairs: list[Match]
    alone: dict[str, str]
    """Path, and what it lacks."""


@dataclass(frozen=True)
class Side:
    """What the user typed for one side, the suffixes known there, and which array if he said so."""

    given: str
    suffixes: Sequence[str]
    key: str | None

    @property
    def is_one(self) -> bool:
        """Whether one file is meant, not those of a folder or pattern."""
        path = Path(self.given)
        return path.exists() and (is_zarr(path) or not path.is_dir())

    def entries(self) -> list[Entry]:
        """What a name, folder or pattern means, by name.

        Raises
        ------
        FileError
            If it means nothing.
        OSError
            If it is missing, or the folder cannot be read.
        """
        path = Path(self.given)
        if self.is_one or (not glob.has_magic(self.given) and not path.is_dir()):
            path.stat()  # a missing file, in the system's words
            found, nothing = [path], ""
        elif path.is_dir():
            found = [one for one in sorted(path.iterdir()) if _is_known(one, self.suffixes)]
            nothing = f"the folder holds no {', '.join(self.suffixes)}"
        else:
            named = map(Path, sorted(glob.glob(self.given, recursive=True)))
            found = [one for one in named if not one.is_dir() or is_zarr(one)]
            nothing = "no file matches this pattern"
        if not found:
            raise FileError(f"{self.given}: {nothing}")
        return [entry for one in found for entry in self._members(one)]

    def _members(self, path: Path) -> list[Entry]:
        """Arrays of a zarr group, unless one is chosen by its key; else the file itself."""
        names = zarr_members(path) if path.is_dir() and self.key is None else []
        alone = self.is_one and path.is_dir()
        return [Entry(path, name) for name in names] or [Entry(path, alone=alone)]


def match(probs: Side, labels: Side, pattern: re.Pattern[str] | None) -> Matched:
    """Match two files, or the files of folders or patterns.

    Parameters
    ----------
    probs, labels : Side
    pattern : compiled regular expression, optional
        Files belong together in whose paths without suffix its first group, or the whole of it,
        finds the same; that is then their name. Without it files of one name, suffixes aside,
        belong together, and two single files always do.

    Raises
    ------
    FileError
        If a side has no file, two files of a side have one name, or the pattern finds nothing.
    OSError
        If a file is missing or a folder cannot be read.
    """
    found = [side.entries() for side in (probs, labels)]
    one_each = probs.is_one and labels.is_one and all(len(side) == 1 for side in found)
    if one_each and pattern is None:
        return Matched([Match(found[0][0].stem, found[0][0], found[1][0])], {})
    first, second = (_by_name(side, pattern) for side in found)
    alone = {}
    for mine, other, lack in ((first, second, "labels"), (second, first, "probabilities")):
        lonely = {
            str(entry): f"no {lack} of this name"
            for name, entry in mine.items()
            if name not in other
        }
        alone.update(lonely)
    both = [name for name in first if name in second]
    return Matched([Match(name, first[name], second[name]) for name in both], alone)


def _is_known(path: Path, suffixes: Sequence[str]) -> bool:
    return is_zarr(path) if path.is_dir() else suffix_of(path) in suffixes


def _by_name(side: Sequence[Entry], pattern: re.Pattern[str] | None) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in side:
        name = found_in(pattern, entry.place) if pattern else entry.stem
        if name in found:
            raise FileError(
                f"{found[name]} and {entry} are both called {name!r}: choose with a pattern such "
                f"as {entry.path.parent.joinpath('*').as_posix()}{entry.suffix}, or say --match"
            )
        found[name] = entry
    return found


def found_in(pattern: re.Pattern[str], text: str) -> str:
    """What the first group, or the whole pattern, finds; FileError for nothing."""
    found = pattern.search(text)
    name = found and ((pattern.groups and found[1]) or found[0])
    if not name:
        raise FileError(f"the pattern {pattern.pattern!r} finds nothing in {text}")
    return name
