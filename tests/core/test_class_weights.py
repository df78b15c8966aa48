"""``class_weights`` and ``include_background``: labels that maximise a weighted sum."""

import itertools

import numpy as np
import oracles
import pytest
import torch

from rankseg import RankSEG
from rankseg.functional import rankseg

WEIGHTS = (1.0, 5.0, 0.0, 0.3)
METRICS = ["dice", "iou", "acc"]
EVERY_WAY = [
    {},
    {"assignment": "ascent"},
    {"solver": "exact", "assignment": "ascent"},
    {"unassigned_policy": "void"},
    {"unassigned_policy": "void", "assignment": "ascent"},
    {"metric": "iou", "solver": "BA", "assignment": "ascent", "smooth": 1.0},
    {"metric": "tversky", "alpha": 0.3, "beta": 0.9, "assignment": "ascent"},
    {"metric": "acc"},
    {"solver": "argmax"},
]


def maps(seed=0, shape=(2, 4, 6, 7), scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).softmax(1)


def same(found, expected):
    for name, numbers in vars(found).items():
        assert torch.equal(numbers.nan_to_num(), getattr(expected, name).nan_to_num()), name


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_equal_weights_are_no_weights(options):
    options = {"pruning_prob": 0.1, **options}
    same(
        RankSEG(**options, class_weights=[1] * 4).solve(maps()),
        RankSEG(**options).solve(maps()),
    )


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_only_the_ratios_of_weights_matter(options):
    options = {"pruning_prob": 0.1, **options}
    one = RankSEG(**options, class_weights=WEIGHTS).solve(maps())
    for unit in (3.7, 1e-300, 1e300):
        found = RankSEG(**options, class_weights=[unit * w for w in WEIGHTS]).solve(maps())
        assert torch.equal(found.prediction, one.prediction)
        torch.testing.assert_close(found.objective, unit * one.objective, rtol=1e-12, atol=0)


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_weights_go_with_their_classes(options):
    options = {"pruning_prob": 0.1, **options}
    probs, order = maps(), [2, 0, 3, 1]
    one = RankSEG(**options, class_weights=WEIGHTS).solve(probs)
    found = RankSEG(**options, class_weights=[WEIGHTS[c] for c in order]).solve(probs[:, order])
    place = torch.tensor([*order, *range(4, 256)])
    assert torch.equal(place[found.prediction], one.prediction)


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_backends_and_batches_agree(options):
    options = {"pruning_prob": 0.1, "class_weights": WEIGHTS, **options}
    for probs in (maps(), maps().float(), maps().half()):
        plain = RankSEG(**options, backend="torch").solve(probs)
        same(RankSEG(**options, backend="numba").solve(probs), plain)
        for image in range(2):
            alone = RankSEG(**options).solve(probs[image : image + 1])
            assert torch.equal(alone.prediction[0], plain.prediction[image])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("output_mode", ["multiclass", "multilabel"])
def test_objective_and_bound_are_weighted_sums(metric, output_mode):
    probs = maps()
    found = RankSEG(metric, output_mode, class_weights=WEIGHTS).solve(probs)
    alone = RankSEG(metric, "multilabel").solve(probs)
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    torch.testing.assert_close(found.objective, (weights * found.expected_score).sum(1))
    torch.testing.assert_close(found.bound, (weights * alone.expected_score).sum(1))
    if output_mode == "multilabel":
        assert torch.equal(found.prediction, alone.prediction)
        assert torch.equal(found.expected_score, alone.expected_score)


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("policy", ["max_score", "void"])
@pytest.mark.parametrize("weights", [WEIGHTS, (0, 1, 1, 1)])
def test_published_rule(metric, policy, weights):
    decided = 0
    for seed in range(8):
        probs = maps(seed)[:1]
        found = RankSEG(
            metric, pruning_prob=0.3, unassigned_policy=policy, class_weights=weights
        ).solve(probs)
        flat, active = probs[0].flatten(1).numpy(), found.active[0].numpy()
        expected, gaps = oracles.published_labels(
            metric, flat, active, policy=policy, weights=weights
        )
        labels = found.prediction[0].flatten().numpy()
        clear = gaps > 1e-12
        np.testing.assert_array_equal(labels[clear], expected[clear])
        plain, _ = oracles.published_labels(metric, flat, active, policy=policy)
        decided += (plain != expected)[clear].sum()
    assert decided > 0


def brute_force(probs, metric, weights):
    """Largest weighted sum over all label maps of one image (C, n)."""
    rows = probs.numpy()

    def score(row, mask):
        if metric == "acc":
            return np.where(mask, row, 1 - row).mean()
        return oracles.score_of_mask(metric, row, mask)

    return max(
        sum(
            w * score(row, np.array(labels) == c)
            for c, (w, row) in enumerate(zip(weights, rows, strict=True))
        )
        for labels in itertools.product(range(len(rows)), repeat=rows.shape[1])
    )


@pytest.mark.parametrize("weights", [(3.0, 1.0, 0.2), (0.0, 1.0, 1.0)])
@pytest.mark.parametrize("metric", METRICS)
def test_between_the_published_rule_and_the_best_of_all_label_maps(metric, weights):
    lost = {"published": 0.0, "ascent": 0.0, "no weights": 0.0}
    for seed in range(15):
        probs = maps(seed, (1, 3, 6))
        best = brute_force(probs[0], metric, weights)
        options = {"pruning_prob": 0.0}
        for name in ("published", "ascent"):
            found = RankSEG(metric, **options, assignment=name, class_weights=weights).solve(probs)
            assert found.objective.item() <= min(best, found.bound.item()) * (1 + 1e-12)
            lost[name] += best - found.objective.item()
        plain = RankSEG(metric, **options, assignment="ascent").solve(probs).expected_score[0]
        lost["no weights"] += best - float(plain @ torch.tensor(weights, dtype=torch.float64))
    if metric == "acc":
        assert lost["published"] == pytest.approx(0, abs=1e-12)
    else:
        assert lost["ascent"] < 0.6 * lost["published"]
    assert lost["published"] < 0.6 * lost["no weights"]


@pytest.mark.parametrize("metric", ["dice", "iou"])
def test_without_the_background_the_other_of_two_classes_gets_its_best_mask(metric):
    probs = maps(shape=(5, 2, 9, 9))
    labels = RankSEG(metric, include_background=False)(probs)
    assert torch.equal(labels == 1, RankSEG(metric, "multilabel")(probs)[:, 1])
    assert (labels != RankSEG(metric)(probs)).any()
    found = RankSEG(metric, include_background=False).solve(probs)
    torch.testing.assert_close(found.objective, found.bound, rtol=1e-12, atol=0)


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_the_background_left_out_has_weight_0(options):
    expected = RankSEG(**options, class_weights=(0, 1, 1, 1))
    same(RankSEG(**options, include_background=False).solve(maps()), expected.solve(maps()))
    weights = {"class_weights": (9, 1, 1, 1), "include_background": False}
    same(RankSEG(**options, **weights).solve(maps()), expected.solve(maps()))
    assert torch.equal(rankseg(maps(), **options, **weights), expected(maps()))


@pytest.mark.parametrize("seed", range(10))
def test_the_ascent_keeps_void_and_background_apart(seed):
    """Void is where no class claims; a background that counts for nothing goes on claiming."""
    probs = maps(seed, scale=2.0)
    options = {"unassigned_policy": "void", "include_background": False, "pruning_prob": 0.0}
    published = RankSEG(**options).solve(probs)
    climbed = RankSEG(**options, assignment="ascent").solve(probs)
    assert (climbed.objective >= published.objective).all()
    assert (climbed.prediction == 0).any()


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("assignment", ["published", "ascent"])
def test_classes_without_any_probability(assignment, backend):
    probs = torch.zeros(1, 4, 5)
    probs[0, 3] = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4])
    for weights, pruning in itertools.product((None, WEIGHTS, (0, 0, 1, 0)), (0.0, 0.5)):
        options = {"assignment": assignment, "class_weights": weights, "pruning_prob": pruning}
        found = RankSEG("iou", **options, backend=backend).solve(probs)
        same(found, RankSEG("iou", **options, backend="torch").solve(probs))
        assert found.objective.isfinite().all()


def test_as_many_weights_as_classes():
    with pytest.raises(ValueError, match="class_weights has 4 numbers, probs has 3 classes"):
        RankSEG(class_weights=WEIGHTS)(maps(shape=(1, 3, 4)))
    with pytest.raises(ValueError, match="leaves nothing of probs with one channel"):
        RankSEG(include_background=False)(torch.rand(1, 1, 4))
    one = RankSEG("dice", "multilabel", class_weights=[2.0]).solve(torch.rand(1, 1, 4))
    assert torch.equal(one.objective, 2 * one.expected_score[:, 0])
