"""``solver='coupled'`` through the public names: modes, options, tiles, simulated dependence."""

import re
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
import torch.nn.functional as F

from rankseg import RankSEG, expected_score
from rankseg.functional import rankseg
from rankseg.objectives import Coupled, Dice, IoU


def maps(seed=0, shape=(2, 3, 18, 14), scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(*shape[:2], 4, 4, generator=generator, dtype=torch.float64)
    return F.interpolate(scale * coarse, size=shape[2:], mode="bilinear").softmax(1).to(dtype)


def same(found, expected):
    for name, numbers in vars(found).items():
        assert torch.equal(numbers.nan_to_num(), getattr(expected, name).nan_to_num()), name


EVERY_WAY = [
    {},
    {"metric": "iou", "smooth": 1.0},
    {"output_mode": "multilabel"},
    {"output_mode": "multilabel", "empty": 1},
    {"empty": "nan"},
    {"unassigned_policy": "void", "coupling": 0.2},
    {"class_weights": (1, 2, 0)},
    {"include_background": False, "assignment": "ascent"},
    {"metric": "iou", "assignment": "ascent", "coupling": 1},
]


@pytest.mark.parametrize("options", EVERY_WAY, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_backends_batches_and_wrappers_agree(options, dtype):
    options = {"solver": "coupled", "pruning_prob": 0.3, **options}
    probs = maps(dtype=dtype)
    plain = RankSEG(**options, backend="torch").solve(probs)
    same(RankSEG(**options, backend="numba").solve(probs), plain)
    assert torch.equal(rankseg(probs, **options), plain.prediction)
    alone = RankSEG(**options).solve(probs[1:])
    assert torch.equal(alone.prediction[0], plain.prediction[1])
    assert torch.equal(alone.expected_score[0].nan_to_num(), plain.expected_score[1].nan_to_num())
    last = probs.movedim(1, -1).contiguous().movedim(-1, 1)
    assert torch.equal(RankSEG(**options)(last), plain.prediction)


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("output_mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("smooth", [0.0, 0.5])
def test_reported_scores(metric, output_mode, smooth):
    probs = maps()
    found = RankSEG(metric, output_mode, "coupled", smooth, 0.4, coupling=0.7).solve(probs)
    again = expected_score(probs, found.prediction, metric, "coupled", smooth, coupling=0.7)
    torch.testing.assert_close(found.expected_score, again, rtol=1e-9, atol=1e-12)
    assert not found.exact.any()
    assert (found.objective <= found.bound * (1 + 1e-9)).all()
    for image, class_ in np.ndindex(2, 3):
        labels = output_mode == "multiclass"
        mask = found.prediction[image] == class_ if labels else found.prediction[image, class_]
        row = probs[image, class_].flatten().numpy()
        truth = oracles.coupled_score(metric, row, mask.flatten().numpy(), 0.7, smooth)
        assert found.expected_score[image, class_].item() == pytest.approx(truth, rel=1e-9)


def test_a_coupling_of_zero_is_rma():
    for options in EVERY_WAY:
        options = {**options, "coupling": 0}
        found = RankSEG(solver="coupled", **options).solve(maps())
        del options["coupling"]
        same(found, RankSEG(solver="RMA", **options).solve(maps()))


def test_logits_and_valid_pixels():
    logits = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(1)).double()
    found = RankSEG(solver="coupled", activation="softmax")(logits)
    assert torch.equal(found, RankSEG(solver="coupled")(logits.softmax(1)))
    valid = torch.rand(1, 20, 20) < 0.6
    probs = logits.softmax(1)
    some = RankSEG(solver="coupled", output_mode="multilabel").solve(probs, valid)
    rest = RankSEG(solver="coupled", output_mode="multilabel").solve(probs[:, :, valid[0]])
    assert torch.equal(some.prediction[0][:, valid[0]], rest.prediction[0])
    assert torch.equal(some.expected_score, rest.expected_score)


@pytest.mark.parametrize("pixels", [(30, 40), (160, 130)])
@pytest.mark.parametrize("options", EVERY_WAY[:3] + EVERY_WAY[-2:], ids=str)
def test_tiles_and_data_sets(options, pixels):
    """Sorted rows and counted ones: the rule of the tiles is that of the whole image."""
    decide = RankSEG(solver="coupled", **options)
    image = maps(shape=(1, 3, *pixels), dtype=torch.float32)
    rule = decide.decide([image[..., 7:, :], image[..., :7, :]])
    assert rule == decide.decide(image)
    assert torch.equal(rule.apply(image), decide(image))
    together = RankSEG(solver="coupled", aggregation="dataset", **options)
    halves = torch.cat([image[..., : pixels[0] // 2, :], image[..., pixels[0] // 2 :, :]])
    found, whole = together.solve(halves), decide.solve(image)
    assert torch.equal(torch.cat(list(found.prediction), -2), whole.prediction[0])
    for name in ("expected_score", "threshold", "volume", "active", "objective", "bound"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name), rtol=1e-12, atol=0)


@pytest.mark.parametrize("metric", ["dice", "iou"])
def test_absent_classes(metric):
    """An empty mask is worth P(absent): U above the peak, or no label drawn alone."""
    options = {"output_mode": "multilabel", "solver": "coupled", "pruning_prob": 0.0}
    for peak in (0.05, 0.4, 0.9):
        probs = peak * torch.tensor([[[1.0, 0.5, 0.1]]], dtype=torch.float64)
        row = probs.flatten().numpy()
        for coupling in (0.3, 1.0):
            absent = (1 - coupling) * np.prod(1 - row) + coupling * (1 - peak)
            usual = RankSEG(metric, coupling=coupling, **options).solve(probs)
            found = RankSEG(metric, coupling=coupling, empty=1, **options).solve(probs)
            assert found.prediction.any() == (usual.expected_score.item() > absent)
            best = max(usual.expected_score.item(), absent)
            assert found.expected_score.item() == pytest.approx(best, rel=1e-12)
            counted = RankSEG(metric, coupling=coupling, empty="nan", **options).solve(probs)
            assert torch.equal(counted.prediction, usual.prediction)
            given = usual.expected_score.item() / (1 - absent)
            assert counted.expected_score.item() == pytest.approx(given, rel=1e-12)
            for empty, truth in ((1, best), ("nan", given)):
                mask = (found if empty == 1 else usual).prediction
                again = expected_score(
                    probs, mask, metric, "coupled", coupling=coupling, empty=empty
                )
                assert again.item() == pytest.approx(truth, rel=1e-12)
        if coupling == 1:
            empty = oracles.comonotone_score(metric, row, np.zeros(3, bool), empty=1)
            assert empty == pytest.approx(1 - peak)


def test_the_ascent_never_loses():
    for seed in range(4):
        options = {"solver": "coupled", "pruning_prob": 0.0, "coupling": 0.5}
        published = RankSEG(**options).solve(maps(seed, scale=1.0))
        climbed = RankSEG(**options, assignment="ascent").solve(maps(seed, scale=1.0))
        assert (climbed.objective >= published.objective - 1e-12).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"coupling": 1.5}, ValueError, r"coupling must lie in \[0, 1\]; got 1.5"),
        ({"coupling": float("nan")}, ValueError, r"coupling must lie in \[0, 1\]"),
        ({"coupling": "half"}, TypeError, r"coupling must be a number in \[0, 1\]; got str"),
        ({"solver": "RMA", "coupling": 0.5}, ValueError, "takes no parameter 'coupling'"),
        ({"metric": "acc"}, ValueError, "solver='coupled' makes no sense with metric='acc'"),
        ({"metric": "fbeta"}, ValueError, "possible there: 'RMA', 'argmax'"),
        ({"aggregation": "dataset", "empty": 1}, ValueError, "empty=1 needs the probability"),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        RankSEG(**{"solver": "coupled", **options})


def test_refusals_of_expected_score():
    probs, mask = torch.rand(1, 1, 4), torch.ones(1, 1, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="coupling is a parameter of method='coupled'; got"):
        expected_score(probs, mask, coupling=0.5)
    with pytest.raises(ValueError, match="method='coupled' makes no sense with metric='acc'"):
        expected_score(probs, mask, "acc", "coupled")
    with pytest.raises(ValueError, match=r"coupling must lie in \[0, 1\]; got -1"):
        expected_score(probs, mask, method="coupled", coupling=-1)
    half = expected_score(probs, mask, method="coupled")
    assert torch.equal(half, expected_score(probs, mask, method="coupled", coupling=0.5))


def test_the_page_on_solvers_runs():
    """Code blocks of docs/choosing-a-solver.md, in order."""
    page = (Path(__file__).parents[2] / "docs" / "choosing-a-solver.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2
    assert names["masks"].dtype == torch.bool


SIDE, BLOCKS = 32, 2
"""Simulated images of 32 x 32 pixels, in 2 x 2 blocks whose labels move together."""


def known_probabilities(generator):
    """A faint object with a wide border: the level of every pixel is known."""
    coarse = torch.randn(1, 1, 5, 5, generator=generator)
    shape = F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic")
    return (1.5 * shape - 1.0).sigmoid().double()


def draws_of(probs, dependence, count, generator):
    """Labels whose marginals are the probabilities: one uniform a pixel, a block, or an image.

    Of the uniforms in one place, each of ``count`` equal parts of [0, 1] holds one: less noise.
    """
    size = {"independent": SIDE, "block-wise": BLOCKS, "comonotone": 1}[dependence]
    order = torch.rand(count, 1, size, size, generator=generator).argsort(0)
    within = torch.rand(count, 1, size, size, generator=generator, dtype=torch.float64)
    uniform = (order + within) / count
    return uniform.repeat_interleave(SIDE // size, -1).repeat_interleave(SIDE // size, -2) < probs


def dice(mask, truth):
    total = mask.sum() + truth.sum()
    return (2 * (mask & truth).sum() / total).item() if total else 0.0


BEST = {"independent": 0.0, "block-wise": 0.5, "comonotone": 1.0}


def achieved(dependence, images=60, draws=24):
    """Achieved mean Dice of each image for each coupling."""
    generator = torch.Generator().manual_seed(sorted(BEST).index(dependence))
    scores = {coupling: [] for coupling in (0.0, 0.25, 0.5, 1.0)}
    for _ in range(images):
        probs = known_probabilities(generator)
        masks = {
            coupling: RankSEG("dice", "multilabel", "coupled", pruning_prob=0.0, coupling=coupling)(
                probs
            )
            for coupling in scores
        }
        truths = draws_of(probs, dependence, draws, generator)
        for coupling, mask in masks.items():
            scores[coupling].append(np.mean([dice(mask[0], truth) for truth in truths]))
    return {coupling: np.array(found) for coupling, found in scores.items()}


@pytest.mark.parametrize("dependence", BEST)
def test_the_matching_coupling_wins_on_simulated_labels(dependence):
    """Paired differences to the others, each more than three standard errors above 0."""
    scores = achieved(dependence)
    for other in {0.0, 1.0} - {BEST[dependence]}:
        gain = scores[BEST[dependence]] - scores[other]
        assert gain.mean() > 3 * gain.std(ddof=1) / np.sqrt(gain.size), (other, gain.mean())


@pytest.mark.parametrize("kind", [Dice, IoU])
@pytest.mark.parametrize("coupling", [0.5, 1.0])
def test_gain_of_a_pixel_near_the_threshold(kind, coupling):
    """The gain that decides between classes, against the change of the score it stands for."""
    row = np.random.default_rng(2).random(500)
    metric = kind.metric
    options = {"output_mode": "multilabel", "solver": "coupled", "coupling": coupling}
    found = RankSEG(metric, **options).solve(torch.from_numpy(row)[None, None])
    mask = found.prediction.flatten().numpy()
    inside, volume = torch.tensor([[row[mask].sum()]]), found.volume
    objective = Coupled(
        kind(torch.tensor([[row.sum()]])), coupling, found.threshold, inside, volume
    )
    gain = objective.gain(inside, volume)
    score = oracles.coupled_score(metric, row, mask, coupling)
    changes, gains = [], []
    for pixel in np.argsort(np.where(mask, -1, row))[-50:]:  # from 0.1 below the threshold on
        grown = mask.copy()
        grown[pixel] = True
        changes.append(oracles.coupled_score(metric, row, grown, coupling) - score)
        gains.append(float((gain.slope * row[pixel] - gain.offset) / (1 - gain.bend * row[pixel])))
    scale = np.abs(changes).max()
    np.testing.assert_allclose(gains, changes, rtol=0, atol=0.12 * scale)  # first order in p


def test_labels_are_better_for_gains_that_know_of_the_coupling(monkeypatch):
    options = {"solver": "coupled", "coupling": 1.0, "pruning_prob": 0.0}
    won = []
    for seed in range(12):
        probs = maps(seed, shape=(1, 4, 20, 20), scale=1.5)
        found = RankSEG(**options).solve(probs).objective
        with monkeypatch.context() as patch:
            patch.setattr(Coupled, "gain", lambda self, *region: self.objective.gain(*region))
            won.append(float(found - RankSEG(**options).solve(probs).objective))
    assert np.mean(won) > 2 * np.std(won, ddof=1) / np.sqrt(len(won))
