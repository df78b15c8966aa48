"""Nothing is unpickled: the sources say so, and files that would do harm are tried."""

from __future__ import annotations

import ast
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hardening import damaged_files
from hardening.commands import command
from numcodecs import registry
from numcodecs.abc import Codec

from rankseg.files import read_array

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for name in ("rankseg", "rankseg_integrations") for path in (ROOT / name).rglob("*.py")
)
RUNS_FILES = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "yaml.load", "dill.load"),
    *("dill.loads", "cloudpickle.load", "cloudpickle.loads", "marshal.load", "marshal.loads"),
    *("shelve.open", "eval", "exec", "runpy.run_path", "pandas.read_pickle", "torch.jit.load"),
    *("torch.package.PackageImporter", "torch.hub.load"),
}
BY_NAME = ("rankseg/files/nnunet_place.py", "pickle.loads")
"""nnU-Net's own properties, behind --unpickle."""


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def test_sources_run_no_file() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), ast.unparse(call.func))
        for path in SOURCES
        for call in calls(path)
        if ast.unparse(call.func) in RUNS_FILES
    }
    assert found == {BY_NAME}


def test_sources_allow_no_pickle() -> None:
    seen = 0
    for path in SOURCES:
        for call in calls(path):
            words = {word.arg: ast.unparse(word.value) for word in call.keywords}
            where = f"{path}:{call.lineno}"
            assert words.get("allow_pickle", "False") == "False", where
            if ast.unparse(call.func) == "torch.load":
                assert words.get("weights_only") == "True", where
                seen += 1
            if ast.unparse(call.func) == "np.load":
                assert words.get("allow_pickle") == "False", where
    assert seen >= 2, "or the search finds nothing"


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.place,)


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    return tmp_path / "sprung"


def test_the_trap_works(sprung: Path) -> None:
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.is_dir()


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "raw.npz", "x.pt", "old.pt", "x.pth", "raw.pt"])
def test_traps_in_arrays(tmp_path: Path, sprung: Path, name: str) -> None:
    path, trap = tmp_path / name, Trap(sprung)
    if name == "x.npy":
        np.save(path, np.array([trap], object))
    elif name == "x.npz":
        np.savez(path, p=np.array([trap], object))
    elif name == "raw.npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("p.npy", pickle.dumps(trap))
    elif name == "old.pt":
        torch.save(trap, path, _use_new_zipfile_serialization=False)
    elif name == "raw.pt":
        path.write_bytes(pickle.dumps(trap))
    else:
        torch.save({"p": torch.ones(3, 4), "q": trap}, path)
    with pytest.raises(damaged_files.OURS):
        damaged_files.read(path)
    assert not sprung.exists()


SPACING = (1.0, 2.0, 3.0)
SIDES = [(1, 2, 3, 4, 5), (6,)]


@pytest.mark.parametrize(
    "more",
    [
        {"spacing": SPACING, "voxel": SPACING, "again": [SPACING, SPACING]},
        {"sides": SIDES[0], "others": SIDES, "again": SIDES[1]},
        {"set": {1, 2}, "empty": set(), "sets": {SPACING, SIDES[0]}},
        {"list": SIDES, "the same": SIDES, "size": torch.Size((2, 3)), SPACING: SPACING},
    ],
)
def test_values_beside_tensors_may_be_shared(tmp_path: Path, more: dict[Any, Any]) -> None:
    """A dict of such is refused for what it holds, or read; never as one that does harm."""
    path, probs = tmp_path / "x.pt", torch.rand(3, 4)
    torch.save({"probs": probs, **more}, path)
    assert torch.equal(read_array(path, "probs", 10**6), probs)


def with_a_note(tensor: torch.Tensor) -> torch.Tensor:
    tensor.note = "x"  # type: ignore[attr-defined]
    return tensor


@pytest.mark.parametrize("kind", [with_a_note, torch.nn.Buffer])
def test_tensors_of_other_kinds_are_named_with_the_remedy(tmp_path: Path, kind: Any) -> None:
    path, probs = tmp_path / "x.pt", torch.rand(3, 4)
    torch.save(kind(probs.clone()), path)
    with pytest.raises(damaged_files.OURS, match=r"save tensor\.as_subclass\(torch\.Tensor\)"):
        damaged_files.read(path)
    torch.save(kind(probs.clone()).as_subclass(torch.Tensor), path)
    assert torch.equal(damaged_files.read(path), probs)


class Copies:
    def __init__(self, call: Any, many: list[Any]) -> None:
        self.all = call, (many,)

    def __reduce__(self) -> Any:
        return self.all


@pytest.mark.parametrize("call", [set, OrderedDict, torch.Size])
def test_one_list_is_not_copied_by_many_calls(tmp_path: Path, call: Any) -> None:
    path, many = tmp_path / "x.pt", [1, 2] if call is not OrderedDict else [(1, 2), (3, 4)]
    torch.save({"p": torch.rand(3, 4), "q": Copies(call, many)}, path)
    damaged_files.read(path)
    torch.save({"p": torch.rand(3, 4), "q": [Copies(call, many) for _ in range(3)]}, path)
    with pytest.raises(damaged_files.OURS, match="holds more than tensors"):
        damaged_files.read(path)


@pytest.mark.parametrize("place", ["filters", "compressor"])
@pytest.mark.parametrize("kind", ["<f4", "|O"])
def test_traps_in_zarr(tmp_path: Path, sprung: Path, place: str, kind: str) -> None:
    assert "pickle" in registry.codec_registry, "or the trap is none"
    path = tmp_path / "x.zarr"
    path.mkdir()
    table = {"zarr_format": 2, "shape": [1, 4], "chunks": [1, 4], "dtype": kind, "order": "C"}
    codec: Any = {"id": "pickle"}
    table |= {"fill_value": 0, "filters": None, "compressor": None}
    table[place] = [codec] if place == "filters" else codec
    (path / ".zarray").write_text(json.dumps(table))
    (path / "0.0").write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(damaged_files.OURS):
        damaged_files.read_zarr(path)
    assert not sprung.exists()


def test_codecs_that_are_not_known_to_be_harmless_do_not_run(
    tmp_path: Path, sprung: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every version of zarr refuses pickle itself; another codec stands for it here."""

    class Runs(Codec):
        codec_id = "runs"

        def encode(self, buf: Any) -> Any:
            return buf

        def decode(self, buf: Any, out: Any = None) -> Any:
            sprung.mkdir(exist_ok=True)
            return buf

    monkeypatch.setitem(registry.codec_registry, "runs", Runs)
    path = tmp_path / "x.zarr"
    path.mkdir()
    table = {"zarr_format": 2, "shape": [1, 4], "chunks": [1, 4], "dtype": "<f4", "order": "C"}
    table |= {"fill_value": 0, "filters": None, "compressor": {"id": "runs"}}
    (path / ".zarray").write_text(json.dumps(table))
    (path / "0.0").write_bytes(bytes(16))
    with pytest.raises(damaged_files.OURS, match="packed by 'runs', which is not read"):
        damaged_files.read_zarr(path)
    assert not sprung.exists()


@pytest.mark.parametrize("name", ["a.pkl", "dataset.json", "plans.json"])
def test_traps_beside_probabilities_of_nnunet(tmp_path: Path, sprung: Path, name: str) -> None:
    folder = damaged_files.nnunet(tmp_path / "pred")
    (folder / name).write_bytes(pickle.dumps(Trap(sprung)))
    code, text = command("predict", folder, "--output", tmp_path / "out", "--nnunet")
    assert (code == 0) == (name == "a.pkl"), text
    assert not sprung.exists()


def test_other_pickles_than_nnunets_are_named(tmp_path: Path) -> None:
    pytest.importorskip("nnunetv2")
    folder = damaged_files.nnunet(tmp_path / "pred")
    for content in (b"", b"\x80\x05.", b"\x80\x05}.", b"J\1", b"cno_such\nthing\n.", b"G\1."):
        (folder / "a.pkl").write_bytes(content)
        options = ("--output", tmp_path / "out", "--nnunet", "--unpickle")
        code, text = command("predict", folder, *options)
        assert code == 1
        assert f"failed: {folder / 'a.npz'}: " in text
        assert "please report" not in text
