"""Optional packages are imported where they are needed, and missing ones say how to get them."""

from __future__ import annotations

import importlib
import re
from importlib import metadata
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    Parameters
    ----------
    module : str
        Dotted import name, for example ``'PIL.Image'``.
    extra : str
        The extra of this package that installs it, for example ``'demo'``.

    Returns
    -------
    ModuleType
        The imported module.

    Raises
    ------
    ImportError
        If it is not installed, or is installed and cannot be imported; one line that ends with
        the pip command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        missing = (error.name or "").partition(".")[0]
        absent = isinstance(error, ModuleNotFoundError) and missing == package
        trouble = "is needed here" if absent else f"cannot be imported ({error})"
        raise ImportError(f"{package} {trouble}: {pip_line(extra)}") from error


def pip_line(extra: str) -> str:
    """Command that installs what an extra holds, wherever this package came from.

    The packages are named, because ``rankseg`` on the package index is another project.
    """
    try:
        lines = metadata.requires("rankseg") or []
    except metadata.PackageNotFoundError:  # a source tree on the path
        lines = []
    asked = re.compile(rf"""extra == ['"]{extra}['"]""")
    packages = [line.partition(";")[0].strip() for line in lines if asked.search(line)]
    quoted = " ".join(f'"{one}"' for one in packages)
    return f"pip install {quoted}" if packages else f'pip install ".[{extra}]" in a clone'
