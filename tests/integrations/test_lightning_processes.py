"""Two processes on the CPU: each sample is written once, scores are those of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_lightning import FILTERS, NAMESPACES, Items, loader, probs_of, space

from rankseg import RankSEG

pytest.importorskip("torchmetrics")
pytestmark = FILTERS
TESTS = Path(__file__).parents[1]


@pytest.fixture(
    scope="module",
    params=[NAMESPACES[0], pytest.param(NAMESPACES[1], marks=pytest.mark.slow)],
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder that two processes filled, and what each of them saw."""
    space(request.param)
    folder = tmp_path_factory.mktemp("processes")
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    done = subprocess.run(
        [sys.executable, str(TESTS / "lightning_rank.py"), request.param, str(folder)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


def labels(number: int) -> Any:
    return RankSEG("dice")(probs_of(Items(7).images))[number].numpy()


def test_every_sample_is_written_once(run: Any) -> None:
    folder, ranks = run
    assert [rank["written"] for rank in ranks] == [None, None]
    assert sorted(path.name for path in (folder / "written").iterdir()) == [
        f"image {number}.npy" for number in range(7)
    ]
    for number in range(7):
        assert (np.load(folder / "written" / f"image {number}.npy") == labels(number)).all()


def test_scores_are_those_of_one_process(run: Any) -> None:
    here = space("lightning")
    step = here.module(lambda batch: {"probs": probs_of(batch["image"])})
    trainer = here.trainer(here.rankseg.RankSEGEvaluation())
    (alone,) = trainer.validate(step, loader(6, 2), verbose=False)
    for rank in run[1]:
        assert rank["evaluated"] == pytest.approx(alone, abs=1e-6)
        assert set(rank["one sided"]) == set(alone)
    assert run[1][0]["one sided"] == run[1][1]["one sided"]


def test_a_failure_in_one_process_is_raised_in_both(run: Any) -> None:
    folder, (first, second) = run
    assert first["broken"] == second["broken"]
    assert first["broken"].startswith("1 not written; every other sample is:\nimage 5 (")
    assert sorted(path.name for path in (folder / "broken").iterdir()) == [
        f"image {number}.npy" for number in range(7) if number != 5
    ]


def test_names_that_two_processes_share_are_both_said(run: Any) -> None:
    folder, (first, second) = run
    assert first["twins"] == second["twins"]
    assert "the names 'd/x' and 'b/x' make the same file, x.npy" in first["twins"]
    assert sorted(path.name for path in (folder / "twins").iterdir()) == ["a.npy", "c.npy", "x.npy"]
