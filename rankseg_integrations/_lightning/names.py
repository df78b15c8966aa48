"""Names of files, made of what a batch calls its samples; they stay inside the folder."""

from __future__ import annotations

import operator
import os
import re
from typing import Any

import numpy as np
from torch import Tensor

SUFFIXES = (
    *(".nii.gz", ".ome.tif", ".ome.tiff", ".nii", ".mha", ".mhd", ".nrrd", ".dcm", ".h5", ".hdf5"),
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".svs"),
    *(".npy", ".npz", ".pt", ".pth", ".zarr", ".safetensors"),
)
"""Of images and arrays. Other endings are part of a name: scan.1 and scan.2 are two."""

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')


def stem(name: str) -> str:
    """File name without its suffix for a name that may be a path.

    Raises
    ------
    ValueError
        If nothing is left that could be a file's name.
    """
    last = [part for part in re.split(r"[/\\]", name) if part][-1:]
    found = _FORBIDDEN.sub("_", last[0]) if last else ""
    suffix = next((end for end in SUFFIXES if found.lower().endswith(end)), "")
    found = found[: len(found) - len(suffix)].rstrip(". ")
    if not found:
        raise ValueError(f"{name!r} is no name for a file")
    return found


def listed(names: Any, size: int, where: str) -> list[str]:
    """Names of the samples of a batch, as loaders collate them.

    Parameters
    ----------
    names : list or tuple of str, path or int; Tensor or ndarray of ints; one str for one sample
        What the batch holds.
    size : int
        Samples in the batch.
    where : str
        For messages.

    Raises
    ------
    TypeError, ValueError
        If they are something else, or not as many as there are samples.
    """
    if isinstance(names, (str, os.PathLike)):
        names = [names]
    plain = names.tolist() if isinstance(names, (Tensor, np.ndarray)) else names
    if not isinstance(plain, (list, tuple)):
        raise TypeError(f"{where}: names must be a list of str or int; got {type(plain).__name__}")
    if len(plain) != size:
        raise ValueError(f"{where}: there are {len(plain)} names for {size} samples")
    return [_text(name, where) for name in plain]


def _text(name: Any, where: str) -> str:
    if isinstance(name, (str, os.PathLike)):
        return os.fsdecode(name)
    try:
        return str(operator.index(name))
    except TypeError as error:
        raise TypeError(
            f"{where}: a name must be a str, a path or an int; got {type(name).__name__} {name!r}"
        ) from error
