"""Comparisons on the same images: paired, named, streamed, and honest about noise."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from simulated import labels_of, masks_of, smooth_logits

from rankseg import Calibrator, RankSEG
from rankseg.evaluation import evaluate
from rankseg.evaluation.bootstrap import Bootstrap, estimate
from rankseg.evaluation.contest import Contest, Conventions
from rankseg.evaluation.metrics import metric_for


def pairs_of(images: int, seed: int = 0, classes: int = 3, masks: bool = False, size: int = 24):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(images):
        logits = smooth_logits(generator, classes, size)
        probs = logits.sigmoid() if masks else logits.softmax(1)
        truth = (masks_of if masks else labels_of)(probs, generator)
        found.append((probs, truth, f"case {index}"))
    return found


def plain_dice(decide, probs, truth):
    predicted = decide(probs)
    scores = []
    for class_ in range(probs.shape[1]):
        p, t = (predicted == class_), (truth == class_)
        total = int(p.sum() + t.sum())
        if total:
            scores.append(2 * int((p & t).sum()) / total)
    return np.mean(scores)


def test_differences_are_those_of_the_same_images():
    pairs = pairs_of(12)
    decide = RankSEG("dice")
    found = evaluate(pairs, {"ours": decide})
    base = [plain_dice(lambda p: p.argmax(1), *pair[:2]) for pair in pairs]
    ours = [plain_dice(decide, *pair[:2]) for pair in pairs]
    row = found.contenders["ours"]
    ahead = np.subtract(ours, base)
    assert row.per_image["dice"].value == pytest.approx(np.mean(ours))
    assert row.difference["dice"].estimate.value == pytest.approx(np.mean(ahead))
    counts = row.difference["dice"]
    assert (counts.wins, counts.losses) == ((ahead > 1e-9).sum(), (ahead < -1e-9).sum())
    assert counts.wins + counts.ties + counts.losses == 12
    order = np.argsort(ahead)
    worst, best = found.worst["ours"], found.best["ours"]
    assert [one.name for one in worst] == [f"case {i}" for i in order[:5] if ahead[i] < 0]
    assert [one.name for one in best] == [f"case {i}" for i in order[::-1][:5] if ahead[i] > 0]
    assert best[0].difference == pytest.approx(ahead.max())
    assert set(best[0].maps) == {"truth", "baseline", "decided", "probability"}
    shown = pairs[order[-1]]
    assert np.array_equal(best[0].maps["truth"], shown[1][0].numpy())
    assert np.array_equal(best[0].maps["baseline"], shown[0].argmax(1)[0].numpy())
    assert np.array_equal(best[0].maps["decided"], decide(shown[0])[0].numpy())
    foreground = ((1 - shown[0][0, 0]) * 255).round().numpy()
    assert np.abs(best[0].maps["probability"] - foreground).max() <= 1


def test_one_batch_or_many_in_any_order_are_the_same():
    pairs = pairs_of(9)
    together = [
        (torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs]), [p[2] for p in pairs])
    ]
    one = evaluate(pairs, seed=3)
    for other in (evaluate(together, seed=3), evaluate(pairs[::-1], seed=3)):
        mine, theirs = one.contenders["RMA"], other.contenders["RMA"]
        assert mine.per_dataset == theirs.per_dataset
        for name in ("value", "error", "low", "high"):
            values = [getattr(row.difference["dice"].estimate, name) for row in (mine, theirs)]
            assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Means of 40 normal numbers: 95 % of 300 intervals hold 0, give or take three errors."""
    generator, held = np.random.default_rng(0), 0
    for run in range(300):
        bootstrap = Bootstrap(400, seed=run)
        for index, number in enumerate(generator.normal(size=40)):
            bootstrap.add(torch.tensor([number, 1.0], dtype=torch.float64), f"{index}")
        sums = bootstrap.sums()
        found = estimate(sums[:, 0] / sums[:, 1])
        held += found.low <= 0 <= found.high
        assert found.error == pytest.approx(1 / math.sqrt(40), rel=0.4)
    assert 300 * 0.95 - 3 * math.sqrt(300 * 0.95 * 0.05) - 6 <= held <= 299


def test_images_of_a_group_come_and_go_together():
    """Ten copies of each image say no more than one: the interval must not shrink."""
    pairs = pairs_of(12)
    copies = [(p, y, f"{name}/{i}") for p, y, name in pairs for i in range(10)]
    alone = evaluate(pairs).contenders["RMA"].difference["dice"].estimate
    copied = evaluate(copies).contenders["RMA"].difference["dice"].estimate
    grouped = evaluate(copies, groups=lambda name: name.split("/")[0])
    estimate_ = grouped.contenders["RMA"].difference["dice"].estimate
    assert grouped.groups == 12
    assert copied.error < 0.5 * alone.error
    assert estimate_.error == pytest.approx(alone.error, rel=1e-6)
    with pytest.raises(ValueError, match="groups has no entry for the image 'case 0/0'"):
        evaluate(copies, groups={"case 1/0": "a"})


def test_verdicts_say_what_was_seen():
    gains = evaluate(pairs_of(30, masks=True), {"RMA": RankSEG("iou", "multilabel")}, metric="iou")
    assert gains.verdict.startswith("RankSEG (RMA) gains +")
    assert "over 0.5 (95 % interval +" in gains.verdict
    generator = torch.Generator().manual_seed(0)
    probs = torch.tensor([0.9] * 100 + [0.45] * 300).reshape(1, 1, 20, 20)  # far too much promised
    rate = torch.tensor([0.9] * 100 + [0.01] * 300).reshape(1, 1, 20, 20)
    too_sure = [(probs, torch.rand(1, 1, 20, 20, generator=generator) < rate) for _ in range(20)]
    loses = evaluate(too_sure, RankSEG("dice", "multilabel"))
    assert loses.verdict.startswith("Keep 0.5: the best alternative, RankSEG (RMA dice), loses ")
    same = evaluate(pairs_of(10), {"same": RankSEG("acc")})
    assert "cannot be told from noise" in same.verdict
    counts = same.contenders["same"].difference["dice"]
    assert (counts.wins, counts.ties, counts.losses) == (0, 10, 0)
    assert evaluate(pairs_of(5), {}).verdict.startswith("Only argmax was evaluated")


@pytest.mark.parametrize("number", [1, 3, 9])
def test_few_images_show_nothing_whatever_the_interval_says(number):
    few = evaluate(pairs_of(number, masks=True), metric="iou")
    ahead = few.difference(few.leader).estimate
    assert number < 9 or ahead.low > 0  # the interval alone would call it a gain
    assert few.verdict.startswith(
        f"Too few images to tell ({number}; 10 independent ones are needed): RankSEG (RMA) differs "
        "from 0.5 by +"
    )
    assert "gains" not in few.verdict


def test_what_ranksegs_solvers_decide_is_called_ranksegs():
    def chance(probs):
        return probs.argmax(1)

    ways = {name: RankSEG(solver=name) for name in ("rma", "BA+TRNA")}
    ways |= {"coupled 0.5": RankSEG(solver="coupled"), "mine": RankSEG(), "exact": chance}
    found = evaluate(pairs_of(2), ways)
    assert list(found.contenders) == ["argmax", *ways]  # names stay what they are
    assert [one.title for one in found.contenders.values()] == [
        *("argmax", "RankSEG (rma)", "RankSEG (BA+TRNA)", "RankSEG (coupled 0.5)"),
        *("mine", "exact"),
    ]


def test_an_image_where_nothing_is_and_nothing_was_said_is_right():
    """Without a score it drops out of the mean, but predicting there must count as a loss."""
    probs = torch.full((1, 1, 10), 0.4)
    truth = torch.zeros(1, 1, 10, dtype=torch.bool)
    found = evaluate([(probs, truth)], RankSEG("dice", "multilabel", pruning_prob=0.0))
    row = found.contenders["RMA dice"]
    assert row.difference["dice"].losses == 1
    assert math.isnan(found.baseline.per_image["dice"].value)
    assert row.per_image["dice"].value == 0
    assert found.worst["RMA dice"][0].difference == -1


def test_what_was_promised_is_compared_with_what_was_achieved():
    found = evaluate(pairs_of(60, seed=4)).contenders["RMA"].promise
    assert found.expected == pytest.approx(found.achieved, abs=0.01)
    assert found.correlation > 0.8
    sure = Calibrator("softmax", (4.0,) * 3, (0.0,) * 3)
    overconfident = evaluate(pairs_of(60, seed=4), RankSEG(calibrator=sure))
    promise = overconfident.contenders["RMA dice"].promise
    assert promise.expected > promise.achieved + 0.05


def test_promises_of_classes_that_are_predicted_and_not_there_count():
    probs = torch.tensor([[[0.6, 0.6], [0.4, 0.4], [0.0, 0.0]]])
    row = evaluate([(probs, torch.tensor([[1, 1]]))], {"a": RankSEG(solver="argmax")})
    promise = row.contenders["a"].promise
    assert promise.count == 2  # class 0 is predicted, class 1 is true, class 2 neither
    assert promise.achieved == 0


def test_logits_numpy_and_one_channel():
    pairs = pairs_of(6)
    plain = evaluate(pairs)
    logits = [(p.log() + 3, y, n) for p, y, n in pairs]
    decide = RankSEG(activation="softmax")
    of_logits = evaluate(logits, {"RMA": decide}).contenders["RMA"]
    assert of_logits.per_image["dice"].value == pytest.approx(
        plain.contenders["RMA"].per_image["dice"].value, abs=1e-6
    )
    arrays = [(p.numpy(), y.numpy().astype(np.uint16), n) for p, y, n in pairs]
    assert evaluate(arrays).contenders["RMA"].per_image == plain.contenders["RMA"].per_image
    binary = [(p[:, 1:2], (y == 1).long(), n) for p, y, n in pairs]
    labels = evaluate(binary, output_mode="multiclass")
    masks = evaluate([(p, y[:, None].bool(), n) for p, y, n in binary])
    assert (
        labels.contenders["RMA"].per_image["dice"].value
        == masks.contenders["RMA"].per_image["dice"].value
    )
    squeezed = evaluate(binary, output_mode="multilabel")  # (B, H, W) masks of the one channel
    assert squeezed.contenders["RMA"].per_image == masks.contenders["RMA"].per_image


def test_volumes_show_the_slice_where_most_differs():
    generator = torch.Generator().manual_seed(1)
    probs = torch.rand(1, 2, 5, 8, 9, generator=generator) * 0.2 + 0.4
    probs[:, :, 3] = torch.rand(1, 2, 8, 9, generator=generator)
    probs /= probs.sum(1, keepdim=True)
    decide = RankSEG()
    found = evaluate([(probs, labels_of(probs, generator))], {"ours": decide})
    examples = found.best["ours"] + found.worst["ours"]
    differs = (decide(probs) != probs.argmax(1))[0].flatten(1).sum(1)
    assert np.array_equal(
        examples[0].maps["decided"], decide(probs)[0, differs.argmax()].numpy().astype(np.uint8)
    )


BAD = [
    (torch.zeros(1, 4, dtype=torch.long) + 3, "labels from 3 to 3, but there are 0 to 2"),
    (torch.full((1, 4), 255), r"say ignore_index=255 if that marks"),
    (torch.zeros(1, 5, dtype=torch.long), r"labels of shape \(5,\) do not go with probs of 3"),
    (torch.zeros(1, 4), "labels must be integers or bool; got torch.float32"),
    (torch.zeros(2, 4, dtype=torch.long), "1 images of probs, 2 of labels"),
    (torch.zeros(1, 3, 4, dtype=torch.long), "these are masks: choose the other output_mode"),
    ("labels", "labels must be a tensor"),
]


@pytest.mark.parametrize(("labels", "message"), BAD)
def test_a_pair_that_cannot_be_used_is_named(labels, message):
    good = (torch.full((1, 3, 4), 1 / 3), torch.tensor([[0, 1, 2, 0]]), "good")
    pairs = [good, (good[0], labels, "bad")]
    with pytest.raises(ValueError, match=r"^(bad|pair 1): .*" + message):
        evaluate(pairs, output_mode="multiclass")
    found = evaluate(pairs, output_mode="multiclass", on_error="skip")
    assert found.images == 1
    ((name, reason),) = found.skipped.items()
    assert name in ("bad", "pair 1")
    assert "not counted: " + name in str(found)
    assert reason


def test_probabilities_that_cannot_be_used_are_named():
    good = torch.full((1, 3, 4), 1 / 3)
    spoiled = good.clone()
    spoiled[0, 1, 2] = torch.nan
    labels = torch.tensor([[0, 1, 2, 0]])
    pairs = [(good, labels, "good"), (spoiled, labels, "spoiled"), (good * 5, labels, "logits")]
    pairs.append((good[:, :2], labels.clamp(max=1), "two"))
    with pytest.raises(ValueError, match="spoiled: probs contains NaN"):
        evaluate(pairs)
    found = evaluate(pairs, on_error="skip")
    assert set(found.skipped) == {"spoiled", "logits", "two"}
    assert found.images == 1


def test_a_bad_first_image_stops_no_other_and_numbers_stay():
    spoiled = (torch.full((1, 2, 4), torch.nan), torch.zeros(1, 4, dtype=torch.long))
    good = [pair[:2] for pair in pairs_of(6)]
    found = evaluate([spoiled, good[0], (good[1][0], "no labels"), *good[2:]], on_error="skip")
    assert found.images == 5
    assert set(found.skipped) == {"image 0", "pair 2"}
    shown = {one.name for one in found.best["RMA"] + found.worst["RMA"]}
    assert shown <= {"image 1", "image 3", "image 4", "image 5", "image 6"}
    assert shown - {"image 1"}


def test_arrays_and_names_of_any_kind():
    pairs = pairs_of(6)
    plain = evaluate(pairs)
    odd = [
        (p.numpy().astype(">f4")[..., ::-1], y.numpy().astype(">i2")[..., ::-1], n)
        for p, y, n in pairs
    ]
    assert evaluate(odd).contenders["RMA"].per_image["dice"].value == pytest.approx(
        plain.contenders["RMA"].per_image["dice"].value
    )
    together = (torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs]))
    groups = {str(number): "a" for number in range(6)}
    for names in (torch.arange(6), np.arange(6).astype(str)):
        assert evaluate([(*together, names)], groups=groups).groups == 1


def test_accuracy_of_one_channel_is_not_recall():
    probs = torch.tensor([[[0.9, 0.2, 0.1, 0.4]]])
    for labels in (torch.tensor([[1, 1, 0, 0]]), torch.tensor([[0, 0, 0, 0]])):
        found = evaluate([(probs, labels)], {}, output_mode="multiclass")
        right = ((probs[:, 0] > 0.5) == (labels == 1)).double().mean().item()
        assert found.baseline.per_image["acc"].value == pytest.approx(right)


def test_an_image_of_which_nothing_is_known_is_named():
    probs, labels = torch.full((2, 3, 4), 1 / 3), torch.tensor([[0, 1, 2, 0], [9, 9, 9, 9]])
    found = evaluate([(probs, labels, ["a", "b"])], ignore_index=9)
    assert found.skipped == {"b": "no pixel counts: all are ignored"}
    with pytest.raises(ValueError, match="there is no image to evaluate: b: no pixel counts"):
        evaluate([(probs[1:], labels[1:], "b")], ignore_index=9)
    with pytest.raises(ValueError, match="there is no image to evaluate"):
        evaluate([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "auc"}, "metric must be one of"),
        ({"contenders": {"argmax": RankSEG()}}, "'argmax' is the baseline's name"),
        ({"contenders": {"x": 3}}, "'x' must be a RankSEG"),
        ({"contenders": [RankSEG(), RankSEG(smooth=1)]}, "two deciders would be called"),
        (
            {"contenders": [RankSEG(), RankSEG("iou", "multilabel")]},
            "differ in output_mode: multiclass, multilabel",
        ),
        ({"contenders": RankSEG(), "activation": "softmax"}, "was asked for"),
        ({"class_names": ["a"]}, "class_names has 1 name, probs have 3 classes"),
        ({"on_error": "ignore"}, "on_error must be one of"),
        ({"empty": 0.5}, "empty must be 0, 1 or 'nan'"),
        ({"replicates": 0}, "replicates must be at least 1"),
        ({"contenders": lambda probs: probs}, "returned torch.float32 of shape"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        evaluate(pairs_of(2), **options)


def test_json_holds_everything(tmp_path):
    found = evaluate(pairs_of(6), class_names=["a", "b", "c"])
    found.save(tmp_path / "found.json")
    read = json.loads((tmp_path / "found.json").read_text())
    assert read["verdict"] == found.verdict
    assert read["contenders"][1]["difference"]["dice"]["wins"] == (
        found.contenders["RMA"].difference["dice"].wins
    )
    assert len(read["reliability"]["count"][0]) == 20
    assert read["class_names"] == ["a", "b", "c"]


def test_memory_does_not_grow_with_the_images():
    """What is kept after 40 images is what is kept after 400."""

    def size(images: int) -> int:
        contest = Contest(
            3, 4, [metric_for("dice")], Conventions(True, "nan", False), Bootstrap(50, 0)
        )
        for index in range(images):
            contest.add(torch.rand(3, 4, 4, dtype=torch.float64).cumsum(-1), str(index))
        contest.bootstrap.sums()
        return len(pickle.dumps(vars(contest)))

    assert size(400) < size(40) + 100  # pickled integers take a byte more or less
