"""Names that break lines, pipes in place of files, results in place of inputs."""

from __future__ import annotations

import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hardening import damaged_files
from hardening.commands import command
from hardening.damaged_files import HEALTHY, LABELS

FORMATS = {name: content for name, content in HEALTHY.items() if not name.endswith("json")}
INPUTS = {name: content for name, content in FORMATS.items() if name != "labels.png"}
NAMES = (
    *("two\nlines", "\x1b[31mred\x1b[0m", "é ü 漢字", "a#b?c=d", "50%20 off", "[0-9]*", "-x"),
    *("s3:", "a:b", "x" * 240, " ", "'\"`$(touch x)", "\udcff"),
)
"""The last is a byte that is no text."""


TEXT_ONLY = ("pt", "safetensors", "tif")
"""Formats whose libraries open no such name."""


def options(name: str) -> tuple[str, ...]:
    return ("--channel-axis", "3", "--no-batched") if ".nii" in name else ()


@pytest.mark.parametrize("name", INPUTS)
def test_names_of_any_kind(tmp_path: Path, name: str) -> None:
    suffix = name.partition(".")[2]
    given = tmp_path / "given"
    given.mkdir()
    for stem in NAMES:
        (given / f"{stem}.{suffix}").write_bytes(HEALTHY[name])
    code, text = command("predict", given, "--output", tmp_path / "out", *options(name))
    if suffix in TEXT_ONLY:
        assert code == 1
        assert f"failed: {given}/\\udcff.{suffix}: its path is no UTF-8 text, and" in text
    else:
        assert (code, text) == (0, f"wrote {len(NAMES)} files to {tmp_path / 'out'}\n")
    assert len(list((tmp_path / "out").iterdir())) == len(NAMES) - (suffix in TEXT_ONLY)


@pytest.mark.parametrize("name", INPUTS)
def test_failures_of_such_names_take_one_line_each(tmp_path: Path, name: str) -> None:
    suffix = name.partition(".")[2]
    given = tmp_path / "given"
    given.mkdir()
    for stem in NAMES:
        (given / f"{stem}.{suffix}").write_bytes(b"noise")
    code, text = command("predict", given, "--output", tmp_path / "out", *options(name))
    assert code == 1
    first, *lines = text.splitlines()
    assert first == f"wrote 0 files to {tmp_path / 'out'}"
    assert len(lines) == len(NAMES)
    assert all(line.startswith(f"failed: {given}/") and line.isprintable() for line in lines)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", ["pipe", "folder", "endless", "nothing", "circle"])
def test_other_things_than_files(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path)
    else:
        path.symlink_to("/dev/zero" if kind == "endless" else "/dev/null")
    with pytest.raises(damaged_files.OURS):
        damaged_files.read(path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "endless", "empty", "noise", "missing"])
@pytest.mark.parametrize("option", ["--rule", "--tuned", "--calibrator", "--check"])
def test_other_things_than_saved_files(tmp_path: Path, option: str, kind: str) -> None:
    path = tmp_path / "x.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind != "missing":
        path.write_bytes(b"" if kind == "empty" else b"\xff\x00noise")
    saved = tmp_path / "a.npy"
    saved.write_bytes(HEALTHY["plain.npy"])
    rest = ("bench", "--case", "1x1x8") if option == "--check" else ("predict", saved)
    code, text = command(*rest, option, path, "--output", tmp_path / "out")
    assert code == 2
    assert text.startswith(f"rankseg: {path}")
    assert text.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("member", ["../../up.npy", "/etc/x.npy", "two\nlines.npy", "x" * 9000])
def test_members_are_keys_and_no_paths(tmp_path: Path, member: str) -> None:
    inside = damaged_files.content(lambda file: np.save(file, damaged_files.ARRAY))
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        archive.writestr(member, inside)
    code, text = command("predict", folder / "a.npz", "--output", folder / "out", "--format", "npz")
    assert code == 0, text
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {folder / "a.npz", folder / "out" / "a.npz"}
    with zipfile.ZipFile(folder / "a.npz", "a") as archive:
        archive.writestr("other.npy", inside)
    code, text = command("predict", folder / "a.npz", "--output", folder / "two")
    assert code == 1
    assert text.count("\n") == 2
    assert len(text) < 2000


def test_a_member_named_twice_is_refused(tmp_path: Path) -> None:
    inside = damaged_files.content(lambda file: np.save(file, damaged_files.ARRAY))
    for second in ("a", "a.npy"):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("a.npy", inside)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # zipfile's, of what is tried here
                archive.writestr(second, inside)
        with pytest.raises(damaged_files.OURS, match="of one name"):
            damaged_files.read(tmp_path / "a.npz")


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_results_do_not_replace_inputs_under_other_names(tmp_path: Path, link: str) -> None:
    given, out = tmp_path / "given.npy", tmp_path / "out" / "given.npy"
    given.write_bytes(HEALTHY["plain.npy"])
    out.parent.mkdir()
    if link == "symbolic":
        out.symlink_to(given)
    else:
        out.hardlink_to(given)
    code, _ = command("predict", given, "--output", out.parent, "--overwrite")
    assert code == (2 if link == "symbolic" else 0)
    assert given.read_bytes() == HEALTHY["plain.npy"], "a hard link is cut, the input stays"


def test_nnunet_without_its_files(tmp_path: Path) -> None:
    for name in ("a.npz", "dataset.json", "plans.json", "a.nii.gz"):
        for number, make in enumerate((os.mkfifo, Path.mkdir, lambda one: one.touch())):
            folder = damaged_files.nnunet(tmp_path / f"{name} {number}")
            (folder / name).unlink()
            make(folder / name)
            code, text = command("predict", folder, "--output", folder / "out", "--nnunet")
            assert code in (1, 2) or (name, code) == ("plans.json", 0)
            assert "please report" not in text


@pytest.mark.parametrize("name", ["a.npz", "dataset.json", "plans.json", "a.nii.gz"])
def test_damage_to_nnunets_files(tmp_path: Path, name: str) -> None:
    folder = damaged_files.nnunet(tmp_path / "pred")
    healthy = (folder / name).read_bytes()
    for content in damaged_files.damages(healthy, 0, 6):
        (folder / name).write_bytes(content)
        options = ("--output", tmp_path / "out", "--nnunet", "--overwrite")
        code, text = command("predict", folder, *options)
        assert code in (0, 1, 2)
        assert "please report" not in text


def test_two_failures_of_one_name_are_two() -> None:
    from rankseg.evaluation import evaluate

    probs, labels = torch.from_numpy(damaged_files.ARRAY)[None], torch.from_numpy(LABELS)[None]
    pairs = [(probs, labels, "a"), (probs * 9, labels, "b"), (probs * 9, labels[:, 1:], "b")]
    skipped = evaluate(pairs, on_error="skip").skipped
    assert list(skipped) == ["b", "b (2)"]
    assert skipped["b"] != skipped["b (2)"]
    wide = evaluate([(probs, labels.to(torch.uint16), "a")])
    assert wide.images == 1
