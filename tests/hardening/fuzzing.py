"""How much is tried: the same examples every time, or with RANKSEG_FUZZ=20 twenty times as many.

Which of them a longer run tries is chance, as pytest's ``--hypothesis-seed`` has it, or, for files
that are damaged in turn, ``RANKSEG_FUZZ_SEED``.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

LONGER = int(os.environ.get("RANKSEG_FUZZ", "1"))
SEED = int(os.environ.get("RANKSEG_FUZZ_SEED", "0"))


def examples(number: int) -> settings:
    """Settings of one test."""
    return settings(
        max_examples=number * LONGER,
        derandomize=LONGER == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
