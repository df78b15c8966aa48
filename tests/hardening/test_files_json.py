"""Saved rules, calibrators and tunings: every entry is what ``save`` writes there, or refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hardening import damaged_files
from hardening.damaged_files import HEALTHY

from rankseg import Calibrator
from rankseg.cli.groups import ScoreOptions
from rankseg.cli.run.evaluation import check_background
from rankseg.cli.run.pairs import Opened

SAVED = ["rule.json", "calibrator.json", "isotonic.json", "tuned.json"]
NO_NUMBER = ("true", '"1"', "1e999", "NaN", "-Infinity", "[]", "{}", "[1]", '{"a": 1}')
NO_TEXT = ("true", "1", "[]", "{}", '["a"]')
NO_FLAG = ("1", '"true"', "null", "[true]")
HOLE = "\0hole\0"

Place = tuple[Any, ...]


def places(tree: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Everything in a tree, each with the way to it."""
    yield at, tree
    children = dict(enumerate(tree)) if isinstance(tree, list) else tree
    for name, child in children.items() if isinstance(children, dict) else ():
        yield from places(child, (*at, name))


def with_hole(tree: Any, at: Place) -> Any:
    """A copy with a mark in one place."""
    found = copy.deepcopy(tree)
    parent = found
    for step in at[:-1]:
        parent = parent[step]
    parent[at[-1]] = HOLE
    return found


def refused(path: Path, text: str) -> bool:
    path.write_text(text)
    try:
        damaged_files.read(path)
    except ValueError as error:
        return str(path) in str(error) and "\n" not in str(error)
    return False


def wrong(value: Any) -> tuple[str, ...]:
    if isinstance(value, bool):
        return NO_FLAG
    if isinstance(value, (int, float)):
        return NO_NUMBER
    return NO_TEXT if isinstance(value, str) else ("1", '"a"', "true")


FREE = ("verdict",)
"""Written for people, and not read. Options are RankSEG's own, which checks them."""


@pytest.mark.parametrize("name", SAVED)
def test_entries_of_another_kind(tmp_path: Path, name: str) -> None:
    tree = json.loads(HEALTHY[name])
    taken = []
    for at, value in places(tree):
        if not at or at[0] in FREE or "options" in at or value is None:
            continue
        before, _, after = json.dumps(with_hole(tree, at)).partition(json.dumps(HOLE))
        for text in wrong(value):
            if not refused(tmp_path / name, before + text + after):
                taken.append((at, text))
    assert taken == []


@pytest.mark.parametrize("name", SAVED)
def test_entries_that_are_missing_twice_or_too_many(tmp_path: Path, name: str) -> None:
    tree = json.loads(HEALTHY[name])
    path = tmp_path / name
    for entry in tree:
        rest = {other: value for other, value in tree.items() if other != entry}
        if entry not in FREE:
            assert refused(path, json.dumps(rest)), entry
        twice = json.dumps({entry: tree[entry]})[1:-1]
        assert refused(path, f"{json.dumps(tree)[:-1]}, {twice}}}"), entry
    assert refused(path, json.dumps(tree | {"unknown": 1}))
    for version in (0, 2, 1.0, "1", True, None, 10**400):
        assert refused(path, json.dumps(tree | {"version": version})), version
    for other in SAVED:
        if json.loads(HEALTHY[other])["format"] != tree["format"]:
            assert refused(path, HEALTHY[other].decode())


def test_calibrators_of_lists_have_a_hash() -> None:
    lists = Calibrator("softmax", [0.5, 1.0], [0.0, 1])  # type: ignore[arg-type]
    assert hash(lists) == hash(Calibrator("softmax", (0.5, 1.0), (0.0, 1.0)))
    points = Calibrator("isotonic", points=[[[0.1, 0.2], [0.5, 0.6]]])  # type: ignore[arg-type]
    assert hash(points) == hash(Calibrator("isotonic", points=(((0.1, 0.2), (0.5, 0.6)),)))


def test_one_channel_without_background_is_refused_once() -> None:
    scores = ScoreOptions("dice", "image", False, "nan", None, "0.5")
    with pytest.raises(ValueError, match="one channel"):
        check_background(scores, Opened([], {}, "multiclass", 1))  # type: ignore[arg-type]
    check_background(scores, Opened([], {}, "multiclass", 2))  # type: ignore[arg-type]
