"""``rankseg evaluate``: every format and layout in, the numbers of ``evaluate`` out."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from pairs_on_disk import CLASSES, Pair, make, save, to_tif

from rankseg import Calibrator, RankSEG
from rankseg.evaluation import evaluate, tune
from rankseg.evaluation.file_pairs import FilePairs


@pytest.fixture
def pairs() -> list[Pair]:
    return make(6)


@pytest.fixture
def folders(tmp_path: Path, pairs: list[Pair]) -> tuple[Path, Path]:
    """The pairs as .npy in two folders."""
    return save(tmp_path, pairs, ".npy", ".npy")


@pytest.fixture
def numbers(run, tmp_path) -> Callable[..., dict[str, Any]]:
    """Run evaluate, which must succeed, and read its JSON."""

    def read(*arguments: object, code: int = 0) -> dict[str, Any]:
        path = tmp_path / "found.json"
        got, text = run("evaluate", *arguments, "--json", path, "--overwrite")
        assert got == code, text
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    return read


def expected(pairs: list[Pair], **options: Any) -> dict[str, Any]:
    """What ``evaluate`` finds on the same pairs in memory, as it is saved."""
    given = [(p[None], y[None], f"case {number}") for number, (p, y) in enumerate(pairs)]
    return evaluate(given, **options).to_dict()


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """All numbers; the order of images changes sums by rounding only, and here it is the same."""
    plain = json.loads(json.dumps(wanted))
    assert {name: found[name] for name in plain} == plain


@pytest.mark.parametrize("labels", [".npy", ".npz", ".pt", ".png"])
@pytest.mark.parametrize("probs", [".npy", ".npz"])
def test_formats_give_the_numbers_of_evaluate(numbers, tmp_path, pairs, probs, labels):
    same(numbers(*save(tmp_path, pairs, probs, labels)), expected(pairs))


def test_verdict_comes_first_and_files_are_named(run, tmp_path, folders, pairs):
    report, table = tmp_path / "r.html", tmp_path / "r.json"
    code, text = run("evaluate", *folders, "--report", report, "--json", table)
    assert code == 0
    words = expected(pairs)["verdict"].split()
    assert text.split()[: len(words)] == words
    assert text.splitlines()[-2:] == [f"wrote {report}", f"wrote {table}"]
    assert "<!DOCTYPE html>" in report.read_text()


def test_options_reach_evaluate(numbers, folders, pairs):
    found = numbers(
        *folders,
        *("--metric", "iou", "--aggregation", "dataset", "--no-include-background"),
        *("--empty", 1, "--class-names", "sky,tree,road", "--solver", "RMA", "--solver", "exact"),
        *("--pruning-prob", "0.1,0.2,0.3"),
    )
    options = {"include_background": False, "pruning_prob": (0.1, 0.2, 0.3)}
    contenders = {name: RankSEG("iou", solver=name, **options) for name in ("RMA", "exact")}
    wanted = expected(
        pairs,
        contenders=contenders,
        metric="iou",
        aggregation="dataset",
        include_background=False,
        empty=1,
        class_names=["sky", "tree", "road"],
    )
    same(found, wanted)


def test_logits_and_scaled_integers(numbers, tmp_path, pairs):
    logits = [(np.log(p), y) for p, y in pairs]
    found = numbers(*save(tmp_path, logits, ".npy", ".npy"), "--activation", "softmax")
    same(found, expected(logits, activation="softmax"))
    scaled = [((1000 * p).astype(np.uint16), y) for p, y in pairs]
    found = numbers(*save(tmp_path, scaled, ".npy", ".npy"), "--scale", 1000)
    values = [((p / 1000).astype(np.float32), y) for p, y in scaled]
    same(found, expected(values))


def test_masks_with_channels_last(numbers, tmp_path, pairs):
    masks = [(p, np.eye(CLASSES, dtype=bool)[y].transpose(2, 0, 1)) for p, y in pairs]
    last = [(p.transpose(1, 2, 0), y.transpose(1, 2, 0)) for p, y in masks]
    found = numbers(*save(tmp_path, last, ".npy", ".npy"), "--channel-axis", -1)
    wanted = expected(masks)
    assert wanted["conventions"]["masks"] is True
    same(found, wanted)


def test_one_map_and_masks_saved_as_pictures(numbers, tmp_path, pairs):
    maps = [(p[1], np.where(y == 1, 255, 0).astype(np.uint8)) for p, y in pairs]
    sides = save(tmp_path, maps, ".npy", ".png")
    options = ("--channel-axis", "none", "--label-values", "0,255", "--output-mode", "multilabel")
    same(numbers(*sides, *options), expected([(p[1:2], (y == 1)[None]) for p, y in pairs]))


def test_two_single_files_with_a_batch_axis_pair_whatever_they_are_called(numbers, tmp_path, pairs):
    np.savez(tmp_path / "out.npz", probs=np.stack([p for p, _ in pairs]), other=np.zeros(3))
    np.savez(tmp_path / "gt.npz", y=np.stack([y for _, y in pairs]), other=np.zeros(3))
    found = numbers(
        *(tmp_path / "out.npz", tmp_path / "gt.npz", "--batched"),
        *("--key", "probs", "--label-key", "y"),
    )
    given = [(p[None], y[None], f"out {number}") for number, (p, y) in enumerate(pairs)]
    same(found, evaluate(given).to_dict())


@pytest.mark.parametrize("grouped", [False, True])
def test_zarr(numbers, tmp_path, pairs, grouped):
    for name, place in (("p", 0), ("y", 1)):
        if grouped:
            group = zarr.create_group(tmp_path / f"{name}.zarr")
            for number, pair in enumerate(pairs):
                group.create_array(f"case {number}", data=pair[place])
        else:
            stacked = np.stack([pair[place] for pair in pairs])
            zarr.create_array(tmp_path / f"{name}.zarr", data=stacked)
    sides = (tmp_path / "p.zarr", tmp_path / "y.zarr")
    if grouped:
        same(numbers(*sides), expected(pairs))
    else:
        given = [(p[None], y[None], f"p {number}") for number, (p, y) in enumerate(pairs)]
        same(numbers(*sides), evaluate(given).to_dict())


def test_folders_of_zarrs_are_one_image_each(numbers, tmp_path, pairs):
    for name, place in (("p", 0), ("y", 1)):
        for number, pair in enumerate(pairs):
            zarr.create_array(tmp_path / name / f"case {number}.zarr", data=pair[place])
    same(numbers(tmp_path / "p", tmp_path / "y"), expected(pairs))


def test_nifti_masks(numbers, tmp_path):
    volumes = make(5, shape=(4, 6, 5))
    masks = [(p, np.eye(CLASSES, dtype=np.uint8)[y].transpose(3, 0, 1, 2)) for p, y in volumes]
    found = numbers(*save(tmp_path, masks, ".nii.gz", ".nii.gz"))
    assert found["conventions"]["masks"] is True
    same(found, expected(masks))


def test_one_channel(numbers, tmp_path, pairs):
    binary = [(p[1:2], (y == 1).astype(np.uint8)) for p, y in pairs]
    same(numbers(*save(tmp_path, binary, ".npy", ".png")), expected(binary))


def test_ignored_pixels(numbers, tmp_path, pairs):
    for _, labels in pairs:
        labels[:3] = 255
    found = numbers(*save(tmp_path, pairs, ".npy", ".png"), "--ignore-index", 255)
    same(found, expected(pairs, ignore_index=255))


def test_groups_come_from_names(numbers, tmp_path, pairs):
    sides = save(tmp_path, pairs, ".npy", ".npy")
    found = numbers(*sides, "--group-by", r"case ([012])|case")
    assert found["groups"] == 4  # three of their own, and "case"


def test_match_pairs_by_a_part_of_the_path(numbers, tmp_path, pairs):
    for number, (p, y) in enumerate(pairs):
        folder = tmp_path / f"patient {number}"
        folder.mkdir()
        np.save(folder / "probs.npy", p)
        np.save(folder / "labels.npy", y)
    found = numbers(
        *(tmp_path / "*" / "probs.npy", tmp_path / "*" / "labels.npy"),
        *("--match", "patient ([0-9]+)"),
    )
    given = [(p[None], y[None], str(number)) for number, (p, y) in enumerate(pairs)]
    same(found, evaluate(given).to_dict())


def test_nifti_volumes(numbers, tmp_path):
    volumes = make(5, shape=(4, 6, 5))
    found = numbers(*save(tmp_path, volumes, ".nii.gz", ".nii.gz"))
    same(found, expected(volumes))


@pytest.mark.parametrize("order", [None, "zyx"])
def test_arrays_beside_nifti_labels_as_nnunet_writes_them(numbers, tmp_path, order):
    volumes = make(5, shape=(4, 6, 5))
    sides = save(tmp_path, volumes, ".npz", ".nii.gz")
    options = ("--nifti-order", order) if order else ()
    same(numbers(*sides, "--no-batched", *options), expected(volumes))


def test_arrays_beside_nifti_labels_in_their_own_order(numbers, tmp_path):
    volumes = make(5, shape=(4, 4, 4))
    turned = [(p.transpose(0, 3, 2, 1).copy(), y) for p, y in volumes]
    sides = save(tmp_path, turned, ".npy", ".nii.gz")
    found = numbers(*sides, "--no-batched", "--nifti-order", "xyz")
    same(found, expected([(p, y.transpose(2, 1, 0)) for p, y in turned]))


def test_nifti_labels_that_are_whole_floats(numbers, tmp_path):
    volumes = make(5, shape=(4, 6, 5))
    floats = [(p, y.astype(np.float32)) for p, y in volumes]
    same(numbers(*save(tmp_path, floats, ".nii.gz", ".nii.gz")), expected(volumes))


def test_geotiff(numbers, tmp_path, pairs):
    same(numbers(*save(tmp_path, pairs, ".tif", ".tif")), expected(pairs))


def test_pixels_of_a_geotiff_without_data_count_for_nothing_and_are_named(run, tmp_path, pairs):
    sides = save(tmp_path, pairs, ".tif", ".tif")
    probs, labels = pairs[0]
    lacking = probs.copy()
    lacking[:, :4] = np.nan
    to_tif(sides[0] / "case 0.tif", lacking, nodata=np.nan)
    unknown = pairs[1][1].copy()
    unknown[:, 5:] = 200
    to_tif(sides[1] / "case 1.tif", unknown, nodata=200)
    report, table = tmp_path / "r.html", tmp_path / "r.json"
    assert run("evaluate", *sides, "--report", report, "--json", table)[0] == 0
    given = [(p[None], y[None].astype(np.int64), f"case {n}") for n, (p, y) in enumerate(pairs)]
    given[0] = (probs[None, :, 4:], labels[None, 4:], "case 0")
    given[1] = (pairs[1][0][None], unknown[None], "case 1")
    same(json.loads(table.read_text()), evaluate(given, ignore_index=200).to_dict())
    text = report.read_text()
    assert "<dt>case 0</dt><dd>33.3 % of the pixels are left out</dd>" in text
    assert "<dt>case 1</dt><dd>50 % of the pixels are left out</dd>" in text


def test_what_tune_and_calibrate_saved(run, numbers, tmp_path, folders, pairs):
    options = ("--solvers", "RMA", "--couplings", "none", "--calibrations", "temperature")
    tuned, fitted = tmp_path / "tuned.json", tmp_path / "c.json"
    assert run("tune", *folders, "--output", tuned, *options)[0] == 0
    assert run("calibrate", *folders, "--output", fitted, "--method", "vector")[0] == 0
    rule = RankSEG().decide([torch.from_numpy(p)[None] for p, _ in pairs])
    rule.save(tmp_path / "rule.json")
    found = numbers(
        *(*folders, "--tuned", tuned, "--calibrator", fitted, "--rule", tmp_path / "rule.json")
    )
    given = [(p[None], y[None], f"case {number}") for number, (p, y) in enumerate(pairs)]
    chosen = tune(given, solvers=["RMA"], couplings=[], calibrations=["temperature"])
    calibrator = Calibrator.load(fitted)
    contenders = {
        "RMA": RankSEG(),
        "argmax, calibrated": RankSEG("acc", solver="argmax", calibrator=calibrator),
        "RMA, calibrated": RankSEG(calibrator=calibrator),
        "tuned": chosen,
        "rule": rule,
    }
    same(found, expected(pairs, contenders=contenders))


def test_the_table_says_which_is_ranksegs(run, folders, tmp_path):
    report = tmp_path / "r.html"
    code, text = run(
        "evaluate", *folders, "--solver", "RMA", "--solver", "exact", "--report", report
    )
    assert code == 0
    first_cells = [re.split(r"  +", line.strip())[0] for line in text.splitlines()]
    for title in ("argmax", "RankSEG (RMA)", "RankSEG (exact)"):
        assert first_cells.count(title) == 2, text
        assert f'<th scope="row">{title}</th>' in report.read_text()


def test_progress_is_seen_on_a_terminal_only(run, folders, tmp_path, monkeypatch):
    assert "evaluating" not in run("evaluate", *folders)[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    item = FilePairs._item

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.15)  # the bar is drawn ten times a second
        return item(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(FilePairs, "_item", slowly)
        code, text = run("evaluate", *folders)
    assert code == 0
    assert "evaluating" in text
    assert re.search(r"\b(17|33|50|67|83)%", text)
    options = ("--solvers", "RMA", "--couplings", "none", "--calibrations", "temperature")
    text = run("tune", *folders, "--output", tmp_path / "t.json", *options)[1]
    assert [f"visit {number}" in text for number in (1, 2)] == [True, True]


def test_couplings_are_contenders(numbers, folders, pairs):
    found = numbers(*folders, "--solver", "coupled", "--coupling", 0.25, "--coupling", 1)
    contenders = {
        "coupled": RankSEG(solver="coupled"),
        "coupled 0.25": RankSEG(solver="coupled", coupling=0.25),
        "coupled 1": RankSEG(solver="coupled", coupling=1.0),
    }
    same(found, expected(pairs, contenders=contenders))
