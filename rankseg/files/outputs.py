"""Whether a file can be written, asked before the work whose result it is to hold."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path


def check_output(option: str, path: Path | None, suffixes: Sequence[str], overwrite: bool) -> None:
    """Refuse a file that could not be written.

    Raises
    ------
    ValueError
        If the suffix is another, the folder is missing, or something is in the way.
    OSError
        If the folder takes no file.
    """
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{option} must end in {' or '.join(suffixes)}, got {path}")
    if not path.parent.is_dir():
        raise ValueError(f"{option}: there is no folder {path.parent}")
    if path.is_dir():
        raise ValueError(f"{option}: {path} is a folder")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists already: use --overwrite to replace it")
    trial = path.with_name(f".rankseg-{secrets.token_hex(8)}.tmp")
    try:
        trial.touch(exist_ok=False)
    except OSError as error:
        error.filename = str(path)
        raise
    trial.unlink()
