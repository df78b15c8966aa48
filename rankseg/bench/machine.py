"""Where and when: what a time means nothing without."""

from __future__ import annotations

import os
import platform
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import rankseg

BUSY = 0.25
"""Load for each core above which other work is likely to slow ours."""


def describe(device: str) -> dict[str, Any]:
    """Date, machine and versions."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.release()}",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "load": load(),
        "versions": {
            "rankseg": rankseg.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{name: _version(name) for name in ("numpy", "numba", "triton")},
        },
    }


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """Physical memory, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def available_bytes() -> int | None:
    """Memory that can be had without swapping, where the system tells."""
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return found[0] if found else memory_bytes()


def load() -> float | None:
    """Mean number of running processes during the last minute, where the system tells."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def warning(setup: dict[str, Any]) -> str | None:
    """What to say of a machine that was busy when the run began."""
    if setup["load"] is None or setup["load"] <= BUSY * setup["cores"]:
        return None
    return (
        f"The machine was busy when this began (load {setup['load']:.1f} on {setup['cores']} "
        "cores): times are too long, ratios are less certain."
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
