"""How much is tried: the same examples every time, or with RANKSEG_FUZZ=20 twenty times as many."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

LONGER = int(os.environ.get("RANKSEG_FUZZ", "1"))


def examples(number: int) -> settings:
    """Settings of one test."""
    return settings(
        max_examples=number * LONGER,
        derandomize=LONGER == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
