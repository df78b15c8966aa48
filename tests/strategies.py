"""Hypothesis strategies for rows of probabilities: ties, zeros, ones, tiny and spread values."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

EDGES = [0.0, 1.0, 0.5, 0.25, 0.1, 1e-3, 1e-12, 1e-30]

single = st.one_of(st.sampled_from(EDGES), st.floats(0.0, 1.0, width=32))


@st.composite
def rows(draw, largest: int = 4096, dtype=np.float64):
    """One row: a short free-hand one, or a long one drawn from a family with chosen shape."""
    if draw(st.booleans()):
        return np.array(draw(st.lists(single, min_size=1, max_size=min(24, largest))), dtype)
    size = draw(st.integers(1, largest))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    family = draw(st.sampled_from(["uniform", "beta", "low", "tiny", "few values", "step"]))
    if family == "uniform":
        row = random.random(size)
    elif family == "beta":
        row = random.beta(0.05 + random.random(), 0.05 + random.random(), size)
    elif family == "low":
        row = random.random(size) ** draw(st.integers(2, 30))
    elif family == "tiny":
        row = random.random(size) * 10.0 ** -draw(st.integers(1, 30))
    elif family == "few values":
        row = random.choice(random.random(3), size)
    else:
        row = np.where(random.random(size) < 0.1, 0.9, 1e-3) * random.random(size)
    return row.clip(0, 1).astype(dtype)


smooths = st.sampled_from([0.0, 1e-6, 0.5, 1.0, 10.0, 1e3, 1e6])
metrics = st.sampled_from(["dice", "iou"])
