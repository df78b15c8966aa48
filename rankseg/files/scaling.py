"""Stored numbers that are not probabilities yet, but a scale away from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rankseg.files.errors import FileError

Numbers = npt.NDArray[np.float64]


class Scaling:
    """From stored numbers to values: by what the file says, or by what the user says.

    Parameters
    ----------
    dtype : dtype
        Of the stored numbers.
    slope, offset : sequence of float
        The file's own, one or one per class: the value is ``stored * slope + offset``.
    scale : float, optional
        The user's: the value is ``stored / scale``.

    Raises
    ------
    FileError
        If the numbers are no floats and nobody tells their scale, or both do.
    """

    def __init__(
        self,
        dtype: np.dtype[np.generic],
        slope: Sequence[float] = (1.0,),
        offset: Sequence[float] = (0.0,),
        scale: float | None = None,
    ) -> None:
        if dtype.kind not in "fiu" or dtype.itemsize > 8:
            raise FileError(f"holds {dtype} values; store float32, float64 or scaled integers")
        self.slope: Numbers = np.asarray(slope, np.float64)
        self.offset: Numbers = np.asarray(offset, np.float64)
        own = bool((self.slope != 1).any() or (self.offset != 0).any())
        if own and scale is not None:
            raise FileError(f"has a scale of its own, {self.slope[0]:g}: leave out --scale")
        if dtype.kind != "f" and not own and scale is None:
            raise FileError(unscaled(dtype.name))
        self.scale = scale
        self.plain = not own and scale is None
        self.dtype = scaled_type(dtype)

    def values(self, stored: npt.NDArray[np.generic], axis: int = 0) -> npt.NDArray[np.generic]:
        """Values in native floats; slopes and offsets run along the axis if there are several."""
        if self.plain:
            native = stored.dtype.newbyteorder("=")
            return stored.astype(native, copy=False)
        wide = stored.astype(np.float64)
        if self.scale is not None:
            wide /= self.scale
        else:
            along = [1] * stored.ndim
            along[axis] = -1
            wide *= self.slope.reshape(along)
            wide += self.offset.reshape(along)
        return wide.astype(self.dtype)


def scaled_type(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Float type that holds every scaled number of a type: float32 for at most 24 bits."""
    wide = dtype.itemsize > (4 if dtype.kind == "f" else 2)
    return np.dtype(np.float64 if wide else np.float32)


def unscaled(name: str) -> str:
    """Why integers are refused, and what to say if they are scaled probabilities."""
    most = 65535 if name.endswith("16") else 255
    return (
        f"holds {name} values, not floating-point probabilities or logits; labels and masks "
        f"are neither; if these are probabilities times a number, say it: --scale {most}"
    )


def like_labels(name: str, values: Sequence[int]) -> str:
    """Why integers are refused that are few."""
    shown = ", ".join(map(str, values))
    return (
        f"holds {name} values, {shown} only: these look like labels or a mask, which are decided "
        "already; give the probabilities or logits of the classes"
    )
