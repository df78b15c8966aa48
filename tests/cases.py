"""Rows of probabilities for tests: random, degenerate and adversarial."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Maker = Callable[[np.random.Generator, int], Floats]

SMOOTH = (0.0, 0.5, 1.0, 100.0)
METRICS = ("dice", "iou")

KINDS: dict[str, Maker] = {
    "uniform": lambda rng, d: rng.random(d),
    "mostly small": lambda rng, d: rng.random(d) ** 6,
    "confident": lambda rng, d: rng.beta(0.1, 0.1, d),
    "all tiny": lambda rng, d: rng.random(d) * 1e-6,
    "all equal": lambda rng, d: np.full(d, rng.random()),
    "zeros and ones": lambda rng, d: rng.integers(0, 2, d).astype(np.float64),
    "three values": lambda rng, d: rng.choice(rng.random(3), d),
    "object on noise": lambda rng, d: np.where(rng.random(d) < 0.1, 0.9, 0.01 * rng.random(d)),
    "bimodal": lambda rng, d: np.where(rng.random(d) < 0.5, 0.3, 0.6) + 0.01 * rng.random(d),
    "near ties": lambda rng, d: rng.random() + 1e-9 * rng.random(d),
    "nearly certain": lambda rng, d: 1 - 1e-7 * rng.random(d),
    "one pixel matters": lambda rng, d: np.append(np.full(d - 1, 1e-12), 0.5),
    "zeros": lambda rng, d: np.zeros(d),
}


def rows(count: int, largest: int, seed: int = 0) -> Iterator[Floats]:
    """Rows of 1 to ``largest`` pixels, every kind in turn."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        make = list(KINDS.values())[n % len(KINDS)]
        yield np.clip(make(rng, int(rng.integers(1, largest + 1))), 0, 1)


@st.composite
def any_row(draw: st.DrawFn, largest: int = 40) -> Floats:
    """A short row with exact zeros, ones, ties, subnormal-like and near-one values."""
    value = st.sampled_from([0.0, 1.0, 0.5, 0.25, 1e-300, 1e-12, 1 - 1e-12]) | st.floats(
        0, 1, allow_subnormal=False
    )
    values = draw(st.lists(value, min_size=1, max_size=largest))
    repeats = draw(st.lists(st.integers(1, 4), min_size=len(values), max_size=len(values)))
    return np.repeat(np.array(values), repeats)
