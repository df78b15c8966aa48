"""MONAI: post transforms and an inferer that give the mask with the best expected score.

``AsRankSEGd(keys="pred", metric="dice", activation="softmax")`` takes the place of
``AsDiscreted(keys="pred", argmax=True)``, ``SlidingWindowRankSEG`` that of ``SlidingWindowInferer``
where a buffer of all probabilities is too large, and ``VistaPostRankSEGd`` that of VISTA3D's
``VistaPostTransformd``. docs/monai.md has the rest. MONAI is imported with the first of the names.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rankseg_integrations._common import require

if TYPE_CHECKING:
    from rankseg_integrations.monai.sliding_window import SlidingWindowRankSEG
    from rankseg_integrations.monai.transforms import (
        AsRankSEG,
        AsRankSEGD,
        AsRankSEGd,
        AsRankSEGDict,
    )
    from rankseg_integrations.monai.vista3d import (
        VistaPostRankSEGD,
        VistaPostRankSEGd,
        VistaPostRankSEGDict,
    )

__all__ = [
    "AsRankSEG",
    "AsRankSEGD",
    "AsRankSEGDict",
    "AsRankSEGd",
    "SlidingWindowRankSEG",
    "VistaPostRankSEGD",
    "VistaPostRankSEGDict",
    "VistaPostRankSEGd",
]

_HOMES = {"AsRankSEG": "transforms", "SlidingWindow": "sliding_window", "VistaPost": "vista3d"}


def __getattr__(name: str) -> Any:
    """Import the module of a class when it is asked for: its base class needs MONAI."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("monai", extra="monai")
    (home,) = (module for prefix, module in _HOMES.items() if name.startswith(prefix))
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
