"""Any options, any terminal: a result, or one message; never a traceback or half a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hardening import damaged_files, fuzzing
from hardening.commands import command
from hardening.damaged_files import HEALTHY, LABELS, probabilities
from hypothesis import given
from hypothesis import strategies as st

ODD = ("", " ", "nan", "inf", "-inf", "1e999", "-1", "0", "1e-400", "9" * 400, "0x10", "True")
NUMBERS = (*ODD, "0.5", "1", "0.1,0.2,0.3", "1,,2", ",", "a", "é", "½")
READING = {
    "--key": ("a", "", "\n"),
    "--channel-axis": ("first", "none", "0", "2", "-1", "7", "-9", "x", "9" * 30),
    "--batched": None,
    "--no-batched": None,
    "--activation": ("none", "softmax", "sigmoid", "relu", ""),
    "--scale": NUMBERS,
    "--max-bytes": ("1", "100", "10000000", *ODD),
    "--overwrite": None,
}
DECIDING = {
    "--metric": ("dice", "iou", "acc", "fbeta", "tversky", "DICE", "f1", ""),
    "--alpha": NUMBERS,
    "--beta": NUMBERS,
    "--output-mode": ("multiclass", "multilabel", "x"),
    "--solver": ("RMA", "exact", "auto", "coupled", "BA", "TRNA", "BA+TRNA", "argmax", "TR", "x"),
    "--smooth": NUMBERS,
    "--pruning-prob": NUMBERS,
    "--class-weights": NUMBERS,
    "--no-include-background": None,
    "--empty": ("0", "1", "nan", "2", ""),
    "--assignment": ("published", "ascent", "x"),
    "--unassigned-policy": ("max_score", "void", "x"),
    "--void-index": ("255", "2", "-1", "70000", "9" * 30, "x", ""),
    "--coupling": NUMBERS,
    "--eps": NUMBERS,
    "--threshold": NUMBERS,
    "--aggregation": ("image", "dataset", "x"),
    "--calibrator": ("calibrator.json", "isotonic.json", "rule.json", "none.json"),
    "--tuned": ("tuned.json", "rule.json"),
    "--rule": ("rule.json", "tuned.json"),
    "--save-rule": ("out/new.json", "new.json", "new.txt", "rule.json"),
    "--format": ("npy", "npz", "png", "nii.gz", "tif", "x"),
    "--expected-score": ("t.csv", "t.json", "t", "none/t.csv", "a.npy"),
    "--nnunet": None,
    "--unpickle": None,
    "--reference": (".", "none"),
}
PAIRING = {
    "--label-key": ("a", ""),
    "--match": ("(", "(.*)", "[0-9]+", "x", "", "(a)|b"),
    "--allow-unpaired": None,
    "--label-values": ("0,1,2", "2,1,0", "1,1", "x", "", "9" * 30),
    "--ignore-index": ("0", "1", "-1", "9" * 30, "x"),
    "--nifti-order": ("zyx", "xyz", "x"),
    "--ignore-place": None,
    "--output-mode": ("multiclass", "multilabel", "x"),
    "--on-error": ("skip", "raise", "x"),
}
SCORING = {
    "--metric": ("dice", "iou", "acc", "f1"),
    "--aggregation": ("image", "dataset", "x"),
    "--no-include-background": None,
    "--empty": ("0", "1", "nan", "2"),
    "--group-by": ("(", "(.)", "x", "[0-9]", ""),
    "--pruning-prob": NUMBERS,
}
COMMANDS = {
    "predict": {**READING, **DECIDING},
    "evaluate": {
        **READING,
        **PAIRING,
        **SCORING,
        "--solver": ("RMA", "exact", "argmax", "TR", "[/red]", "x", ""),
        "--coupling": NUMBERS,
        "--tuned": ("tuned.json", "rule.json", "none.json"),
        "--rule": ("rule.json", "tuned.json"),
        "--calibrator": ("calibrator.json", "rule.json"),
        "--class-names": ("a,b,c", "[/a],b,[bold]c", "a", "a,a,a", ",,", "\x1b[31m,b,c", "é,ü,漢"),
        "--report": ("r.html", "r.txt", "none/r.html"),
        "--json": ("r.json", "rule.json"),
    },
    "tune": {
        **READING,
        **PAIRING,
        **SCORING,
        "--solvers": ("RMA", "none", "x", "RMA,RMA", "", "exact,x"),
        "--couplings": NUMBERS,
        "--calibrations": ("none", "temperature", "vector,class_temperature", "x", ""),
        "--no-thresholds": None,
        "--folds": ("2", "3", "1", "99", "x", "9" * 30),
        "--confidence": NUMBERS,
        "--report": ("r.html",),
    },
    "calibrate": {
        **READING,
        **PAIRING,
        "--method": ("temperature", "class_temperature", "vector", "isotonic", "x"),
    },
    "demo": {"--metric": ("f1", ""), "--solver": ("x", "TRNA2"), "--output": ("x.txt", "no/x.png")},
    "bench": {
        "--case": ("x", "1x2", "0x1x1", "-1x2x3", "1x1x" + "9" * 30, "1xax3", ""),
        "--threads": ("0", "-1", "x", "9" * 30),
        "--check": ("none.json", "rule.json", "."),
        "--maps": ("x",),
        "--device": ("tpu",),
    },
}
SURE_TO_FAIL = {"demo": ("--metric", "nonsense"), "bench": ("--check", "missing.json")}
"""These two take minutes when they have nothing to complain of."""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Three pairs, and a saved file of each kind; a test of its own may write among them."""
    folder = tmp_path
    for side in ("probs", "labels"):
        (folder / side).mkdir()
    for number in range(3):
        np.save(folder / "probs" / f"case é{number}.npy", probabilities(number))
        np.save(folder / "labels" / f"case é{number}.npy", LABELS)
    for name, content in HEALTHY.items():
        (folder / name).write_bytes(content)
    return folder


@st.composite
def typed(draw: st.DrawFn) -> list[str]:
    name = draw(st.sampled_from(sorted(COMMANDS)))
    known = COMMANDS[name]
    sides = {"predict": ["probs"], "demo": [], "bench": []}.get(name, ["probs", "labels"])
    found = [name, *sides]
    if name in ("tune", "calibrate"):
        found += ["--output", draw(st.sampled_from(["new.json", "rule.json", "x.txt"]))]
    elif name == "predict":
        found += ["--output", draw(st.sampled_from(["out", ".", "probs", "a/b", "rule.json"]))]
    if name == "tune":
        found += ["--solvers", "RMA", "--couplings", "none", "--calibrations", "none"]
    for option in draw(st.lists(st.sampled_from(sorted(known)), max_size=4, unique=True)):
        values = known[option]
        found += [option] if values is None else [option, draw(st.sampled_from(values))]
    return [*found, *SURE_TO_FAIL.get(name, ())]


@fuzzing.examples(120)
@given(arguments=typed())
def test_any_options(world: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    before = {path: path.read_bytes() for path in world.iterdir() if path.is_file()}
    code, text = command(*arguments)
    assert code in (0, 1, 2), text
    assert text.strip()
    for word in ("Traceback", "please report", 'File "'):
        assert word not in text
    if code == 2:
        assert text.startswith(("rankseg: ", "Usage: "))
        assert text.startswith("Usage") or text.count("\n") == 1
    assert not list(world.rglob(".rankseg-*")), "half a file"
    if "--overwrite" not in arguments:
        assert (
            before.items()
            <= {path: path.read_bytes() for path in world.iterdir() if path.is_file()}.items()
        )


@pytest.mark.parametrize("width", [1, 20, 80, 200])
@pytest.mark.parametrize("color", [{"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}, {"TERM": "dumb"}])
def test_terminals_of_any_width(
    world: Path, monkeypatch: pytest.MonkeyPatch, width: int, color: dict[str, str]
) -> None:
    monkeypatch.chdir(world)
    for name, value in (color | {"COLUMNS": str(width)}).items():
        monkeypatch.setenv(name, value)
    assert command("evaluate", "probs", "labels")[0] == 0
    assert command("evaluate", "probs")[0] == 2
    assert command("--help")[0] == 0
    assert command("predict", "probs", "--output", "wide", "--overwrite")[0] == 0


# Commands as a shell starts them; each takes seconds, most of them to load torch.
SHELL = {
    "ascii": '"$@" evaluate probs labels --class-names é,ü,漢 --report ascii.html; echo $?',
    "closed": '"$@" predict probs --output closed >&-; echo $?',
    "pipe": '{ "$@" evaluate probs labels; echo $? >code; } | true; cat code',
    "no error output": '"$@" predict none.npy --output none 2>&-; echo $?',
}
EXPECTED = {"ascii": "0", "closed": "0", "pipe": "1", "no error output": "1"}


@pytest.mark.parametrize("case", SHELL)
def test_outputs_that_take_little_or_nothing(world: Path, case: str) -> None:
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "COLUMNS": "40"}
    environment = {**os.environ, "PYTHONPATH": str(damaged_files.ROOT), **plain}
    done = subprocess.run(
        ["sh", "-c", SHELL[case], "-", sys.executable, "-m", "rankseg"],
        cwd=world,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == EXPECTED[case], done.stderr
    for word in ("Traceback", "Exception", "Error"):
        assert word not in done.stdout + done.stderr
    assert not list(world.rglob(".rankseg-*"))
