"""The published package, in a virtual environment of its own. It is run there, never imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

VERSION = "0.0.8"
STAMP = ".rankseg-peer"


class PeerError(RuntimeError):
    """The peer cannot be had; one line says why."""


def default_folder() -> Path:
    """Where the environment lies if nobody says: the user's cache, by versions."""
    torch_version = torch.__version__.partition("+")[0]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return _cache() / "rankseg" / f"peer-{VERSION}-torch-{torch_version}-python-{python}"


def _cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def interpreter(folder: Path) -> Path:
    """The environment's Python."""
    windows = sys.platform == "win32"
    return folder / ("Scripts/python.exe" if windows else "bin/python")


def requirements(device: str) -> list[str]:
    """What is installed: the peer, and the torch that we are measured with."""
    extra = "[cuda]" if device == "cuda" else ""
    return [f"rankseg{extra}=={VERSION}", f"torch=={torch.__version__.partition('+')[0]}"]


def is_ready(folder: Path, device: str) -> bool:
    """Whether the environment is complete."""
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text().split() == requirements(device)


def install(folder: Path, device: str) -> None:
    """Make the environment; what an interrupted installation left is taken up again."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise PeerError(f"{folder} is not empty and no virtual environment: choose another")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STAMP).unlink(missing_ok=True)
    # Our pip installs into it, so that it needs none: some Pythons come without ensurepip.
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    target = ("--python", str(interpreter(folder)))
    _run(sys.executable, "-m", "pip", *target, "install", "--quiet", *requirements(device))
    (folder / STAMP).write_text("\n".join(requirements(device)))  # last: it is complete


def _run(*command: str) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        errors = [line for line in lines if line.startswith("ERROR")]
        raise PeerError(f"the peer cannot be installed: {(errors or lines)[-1]}")
