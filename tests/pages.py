"""Runs what the pages show: README.md, CONTRIBUTING.md, CHANGELOG.md and every page in docs/.

A page is found by its name, so a new one is run without being mentioned anywhere. What its reader
has already (a model, a folder of predictions) and what is to be seen afterwards stands in
``tests/docs/NAME.py``, in a generator ``around(page)``: before its ``yield`` it fills
``page.names`` and the page's folder, after it come checks. ``NEEDS`` there names modules without
which the page is skipped, ``MARKS`` marks for pytest.
"""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from console import run_console
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")]
PAGES += sorted(
    path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.relative_to(ROOT).parts
)
DIRECTIVES_WITHOUT_CODE = {"eval-rst", "toctree"}


@dataclass(frozen=True)
class Block:
    """A block of code: its label, its text, and the line of the page before it."""

    language: str
    code: str
    above: int

    @property
    def first(self) -> str:
        """The first line, which stands for the block where one is named."""
        return self.code.strip().partition("\n")[0]


@dataclass
class Page:
    """A page while it is run, in a folder of its own."""

    path: Path
    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    """What Python blocks find and leave: one namespace for the page."""
    fresh: dict[str, Callable[[], dict[str, Any]]] = field(default_factory=dict)
    """By a piece of code: what makes names, or files, before each block that has it."""
    replaced: dict[str, str] = field(default_factory=dict)
    """Pieces of code and what takes their place, to make a block small or quiet."""
    commands: dict[str, Callable[[Sequence[str]], Any]] = field(default_factory=dict)
    """Stand-ins for other people's programs, called with the words after the program."""
    not_run: dict[str, str] = field(default_factory=dict)
    """First lines and commands that are not run, with the reason."""
    after: list[dict[str, Any]] = field(default_factory=list)
    """The namespace after each Python block."""
    said: list[str] = field(default_factory=list)
    """What each Python block printed."""
    printed: dict[str, str] = field(default_factory=dict)
    """What each of our commands printed."""
    yaml: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The page as it is written."""
        return self.path.read_text()

    def run(self) -> None:
        """Every block in order."""
        runners = {"python": _python, "yaml": _yaml, "console": run_console, "text": _nothing}
        runners |= {"json": lambda _, block: json.loads(block.code)}
        for block in blocks(self.text):
            if block.first in self.not_run or not block.language:  # test_every_exception_is_one
                continue
            where = f"{self.path.name}, line {block.above}"
            assert block.language in runners, f"{where}: no test runs {block.language!r} blocks"
            try:
                for make in [make for piece, make in self.fresh.items() if piece in block.code]:
                    self.names |= make()
                runners[block.language](self, block)
            except pytest.skip.Exception as missing:
                self.skipped.append(f"line {block.above}: {missing.msg}")


def blocks(text: str, above: int = 0) -> Iterator[Block]:
    """Every block of code, those inside directives (tabs, notes) included."""
    for token in MarkdownIt().parse(text):
        if token.type not in ("fence", "code_block"):
            continue
        start = above + token.map[0] + (token.type == "fence")
        directive = re.fullmatch(r"\{([\w-]+)\}(.*)", token.info.strip())
        if directive is None:
            yield Block(token.info.strip(), token.content, start)
        elif directive[1] in ("code-block", "code"):
            options = re.match(r"(?::[\w-]+:.*\n)*\n?", token.content)
            yield Block(directive[2].strip(), token.content[options.end() :], start)
        elif directive[1] not in DIRECTIVES_WITHOUT_CODE:
            yield from blocks(token.content, start)


def pairs_of_files(page: Page) -> Iterator[None]:
    """What a page without a file of its own finds: probabilities in probs, truths in labels."""
    random = np.random.default_rng(0)
    for number in range(6):
        probs = random.dirichlet((0.5, 0.5, 0.5), (12, 10)).transpose(2, 0, 1).astype(np.float32)
        labels = (random.random((12, 10)) > probs.cumsum(0)).sum(0).clip(0, 2).astype(np.uint8)
        for folder, array in (("probs", probs), ("labels", labels)):
            (page.folder / folder).mkdir(exist_ok=True)
            np.savez(page.folder / folder / f"case {number}.npz", array)
    yield


def setting(page: str) -> ModuleType | None:
    """The file in tests/docs of the page of this name, if it has one."""
    path = Path(__file__).parent / "docs" / f"{page.lower().replace('-', '_')}.py"
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location(f"page_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _python(page: Page, block: Block) -> None:
    code = block.code
    for piece, instead in page.replaced.items():
        code = code.replace(piece, instead)
    with redirect_stdout(StringIO()) as said:
        if code.startswith(">>>"):
            _session(page, code, block.above)
        else:  # tracebacks give the line of the page
            exec(compile("\n" * block.above + code, str(page.path), "exec"), page.names)
    page.said.append(said.getvalue())
    page.after.append(dict(page.names))


def _session(page: Page, code: str, above: int) -> None:
    """A dialogue with the interpreter, whose answers have to be those shown."""
    parsed = doctest.DocTestParser().get_doctest(code, {}, page.path.name, str(page.path), above)
    parsed.globs = page.names
    report: list[str] = []
    found = doctest.DocTestRunner().run(parsed, out=report.append, clear_globs=False)
    assert found.attempted
    assert not found.failed, "".join(report)


def _yaml(page: Page, block: Block) -> None:
    """It can be read, and what it names of ours is there."""
    pytest.importorskip("yaml").safe_load(block.code)
    for module, name in re.findall(r"\b(rankseg[\w.]*)\.(\w+)", block.code):
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
    page.yaml.append(block.code)


def _nothing(page: Page, block: Block) -> None:
    """Text is only read."""
