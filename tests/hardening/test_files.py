"""Damage of any kind to any file is refused in words, or gives what the file still says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hardening import damaged_files, fuzzing
from hardening.damaged_files import CHECKED, HEALTHY, OURS
from hypothesis import given
from hypothesis import strategies as st

MOST = 60 * fuzzing.LONGER
"""Damages of each kind."""


def outcome(path: Path) -> object:
    """What is read, or None for an error of ours that says why, shortly."""
    try:
        return damaged_files.read(path)
    except OURS as error:
        return None if 0 < len(str(error)) < 2000 else error


def as_array(found: object) -> np.ndarray:
    return found.numpy() if isinstance(found, torch.Tensor) else np.asarray(found)


@pytest.mark.parametrize("name", HEALTHY)
def test_any_damage_is_refused_or_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(HEALTHY[name])
    whole = damaged_files.read(path)
    assert whole is not None
    outcomes = []
    for content in damaged_files.damages(HEALTHY[name], fuzzing.SEED, MOST):
        path.write_bytes(content)
        found = outcome(path)
        assert not isinstance(found, Exception)
        outcomes.append(found is None)
        if name in CHECKED and found is not None:
            np.testing.assert_array_equal(as_array(found), as_array(whole))
    assert sum(outcomes) > len(outcomes) / 20, "or the damage was none"


@pytest.mark.parametrize("name", HEALTHY)
@fuzzing.examples(60)
@given(data=st.data())
def test_several_damages_at_once(tmp_path: Path, name: str, data: st.DataObject) -> None:
    path = tmp_path / name
    path.write_bytes(data.draw(damaged_files.damaged(HEALTHY[name])))
    assert not isinstance(outcome(path), Exception)


@pytest.mark.parametrize("name", HEALTHY)
def test_another_format_under_its_name(tmp_path: Path, name: str) -> None:
    for other, content in HEALTHY.items():
        path = tmp_path / name
        path.write_bytes(content)
        if Path(other).suffix != Path(name).suffix:
            assert outcome(path) is None, other
        else:
            outcome(path)
