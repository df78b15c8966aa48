"""The file that keeps RankSEG's options beside those of the official processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rankseg_integrations._common import require

FILE = "rankseg_config.json"


def write(folder: str | Path, processor: Any, options: dict[str, Any]) -> None:
    """Write the class of the official processor, and the options, into a folder."""
    saved = {"processor": type(processor).__name__, "options": options}
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, FILE).write_text(json.dumps(saved, indent=2) + "\n")


def read(name: str | Path, **kwargs: Any) -> tuple[type[Any], dict[str, Any]]:
    """Class of the official processor, and the options, from a folder or a repository.

    Raises
    ------
    OSError
        If the file is not there.
    ValueError
        If it is not one that `write` wrote, or the installed transformers lacks the class.
    """
    transformers = require("transformers", extra="transformers")
    try:
        file = transformers.utils.cached_file(name, FILE, **kwargs)
    except OSError as error:
        raise OSError(
            f"{name} has no {FILE}, so RankSEG was not saved with it; use RankSEGImage"
            f"Processor.from_processor(AutoImageProcessor.from_pretrained({str(name)!r}))"
        ) from error
    kind, options = _parsed(name, Path(file).read_text())
    official = getattr(transformers, kind, None)
    if official is None:
        given = "".join(f", {option}={value!r}" for option, value in options.items())
        raise ValueError(
            f"{name} was saved with the processor {kind}, which transformers "
            f"{transformers.__version__} does not have; load an official processor yourself, "
            f"and use RankSEGImageProcessor.from_processor(processor{given})"
        )
    return official, options


def _parsed(name: str | Path, text: str) -> tuple[str, dict[str, Any]]:
    expected = 'a JSON object with "processor", a class of transformers, and "options"'
    try:
        saved = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"{FILE} of {name} must hold {expected}; it is no JSON: {error}"
        ) from error
    found = saved if isinstance(saved, dict) else {}
    kind, options = found.get("processor"), found.get("options")
    if not (isinstance(kind, str) and isinstance(options, dict)):
        raise ValueError(f"{FILE} of {name} must hold {expected}; got {saved!r}")
    return kind, options
