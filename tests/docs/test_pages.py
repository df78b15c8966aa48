"""Every block of code on every page is run, and what pages say in passing is looked up."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from console import commands, options
from pages import PAGES, Page, blocks, pairs_of_files, setting

SETTINGS = {path: setting(path.stem) for path in PAGES}

NOT_RUN = {
    "README.md": {"source": "the shell's own"},
    "benchmarks.md": dict.fromkeys(
        (
            *("rankseg bench", "rankseg bench --quick", "rankseg bench --peer"),
            "rankseg bench --device cuda",
        ),
        "minutes, or a GPU: tests/cli/test_bench.py runs smaller ones",
    ),
    "command-line.md": {"rankseg bench --quick": "half a minute, on a quiet machine"},
    "gpu.md": {"rankseg bench --device cuda": "needs a GPU"},
    "nnunet.md": {
        "nnUNetv2_predict": "needs a model: tests/integrations/test_nnunet_trained.py trains one"
    },
}
"""By page: first lines of blocks, commands and programs that are not run, with the reason.

Of our own commands the options are checked all the same.
"""

FOREIGN = {
    *("--save_probabilities", "--npz"),  # nnU-Net's
    *("--checkpoint", "--gigabytes", "--no-rim", "--steps"),  # of examples
    *("--cov", "--cov-append", "--hypothesis-seed"),  # pytest's
}
"""Options that pages name and that are not ours."""


def parameters() -> list[object]:
    marks = {path: getattr(module, "MARKS", []) for path, module in SETTINGS.items()}
    return [pytest.param(path, marks=marks[path], id=path.stem) for path in PAGES]


@pytest.mark.parametrize("path", parameters())
def test_page_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = SETTINGS[path]
    for name in getattr(module, "NEEDS", ()):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    page = Page(path, tmp_path, not_run=NOT_RUN.get(path.name, {}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with contextmanager(module.around if module else pairs_of_files)(page):
            page.run()
    if page.skipped:
        pytest.skip("all but " + "; ".join(page.skipped))


def test_every_exception_is_one() -> None:
    for name, reasons in NOT_RUN.items():
        text = next(path for path in PAGES if path.name == name).read_text()
        there = set()
        for block in blocks(text):
            there |= {block.first, *commands(block.code)}
            there |= {command.partition(" ")[0] for command in commands(block.code)}
        assert set(reasons) <= there, name
    for path in PAGES:
        labels = {block.language for block in blocks(path.read_text())}
        assert "" not in labels, path.name
    named = {f"{path.stem.lower().replace('-', '_')}.py" for path in PAGES}
    files = {path.name for path in Path(__file__).parent.glob("*.py")}
    assert {name for name in files if not name.startswith("test_")} <= named, "a page is gone"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_options_exist(path: Path) -> None:
    inline = re.findall(r"`([^`\n]+)`", path.read_text())
    named = {option for code in inline for option in re.findall(r"(?<!\S)--[a-z][\w-]*", code)}
    assert named <= options() | FOREIGN
