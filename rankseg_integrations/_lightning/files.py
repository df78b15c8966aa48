"""Files of labels and masks, each under the name of its sample, none of them half."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rankseg.files import FileError, write_array
from rankseg_integrations._lightning.names import stem

Format = Literal["npy", "npz", "png"]


def usable_folder(folder: Path) -> None:
    """Make the folder, and see that files can be written into it.

    Raises
    ------
    OSError
        If not, before anything was predicted.
    """
    trial = folder / f".rankseg-{secrets.token_hex(8)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(
            error.errno, f"cannot write into the folder ({reason}): choose another", str(folder)
        ) from error


class Folder:
    """Where the files of one run go; no two samples share one.

    Parameters
    ----------
    root : Path
        The folder.
    file_format : {'npy', 'npz', 'png'}
        Suffix and format.
    overwrite : bool
        Whether files that were there before may be replaced.
    """

    def __init__(self, root: Path, file_format: Format, overwrite: bool) -> None:
        self.root = root
        self.format = file_format
        self.overwrite = overwrite
        self.taken: dict[str, str] = {}
        """Name that the batch gave, by the file's path inside the folder."""

    def path_for(self, name: str, part: str) -> Path:
        """Path for the sample that the batch calls `name`; it is taken from now on.

        Raises
        ------
        ValueError
            If the name is none for a file, or makes the same file as another.
        FileExistsError
            If there is such a file, from another run or by another process.
        """
        inside = f"{part}{stem(name)}.{self.format}"
        if inside in self.taken:
            raise ValueError(same_file(inside, [self.taken[inside], name]))
        path = self.root / inside
        if not self.overwrite and path.exists():
            raise FileExistsError(
                f"{path} exists already (for {name!r}): choose another folder, or overwrite=True"
            )
        self.taken[inside] = name
        return path

    def write(self, path: Path, prediction: Tensor) -> None:
        """Write labels or masks of one sample; the file appears when it is complete.

        Raises
        ------
        ValueError
            If the format cannot hold them.
        OSError
            If the file cannot be written.
        """
        path.parent.mkdir(exist_ok=True)
        kind = "masks" if prediction.dtype == torch.bool else "labels"
        try:
            write_array(path, _smallest(prediction), kind)
        except FileError as error:
            raise ValueError(f"{path.name}: {error}") from error


def same_file(inside: str, names: list[str]) -> str:
    """The message about names that would share a file."""
    shown = " and ".join(map(repr, names))
    return (
        f"the names {shown} make the same file, {inside}: folders and image suffixes do not "
        "count, so give each sample a name of its own"
    )


def _smallest(prediction: Tensor) -> npt.NDArray[np.generic]:
    """Array of the smallest unsigned type, or else int64; moved from the device in that type."""
    if prediction.dtype == torch.bool or not prediction.numel():
        return np.asarray(prediction.cpu())
    low, high = (int(end) for end in prediction.aminmax())
    if low >= 0 and high < 256:
        return np.asarray(prediction.to(torch.uint8).cpu())
    array: npt.NDArray[np.generic] = prediction.to(torch.int64).cpu().numpy()
    return array.astype(np.uint16) if low >= 0 and high < 65536 else array
