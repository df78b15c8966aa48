"""Where no framework is installed, whatever needs one says which extra brings it.

``make test-wheel`` runs this file, in an environment that holds the wheel and nothing else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rankseg import RankSEG
from rankseg._require import pip_line
from rankseg.cli import app

GUESTS = ["dask", "lightning", "monai", "nnunetv2", "segment_anything", "sklearn", "transformers"]
pytestmark = pytest.mark.skipif(
    any(map(find_spec, GUESTS)), reason="frameworks are installed; `make test-wheel` has none"
)


def attribute(module: str, name: str = "") -> Callable[[], Any]:
    def look_up() -> Any:
        found = importlib.import_module(f"rankseg_integrations.{module}")
        return getattr(found, name) if name else found

    return look_up


def isotonic() -> None:
    from rankseg.evaluation import fit_calibrator

    fit_calibrator([(torch.rand(1, 2, 8).softmax(1), torch.arange(8)[None] % 2)], "isotonic")


ASKED = {
    "dask": ("dask", lambda: attribute("dask", "segment")()(None, RankSEG())),
    "evaluate": ("sklearn", isotonic),
    "lightning": ("lightning", attribute("lightning")),
    "monai": ("monai", attribute("monai", "AsRankSEGd")),
    "nnunet": ("nnunetv2", lambda: attribute("nnunet", "use_rankseg")()(None)),
    "pytorch-lightning": ("pytorch_lightning", attribute("pytorch_lightning")),
    "sam": ("segment_anything", attribute("sam", "RankSEGSamPredictor")),
    "transformers": ("transformers", attribute("transformers", "RankSEGPipeline")),
}


@pytest.mark.parametrize("extra", ASKED)
def test_python_names_the_extra(extra: str) -> None:
    package, ask = ASKED[extra]
    with pytest.raises(ImportError) as error:
        ask()
    assert str(error.value) == f"{package} is needed here: {pip_line(extra)}"


@pytest.mark.parametrize(
    ("extra", "package", "command"),
    [
        ("demo", "PIL", ["demo"]),
        ("files", "PIL", ["evaluate", "probs.npy", "labels.png"]),
        ("files", "nibabel", ["predict", "probs.nii.gz", "--output", "masks"]),
        ("files", "rasterio", ["predict", "probs.tif", "--output", "masks"]),
        ("files", "safetensors", ["predict", "probs.safetensors", "--output", "masks"]),
    ],
)
def test_the_command_names_the_extra(
    extra: str, package: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("probs.npy", np.full((2, 4, 4), 0.5, np.float32))
    for name in ("labels.png", "probs.nii.gz", "probs.tif", "probs.safetensors"):
        Path(name).write_bytes(b"some bytes")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert f"{package} is needed here: {pip_line(extra)}" in done.output
