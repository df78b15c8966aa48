"""``empty``: the score of a class that is absent and has an empty mask."""

import itertools

import cases
import counts
import numpy as np
import oracles
import pytest
import torch

from rankseg import RankSEG, expected_score
from rankseg.fields import field_for
from rankseg.functional import rankseg
from rankseg.solvers import absence

METRICS = ["dice", "iou"]
LOW = {"pruning_prob": 0.0, "output_mode": "multilabel"}


def brute_force(p, mask, metric, empty):
    """Expected score over all 2^d labels; 'nan': over those in which it is a number."""
    total = weight = 0.0
    for label in itertools.product([False, True], repeat=p.size):
        label = np.array(label)
        chance = np.where(label, p, 1 - p).prod()
        both, either = (label & mask).sum(), (label | mask).sum()
        if either:
            score = both / either if metric == "iou" else 2 * both / (label.sum() + mask.sum())
        else:
            score = empty
        if empty == "nan" and not label.any():
            continue  # a mask where there is nothing scores 0 or does not count
        total, weight = total + chance * score, weight + chance
    return total / weight if weight else np.nan


def rows(count=60, largest=6, seed=0):
    rng = np.random.default_rng(seed)
    for row in cases.rows(count, largest, seed):
        yield row * rng.choice([1.0, 0.3, 0.05])


def tensor(row):
    return torch.from_numpy(np.asarray(row, float))[None, None]


@pytest.mark.parametrize("empty", [0, 1, "nan"])
@pytest.mark.parametrize("metric", METRICS)
def test_expected_score_of_all_masks(metric, empty):
    for row in rows(26, 4):
        for mask in oracles.subsets(row.size):
            prediction = torch.from_numpy(mask)[None, None]
            found = expected_score(tensor(row), prediction, metric, empty=empty)
            truth = brute_force(row, mask, metric, empty)
            np.testing.assert_allclose(found.item(), truth, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_exact_mask_is_the_best_of_all(metric):
    emptied = 0
    for row in rows():
        best = max(brute_force(row, mask, metric, 1) for mask in oracles.subsets(row.size))
        found = RankSEG(metric, solver="exact", empty=1, **LOW).solve(tensor(row))
        mask = found.prediction.numpy().ravel()
        assert found.expected_score.item() == pytest.approx(best, rel=1e-10, abs=1e-12)
        assert brute_force(row, mask, metric, 1) == pytest.approx(best, rel=1e-10, abs=1e-12)
        emptied += not mask.any()
        assert torch.equal(found.threshold == 1, ~found.prediction.any(-1))
    assert 10 < emptied < 50


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("solver", ["RMA", "BA", "TRNA", "auto"])
def test_an_empty_mask_is_chosen_where_nothing_is_worth_more(metric, solver):
    chosen = set()
    for row in rows(60, 30):
        usual = RankSEG(metric, solver=solver, **LOW).solve(tensor(row))
        found = RankSEG(metric, solver=solver, empty=1, **LOW).solve(tensor(row))
        absent = np.prod(1 - row)
        if usual.expected_score.item() == pytest.approx(absent, rel=1e-12) and absent:
            continue  # a tie
        keeps = usual.expected_score.item() > absent
        assert found.prediction.any() == (keeps and usual.prediction.any())
        assert found.expected_score.item() == pytest.approx(
            max(usual.expected_score.item(), absent), rel=1e-12
        )
        assert torch.equal(found.active, usual.active)
        chosen.add(keeps)
    assert chosen == {True, False}


@pytest.mark.parametrize("metric", METRICS)
def test_it_is_the_limit_of_smoothing(metric):
    for row in rows(40, 12):
        options = {"solver": "exact", **LOW}
        limit = RankSEG(metric, smooth=1e-10, **options).solve(tensor(row))
        found = RankSEG(metric, empty=1, **options).solve(tensor(row))
        torch.testing.assert_close(found.expected_score, limit.expected_score, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", cases.KINDS)
@pytest.mark.parametrize("size", [40, 20_000])
def test_probability_of_absence(kind, size):
    """Small rows are sorted, large ones stay in their field."""
    row = cases.KINDS[kind](np.random.default_rng(1), size).clip(0, 1)
    row = row * min(1.0, 30 / max(row.sum(), 1e-300))
    with np.errstate(divide="ignore"):
        truth = np.log1p(-row).sum()
    fields = [field_for(tensor(row), "none", name) for name in ("torch", "numba")]
    found = [absence.log_probability(field).item() for field in fields]
    assert found[0] == found[1]
    np.testing.assert_allclose(found[0], truth, rtol=1e-12)


def test_rows_that_cannot_be_absent_or_present():
    probs = torch.tensor([[[0.0, 0.0], [1.0, 0.2], [0.0, 1e-12]]], dtype=torch.float64)
    found = absence.log_probability(field_for(probs))
    assert found[0].exp().tolist() == pytest.approx([1, 0, 1])
    assert absence.presence(found)[0].tolist() == pytest.approx([0, 1, 1e-12], rel=1e-12, abs=0)
    large = torch.full((1, 1, 10_000), 0.01)
    assert absence.log_probability(field_for(large)).item() == -torch.inf


def maps(seed=0, shape=(2, 4, 6, 7), shift=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    logits[:, 0] += shift
    logits[:, -1] -= 2 * shift
    return logits.softmax(1).to(dtype)


def same(found, expected):
    for name, numbers in vars(found).items():
        assert torch.equal(numbers.nan_to_num(), getattr(expected, name).nan_to_num()), name


EVERY_WAY = [
    {},
    {"metric": "iou", "assignment": "ascent"},
    {"solver": "exact", "assignment": "ascent"},
    {"unassigned_policy": "void", "assignment": "ascent"},
    {"class_weights": (0, 1, 1, 2), "assignment": "ascent"},
    {"output_mode": "multilabel"},
    {"output_mode": "multilabel", "solver": "TR", "threshold": 0.9},
    {"metric": "fbeta", "beta": 2.0},
    {"solver": "argmax"},
]


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
@pytest.mark.parametrize("empty", [1, "nan"])
def test_backends_batches_and_wrappers_agree(options, empty):
    options = {"pruning_prob": 0.01, "empty": empty, **options}
    for dtype in (torch.float64, torch.float16):
        probs = maps(dtype=dtype)
        plain = RankSEG(**options, backend="torch").solve(probs)
        same(RankSEG(**options, backend="numba").solve(probs), plain)
        assert torch.equal(rankseg(probs, **options), plain.prediction)
        for image in range(2):
            alone = RankSEG(**options).solve(probs[image : image + 1])
            assert torch.equal(alone.prediction[0], plain.prediction[image])
            assert torch.equal(alone.expected_score[0], plain.expected_score[image])


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_what_an_empty_region_scores(options):
    empty_regions = 0
    for seed in range(6):
        probs = maps(seed)
        options = {"pruning_prob": 0.01, **options}
        found = RankSEG(**options, empty=1).solve(probs)
        absent = (1 - probs).flatten(2).prod(-1)
        nothing = found.volume == 0
        torch.testing.assert_close(found.expected_score[nothing], absent[nothing])
        assert (found.objective <= found.bound * (1 + 1e-12)).all()
        empty_regions += int(nothing.sum())
        metric = options.get("metric", "dice")
        if options.get("solver") == "exact":
            check = expected_score(probs, found.prediction, metric, empty=1)
            torch.testing.assert_close(check, found.expected_score)
    assert empty_regions > 0


@pytest.mark.parametrize("policy", ["max_score", "void"])
@pytest.mark.parametrize("metric", METRICS)
def test_labels_of_the_ascent_are_not_below_the_published_ones(metric, policy):
    gained = 0.0
    for seed in range(10):
        probs = maps(seed, shift=1.0)
        options = {"pruning_prob": 0.0, "unassigned_policy": policy, "empty": 1}
        published = RankSEG(metric, **options).solve(probs)
        climbed = RankSEG(metric, **options, assignment="ascent").solve(probs)
        assert (climbed.objective >= published.objective).all()
        usual = RankSEG(metric, pruning_prob=0.0, unassigned_policy=policy)(probs)
        before = expected_score(probs, usual, metric, method="RMA", empty=1).sum(1)
        gained += float((published.objective - before).sum())
    assert gained > 0


@pytest.mark.parametrize("options", [{}, {"assignment": "ascent"}, {"solver": "BA"}], ids=str)
def test_a_class_that_is_best_left_empty_gets_no_unclaimed_pixel(options):
    seen = 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        probs = torch.rand(1, 3, 9, generator=generator, dtype=torch.float64)
        probs *= torch.tensor([0.8, 0.03, 0.2]).reshape(3, 1)
        found = RankSEG(empty=1, pruning_prob=0.0, **options).solve(probs)
        claims = found.threshold < 1
        if claims.any():
            assert (found.volume[~claims] == 0).all()
            unclaimed = ~(probs > found.threshold.unsqueeze(-1)).any(1)
            seen += int((unclaimed.any(1) & ~claims.all(1)).sum())
    assert seen > 5


@pytest.mark.parametrize("metric", METRICS)
def test_the_ascent_knows_what_emptiness_is_worth(metric):
    """Where every class is best left empty and some class must have the pixels."""
    for seed in range(150):
        generator = torch.Generator().manual_seed(seed)
        probs = 0.4 * torch.rand(1, 3, 4, generator=generator, dtype=torch.float64)
        published = RankSEG(metric, empty=1, pruning_prob=0.0).solve(probs)
        climbed = RankSEG(metric, empty=1, pruning_prob=0.0, assignment="ascent").solve(probs)
        assert (climbed.objective >= published.objective).all()


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
def test_a_class_that_does_not_count_where_it_is_absent(options):
    probs = maps()
    probs[0, 3] = 0
    options = {"pruning_prob": 0.01, **options}
    usual = RankSEG(**options).solve(probs)
    found = RankSEG(**options, empty="nan").solve(probs)
    for name in ("prediction", "threshold", "volume", "active", "objective", "bound"):
        assert torch.equal(getattr(found, name).nan_to_num(), getattr(usual, name).nan_to_num())
    present = 1 - (1 - probs).flatten(2).prod(-1)
    torch.testing.assert_close(found.expected_score.nan_to_num() * present, usual.expected_score)
    assert found.expected_score.isnan().tolist() == [[False] * 3 + [True], [False] * 4]


def test_spelling_and_an_image_without_a_valid_pixel():
    assert RankSEG(empty=float("nan")).settings == RankSEG(empty="nan").settings
    assert RankSEG(empty=1.0).settings == RankSEG(empty=1).settings
    probs, valid = maps(), torch.ones(2, 6, 7, dtype=torch.bool)
    valid[1] = False
    assert RankSEG(empty=1).solve(probs, valid).expected_score[1].tolist() == [1.0] * 4
    assert RankSEG(empty="nan").solve(probs, valid).expected_score[1].isnan().all()
    for empty in (1, "nan"):
        found = expected_score(probs, probs.argmax(1), empty=empty, valid_mask=valid)
        first = expected_score(probs[:1], probs[:1].argmax(1), empty=empty)
        assert torch.equal(found[:1], first)


def test_the_truth_used_here_is_that_of_the_other_tests():
    for row in rows(20, 5):
        for mask in oracles.subsets(row.size):
            expected = counts.dp_score(row, mask, "dice")
            assert brute_force(row, mask, "dice", 0) == pytest.approx(expected, abs=1e-12)
