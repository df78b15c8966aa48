"""``rankseg tune`` and ``calibrate``: what they save is what the functions find, for predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pairs_on_disk import Pair, make, save

from rankseg import Calibrator, RankSEG
from rankseg.evaluation import TunedRankSEG, fit_calibrator, tune

QUICK = ("--solvers", "RMA", "--couplings", "none", "--calibrations", "temperature")


@pytest.fixture
def pairs() -> list[Pair]:
    return make(8, seed=3)


@pytest.fixture
def folders(tmp_path: Path, pairs: list[Pair]) -> tuple[Path, Path]:
    return save(tmp_path, pairs, ".npy", ".npy")


def named(pairs: list[Pair]) -> list[tuple[np.ndarray, np.ndarray, str]]:
    return [(p[None], y[None], f"case {number}") for number, (p, y) in enumerate(pairs)]


def test_tune_saves_what_the_function_finds(run, tmp_path, folders, pairs):
    output, report = tmp_path / "tuned.json", tmp_path / "tuned.html"
    options = ("--metric", "iou", "--folds", 2, "--confidence", 0.8, "--no-thresholds")
    more = ("--aggregation", "dataset", "--no-include-background", "--empty", 1)
    code, text = run(
        "tune", *folders, "--output", output, "--report", report, *QUICK, *options, *more
    )
    assert code == 0
    wanted = tune(
        named(pairs),
        "iou",
        solvers=["RMA"],
        couplings=[],
        calibrations=["temperature"],
        options={"pruning_prob": 0.5},
        folds=2,
        confidence=0.8,
        thresholds=False,
        aggregation="dataset",
        include_background=False,
        empty=1,
    )
    assert TunedRankSEG.load(output).to_dict() == wanted.to_dict()
    words = wanted.verdict.split()
    assert text.split()[: len(words)] == words
    assert wanted.results_[-1].name in report.read_text()


def test_a_bad_pair_is_named_and_the_exit_code_tells(run, tmp_path, folders):
    np.save(folders[1] / "case 2.npy", np.full((12, 10), 255, np.uint8))
    output = tmp_path / "tuned.json"
    code, text = run("tune", *folders, "--output", output, *QUICK)
    assert code == 1
    assert "failed: case 2: labels from 255 to 255, but there are 0 to 2; say --ignore" in text
    assert list(TunedRankSEG.load(output).skipped_) == ["case 2"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--solvers", "RMA,XYZ"], "solver must be one of"),
        (["--calibrations", "platt"], "calibrations must be one of"),
        (["--couplings", "a"], "could not convert string to float"),
        (["--confidence", "1"], "--confidence must lie"),
        (["--folds", "1"], "--folds"),
        (["--metric", "f1"], "--metric must be one of"),
        (["--empty", "x"], "empty must be"),
        (["--overwrite", "--output", "x.npy"], "--output must end in .json"),
    ],
)
def test_options_that_make_no_sense(run, tmp_path, folders, options, reason):
    code, text = run("tune", *folders, "--output", tmp_path / "t.json", *QUICK, *options)
    assert code == 2
    assert reason in " ".join(text.split())
    assert not (tmp_path / "t.json").exists()


@pytest.mark.parametrize("method", ["temperature", "class_temperature", "vector", "isotonic"])
def test_calibrate_saves_what_the_function_fits(run, tmp_path, folders, pairs, method):
    if method == "isotonic":
        pytest.importorskip("sklearn")
    output = tmp_path / "c.json"
    code, text = run("calibrate", *folders, "--output", output, "--method", method)
    assert code == 0
    wanted = fit_calibrator(named(pairs), method)
    assert Calibrator.load(output) == wanted
    told = {"temperature": f"Temperature {1 / wanted.slope[0] if wanted.slope else 0:.3f}"}
    assert told.get(method, "Isotonic" if method == "isotonic" else "offset") in text


def test_calibrate_refuses_and_skips_like_evaluate(run, tmp_path, folders):
    output = tmp_path / "c.json"
    assert run("calibrate", *folders, "--output", output, "--method", "platt")[0] == 2
    np.save(folders[1] / "case 2.npy", np.zeros((3, 3), np.uint8))
    code, text = run("calibrate", *folders, "--output", output)
    assert code == 1
    assert "failed: case 2: labels of shape (3, 3) do not go with" in text
    assert Calibrator.load(output).kind == "softmax"


def test_predict_decides_as_tune_chose(run, tmp_path, out, folders, pairs):
    tuned = tmp_path / "tuned.json"
    best = RankSEG(
        "iou",
        solver="exact",
        pruning_prob=0.1,
        calibrator=Calibrator("softmax", slope=(0.3,) * 3, offset=(0.0, 0.5, 0.0)),
    )
    found = tune(named(pairs), solvers=[], couplings=[], calibrations=[])
    found.best_ = best
    found.save(tuned)
    assert run("predict", folders[0], "--output", out, "--tuned", tuned)[0] == 0
    usual = 0
    for number, (p, _) in enumerate(pairs):
        got = np.load(out / f"case {number}.npy")
        probs = torch.from_numpy(p)[None]
        assert (got == best(probs)[0].numpy()).all()
        usual += int((got != RankSEG()(probs)[0].numpy()).sum())
    assert usual > 0


def test_predict_calibrates_first(run, tmp_path, out, folders, pairs):
    fitted = tmp_path / "c.json"
    calibrator = Calibrator("softmax", slope=(0.3,) * 3, offset=(0.0, 0.5, 0.0))
    calibrator.save(fitted)
    options = ("--calibrator", fitted, "--metric", "iou")
    assert run("predict", folders[0], "--output", out, *options)[0] == 0
    decide = RankSEG("iou", calibrator=calibrator)
    for number, (p, _) in enumerate(pairs):
        wanted = decide(torch.from_numpy(p)[None])[0].numpy()
        assert (np.load(out / f"case {number}.npy") == wanted).all()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--tuned", "T", "--metric", "iou"], "--tuned has decided what --metric would"),
        (["--tuned", "T", "--calibrator", "C"], "--tuned has decided what --calibrator would"),
        (["--rule", "T", "--calibrator", "C"], "--rule has decided what --calibrator would"),
        (["--rule", "T", "--tuned", "T"], "--rule and --tuned both decide everything"),
        (["--tuned", "C"], "is no tuned RankSEG"),
        (["--tuned", "none.json"], "No such file or directory"),
        (["--calibrator", "T"], "is no calibrator"),
    ],
)
def test_predict_refuses_what_does_not_go_together(
    run, tmp_path, out, folders, pairs, options, reason
):
    tune(named(pairs), solvers=[], couplings=[], calibrations=[]).save(tmp_path / "t.json")
    Calibrator("softmax", slope=(1.0,) * 3, offset=(0.0,) * 3).save(tmp_path / "c.json")
    places = {"T": tmp_path / "t.json", "C": tmp_path / "c.json"}
    typed = [places.get(option, option) for option in options]
    code, text = run("predict", folders[0], "--output", out, *typed)
    assert code == 2
    assert reason in text
    assert not out.exists()
