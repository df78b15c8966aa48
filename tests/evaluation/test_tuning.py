"""The choice: what is better is found, noise is not, and nothing is learned from what is scored."""

import json
import math

import numpy as np
import pytest
import torch
from simulated import labels_of, masks_of, smooth_logits

from rankseg import Calibrator, RankSEG
from rankseg.evaluation import TunedRankSEG, evaluate, tune
from rankseg.evaluation.cuts import GRID

QUICK = {"solvers": ("RMA",), "couplings": (), "calibrations": ("none", "temperature")}


def pairs_of(images, masks=True, seed=0, factor=1.0, shift=0.0, dependence="independent", size=24):
    """Pairs whose model is off by a factor and a shift of the logits of class 1."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(images):
        logits = smooth_logits(generator, 2, size)
        probs = logits.sigmoid() if masks else logits.softmax(1)
        truth = masks_of(probs, generator, dependence) if masks else labels_of(probs, generator)
        wrong = logits * factor
        wrong[:, 1] += shift
        found.append((wrong.sigmoid() if masks else wrong.softmax(1), truth, f"{index}"))
    return found


def test_what_is_better_is_chosen_and_holds_on_new_images():
    tuned = tune(pairs_of(30), "iou", **QUICK)
    assert tuned.best_name_.startswith("RMA")
    assert tuned.verdict.startswith("Use RankSEG (RMA")
    gain = tuned.expected_gain_
    assert 0 < gain.low < gain.value < gain.high
    new = evaluate(pairs_of(60, seed=7), {"tuned": tuned}, metric="iou")
    ahead = new.contenders["tuned"].difference["iou"].estimate
    assert ahead.value == pytest.approx(gain.value, abs=3 * math.hypot(gain.error, ahead.error))


@pytest.mark.parametrize("masks", [True, False])
def test_a_model_that_promises_too_much_is_calibrated_first(masks):
    """RMA on raw probabilities would lose here; the choice must not."""
    pairs = pairs_of(30, masks, factor=0.3, shift=1.0)
    raw = evaluate(pairs, {"RMA": RankSEG("dice", ("multiclass", "multilabel")[masks])})
    tuned = tune(pairs, "dice", **{**QUICK, "calibrations": ("none", "vector")})
    assert tuned.best_.settings.calibrator is not None
    assert tuned.expected_gain_.value > raw.contenders["RMA"].difference["dice"].estimate.value


@pytest.mark.slow
def test_noise_is_seldom_chosen():
    """Candidates that are no better in truth: at 95 % confidence few of 40 runs choose one."""
    chosen = 0
    for run in range(40):
        generator = torch.Generator().manual_seed(run)
        pairs = []
        for index in range(12):
            probs = torch.rand(1, 2, 6, 6, generator=generator)
            truth = torch.randint(0, 2, (1, 6, 6), generator=generator)  # of nothing
            pairs.append((probs / probs.sum(1, keepdim=True), truth, str(index)))
        tuned = tune(pairs, "acc", replicates=300, seed=run)
        chosen += tuned.chosen_ != 0
    assert chosen <= 6, "2 are expected; more than 6 of 40 has a probability below 0.5 %"


@pytest.mark.parametrize("aggregation", ["image", "dataset"])
@pytest.mark.parametrize("metric", ["dice", "iou", "acc"])
def test_the_best_cut_of_masks_is_that_of_trying_all(metric, aggregation):
    pairs = pairs_of(6, factor=0.5, shift=-1.0, size=12)
    tuned = tune(
        pairs, metric, solvers=(), couplings=(), calibrations=("none",), aggregation=aggregation
    )
    (place,) = [i for i, one in enumerate(tuned.results_) if one.name == "tuned threshold"]
    forced = _forced(pairs, metric, aggregation)
    everything = {
        f"cut {cut:g}": RankSEG("acc", "multilabel", "TR", threshold=cut) for cut in GRID.tolist()
    }
    everything["forced"] = RankSEG("acc", "multilabel", "TR", threshold=forced)
    rows = evaluate(pairs, everything, metric=metric, replicates=1).contenders
    kind = "image_classes" if aggregation == "image" else "dataset_classes"
    scores = {name: getattr(row, kind)[metric] for name, row in rows.items()}
    best = np.max([scores[name] for name in everything], axis=0)
    assert scores["forced"] == pytest.approx(best, abs=1e-12)
    assert place == 1


@pytest.mark.parametrize("aggregation", ["image", "dataset"])
def test_the_best_factor_of_labels_is_that_of_trying_all(aggregation):
    pairs = pairs_of(6, masks=False, factor=0.5, shift=-1.5, size=12)
    forced = _forced(pairs, "dice", aggregation)
    assert isinstance(forced, Calibrator)

    everything = {
        f"{cut:g}": Calibrator("softmax", (1.0, 1.0), (math.log(cut / (1 - cut)), 0.0))
        for cut in GRID.tolist()
    }
    deciders = {
        name: RankSEG("acc", solver="argmax", calibrator=calibrator)
        for name, calibrator in {**everything, "forced": forced}.items()
    }
    rows = evaluate(pairs, deciders, replicates=1).contenders
    kind = "per_image" if aggregation == "image" else "per_dataset"
    scores = {name: getattr(row, kind)["dice"].value for name, row in rows.items()}
    assert scores["forced"] == pytest.approx(max(scores[name] for name in everything), abs=1e-12)


def _forced(pairs, metric, aggregation):
    """The cut found on all images."""
    from rankseg.evaluation import cuts
    from rankseg.evaluation.contest import Conventions
    from rankseg.evaluation.images import Images
    from rankseg.evaluation.metrics import metric_for

    images = Images.of(pairs, None, "none", None, "raise")
    how = Conventions(True, "nan", images.masks)
    return cuts.fit(images, metric_for(metric), how, aggregation, 2, lambda name: 0)[0]


def test_every_candidate_is_scored_with_what_it_learned_elsewhere():
    """Folds by hand: fit without a fold, score on it."""
    from rankseg.evaluation import fit_calibrator

    pairs = pairs_of(9, factor=2.0)
    tuned = tune(pairs, "iou", **QUICK, folds=3)
    scores = {}
    for fold in range(3):
        rest = [pair for pair in pairs if int(pair[2]) % 3 != fold]
        here = [pair for pair in pairs if int(pair[2]) % 3 == fold]
        calibrator = fit_calibrator(rest, "temperature")
        found = evaluate(
            here, {"x": RankSEG("iou", "multilabel", calibrator=calibrator)}, metric="iou"
        )
        scores[fold] = found.contenders["x"].per_image["iou"].value
    (result,) = [one for one in tuned.results_ if one.name == "RMA, temperature"]
    assert result.score.value == pytest.approx(np.mean(list(scores.values())), abs=2e-4)


def test_groups_stay_together():
    """Every image of patient k is shifted by k: what is learned elsewhere cannot know that."""
    pairs = [
        (p, y, f"{patient}/{name}")
        for patient in range(6)
        for p, y, name in pairs_of(4, seed=patient, shift=3.0 * (patient % 2))
    ]
    options = {**QUICK, "solvers": (), "calibrations": ("none", "vector"), "folds": 2}

    def calibrated(groups):
        tuned = tune(pairs, "acc", groups=groups, **options)
        (found,) = [one for one in tuned.results_ if one.name == "0.5, vector"]
        return tuned, found.score.value

    tuned, apart = calibrated(lambda name: name.split("/")[0])
    assert (tuned.groups_, tuned.images_) == (6, 24)
    _, mixed = calibrated(None)
    assert apart < mixed - 0.02  # patients 0, 2, 4 are one fold, and differ from 1, 3, 5


def test_candidates_of_ranksegs_solvers_are_called_ranksegs():
    tuned = tune(pairs_of(12), "iou", **QUICK)
    titles = {one.name: one.title for one in tuned.results_}
    assert titles["0.5"] == "0.5"
    assert titles["RMA unpruned"] == "RankSEG (RMA unpruned)"
    assert titles["0.5, temperature"] == "0.5, temperature"
    assert titles["tuned threshold"] == "tuned threshold"


def test_few_images_change_nothing():
    tuned = tune(pairs_of(9), "iou", **QUICK)
    assert tuned.chosen_ == 0
    assert tuned.verdict.startswith("Keep 0.5: too few images to tell (9; 10 independent ones")
    one = tune(pairs_of(1), "iou", **QUICK)
    assert one.chosen_ == 0
    assert torch.equal(one(pairs_of(1)[0][0]), pairs_of(1)[0][0] > 0.5)


@pytest.mark.parametrize("masks", [True, False])
def test_one_channel_is_tuned_in_either_mode(masks, tmp_path):
    pairs = [(p[:, :1], y[:, :1] if masks else y[:, 0].long(), n) for p, y, n in pairs_of(12)]
    mode = "multilabel" if masks else "multiclass"
    tuned = tune(pairs, "dice", output_mode=mode, **QUICK)
    scores = {one.name: one.score.value for one in tuned.results_}
    assert scores["tuned threshold"] != scores["0.5" if masks else "argmax"]
    best = tuned(pairs[0][0])
    assert best.dtype == (torch.bool if masks else torch.int64)
    tuned.save(tmp_path / "t.json")
    assert torch.equal(TunedRankSEG.load(tmp_path / "t.json")(pairs[0][0]), best)
    if not masks:
        other = [(p, y[:, None].bool(), n) for p, y, n in pairs]
        same = tune(other, "dice", output_mode="multilabel", **QUICK)
        assert [one.score.value for one in same.results_] == pytest.approx(
            [one.score.value for one in tuned.results_]
        )


def test_options_of_any_kind_are_saved(tmp_path):
    given = {"pruning_prob": torch.tensor([0.5, 0.25]), "smooth": np.float32(1.5)}
    tuned = tune(pairs_of(3, size=8), **QUICK, options=given)
    tuned.save(tmp_path / "t.json")
    assert TunedRankSEG.load(tmp_path / "t.json").results_ == tuned.results_


def test_it_is_called_as_a_rankseg(tmp_path):
    pairs = pairs_of(20, factor=0.5)
    tuned = tune(pairs, "iou", **{**QUICK, "calibrations": ("none", "vector", "isotonic")})
    probs = torch.cat([pair[0] for pair in pairs])
    valid = torch.rand(20, 24, 24, generator=torch.Generator().manual_seed(0)) > 0.2
    tuned.save(tmp_path / "tuned.json")
    loaded = TunedRankSEG.load(tmp_path / "tuned.json")
    for one in (tuned, loaded):
        assert torch.equal(one(probs), tuned.best_(probs))
        assert torch.equal(one.predict(probs, valid), tuned.best_.predict(probs, valid))
        assert torch.equal(one.solve(probs).volume, tuned.best_.solve(probs).volume)
        assert torch.equal(
            one.decide(probs[:1]).apply(probs), tuned.best_.decide(probs[:1]).apply(probs)
        )
        assert one.settings == tuned.best_.settings
        assert one.best_name_ in repr(one)
    assert loaded.verdict == tuned.verdict
    assert loaded.results_ == tuned.results_
    assert json.loads((tmp_path / "tuned.json").read_text())["verdict"] == tuned.verdict


def test_a_choice_of_a_fixed_cut_is_saved(tmp_path):
    """Dependent labels and a shifted model: the cut wins, its thresholds come back."""
    pairs = pairs_of(20, shift=-3.0)
    tuned = tune(pairs, "dice", solvers=(), couplings=(), calibrations=("none",))
    assert tuned.best_name_ == "tuned threshold"
    tuned.save(tmp_path / "t.json")
    loaded = TunedRankSEG.load(tmp_path / "t.json")
    assert loaded.settings == tuned.settings
    cuts = dict(loaded.settings.parameters)["threshold"]
    assert cuts[1] < cuts[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 9}, "its version is 9"),
        ({"options": None}, "lacks options or results"),
        ({"options": {"metric": "auc"}}, "metric must be one of"),
        ({"calibrator": {"kind": "x"}}, "kind must be one of"),
        ({"chosen": 99}, "chosen must be the place of a result"),
        ({"results": []}, "chosen must be the place of a result"),
        ({"results": [{"name": "x"}]}, "it lacks 'score'"),
    ],
)
def test_a_damaged_file_is_refused_by_name(change, message, tmp_path):
    path = tmp_path / "t.json"
    tune(pairs_of(2, size=8), **QUICK).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"t\.json is no tuned RankSEG: .*" + message):
        TunedRankSEG.load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "auc"}, "metric must be one of"),
        ({"solvers": ("best",)}, "solver must be one of"),
        ({"calibrations": "isotonic"}, "calibrations must be a list of names"),
        ({"calibrations": ("platt",)}, "calibrations must be one of"),
        ({"solvers": "RMA"}, "solvers must be a list of names"),
        ({"replicates": 0}, "replicates must be at least 1"),
        ({"seed": -1}, "seed at least 0"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"confidence": 1.5}, "confidence must lie strictly between"),
        ({"options": {"solver": "RMA"}}, "tune decides about solver itself"),
        ({"options": {"pruning": 0.1}}, "takes no parameter 'pruning'"),
        ({"aggregation": "patient"}, "aggregation must be one of"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tune(pairs_of(2, size=8), **{**QUICK, **options})


def test_options_reach_every_solver():
    pairs = pairs_of(8, shift=-4.0)
    names = {}
    for chosen in (None, {"pruning_prob": 0.0}):
        tuned = tune(pairs, "iou", **QUICK, options=chosen)
        names[chosen is None] = {one.name: one.score.value for one in tuned.results_}
    assert names[False]["RMA"] > names[True]["RMA"]
    assert names[True]["RMA unpruned"] == names[False]["RMA"]
    assert "RMA unpruned" not in names[False], "the options have said how to prune"


def test_a_pair_that_cannot_be_used_is_named():
    pairs = pairs_of(6)
    pairs[2] = (pairs[2][0] * 2, *pairs[2][1:])
    with pytest.raises(ValueError, match="2: probs must lie in"):
        tune(pairs, **QUICK)
    tuned = tune(pairs, **QUICK, on_error="skip")
    assert set(tuned.skipped_) == {"2"}
    assert tuned.images_ == 5
    with pytest.raises(ValueError, match="there is no image to"):
        tune([], **QUICK, output_mode="multilabel")
