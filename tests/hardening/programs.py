"""Real processes: programs of a few lines, and how they end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]

QUESTIONS = """
import torch
from rankseg import RankSEG, expected_score

def probs(seed=0, shape=(1, 4, 120, 121)):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random).mul(3).softmax(1)

def answers(image):
    ascent = RankSEG("iou", assignment="ascent", backend="torch").solve(image)
    small = image[..., :9, :9]
    return [
        RankSEG()(image),
        RankSEG("iou", "multilabel", smooth=1.0)(image),
        RankSEG(activation="softmax")(image * 9),
        ascent.prediction, ascent.expected_score,
        RankSEG(solver="exact", pruning_prob=0.0).solve(small).expected_score,
        RankSEG(solver="coupled")(small),
        expected_score(small, small.argmax(1)),
    ]

def same(found, expected):
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
"""
"""What every program can ask; results are compared bit for bit."""


def run(program: str, timeout: float = 120, **environment: str) -> str:
    """Standard output of a program that must end well and say nothing on standard error."""
    clean = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", QUESTIONS + textwrap.dedent(program)],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not done.stderr, done.stderr[-3000:]
    return done.stdout
