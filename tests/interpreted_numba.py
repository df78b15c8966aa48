"""The compiled passes as plain Python, where ``NUMBA_DISABLE_JIT=1`` says so.

Then numpy checks every index, and coverage sees every line. ``conftest.py`` calls ``interpret``.
Tests take small images then, and kernels cut them into small pieces.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT") == "1"

SIZES = {"BLOCK": 9, "PIECE": 7, "CHUNK": 4, "FEW": 3, "RUN": 2, "SAMPLE": 20, "LONG": 150}

BITS = {  # what an intrinsic reads, and as what
    "float64_bits": (np.float64, np.uint64),
    "float64_order": (np.float64, np.int64),
    "float32_order": (np.float32, np.int32),
    "as_float64": (np.int64, np.float64),
    "as_float32": (np.int32, np.float32),
}


def interpret() -> None:
    """Give the kernels what only the compiler has: bit casts, a fused product, and overloads."""
    from numba import typeof

    from rankseg.fields import numba_cpu
    from rankseg.fields import numba_kernels as kernels

    def reading(source: Any, target: Any) -> Any:
        return lambda x: source(x).view(target)

    def chosen_by_type(choose: Any) -> Any:
        return lambda *values: choose(*map(typeof, values))(*values)

    overloads = {n[1:]: f for n, f in vars(kernels).items() if n[0] == "_" and callable(f)}
    replaced = {name: chosen_by_type(f) for name, f in overloads.items() if hasattr(kernels, name)}
    replaced |= {name: reading(*kinds) for name, kinds in BITS.items()}
    replaced["fma"] = lambda a, b, c: np.float32(np.float64(a) * np.float64(b) + np.float64(c))
    for name, value in (replaced | SIZES).items():
        assert hasattr(kernels, name), name
        setattr(kernels, name, value)
    numba_cpu.ENOUGH = 100
