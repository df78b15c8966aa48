"""One rule for pixels that come in tiles: that of all pixels at once, bit for bit."""

import itertools
import pickle

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankseg import RankSEG
from rankseg.fields import TensorField
from rankseg.fields.tiles import Here, How, TiledField

OPTIONS = [
    {},
    {"metric": "iou"},
    {"metric": "iou", "smooth": 2.0, "output_mode": "multilabel"},
    {"assignment": "ascent", "pruning_prob": 0.0},
    {"output_mode": "multilabel"},
    {"smooth": 3.0},
    {"smooth": 500.0, "output_mode": "multilabel", "pruning_prob": 0.0},
    {"unassigned_policy": "void", "void_index": -1},
    {"metric": "acc"},
    {"metric": "acc", "output_mode": "multilabel"},
    {"solver": "argmax"},
    {"solver": "TR", "output_mode": "multilabel", "threshold": 0.3},
    {"metric": "tversky", "alpha": 0.2, "beta": 0.9},
    {"metric": "fbeta", "beta": 2.0},
]


def maps(classes, height, width, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, classes, height, width, generator=generator) * scale
    return logits.softmax(1) if classes > 1 else logits.sigmoid()


@st.composite
def cuts(draw, length):
    inside = st.lists(st.integers(1, max(1, length - 1)), max_size=4, unique=True)
    edges = sorted({0, *draw(inside), length})
    return list(itertools.pairwise(edges))


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_any_cutting_and_order(data):
    classes = data.draw(st.integers(1, 5))
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    options = data.draw(st.sampled_from(OPTIONS))
    dtype = data.draw(st.sampled_from([torch.float16, torch.float32, torch.float64]))
    scale = data.draw(st.sampled_from([0.0, 1.0, 4.0]))
    probs = maps(classes, height, width, data.draw(st.integers(0, 99)), scale).to(dtype)
    probs = probs * data.draw(st.sampled_from([1.0, 1e-3, 1e-6]))
    tiles = [
        probs[:, :, a:b, c:d] for a, b in data.draw(cuts(height)) for c, d in data.draw(cuts(width))
    ]
    tiles = data.draw(st.permutations(tiles))
    backend = data.draw(st.sampled_from(["torch", "numba"]))
    decide = RankSEG(**options, backend=backend)
    whole = RankSEG(**options, backend="torch")
    rule = decide.decide(tiles)
    assert rule == whole.decide(probs)
    assert torch.equal(rule.apply(probs), whole(probs))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_large_rows_and_flat_images(options):
    for probs in (maps(3, 400, 500), maps(3, 300, 300, scale=0.0), maps(1, 300, 300)):
        decide = RankSEG(**options)
        tiles = [*probs.split(170, 2)[::-1]]
        assert decide.decide(tiles) == decide.decide(probs)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_logits(activation, dtype):
    logits = (3 * torch.randn(1, 4, 90, 80)).to(dtype)
    decide = RankSEG(activation=activation, assignment="ascent")
    rule = decide.decide(list(logits.split(33, 3)))
    assert rule == decide.decide(logits)
    assert torch.equal(rule(logits), decide(logits))


def test_tiles_of_many_images_and_of_none():
    probs = maps(4, 30, 40)
    pieces = list(probs.reshape(1, 4, 3, 400).movedim(2, 0))  # (1, 4, 400) each
    tiles = [torch.cat(pieces), probs[:0]]
    decide = RankSEG(assignment="ascent")
    assert decide.decide(tiles) == decide.decide(probs) == decide.decide(torch.cat(pieces))


def test_more_pixels_than_one_unit_holds():
    """Beyond 2^22 pixels the sums change their unit: known only once all tiles were seen."""
    tile = maps(2, 1, 1 << 20, seed=5)
    probs = torch.cat([tile.roll(number, 3) ** (number + 1) for number in range(5)], 3)
    decide = RankSEG(output_mode="multilabel")
    assert decide.decide(list(probs.split(1 << 20, 3))) == decide.decide(probs)


class Visits:
    """Tiles that count how often and how many at a time they are visited."""

    def __init__(self, probs, size):
        self.probs, self.size, self.visits = probs, size, 0

    def __iter__(self):
        self.visits += 1
        return (tile.clone() for tile in self.probs.split(self.size, 2))


def test_few_visits():
    tiles = Visits(maps(19, 256, 256), 64)
    RankSEG().decide(tiles)
    assert tiles.visits <= 5
    tiles = Visits(maps(19, 256, 256), 64)
    RankSEG(output_mode="multilabel").decide(tiles)
    assert tiles.visits <= 4
    tiles = Visits(maps(19, 256, 256), 64)
    RankSEG(assignment="ascent").decide(tiles)
    assert tiles.visits <= 9


def test_questions_can_be_sent_to_other_processes():
    class Elsewhere:
        def __init__(self, tiles):
            self.tiles = tiles

        def reduce(self, ask):
            ask = pickle.loads(pickle.dumps(ask))
            answers = [pickle.loads(pickle.dumps(ask(tile))) for tile in self.tiles]
            while len(answers) > 1:
                answers = [answers[-1].merge(answers[0]), *answers[1:-1]]
            return answers[0]

    probs = maps(3, 50, 60)
    for options in OPTIONS:
        decide = RankSEG(**options)
        assert decide.decide(Elsewhere(probs.split(11, 3))) == decide.decide(probs)


@pytest.mark.parametrize("solver", ["exact", "auto", "BA", "TRNA", "BA+TRNA"])
def test_solvers_that_need_all_pixels(solver):
    probs = maps(2, 8, 8)
    decide = RankSEG(solver=solver)
    assert torch.equal(decide.decide(probs).apply(probs), decide(probs))  # one image in memory
    with pytest.raises(ValueError, match=r"needs all pixels of a class in memory at once; poss"):
        decide.decide([probs])
    with pytest.raises(ValueError, match=r"needs all pixels of a class"):
        RankSEG(solver=solver, aggregation="dataset")


@pytest.mark.parametrize(
    ("tiles", "error", "match"),
    [
        ([], ValueError, "no tiles to decide on"),
        (lambda: [maps(2, 3, 3)], TypeError, "got function: call it"),
        ({"a": maps(2, 3, 3)}, TypeError, "got dict"),
        (7, TypeError, r"decide takes a tensor .* or tiles: a list .*; got int"),
        ("tiles.zarr", TypeError, "got str"),
        (iter([maps(2, 3, 3)]), TypeError, "visited several times.*list_iterator gives them once"),
        ((maps(2, 3, 3) for _ in range(2)), TypeError, "a generator gives them once"),
        (
            [maps(2, 3, 3), maps(3, 3, 3)],
            ValueError,
            "in the number of classes: one has 2, another 3",
        ),
        ([maps(2, 3, 3), maps(2, 3, 3).double()], ValueError, "one is float32, another float64"),
        ([maps(2, 3, 3), maps(2, 3, 3) * 2], ValueError, r"must lie in \[0, 1\], got min="),
        ([maps(2, 3, 3), maps(2, 3, 3) * torch.nan], ValueError, "probs contains NaN"),
        ([maps(2, 3, 3)[0, 0]], ValueError, "must have shape"),
        ([maps(2, 3, 3).numpy()], TypeError, "must be a torch.Tensor"),
        ([maps(2, 3, 3)[:0]], ValueError, "no pixels to decide on"),
    ],
)
def test_bad_tiles(tiles, error, match):
    with pytest.raises(error, match=match):
        RankSEG().decide(tiles)


class Changing:
    """Tiles of which something is different from the third visit on."""

    def __init__(self, change):
        self.change, self.visits = change, 0

    def __iter__(self):
        self.visits += 1
        tiles = [maps(2, 4, 4, seed) for seed in range(3)]
        return iter(tiles if self.visits < 3 else self.change(tiles))


@pytest.mark.parametrize(
    "change",
    [
        lambda tiles: tiles[1:],
        lambda tiles: [*tiles, tiles[0]],
        lambda tiles: [tile.flip(1) * 0.999 for tile in tiles],
        lambda tiles: [tile * torch.nan for tile in tiles],
        lambda tiles: [tile * 1e6 for tile in tiles],
        lambda tiles: [torch.cat([tile, tile], 1) for tile in tiles],
    ],
)
def test_tiles_that_change_between_visits(change):
    with pytest.raises(ValueError, match="the tiles changed between two visits"):
        RankSEG().decide(Changing(change))


def test_other_order_and_batches_are_no_change():
    def other(tiles):
        return [torch.cat(tiles[:0:-1]), tiles[0]]

    expected = RankSEG().decide([maps(2, 4, 4, seed) for seed in range(3)])
    assert RankSEG().decide(Changing(other)) == expected


class Sized:
    """A data set in the style of torch: it has a length, and no end is announced."""

    def __init__(self, tiles):
        self.tiles = tiles

    def __len__(self):
        return len(self.tiles)

    def __getitem__(self, index):
        return self.tiles[index % len(self.tiles)]


def test_data_sets_and_loaders():
    images = torch.cat([maps(3, 8, 8, seed) for seed in range(6)])
    expected = RankSEG().decide(images)
    assert RankSEG().decide(Sized(images.split(2))) == expected
    loader = torch.utils.data.DataLoader(images, batch_size=4, shuffle=True)
    assert RankSEG().decide(loader) == expected
    pairs = torch.utils.data.DataLoader([(image, 0) for image in images], batch_size=4)
    with pytest.raises(TypeError, match="got a list: give the probabilities alone"):
        RankSEG().decide(pairs)


@pytest.mark.parametrize(
    "options", [{"metric": "fbeta", "beta": 0.0}, {"metric": "tversky", "alpha": 1.0, "beta": 0.0}]
)
@pytest.mark.parametrize("make", [torch.ones, lambda *s: torch.full(s, 0.4), torch.rand])
@pytest.mark.parametrize("pixels", [1, 30, 100_000])
def test_a_mean_is_largest_over_the_largest_pixels(options, make, pixels):
    """Precision has no width in its denominator: the cut at the best value leaves nothing."""
    probs = make(1, 1, pixels)
    options = {**options, "output_mode": "multilabel", "pruning_prob": 0.0}
    rules = [RankSEG(**options, backend=name).decide(probs) for name in ("torch", "numba")]
    tiled = RankSEG(**options).decide(list(probs.split(1 + pixels // 3, 2)))
    assert rules[0] == rules[1] == tiled
    assert torch.equal(tiled(probs), probs == probs.max())


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_one_pass_says_what_it_can_lose(data):
    metric = data.draw(st.sampled_from(["dice", "iou"]))
    power = data.draw(st.sampled_from([0.0, 1.0, 3.0, 20.0]))
    probs = maps(3, 40, 50, data.draw(st.integers(0, 999))).double() ** power
    flat = data.draw(st.sampled_from([None, 0.5, 0.30005, 1 / 4096]))
    probs = probs if flat is None else torch.where(probs > 0.3, flat, probs)
    decide = RankSEG(metric, "multilabel", pruning_prob=data.draw(st.sampled_from([0.0, 0.5])))
    tiles = Visits(probs, 7)
    rule = decide.decide(tiles, one_pass=True)
    assert tiles.visits == 1
    assert rule == decide.decide((tile for tile in probs.split(11, 3)), one_pass=True)
    best, mine = decide.solve(probs), rule(probs)
    score = [
        [oracles.score_of_mask(metric, row, mask) for row, mask in zip(rows, masks, strict=True)]
        for rows, masks in zip(probs.flatten(2).numpy(), mine.flatten(2).numpy(), strict=True)
    ]
    lost = best.expected_score[0] - torch.tensor(score[0], dtype=torch.float64)
    regret = torch.tensor(rule.regret, dtype=torch.float64)
    assert (lost <= regret + 1e-9).all()  # sums in bins are rounded to 2^-30 a pixel
    assert (regret <= 5e-3).all()
    assert ((regret == 0) | best.active[0]).all()


def test_one_pass_is_close():
    probs = maps(5, 300, 300, scale=3.0)
    rule = RankSEG("iou", "multilabel").decide([probs], one_pass=True)
    assert max(rule.regret) < 3e-4


@pytest.mark.parametrize(
    "options",
    [{"smooth": 1.0}, {"solver": "TR"}, {"metric": "acc"}, {"solver": "exact"}],
)
def test_one_pass_serves_some(options):
    with pytest.raises(ValueError, match="one_pass=True serves solver='RMA'"):
        RankSEG(output_mode="multilabel", **options).decide([maps(2, 3, 3)], one_pass=True)
    with pytest.raises(ValueError, match="one_pass=True decides masks"):
        RankSEG().decide([maps(2, 3, 3)], one_pass=True)


def test_one_pass_checks_the_values():
    decide = RankSEG(output_mode="multilabel")
    with pytest.raises(ValueError, match="no pixels to decide on"):
        decide.decide(maps(2, 3, 3)[:0], one_pass=True)
    for wrong in (2.0, -1.0, torch.nan):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]|NaN"):
            decide.decide([maps(2, 3, 3), maps(2, 3, 3) * wrong], one_pass=True)


def test_distinct_values_are_counted_over_all_tiles():
    probs = (maps(2, 40, 50) * 64).round() / 64
    field = TensorField(probs)
    tiled = TiledField(Here(lambda: probs.split(7, 3)), How(torch.clone, "none", "auto"))
    for at in ((0, 0), (0, 1)):
        value, count = tiled.distinct(at, 0.1, 0.8)
        expected = field.distinct(at, 0.1, 0.8)
        assert torch.equal(value, expected[0])
        assert torch.equal(count, expected[1])
        assert count.max() > 20


@pytest.mark.parametrize(
    "options",
    [{}, {"metric": "fbeta", "beta": 3.0}, {"metric": "tversky", "alpha": 0.0, "beta": 1.0}],
)
def test_one_pass_counts_its_own_rounding(options):
    """Probabilities below its unit are 0 to the bins; the bound says so."""
    probs = torch.full((1, 1, 1 << 16), 4e-10)
    decide = RankSEG(output_mode="multilabel", pruning_prob=0.0, **options)
    rule = decide.decide([probs], one_pass=True)
    best, mine = decide.solve(probs).expected_score.item(), rule(probs)
    region = mine.sum().item()
    assert region in (0, 1 << 16)
    assert rule.regret[0] >= (best if region == 0 else 0)


@pytest.mark.parametrize(
    "options",
    [
        {"class_weights": (1.0, 0.2, 5.0)},
        {"class_weights": (1.0, 0.2, 5.0), "assignment": "ascent"},
        {"class_weights": (1.0, 0.2, 5.0), "metric": "acc"},
        {"include_background": False},
        {"pruning_prob": (0.1, 0.5, 0.9)},
    ],
)
def test_options_for_each_class(options):
    probs = maps(3, 40, 50)
    decide = RankSEG(**options)
    rule = decide.decide(list(probs.split(9, 2)))
    assert rule == decide.decide(probs)
    assert torch.equal(rule(probs), decide(probs))
    with pytest.raises(ValueError, match=r"3 numbers|has 3|one channel|1 class"):
        RankSEG(**{"pruning_prob": (0.1, 0.5, 0.9)}).decide([maps(2, 4, 4)])


def test_one_pass_takes_a_limit_for_each_class():
    probs = maps(3, 40, 50)
    decide = RankSEG(output_mode="multilabel", pruning_prob=(0.0, 1.0, 0.0))
    rule = decide.decide([probs], one_pass=True)
    assert rule.threshold[1] == 1.0
    assert max(rule.threshold[0], rule.threshold[2]) < 1.0


@pytest.mark.parametrize("empty", [1, "nan"])
def test_scores_of_empty_masks_need_all_pixels(empty):
    with pytest.raises(ValueError, match="needs the probability that a class is absent"):
        RankSEG(empty=empty).decide([maps(2, 3, 3)])
    with pytest.raises(ValueError, match="needs the probability that a class is absent"):
        RankSEG(output_mode="multilabel", empty=empty).decide([maps(2, 3, 3)], one_pass=True)
    with pytest.raises(ValueError, match="tiles and data sets take empty=0"):
        RankSEG(empty=empty, aggregation="dataset")
