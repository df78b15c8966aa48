"""torch.distributed: two processes decide as one does, and a failure of one stops both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ranks
import torch
import torch.distributed as dist

from rankseg import DecisionRule, RankSEG
from rankseg_integrations.distributed import decide

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this torch has no gloo"
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What every case of tests/ranks.py came to, on either rank."""
    folder = tmp_path_factory.mktemp("ranks")
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    started = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "ranks.py"), str(rank), str(folder)],
            env={**os.environ, "PYTHONPATH": path},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks.WORLD)
    ]
    try:
        for process in started:
            _, trouble = process.communicate(timeout=240)
            assert process.returncode == 0, trouble
    finally:
        for process in started:
            process.kill()
    files = [folder / f"rank-{rank}.json" for rank in range(ranks.WORLD)]
    return [json.loads(file.read_text()) for file in files]


def as_written(rule: DecisionRule) -> Any:
    return json.loads(json.dumps(vars(rule)))


@pytest.mark.parametrize("seed", range(ranks.SPLITS))
def test_every_rank_has_the_rule_of_all_tiles(outcomes: list[dict[str, Any]], seed: int) -> None:
    rankseg = RankSEG(**ranks.CONFIGURATIONS[seed % len(ranks.CONFIGURATIONS)])
    expected = as_written(rankseg.decide(ranks.tiles(seed)))
    assert [found[f"split {seed}"] for found in outcomes] == [expected] * ranks.WORLD


def test_the_splits_are_worth_their_name() -> None:
    held = [[len(ranks.mine(seed, rank)) for rank in (0, 1)] for seed in range(ranks.SPLITS)]
    assert any(0 in numbers for numbers in held)
    assert sum(all(numbers) for numbers in held) > 3
    seed = next(seed for seed, numbers in enumerate(held) if all(numbers))
    rules = [RankSEG("dice").decide(ranks.mine(seed, rank)) for rank in (0, 1)]
    assert rules[0] != rules[1]


def test_a_tensor_is_a_tile(outcomes: list[dict[str, Any]]) -> None:
    expected = as_written(RankSEG("dice").decide(ranks.tiles(3)[0]))
    assert [found["one_tensor"] for found in outcomes] == [expected] * 2


def test_without_tiles_nothing_is_decided(outcomes: list[dict[str, Any]]) -> None:
    for found in outcomes:
        assert found["nobody"] == "ValueError: there are no tiles to decide on, on any rank"


def test_all_ranks_say_what_is_wrong_with_all_tiles(outcomes: list[dict[str, Any]]) -> None:
    for found in outcomes:
        assert found["not_a_number"].startswith("ValueError: probs contains NaN")
        message = "ValueError: tiles disagree in the number of classes: one has 2, another 3"
        assert found["classes_differ"] == message
        assert found["settings_differ"].startswith("ValueError: ranks disagree: rank 0 has")


@pytest.mark.parametrize(
    ("case", "culprit", "message"),
    [
        ("breaks_on_one", 1, "OSError: disk is gone"),
        ("gives_tiles_once", 0, "TypeError: tiles are visited several times"),
    ],
)
def test_a_failure_on_one_rank_is_raised_on_all(
    outcomes: list[dict[str, Any]], case: str, culprit: int, message: str
) -> None:
    assert outcomes[culprit][case].startswith(message)
    other = outcomes[1 - culprit][case]
    assert other.startswith(f"RuntimeError: rank {culprit} failed, so no rank decides: {message}")


def test_ranks_go_on_after_a_failure(outcomes: list[dict[str, Any]]) -> None:
    for found in outcomes:
        assert found["afterwards"] == found["split 1"]


def test_groups_decide_for_themselves(outcomes: list[dict[str, Any]]) -> None:
    for rank, found in enumerate(outcomes):
        assert found["alone_in_a_group"] == as_written(RankSEG("dice").decide(ranks.tiles(rank)))
    alone = as_written(RankSEG("dice").decide(ranks.tiles(0)))
    assert outcomes[0]["in_another_group"] == alone
    assert outcomes[1]["in_another_group"] == "ValueError: this rank is no member of the group"


def test_there_must_be_a_process_group() -> None:
    assert not dist.is_initialized()
    with pytest.raises(RuntimeError, match=r"init_process_group first, or RankSEG\.decide"):
        decide([torch.rand(1, 2, 3)], RankSEG("dice"))
