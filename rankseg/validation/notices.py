"""Warnings: what is allowed, and most probably not meant."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

OURS = ("rankseg", "rankseg_integrations", "torch")


def notice(text: str) -> None:
    """Warn at the line that called this package, once for each text and line by Python's default.

    So a text holds no numbers that differ from image to image. Graphs (compiled, exported, mapped)
    are run by nobody's line, and not warned of.
    """
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and _module(frame).partition(".")[0] in OURS:
        if _module(frame) == "rankseg.operator":
            return
        level, frame = level + 1, frame.f_back
    warnings.warn(text, UserWarning, stacklevel=level)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
