"""docs/nnunet.md: every block runs, and the options that it names exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tiny_nnunet
import typer
from typer.testing import CliRunner

from rankseg.cli import app

pytest.importorskip("nnunetv2")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),  # on import
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]

PAGE = (Path(__file__).parents[2] / "docs" / "nnunet.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [line for language, code in BLOCKS if not language for line in code.splitlines()]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folders, with two cases: images, truths, and what nnU-Net has predicted."""
    monkeypatch.chdir(tmp_path)
    for name in ("imagesTs", "labelsTr", "model"):
        Path(name).mkdir()
    for seed, case in enumerate(("one", "two")):
        values, labels = tiny_nnunet.case(seed)
        nibabel.save(tiny_nnunet.image(values), f"imagesTs/{case}_0000.nii.gz")
        nibabel.save(tiny_nnunet.image(labels), f"labelsTr/{case}.nii.gz")
        for fold, folder in enumerate(("predictions", "fold_0", "fold_1", "validation")):
            Path(folder).mkdir(exist_ok=True)
            noise = np.random.default_rng(10 * seed + fold).normal(size=(3, *labels.T.shape))
            logits = noise + 1.5 * (np.arange(3)[:, None, None, None] == labels.T)
            probs = np.exp(logits) / np.exp(logits).sum(0)
            np.savez(f"{folder}/{case}.npz", probabilities=probs.astype(np.float32))
    for folder in ("predictions", "fold_0", "fold_1", "model"):
        Path(folder, "dataset.json").write_text(json.dumps(tiny_nnunet.dataset(False)))
        Path(folder, "plans.json").write_text(json.dumps(tiny_nnunet.plans()))
    return tmp_path


def rankseg(line: str) -> None:
    program, *arguments = shlex.split(line)
    assert program == "rankseg"
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("wrote 2 files")


def evaluate(line: str) -> None:
    """What ``nnUNetv2_evaluate_folder`` does, without its processes."""
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics, save_summary_json
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.utilities.json_export import recursive_fix_for_json_export

    _, truths, results, *definitions = shlex.split(line)
    assert definitions == [
        *("-djfile", f"{results}/dataset.json", "-pfile", f"{results}/plans.json")
    ]
    assert all(Path(name).is_file() for name in definitions[1::2])
    cases = [
        compute_metrics(
            f"{truths}/{case}.nii.gz", f"{results}/{case}.nii.gz", SimpleITKIO(), [1, 2]
        )
        for case in ("one", "two")
    ]
    for case in cases:
        recursive_fix_for_json_export(case)
    save_summary_json({"metric_per_case": cases, "mean": {}}, f"{results}/summary.json")


def test_every_command_and_the_comparison(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = [line for line in SHELL if line.startswith("rankseg ")]
    theirs = [line for line in SHELL if line.startswith("nnUNetv2_evaluate_folder")]
    assert (len(ours), len(theirs)) == (4, 2)
    for line in ours:
        rankseg(line)
    for line in theirs:
        evaluate(line)
    (comparison,) = [block for block in PYTHON if "summary.json" in block]
    exec(compile(comparison, "docs/nnunet.md", "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"mean [+-]\d+\.\d\d \+- \d+\.\d\d points", printed)
    assert re.search(r"\d of 2 cases lost more than a point", printed)


def test_the_python_blocks(desk: Path) -> None:
    assert len(PYTHON) == PAGE.count("```python") == 3
    namespace: dict[str, Any] = {}
    exec(compile(PYTHON[0], "docs/nnunet.md", "exec"), namespace)
    assert [path.name for path in namespace["written"]] == ["one.nii.gz", "two.nii.gz"]
    values, _ = tiny_nnunet.case(0)
    place = {"spacing": (2.5, 0.8, 0.9), "origin": (0.0,) * 3, "direction": np.eye(3).ravel()}
    namespace = {
        "predictor": tiny_nnunet.predictor(),
        "image": values.transpose()[None],
        "properties": {"sitk_stuff": place, "spacing": [0.9, 0.8, 2.5]},
    }
    exec(compile(PYTHON[1], "docs/nnunet.md", "exec"), namespace)
    assert namespace["segmentation"].shape == values.T.shape


def test_the_options_exist() -> None:
    options = set(re.findall(r"`(--[a-z_-]+)", PAGE)) - {"--save_probabilities", "--npz"}
    predict = next(c for c in typer.main.get_command(app).commands.values() if c.name == "predict")
    known = {
        name
        for parameter in predict.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    assert options <= known
    assert {"--nnunet", "--reference", "--unpickle", "--model"} <= known
