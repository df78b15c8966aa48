"""What the command line tests share: a way to run it, and probabilities to run it on."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rankseg.cli import app

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run() -> Run:
    """Run ``rankseg`` in this process: exit code, and what it printed (both streams)."""

    def invoke(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return invoke


@pytest.fixture
def probs() -> np.ndarray:
    """Softmax of three classes on 6 x 5 pixels, float32 (3, 6, 5)."""
    logits = 2 * np.random.default_rng(7).normal(size=(3, 6, 5))
    return (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)


@pytest.fixture
def saved(tmp_path: Path, probs: np.ndarray) -> Path:
    path = tmp_path / "image.npy"
    np.save(path, probs)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def largest_file() -> Callable[[int], AbstractContextManager[None]]:
    """Let the system itself refuse longer files, as a full disk does, in the midst of a write."""
    return _largest_file
