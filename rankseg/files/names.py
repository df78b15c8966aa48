"""Which files are meant, and how their results are called."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from rankseg.files.errors import FileError, describe


def find_inputs(given: Iterable[str], suffixes: Iterable[str]) -> tuple[list[Path], dict[str, str]]:
    """Files meant by names, folders and patterns, each once, in the order given.

    A file named twice is one input; a link to it under another name is another.

    A folder means the files directly in it that have a known suffix, by name. A name that does
    not exist and holds ``*``, ``?`` or ``[`` is a pattern (``**`` crosses folders), for shells
    that expand none.

    Parameters
    ----------
    given : iterable of str
        What the user typed.
    suffixes : iterable of str
        Known suffixes, lower case with the dot.

    Returns
    -------
    tuple
        The files, and for every name that means no file the reason.
    """
    known = tuple(suffixes)
    found: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for name in given:
        try:
            for path in _expand(name, known):
                found.setdefault(_identity(path), path)
        except (FileError, OSError) as error:
            missing[name] = describe(error)
    return list(found.values()), missing


def _identity(path: Path) -> str:
    """The folder without its links, and the name in it, whatever that links to."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _expand(name: str, suffixes: tuple[str, ...]) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        return _in_folder(path, suffixes)
    if path.exists() or not glob.has_magic(name):
        return [path]  # a missing file is reported when it is read
    matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
    files = [match for match in matches if not match.is_dir()]
    if not files:
        raise FileError("no file matches this pattern")
    return files


def _in_folder(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    files = sorted(p for p in folder.iterdir() if suffix_of(p) in suffixes and not p.is_dir())
    if not files:
        raise FileError(f"the folder holds no {', '.join(suffixes)} file")
    return files


def suffix_of(path: Path) -> str:
    """Suffix, lower case with the dot; of a ``.nii.gz`` both."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def output_path(source: Path, folder: Path, file_format: str) -> Path:
    """Where the result of ``source`` goes: the same stem in ``folder``, the format as suffix."""
    stem = source.name[: len(source.name) - len(suffix_of(source))]
    return folder / f"{stem}.{file_format}"
