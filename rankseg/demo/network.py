"""The bundled person segmentation network; origin and licence in the NOTICE file beside it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from rankseg._require import require

MODEL = "selfie_segmentation.tflite"
SIDE = 256  # pixels, of the square the network reads and returns


def person_probabilities(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Probability that a pixel shows a person, at the photograph's own size.

    The photograph is squeezed to 256 x 256 (bilinear, antialiased), scaled to [0, 1] and passed
    through the network on the CPU; its sigmoid map is stretched back (bilinear) and clamped to
    [0, 1] against rounding.

    Parameters
    ----------
    rgb : ndarray, uint8 (H, W, 3)
        The photograph.

    Returns
    -------
    ndarray, float32 (H, W)
        Larger is more likely a person.

    Raises
    ------
    ImportError
        If ai-edge-litert or pillow is not installed.
    """
    image = require("PIL.Image", "demo")
    bilinear = image.Resampling.BILINEAR
    square = image.fromarray(rgb).resize((SIDE, SIDE), bilinear)
    small = _infer(np.asarray(square, np.float32)[None] / np.float32(255))
    height, width = rgb.shape[:2]
    stretched = image.fromarray(small).resize((width, height), bilinear)
    clamped: npt.NDArray[np.float32] = np.asarray(stretched).clip(0, 1)
    return clamped


def _infer(batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Run float32 (1, 256, 256, 3) through the network; returns float32 (256, 256)."""
    runtime = require("ai_edge_litert.interpreter", "demo")
    content = resources.files(__package__).joinpath(MODEL).read_bytes()
    network: Any = runtime.Interpreter(model_content=content, num_threads=1)
    with without_notices():
        network.allocate_tensors()
    network.set_tensor(network.get_input_details()[0]["index"], batch)
    network.invoke()
    output = network.get_tensor(network.get_output_details()[0]["index"])
    small: npt.NDArray[np.float32] = output[0, :, :, 0]
    return small


@contextmanager
def without_notices() -> Iterator[None]:
    """Standard error, of C++ too, without lines that begin with INFO; the others come at the end.

    The runtime says there which delegate it made, and has no option to be quiet.
    """
    try:
        terminal = os.dup(2)
    except OSError:  # closed: nothing is said
        yield
        return
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            said.seek(0)
            for line in said:
                if not line.startswith(b"INFO: "):
                    os.write(2, line)
