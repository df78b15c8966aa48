"""The notebooks run, and show what they say."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
NEEDS = {"medical_volume": ("monai", "nilearn", "sklearn"), "quickstart": ("imgviz", "matplotlib")}

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook: Any) -> str:
    """What the cells printed, without errors of frameworks that write to standard error."""
    outputs = (output for cell in code(notebook) for output in cell.outputs)
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


@pytest.mark.filterwarnings("ignore")  # of jupyter's own event loop
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in NEEDS[path.stem]:
        pytest.importorskip(module)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # they train: minutes, traced
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # small images, and other tests beside it
    notebook = read(path)
    stored = printed(notebook)
    nbclient.NotebookClient(
        notebook, timeout=800, resources={"metadata": {"path": tmp_path}}
    ).execute()
    assert not list(tmp_path.iterdir()), "a notebook leaves nothing behind"
    if path.stem == "quickstart":  # nothing is trained there
        assert numbers(printed(notebook)) == pytest.approx(numbers(stored), abs=0.01)


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_as_it_ran(path: Path) -> None:
    """From the top, in order, without an error, with its pictures, and not too large to read."""
    cells = code(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) >= 3
    assert path.stat().st_size < 500_000
    assert str(Path.home()) not in path.read_text()
    assert "/tmp" not in path.read_text()
