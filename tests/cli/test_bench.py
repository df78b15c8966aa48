"""``rankseg bench``: the command on tiny cases, its files, its errors, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from rankseg.bench import peer
from rankseg.cli import app

TINY = ("--quick", "--case", "1x3x16x16", "--case", "1x1x8x8", "--threads", 1)
NO_GROWTH = (*TINY, "--largest", 0)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One run of the command: what it printed, and its folder."""
    folder = tmp_path_factory.mktemp("bench") / "made" / "deep"
    options = map(str, (*TINY, "--largest", 12, "--output", folder))
    found = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["bench", *options])
    assert found.exit_code == 0, found.output
    return found.stdout, folder


def test_tables(done):
    text, folder = done
    for words in ("1 x 3 x 16 x 16", "1 x 1 x 8 x 8", "x argmax", "x 0.5 cut", "IoU masks, logits"):
        assert words in text
    assert "1x3x16x16: too small for memory to be seen" in text.replace("\n", " ")
    assert "Not measured with --quick: the first call" in text
    assert max(map(len, text.splitlines()[:-2])) <= 80
    files = [f"wrote {folder / name}" for name in ("benchmarks.png", "benchmarks.json")]
    assert text.splitlines()[-2:] == files


def test_json(done):
    table = json.loads((done[1] / "benchmarks.json").read_text())
    assert table["setup"]["maps"] == "noise"
    assert {row["shape"] for row in table["times"]} == {"1x3x16x16", "1x1x8x8"}
    assert len(table["times"]) == 11 + 6
    for row in table["times"]:
        assert row["failure"] is None
        assert row["rounds"] >= 5
        for spread in (row["seconds"], *row["ratios"].values()):
            assert 0 < spread["p10"] <= spread["median"] <= spread["p90"]
    (labels,) = (row for row in table["times"] if row["name"] == "Dice labels")
    assert list(labels["ratios"]) == ["torch.argmax"]
    sizes = [row["shape"] for row in table["growth"]["timings"]]
    assert sizes == ["1x2x32x32"] * 2 + ["1x2x64x64"] * 2


def test_picture(done):
    with Image.open(done[1] / "benchmarks.png") as image:
        assert image.format == "PNG"
        assert image.width > 1200
        pixels = np.asarray(image.convert("RGB"))
    for colour in ((0x00, 0x72, 0xB2), (0x00, 0x9E, 0x73)):  # labels and masks
        assert (pixels == colour).all(axis=-1).sum() > 100


def test_nothing_else_is_written(done):
    names = sorted(path.name for path in done[1].iterdir())
    assert names == ["benchmarks.json", "benchmarks.png"]


def test_another_place_for_the_json_and_a_stored_run(run, done, out, tmp_path):
    table = tmp_path / "new" / "x.json"
    stored = done[1] / "benchmarks.json"
    easy = json.loads(stored.read_text())
    for row in easy["times"]:
        for ratio in row["ratios"].values():
            ratio["median"] *= 1000
    lenient = tmp_path / "lenient.json"
    lenient.write_text(json.dumps(easy))
    options = (*NO_GROWTH, "--output", out, "--json", table)
    code, text = run("bench", *options, "--check", lenient)
    assert code == 0
    assert text.splitlines()[-1] == f"16 ratios are at most 1.5 times those in {lenient}"
    assert [path.name for path in out.iterdir()] == ["benchmarks.png"]
    assert json.loads(table.read_text())["growth"] is None


def test_a_regression_is_an_error_after_the_results(run, done, out, tmp_path):
    stored = json.loads((done[1] / "benchmarks.json").read_text())
    for row in stored["times"]:
        if row["name"] == "Dice labels":
            row["ratios"]["torch.argmax"]["median"] /= 1000
        elif row["name"] != "torch.argmax":
            row["ratios"] = {}
    strict = tmp_path / "strict.json"
    strict.write_text(json.dumps(stored))
    code, text = run("bench", *NO_GROWTH, "--output", out, "--check", strict)
    assert code == 1
    lines = [line for line in text.splitlines() if line.startswith("rankseg: ")]
    assert len(lines) == 1
    assert lines[0].startswith("rankseg: worse: 1x3x16x16, threads 1: Dice labels takes ")
    assert (out / "benchmarks.json").is_file()


def test_a_stored_run_of_other_cases_checks_nothing(run, done, out):
    options = (*NO_GROWTH, "--threads", 2, "--output", out)
    code, text = run("bench", *options[:2], "1x4x8x8", "--quick", "--threads", 1, "--largest", 0,
                     "--output", out, "--check", done[1] / "benchmarks.json")  # fmt: skip
    assert code == 1
    assert text.splitlines()[-1].endswith("no case and number of threads in common")


# ---- options that make no sense ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--case", "city"], "--case must be batch, classes and one to three sides, such as 1x19x"),
        (["--case", "1x19"], "got '1x19'"),
        (["--case", "1x0x8"], "got '1x0x8'"),
        (["--check", "none.json"], "none.json: No such file or directory"),
    ],
)
def test_senseless_option_is_one_line(run, tmp_path, monkeypatch, options, reason):
    monkeypatch.chdir(tmp_path)
    code, text = run("bench", *options)
    assert code == 2
    assert text.count("\n") == 1
    assert text.startswith("rankseg: ")
    assert reason in text
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu(run, out):
    code, text = run("bench", "--device", "cuda", "--output", out)
    assert (code, text) == (2, "rankseg: --device cuda: this torch sees no CUDA device\n")


def test_missing_matplotlib_is_one_line_before_anything_is_measured(run, out, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    code, text = run("bench", "--output", out)
    assert (code, text) == (
        1,
        'rankseg: matplotlib is needed here: pip install "matplotlib>=3.8"\n',
    )
    assert not out.exists()


def test_folder_that_cannot_be_made(run, tmp_path):
    (tmp_path / "taken").write_text("")
    code, text = run("bench", "--output", tmp_path / "taken")
    assert (code, text) == (1, f"rankseg: {tmp_path / 'taken'}: File exists\n")


def test_help_tells_what_a_user_asks_first(run):
    text = " ".join(run("bench", "--help")[1].split())
    for words in (
        "--peer",
        "--quick",
        "Needs matplotlib",
        "ten minutes",
        "--device",
        "not been tried",
    ):
        assert words in text


# ---- the peer ----------------------------------------------------------------------------------


def test_pip_that_fails_is_one_line(run, tmp_path, out, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    folder = tmp_path / "peer"
    code, text = run("bench", *NO_GROWTH, "--peer", "--peer-dir", folder, "--output", out)
    assert code == 1
    assert text.count("\n") == 1
    assert text.startswith("rankseg: the peer cannot be installed: ERROR: ")
    assert "rankseg==0.0.8" in text
    assert not peer.is_ready(folder, "cpu")
    assert not list(out.iterdir())


def test_a_folder_of_other_things_is_left_alone(run, tmp_path, out):
    (tmp_path / "thesis.txt").write_text("mine")
    code, text = run("bench", *NO_GROWTH, "--peer", "--peer-dir", tmp_path, "--output", out)
    assert code == 1
    assert text == (
        f"rankseg: {tmp_path} is not empty and no virtual environment: choose another\n"
    )


def test_the_environment_pins_the_peer_and_our_torch(monkeypatch):
    version = torch.__version__.partition("+")[0]
    assert peer.requirements("cpu") == ["rankseg==0.0.8", f"torch=={version}"]
    assert peer.requirements("cuda") == ["rankseg[cuda]==0.0.8", f"torch=={version}"]
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    monkeypatch.setattr(peer.sys, "platform", "linux")
    assert str(peer.default_folder()).startswith(f"/some/cache/rankseg/peer-0.0.8-torch-{version}")


FAKE = """
import torch, time
class RankSEG:
    def __init__(self, metric, solver, output_mode, safe_screening=None):
        if safe_screening and output_mode == "multilabel":
            raise TypeError("no screening here")
    def predict(self, probs):
        time.sleep(0.02)
        return probs.argmax(1)
"""


@pytest.fixture
def fake_peer(tmp_path):
    """An environment that looks installed, with a slow package of the peer's name in it."""
    folder = tmp_path / "peer"
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "rankseg").mkdir()
    (packages / "rankseg" / "__init__.py").write_text(FAKE)
    (packages / "rankseg-0.0.8.dist-info").mkdir()
    about = "Metadata-Version: 2.1\nName: rankseg\nVersion: 0.0.8\n"
    (packages / "rankseg-0.0.8.dist-info" / "METADATA").write_text(about)
    (packages / "torch.pth").write_text(sysconfig.get_path("purelib"))  # after its own packages
    (folder / peer.STAMP).write_text("\n".join(peer.requirements("cpu")))
    return folder


@pytest.mark.skipif(os.name != "posix", reason="the layout of the environment")
def test_the_peer_is_measured_in_its_own_environment(run, fake_peer, out, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # ours must not be found
    code, text = run("bench", *NO_GROWTH, "--peer", "--peer-dir", fake_peer, "--output", out)
    assert code == 0
    assert "Peer: rankseg 0.0.8 from PyPI" in text
    note = "1x1x8x8: peer 0.0.8, auto failed: TypeError: no screening here"
    assert note in text.replace("\n", " ")
    table = json.loads((out / "benchmarks.json").read_text())
    rows = {(row["shape"], row["name"]): row for row in table["times"]}
    slow = rows["1x3x16x16", "peer 0.0.8"]
    assert slow["seconds"]["median"] > 0.02
    assert list(slow["ratios"]) == ["torch.argmax", "Dice labels"]
    assert slow["ratios"]["Dice labels"]["median"] > 2
    assert rows["1x1x8x8", "peer 0.0.8, auto"]["failure"] == "TypeError: no screening here"


# ---- stopped -----------------------------------------------------------------------------------

SCRIPT = """
import signal, sys
from rankseg.bench import times
from rankseg.cli import app

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may ignore it
whole = times.measure

def slow(case, threads, contenders, clock, effort):
    print("measuring", flush=True)
    while True:
        clock(contenders[0], 1)

times.measure = slow
app()
"""


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "term")]
)
def test_stopped_in_the_midst(out, number, code, word):
    arguments = ("bench", *NO_GROWTH, "--output", out)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "measuring\n"
    children = children_of(process.pid)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert errors.startswith(f"rankseg: {word}")
    assert errors.endswith(": nothing was written\n")
    assert list(out.iterdir()) == []
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def children_of(pid: int) -> list[str]:
    """Processes that a process started; none where the system does not tell."""
    table = Path(f"/proc/{pid}/task/{pid}/children")
    found = table.read_text().split() if table.exists() else []
    assert found or not table.exists(), "the measuring process is seen"
    return found
