"""Labels are whole numbers, whatever type they are stored in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rankseg.files.errors import FileError

_WIDE = (torch.uint16, torch.uint32, torch.uint64)
"""Types that torch stores and hardly computes with."""


def integers(stored: Tensor) -> Tensor:
    """The tensor, if it holds integers or bool, in a type that torch computes with."""
    if stored.is_floating_point() or stored.is_complex():
        kind = str(stored.dtype).removeprefix("torch.")
        whole = not stored.is_complex() and bool((stored == stored.round()).all())
        advice = (
            "all are whole: store them as integers, array.astype('int64')"
            if whole
            else "these look like probabilities"
        )
        raise FileError(f"holds {kind} values, not labels: {advice}")
    return stored.detach().to(torch.int64) if stored.dtype in _WIDE else stored.detach()


def whole_numbers(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Integers of an array that may have stored them as floats, as NIfTI and GeoTIFF often do."""
    if values.dtype.kind == "f":
        odd = values[~(np.isfinite(values) & (values == np.rint(values)))]
        if odd.size:
            raise FileError(f"holds {odd.flat[0]:g}, which is no label: labels are whole numbers")
    elif values.dtype.kind not in "iub":
        raise FileError(f"holds {values.dtype} values, not labels")
    found: npt.NDArray[np.int64] = values.astype(np.int64)
    return found
