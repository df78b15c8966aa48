"""``rankseg predict`` with anything wrong: exit code, and a line its reader can act on."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rankseg._require import pip_line
from rankseg.files import read_array

FLOATS = np.full((3, 4, 5), 0.25, np.float32)


class Anything:
    """A Python object, which only unpickling could bring back."""


def cut_npy(path: Path) -> None:
    np.save(path, FLOATS)
    path.write_bytes(path.read_bytes()[:-1])


def cut_torch(path: Path) -> None:
    torch.save(torch.from_numpy(FLOATS), path)
    path.write_bytes(path.read_bytes()[:-200])


def flipped_npz(path: Path) -> None:
    np.savez(path, a=FLOATS)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 0xFF
    path.write_bytes(bytes(content))


def packed_torch(path: Path) -> None:
    np.savez_compressed(path.with_suffix(".npz"), a=FLOATS)
    path.with_suffix(".npz").rename(path)


def expanded(path: Path) -> None:
    torch.save(torch.zeros(1).expand(10**6, 10**6, 3), path)


def sparse(path: Path) -> None:
    torch.save(torch.eye(3).to_sparse(), path)


def nested(path: Path, layout: torch.layout) -> None:
    torch.save(
        torch.nested.nested_tensor([torch.ones(3, 4), torch.ones(2, 4)], layout=layout), path
    )


def quantized(path: Path) -> None:
    torch.save(torch.quantize_per_tensor(torch.ones(3, 4, 5), 0.1, 0, torch.qint8), path)


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def save_shape(*shape: int):
    return lambda path: np.save(path, np.zeros(shape, np.float32))


BAD_FILES = {
    "missing.npy": (lambda path: None, "No such file or directory"),
    "empty.npy": (Path.touch, "the file is empty"),
    "noise.npy": (lambda p: p.write_bytes(b"noise"), "not a readable numpy file: truncated or"),
    "cut.npy": (cut_npy, "announces shape (3, 4, 5) of float32, but 239 bytes follow"),
    "integers.npy": (
        lambda p: np.save(p, FLOATS.astype(int)),
        "holds int64 values, 0 only: these look like labels",
    ),
    "uint8.npy": (
        lambda p: np.save(p, FLOATS.astype("u1")),
        "holds uint8 values, 0 only: these look",
    ),
    "complex.npy": (lambda p: np.save(p, FLOATS + 1j), "holds complex64 values; store float16"),
    "objects.npy": (lambda p: np.save(p, np.array([Anything])), "holds Python objects"),
    "flat.npy": (lambda p: np.save(p, FLOATS[0, 0]), "shape (5,) leaves no spatial axis"),
    "number.npy": (save_shape(), "shape () leaves no spatial axis"),
    "no-class.npy": (save_shape(0, 4, 5), "shape (0, 4, 5) has no values: an axis has length 0"),
    "no-row.npy": (save_shape(3, 0, 5), "shape (3, 0, 5) has no values: an axis has length 0"),
    "four.npy": (
        save_shape(2, 3, 4, 5),
        "(2, 3, 4, 5) may be one image of 2 classes in 3-D or 2 images of 3 classes; "
        "say --no-batched or --batched",
    ),
    "five.npy": (
        save_shape(1, 1, 3, 4, 5),
        "(1, 1, 3, 4, 5) may be one image of 1 class in 4-D or 1 image of 1 class; say",
    ),
    "circle.npy": (circle, "Too many levels of symbolic links"),
    "pipe.npy": (os.mkfifo, "not a regular file: a pipe or device is not read"),
    "device.npy": (lambda p: p.symlink_to("/dev/zero"), "not a regular file: a pipe or device"),
    "map.npy": (lambda p: np.save(p, FLOATS[0]), "shape (4, 5) can be read in two ways: say"),
    "nan.npy": (lambda p: np.save(p, FLOATS * np.nan), "probs contains NaN"),
    "logits.npy": (
        lambda p: np.save(p, FLOATS * 9 - 1),
        "if they are logits, apply softmax or sigmoid first",
    ),
    "last.npy": (
        lambda p: np.save(p, np.linspace([0.1, 0.9], [0.8, 0.2], 20).reshape(4, 5, 2)),
        "the values sum to 1 along another axis than the classes' (of length 2, not 4): check",
    ),
    "noise.npz": (lambda p: p.write_bytes(b"noise"), "not a readable npz file: truncated or"),
    "flipped.npz": (flipped_npz, "not a readable npz file: truncated or corrupt"),
    "none.npz": (lambda p: np.savez(p), "holds no array"),
    "two.npz": (lambda p: np.savez(p, a=FLOATS, b=FLOATS), "--key; keys: 'a', 'b'"),
    "objects.npz": (lambda p: np.savez(p, a=np.array([Anything])), "holds Python objects"),
    "noise.pt": (lambda p: p.write_bytes(b"noise"), "not a torch file: truncated, corrupt, or"),
    "cut.pt": (cut_torch, "not a torch file: truncated, corrupt, or saved by torch before 1.6"),
    "object.pt": (lambda p: torch.save({"a": Anything}, p), "holds more than tensors (or is"),
    "list.pt": (lambda p: torch.save([1, 2], p), "holds a list, neither a tensor nor a dict"),
    "packed.pt": (packed_torch, "not written by torch.save: its parts are compressed"),
    "expanded.pt": (expanded, "takes 12,000,000,000,000 bytes, more than the limit of"),
    "sparse.pt": (sparse, "holds a sparse_coo tensor; store it dense"),
    "meta.pt": (
        lambda p: torch.save(torch.empty(3, 4, 5, device="meta"), p),
        "holds a meta tensor, which has no values",
    ),
    "nested.pt": (lambda p: nested(p, torch.strided), "holds a nested tensor; store one dense"),
    "jagged.pt": (lambda p: nested(p, torch.jagged), "holds a tensor of another class"),
    "quantized.pt": (quantized, "holds a quantized tensor; store its values"),
    "integers.pt": (lambda p: torch.save(torch.ones(3, 4, 5).long(), p), "holds int64 values"),
    "noise.safetensors": (
        lambda p: p.write_bytes(b"noise"),
        "not a readable safetensors file: truncated or corrupt",
    ),
    "photo.jpg": (
        lambda p: p.write_bytes(b"noise"),
        "a .jpg file is a picture and holds no probabilities of classes; known: .npy, .npz, .pt",
    ),
}


@pytest.mark.filterwarnings("ignore:Validating sparse")  # torch, on loading one
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")  # and on making these
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_named_and_the_others_are_written(run, saved, tmp_path, out, name):
    make, reason = BAD_FILES[name]
    bad = tmp_path / name
    make(bad)
    code, text = run("predict", bad, saved, "--output", out)
    assert code == 1
    wrote, failed = text.splitlines()
    assert wrote == f"wrote 1 file to {out}"
    assert failed.startswith(f"failed: {bad}: ")
    assert reason in failed
    assert [path.name for path in out.iterdir()] == ["image.npy"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--key", "a"], "a .npy file has no keys: leave out --key a"),
        (["--channel-axis", "5"], "--channel-axis 5 does not exist in shape (3, 6, 5)"),
        (
            ["--channel-axis", "2", "--batched"],
            "--channel-axis 2 does not exist in shape (3, 6, 5) (it counts after the batch axis)",
        ),
        (["--batched"], "shape (3, 6, 5) can be read in two ways"),
        (["--format", "png", "--output-mode", "multilabel"], "this one has shape (3, 6, 5): use"),
        (
            ["--format", "png", "--unassigned-policy", "void", "--void-index", "70000"],
            "a PNG holds values 0 to 65535",
        ),
    ],
)
def test_option_that_does_not_fit_the_file(run, saved, out, options, reason):
    code, text = run("predict", saved, "--output", out, "--pruning-prob", "0.999999", *options)
    assert code == 1
    assert text.startswith("wrote 0 files")
    assert reason in text
    assert not list(out.iterdir())


def test_softmax_over_one_channel(run, tmp_path, out):
    np.save(tmp_path / "one.npy", FLOATS[:1])
    code, text = run("predict", tmp_path / "one.npy", "--output", out, "--activation", "softmax")
    assert code == 1
    assert "softmax over one channel is 1 everywhere; use --activation sigmoid" in text


def test_wrong_key_lists_those_there_are(run, tmp_path, out):
    torch.save({"x": torch.ones(3, 4), "y": torch.ones(3, 4), "step": 3}, tmp_path / "d.pt")
    code, text = run("predict", tmp_path / "d.pt", "--output", out, "--key", "z")
    assert code == 1
    assert "has no key 'z'; keys: 'x', 'y'\n" in text


def test_the_bad_image_of_a_batch_is_numbered(run, tmp_path, out):
    np.save(tmp_path / "b.npy", np.stack([FLOATS, FLOATS + 2]))
    code, text = run("predict", tmp_path / "b.npy", "--output", out, "--batched")
    assert code == 1
    assert "image 1: probs must lie in [0, 1]" in text


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_activation_does_not_choose_the_classes_axis(run, tmp_path, out, activation):
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 4, 5), np.float32))
    code, text = run("predict", tmp_path / "x.npy", "--output", out, "--activation", activation)
    assert code == 1
    assert "say --no-batched or --batched" in text


@pytest.mark.parametrize("shape", [(), (5,)])
@pytest.mark.parametrize("axis", ["first", "none", "0", "-1"])
def test_batch_of_less_than_an_image(run, saved, tmp_path, out, shape, axis):
    np.save(tmp_path / "x.npy", np.full(shape, 0.5, np.float32))
    options = ("--batched", "--channel-axis", axis)
    code, text = run("predict", tmp_path / "x.npy", "--output", out, *options)
    assert code == 1
    assert f"shape {shape} leaves no spatial axis" in text


def test_empty_image_in_a_batch(run, tmp_path, out):
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 0, 5), np.float32))
    code, text = run("predict", tmp_path / "x.npy", "--output", out, "--batched")
    assert code == 1
    assert "shape (2, 3, 0, 5) has no values: an axis has length 0" in text


@pytest.mark.parametrize("name", ["empty", "nothing-*.npy"])
def test_folder_or_pattern_without_files(run, saved, tmp_path, out, name):
    (tmp_path / "empty").mkdir()
    code, text = run("predict", tmp_path / name, saved, "--output", out)
    assert code == 1
    assert text.startswith("wrote 1 file")
    reason = "the folder holds no .npy, .npz" if name == "empty" else "no file matches this pattern"
    assert f"failed: {tmp_path / name}: {reason}" in text


def test_a_mistyped_folder_is_missing(run, tmp_path, out):
    """Not a file of an unknown kind, though its name has no suffix."""
    code, text = run("predict", tmp_path / "prbs", "--output", out)
    assert code == 1
    assert text.endswith(f"failed: {tmp_path / 'prbs'}: No such file or directory\n")


def test_existing_result_is_kept_unless_overwrite_is_said(run, saved, out):
    out.mkdir()
    (out / "image.npy").write_bytes(b"precious")
    code, text = run("predict", saved, "--output", out)
    assert code == 1
    assert "exists already: use --overwrite to replace it" in text
    assert (out / "image.npy").read_bytes() == b"precious"
    assert run("predict", saved, "--output", out, "--overwrite")[0] == 0
    assert np.load(out / "image.npy").shape == (6, 5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--metric", "f1"], "metric must be one of 'dice', 'iou', 'acc'"),
        (["--solver", "best"], "solver must be one of 'RMA', "),
        (["--unassigned-policy", "void", "--void-index", "9" * 23], "must fit into 64 bits"),
        (["--solver", "TR"], "--solver TR makes no sense with --output-mode multiclass"),
        (["--threshold", "0.3"], "takes no parameter --threshold"),
        (["--smooth", "-1"], "smooth must be a finite number >= 0; got -1.0"),
        (["--void-index", "3"], "leave --void-index out"),
        (["--activation", "relu"], "relu"),
        (["--format", "jpg"], "jpg"),
        (["--format", "tif"], "--format tif is for .tif, .tiff: "),
        (["--format", "nii.gz"], "--format nii.gz is for .nii, .nii.gz: "),
        (["--scale", "0"], "--scale must be larger than 0; got 0"),
        (["--channel-axis", "last"], "--channel-axis must be an integer or 'none', got 'last'"),
        (["--max-bytes", "0"], "max-bytes"),
        (["--expected-score", "scores.txt"], "must end in .csv or .json, got scores.txt"),
        (["--expected-score", "no/where.csv"], "there is no folder no"),
    ],
)
def test_senseless_option_stops_before_any_work(run, saved, out, options, reason):
    code, text = run("predict", saved, "--output", out, *options)
    assert code == 2
    assert reason in text
    assert not out.exists() or not list(out.iterdir())


def test_two_inputs_with_one_result(run, saved, tmp_path, out):
    np.savez(tmp_path / "image.npz", a=FLOATS)
    code, text = run("predict", saved, tmp_path / "image.npz", "--output", out)
    assert code == 2
    expected = f"{saved} and {tmp_path / 'image.npz'} would both be written to {out / 'image.npy'}"
    assert expected in text
    assert not out.exists()


def test_a_result_never_replaces_an_input(run, saved):
    before = saved.read_bytes()
    code, text = run("predict", saved, "--output", saved.parent, "--overwrite")
    assert code == 2
    assert "would replace an input: choose another --output folder" in text
    assert saved.read_bytes() == before


def test_output_is_a_file(run, saved, out):
    out.write_text("in the way")
    code, text = run("predict", saved, "--output", out)
    assert (code, text) == (1, f"rankseg: {out}: File exists\n")


@pytest.mark.parametrize("place", ["/proc/x", "/sys/x", "/dev/null/x"])
def test_output_where_the_system_makes_no_folder(run, saved, place):
    if not Path(place).parent.exists():
        pytest.skip("not on this system")
    code, text = run("predict", saved, "--output", place)
    assert code == 1
    assert re.fullmatch(rf"rankseg: {place}: [A-Z][a-z ]+\n", text)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="not on this system")
def test_output_folder_that_takes_no_file(run, saved):
    code, text = run("predict", saved, "--output", "/proc/self")
    assert code == 1
    assert re.fullmatch(rf"wrote 0 files to /proc/self\nfailed: {saved}: [A-Z][a-z ]+\n", text)


# A disk of 64 KiB of the process' own; the second result finds it full.
FULL_DISK = """
mount -t tmpfs -o size=64k none "$1" && echo mounted || exit
"$2" -m rankseg predict "$3"/small.npy "$3"/big.npy --output "$1"
echo "$?"
ls -A "$1"
"""


def test_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    np.save(tmp_path / "small.npy", FLOATS)
    np.save(tmp_path / "big.npy", np.full((1, 400, 400), 0.25, np.float32))
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", FULL_DISK, "-"]
    if shutil.which("unshare") is None:
        pytest.skip("needs the program unshare")
    arguments = [*command, str(disk), sys.executable, str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if not done.stdout.startswith("mounted\n"):
        pytest.skip(f"the system lends no disk: {done.stderr}")
    assert done.stdout == f"mounted\nwrote 1 file to {disk}\n1\nsmall.npy\n"
    assert re.fullmatch(rf"failed: {tmp_path}/big.npy: .+\n", done.stderr)


def test_table_is_in_the_way(run, saved, tmp_path, out):
    table, folder = tmp_path / "t.csv", tmp_path / "folder.csv"
    table.write_text("precious")
    folder.mkdir()
    for path, reason in ((table, "exists already: use --overwrite"), (folder, "is a folder")):
        code, text = run("predict", saved, "--output", out, "--expected-score", path)
        assert code == 2
        assert reason in text
    assert table.read_text() == "precious"


def refuse(number: int):
    def refusing(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    return refusing


@pytest.mark.parametrize(
    ("where", "number", "reason"),
    [
        ("os.fsync", errno.ENOSPC, "No space left on device"),
        ("os.replace", errno.EROFS, "Read-only file system"),
    ],
)
def test_refused_write_leaves_nothing(run, saved, out, monkeypatch, where, number, reason):
    monkeypatch.setattr(f"rankseg.files.write.{where}", refuse(number))
    code, text = run("predict", saved, "--output", out)
    assert (code, text) == (1, f"wrote 0 files to {out}\nfailed: {saved}: {reason}\n")
    assert not list(out.iterdir())


def test_refused_write_keeps_the_old_result(run, saved, out, monkeypatch):
    out.mkdir()
    (out / "image.npy").write_bytes(b"old")
    monkeypatch.setattr("rankseg.files.write.os.fsync", refuse(errno.ENOSPC))
    assert run("predict", saved, "--output", out, "--overwrite")[0] == 1
    assert [(p.name, p.read_bytes()) for p in out.iterdir()] == [("image.npy", b"old")]


def test_a_write_cut_by_the_system_leaves_nothing(run, tmp_path, out, largest_file):
    np.save(tmp_path / "big.npy", np.full((1, 400, 400), 0.25, np.float32))
    np.save(tmp_path / "small.npy", FLOATS)
    with largest_file(100_000):
        code, text = run("predict", tmp_path / "big.npy", tmp_path / "small.npy", "--output", out)
    assert code == 1
    assert f"failed: {tmp_path / 'big.npy'}: " in text
    assert [path.name for path in out.iterdir()] == ["small.npy"]


def test_refused_table(run, saved, tmp_path, out, monkeypatch):
    monkeypatch.setattr("rankseg.files.table.atomic_write", refuse(errno.ENOSPC))
    table = tmp_path / "t.csv"
    code, text = run("predict", saved, "--output", out, "--expected-score", table)
    assert (code, text) == (1, "rankseg: No space left on device\n")


def test_unreadable_file(run, saved, out, monkeypatch):
    original = Path.open

    def guarded(path: Path, *arguments: object, **options: object):
        if path == saved:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", guarded)
    code, text = run("predict", saved, "--output", out)
    assert (code, text) == (1, f"wrote 0 files to {out}\nfailed: {saved}: Permission denied\n")


def test_missing_optional_package(run, tmp_path, out, monkeypatch):
    (tmp_path / "x.safetensors").write_bytes(b"noise")
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    code, text = run("predict", tmp_path / "x.safetensors", "--output", out)
    assert code == 1
    assert f"safetensors is needed here: {pip_line('files')}\n" in text


def test_a_mistake_of_ours_is_not_blamed_on_the_file(run, saved, tmp_path, out, monkeypatch):
    def broken(path: Path, *arguments: object) -> torch.Tensor:
        if path.name == "odd.npy":
            raise AttributeError("a bug")
        return read_array(path)

    (tmp_path / "odd.npy").write_bytes(saved.read_bytes())
    monkeypatch.setattr("rankseg.inputs.read_array", broken)
    code, text = run("predict", tmp_path / "odd.npy", saved, "--output", out)
    assert code == 1
    assert text.splitlines() == [
        f"wrote 1 file to {out}",
        f"failed: {tmp_path / 'odd.npy'}: unexpected AttributeError: a bug; please report this",
    ]
    assert [path.name for path in out.iterdir()] == ["image.npy"]


@pytest.mark.parametrize("name", ["one.npy", "one.nii.gz", "sub/ONE.PNG", "one.csv"])
def test_output_is_a_folder_and_no_file(run, saved, tmp_path, name):
    code, text = run("predict", saved, "--output", tmp_path / name)
    assert code == 2
    wanted = f"--output is the folder for the results, and {tmp_path / name} is called like a file"
    assert text.startswith(f"rankseg: {wanted}")
    assert not (tmp_path / name).exists()


def test_a_folder_may_be_called_like_a_file(run, saved, tmp_path):
    folder = tmp_path / "run.npy"
    folder.mkdir()
    assert run("predict", saved, "--output", folder)[0] == 0
    assert (folder / "image.npy").is_file()
    assert run("predict", saved, "--output", tmp_path / "model.v2")[0] == 0


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((64, 48, 3), []),
        ((64, 48, 1), []),
        ((100, 80, 16), []),
        ((2, 40, 40, 4), ["--batched"]),
        ((40, 40, 40, 2), ["--no-batched"]),
    ],
)
def test_classes_that_lie_last_are_not_taken_for_columns(run, tmp_path, out, shape, options):
    np.save(tmp_path / "x.npy", np.full(shape, 0.4, np.float32))
    predict = ("predict", tmp_path / "x.npy", "--output", out, *options)
    code, text = run(*predict, "--output-mode", "multilabel")
    assert code == 1
    assert "--channel-axis -1" in text
    assert f"--channel-axis 0 for {shape[-3 - ('--no-batched' in options)]} classes" in text
    for axis in (0, -1):
        code, text = run(*predict, "--channel-axis", axis, "--overwrite")
        assert code == 0, text


@pytest.mark.parametrize(
    "shape", [(150, 51, 68), (3, 64, 4), (500, 16, 16), (64, 8, 8), (32, 64, 2), (40, 50, 17)]
)
def test_classes_first_are_read_as_they_lie(run, tmp_path, out, shape):
    np.save(tmp_path / "x.npy", np.full(shape, 0.4, np.float32))
    assert run("predict", tmp_path / "x.npy", "--output", out)[0] == 0
    assert np.load(out / "x.npy").shape == shape[1:]


def test_many_failures_for_one_reason_are_a_few_lines_on_a_terminal(
    run, tmp_path, out, monkeypatch
):
    for number in range(12):
        np.save(tmp_path / f"logits{number}.npy", FLOATS * 9 - 3 - number)
    np.save(tmp_path / "nan.npy", FLOATS * np.nan)
    predict = ("predict", tmp_path, "--output", out)
    for seen in (False, True):
        if seen:
            monkeypatch.setenv("FORCE_COLOR", "1")
        code, text = run(*predict)
        assert code == 1
        assert text.count("failed: ") == (7 if seen else 13)
        assert text.count("nan.npy: probs contains NaN") == 1
        assert text.count("got min=") == (5 if seen else 12)
    assert text.endswith("failed: 7 more, for the same reasons; 2> FILE keeps all\n")
