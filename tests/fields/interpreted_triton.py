"""The Triton field against plain torch, bit for bit, under Triton's interpreter on the CPU.

``test_triton.py`` runs this file in a process of its own: the interpreter must be chosen before
triton is imported.
"""

import numpy as np
import pytest
import torch
import triton

from rankseg import RankSEG
from rankseg.decision import Decision
from rankseg.fields import NOTHING, LabelRule, TensorField, field_for, triton_cuda
from rankseg.fields.dinkelbach import LONG
from rankseg.fields.exact_sum import LARGEST_LIFT, Scale
from rankseg.fields.numba_cpu import NumbaField
from rankseg.fields.triton_cuda import TritonField, kernels
from rankseg.objectives import Dice, FBeta, IoU, LinearFractional, Tversky

# numpy warns of what processors do without a word: infinity - infinity, lanes that nobody reads
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
METRIC_PARAMETERS = {"fbeta": {"beta": 2.0}, "tversky": {"alpha": 0.3, "beta": 0.6}}


def random(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True, scope="module")
def _quick():
    """The interpreter patches the language anew at every call of a function: once will do."""
    from triton.runtime.interpreter import InterpretedFunction, _patch_lang

    patched = {kernels.__name__}  # by the launch

    def call(self, *arguments, **constants):
        if self.fn.__module__ not in patched:
            _patch_lang(self.fn)
            patched.add(self.fn.__module__)
        return self.rewrite()(*arguments, **constants)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpretedFunction, "__call__", call)
        yield


@pytest.fixture(autouse=True)
def _bfloat16(monkeypatch):
    """The interpreter gets subnormal bfloat16 wrong; widening one is a shift."""
    from triton.runtime import interpreter

    convert = interpreter._convert_float

    def right(data, source, target, rounding):
        if source != triton.language.bfloat16:
            return convert(data, source, target, rounding)
        return data.astype(np.uint32) << 16

    monkeypatch.setattr(interpreter, "_convert_float", right)


@pytest.fixture(params=["one block", "many blocks"])
def _blocks(request, monkeypatch):
    if request.param == "many blocks":
        for name, size in {"TILE": 32, "STEPS": 2, "TOGETHER": 2, "MOST_TOGETHER": 4}.items():
            monkeypatch.setattr(triton_cuda, name, size)
        monkeypatch.setattr(triton_cuda, "SMALL_ROWS", 4)


def values(shape, dtype, seed=0):
    """Probabilities whose classes are, in turn: noise, ties, tiny, subnormal, zeros, ones."""
    probs = torch.rand(shape, generator=random(seed), dtype=torch.float64)
    small, least = torch.finfo(dtype).tiny, torch.finfo(dtype).smallest_normal
    kinds = [
        lambda p: p**3,
        lambda p: (p * 4).round() / 4,
        lambda p: p * max(1e-12, small),
        lambda p: p * least / 4,
        lambda p: p * 0,
        lambda p: (p < 0.7).double(),
    ]
    for c in range(shape[1]):
        probs[:, c] = kinds[c % len(kinds)](probs[:, c])
    return probs.to(dtype)


LAYOUTS = {
    "contiguous": lambda p: p,
    "channels last": lambda p: p.movedim(1, -1).contiguous().movedim(-1, 1),
    "transposed": lambda p: p.transpose(2, -1).contiguous().transpose(2, -1),
    "every other pixel": lambda p: torch.stack([p, 1 - p], -1)[..., 0],
    "one image for all": lambda p: p[:1].expand(p.shape),
}


def same(found, expected, what):
    if isinstance(found, torch.Tensor):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True, msg=what)
    elif isinstance(found, tuple):
        for one, other in zip(found, expected, strict=True):
            same(one, other, what)
    else:
        for name, number in vars(expected).items():
            same(getattr(found, name), number, f"{what}: {name}")


def some_rule(field, seed, bend):
    draw = random(seed)
    claim, slope, offset, bends = (
        torch.rand(4, *field.shape, generator=draw, dtype=torch.float64) * 0.9
    )
    slope[:, 1::2] = slope[:, :1]  # equal scores where probabilities are equal
    offset[:, 1::2] = offset[:, :1]
    eligible = torch.rand(field.shape, generator=draw) < 0.4
    return LabelRule(claim, eligible, slope, offset, bends * bend, 77)


def cuts(plain, seed):
    """Thresholds at pixels, between them, at the peak and beyond."""
    draw = random(seed)
    at = plain.rows[..., plain.pixels // 2].double()
    free = torch.rand(at.shape, generator=draw, dtype=torch.float64)
    pick = torch.randint(0, 4, at.shape, generator=draw)
    peak = plain.totals().peak
    return torch.where(pick == 0, free, torch.where(pick == 1, at, peak * (pick - 1) / 2))


def every_reduction_is_the_same(probs, seed=1):
    field, plain = TritonField(probs), TensorField(probs)
    same(field.totals(), plain.totals(), "totals")
    threshold = cuts(plain, seed)
    for name in ("above", "claimed_once", "select"):
        same(getattr(field, name)(threshold), getattr(plain, name)(threshold), name)
    masks = torch.rand(probs.shape, generator=random(seed)) < 0.4
    same(field.within(masks), plain.within(masks), "within")
    other = masks.movedim(1, -1).contiguous().movedim(-1, 1)
    same(field.within(other), plain.within(masks), "within, strided masks")
    size = (probs.shape[0], *probs.shape[2:])
    labels = torch.randint(-1, probs.shape[1] + 1, size, generator=random(seed))
    same(field.measure(labels), plain.measure(labels), "measure")
    for bend in (0, 0.5):
        rule = some_rule(field, seed, bend)
        same(field.assign(rule), plain.assign(rule), f"assign, bend {bend}")


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_maximise(dtype):
    probs = values((1, 7, 50), dtype)
    field, plain = TritonField(probs), TensorField(probs)
    mu = plain.totals().mu
    active = torch.ones_like(mu, dtype=torch.bool)
    active[:, 2] = False
    start = torch.rand(mu.shape, generator=random(1), dtype=torch.float64)
    smoothed = FBeta(mu, 3.0).first(mu + 2)  # a tensor in the numerator
    for ratio, given in (
        (Dice(mu).ratio, None),
        (IoU(mu, 2.0).ratio, start),
        (IoU(mu).ratio, None),  # 0/0 in the row of zeros
        (Tversky(mu, 0.0, 0.2, 0.7).ratio, None),
        (smoothed, start),
    ):
        found, expected = (f.maximise(ratio, active, given) for f in (field, plain))
        same(found, expected, f"maximise {ratio} from {given}")


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_reductions(dtype, layout):
    every_reduction_is_the_same(LAYOUTS[layout](values((2, 7, 5, 11), dtype)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    every_reduction_is_the_same(LAYOUTS[layout](values((2, 3, 5, 4), torch.float32)))


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 5), (1, 2, 64), (1, 6, 65), (2, 3, 2, 3, 4)])
def test_sizes(shape):
    every_reduction_is_the_same(values(shape, torch.float32))


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_many_classes(layout):
    """More than fit in one tile, and not a multiple of it; ties between far classes."""
    probs = values((1, 70, 7), torch.float32)
    probs[:, 60:] = probs[:, :10]
    every_reduction_is_the_same(LAYOUTS[layout](probs))


def test_no_image():
    probs = torch.rand(0, 3, 4, 5)
    field = TritonField(probs)
    assert field.totals().mu.shape == (0, 3)
    none = torch.zeros(0, 3, dtype=torch.float64)
    assert field.select(none).shape == (0, 3, 4, 5)
    assert field.maximise(Dice(none).ratio, none > 0)[0].shape == (0, 3)


def test_two_limbs_of_float32(monkeypatch):
    """Rows so long that the unit is coarser, without the pixels."""
    monkeypatch.setattr(Scale, "unit_and_limbs", staticmethod(lambda pixels, dtype: (2.0**20, 2)))
    every_reduction_is_the_same(values((1, 6, 40), torch.float32))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("wrong", [float("nan"), -float("nan"), float("inf"), -1.0, 1.5, -0.0])
def test_values_that_are_no_probabilities_surface(dtype, wrong):
    probs = torch.rand(2, 3, 50, generator=random(0)).to(dtype)
    for at in ((0, 1, 0), (1, 2, 49)):
        probs[at] = wrong
    found, expected = TritonField(probs).totals(), TensorField(probs).totals()
    same(found.lowest, expected.lowest, "lowest")
    same(found.peak, expected.peak, "peak")
    fine = expected.lowest >= 0
    fine &= expected.peak <= 1
    assert torch.equal(found.mu[fine], expected.mu[fine])
    assert fine.sum() >= 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_lifts_are_those_of_the_reference(dtype):
    powers = 0.5 ** torch.arange(0, 1080, dtype=torch.float64)
    peak = torch.cat([powers, powers * 0.75]).to(dtype).double()
    high, lift = peak.clone().view(torch.int64), torch.empty_like(peak)
    sums, again = torch.ones(peak.numel(), 3, dtype=torch.int64), torch.empty_like(peak)
    largest, rows = LARGEST_LIFT[dtype], peak.numel()
    kernels.extremes[(1,)](high.clone(), high, sums, lift, again, largest, rows, ROWS=4096)
    assert torch.equal(lift, Scale(peak, 1, dtype).lift)
    assert torch.equal(high.view(torch.float64), peak)
    small = lift != 1
    assert torch.equal(again, torch.where(small, -1.0, 1.0).double())
    assert torch.equal(sums, torch.where(small[:, None], torch.tensor([0, 0, 1]), 1))


def fused(self, x, y, z):
    """X y + z in float32 rounded once; the interpreter rounds twice, no processor does."""
    exact = x.data.astype(np.float64) * y.data.astype(np.float64) + z.data.astype(np.float64)
    return type(x)(exact.astype(np.float32), z.dtype.scalar)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("activation", "classes"), [("softmax", 2), ("softmax", 5), ("sigmoid", 3)]
)
def test_logits(dtype, activation, classes, monkeypatch):
    """The bits of the CPU's compiled field (float64: its exponential is numpy's here), nearly
    those of plain torch."""
    from triton.runtime.interpreter import InterpreterBuilder

    monkeypatch.setattr(InterpreterBuilder, "create_fma", fused)
    logits = (torch.randn(2, classes, 6, 9, generator=random(0)) * 8).to(dtype)
    logits[0, 0, 0, 0] = -float("inf")
    for layout in ("contiguous", "channels last"):
        field = TritonField(LAYOUTS[layout](logits), activation)
        twin, plain = NumbaField(logits, activation), TensorField(logits, activation)
        if dtype != torch.float64:
            same(field.totals(), twin.totals(), "totals")
        torch.testing.assert_close(field.totals().mu, plain.totals().mu, rtol=1e-6, atol=0)
        threshold = torch.rand(2, classes, generator=random(2), dtype=torch.float64)
        rule = some_rule(field, 3, 0.5)
        labels = twin.assign(rule)
        same(field.assign(rule), labels, "assign")
        same(field.select(threshold), twin.select(threshold), "select")
        for name, given in {
            "above": threshold,
            "claimed_once": threshold,
            "measure": labels,
            "within": logits > 1,
        }.items():
            found, expected = getattr(field, name)(given), getattr(twin, name)(given)
            same(found.volume, expected.volume, name)
            close = 1e-12 if dtype == torch.float64 else 0
            torch.testing.assert_close(
                found.selected_sum, expected.selected_sum, rtol=close, atol=0
            )
        row = field.row(1, 1)
        assert torch.equal(row.totals().mu[0, 0], field.totals().mu[1, 1])


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_wrong_logits_surface(activation, classes, wrong):
    logits = torch.zeros(2, classes, 5)
    logits[1, 1, 2] = wrong
    found = TritonField(logits, activation).totals()
    expected = TensorField(logits, activation).totals()
    same(found.lowest.isnan(), expected.lowest.isnan(), "lowest")
    same(found.peak.isnan(), expected.peak.isnan(), "peak")


CONFIGURATIONS = [
    ("dice", "multiclass", "RMA", 0.0, {}),
    ("dice", "multilabel", "RMA", 0.0, {}),
    ("iou", "multiclass", "RMA", 0.0, {"unassigned_policy": "void"}),
    ("iou", "multilabel", "RMA", 2.0, {}),
    ("dice", "multiclass", "RMA", 5.0, {"unassigned_policy": "void", "void_index": -1}),
    ("dice", "multilabel", "RMA", 30.0, {}),
    ("fbeta", "multiclass", "RMA", 0.0, {}),
    ("tversky", "multiclass", "RMA", 1.0, {}),
    ("acc", "multiclass", "RMA", 0.0, {}),
    ("acc", "multilabel", "RMA", 0.0, {}),
    ("dice", "multiclass", "argmax", 0.0, {}),
    ("iou", "multilabel", "TR", 0.0, {"threshold": 0.3}),
    ("dice", "multilabel", "exact", 0.0, {}),
    ("iou", "multiclass", "auto", 0.0, {}),
    ("dice", "multiclass", "BA+TRNA", 0.0, {}),
]


NAMES = ["-".join(map(str, [*c[:4], *c[4]])) for c in CONFIGURATIONS]


def the_same_decision(configuration, probs):
    metric, mode, solver, smooth, more = configuration
    given = METRIC_PARAMETERS.get(metric, {}) | more
    chosen = RankSEG(metric, mode, solver, smooth, 0.3, **given).settings
    found, expected = (Decision(chosen, field(probs)) for field in (TritonField, TensorField))
    same(found.segmentation(), expected.segmentation(), solver)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=NAMES)
def test_decisions(configuration, ties):
    probs = torch.randn(1, 4, 6, 8, generator=random(0)).mul_(2).softmax(1)
    the_same_decision(configuration, (probs.half() * 4).round() / 4 if ties else probs)


@pytest.mark.parametrize("configuration", CONFIGURATIONS[:4], ids=NAMES[:4])
def test_decisions_on_one_channel(configuration):
    the_same_decision(configuration, torch.rand(2, 1, 30, generator=random(0)))


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("metric", ["dice", "iou"])
def test_asked_for_by_name(metric, mode):
    """Long rows, which the reference first searches in a sample."""
    probs = torch.randn(1, 2, LONG + 100, generator=random(0)).softmax(1)
    found, expected = (
        RankSEG(metric, mode, backend=name).solve(probs) for name in ("triton", "torch")
    )
    same(found, expected, metric)


def test_masks_as_labels():
    probs = torch.rand(2, 1, 30, generator=random(0))
    threshold = torch.full((2, 1), 0.5, dtype=torch.float64)
    found, expected = (f(probs).select(threshold, torch.int64) for f in (TritonField, TensorField))
    same(found, expected, "select")


def test_values_that_are_no_probabilities_are_refused():
    """Though a search over them comes first."""
    for wrong in (float("nan"), float("inf"), -1.0, 7.0, 1e30):
        probs = torch.rand(1, 3, 40, generator=random(0))
        probs[0, 1, 7] = wrong
        with pytest.raises(ValueError, match="probs"):
            RankSEG(backend="triton")(probs)


class TestBeyond32Bits:
    """Addresses and pixel numbers of 2^31 and more, without the time to visit all of them."""

    @pytest.fixture(autouse=True)
    def _no_copies(self, monkeypatch):
        """The interpreter copies every tensor's whole memory back after a launch."""
        from triton.runtime.interpreter import GridExecutor

        monkeypatch.setattr(GridExecutor, "_restore_args_dev", lambda *arguments: None)

    @pytest.mark.parametrize("stride", ["image", "class", "pixel"])
    def test_addresses(self, stride):
        shape = (2, 3, 4)
        far = {"image": 2**31 + 8, "class": 2**30 + 8, "pixel": (2**31 + 8) // 3 + 1}[stride]
        near = {"image": (far, 4, 1), "class": (12, far, 1), "pixel": (12, 4, far)}[stride]
        try:
            memory = torch.empty(2**31 + 64, dtype=torch.float16)  # touched in 24 places only
        except RuntimeError:
            pytest.skip("4 GiB of address space are not to be had")
        probs = memory.as_strided(shape, near)
        probs.copy_(torch.rand(shape, generator=random(0)))
        every_reduction_is_the_same(probs)

    @pytest.fixture
    def last_program(self, monkeypatch):
        """Launches visit their last program only."""
        from triton.runtime.interpreter import InterpreterBuilder

        launch, place = TritonField._launch, InterpreterBuilder.set_grid_idx
        last = 0

        def only_last(self, kernel, programs, *arguments, **constants):
            nonlocal last
            last = programs - 1
            launch(self, kernel, 1, *arguments, **constants)

        def at_the_end(self, x, y, z):
            self.grid_dim = (last + 1, 1, 1)
            place(self, last, y, z)

        monkeypatch.setattr(TritonField, "_launch", only_last)
        monkeypatch.setattr(InterpreterBuilder, "set_grid_idx", at_the_end)

    @pytest.mark.usefixtures("last_program")
    def test_pixel_numbers(self):
        """One pixel, 2^31 + 8 times: the last program sees the last eight of them."""
        pixels = 2**31 + 8
        probs = torch.full((1, 2, 1), 0.75).expand(1, 2, pixels)
        field = TritonField(probs)
        field.__dict__["_first_look"] = (
            TensorField(probs[..., :1]).totals(),
            torch.ones(1, 2).double(),
        )
        threshold = torch.full((1, 2), 0.5, dtype=torch.float64)
        assert (field.unit, field.limbs) == (2.0**30, 2)
        found = field.above(threshold)
        assert found.volume.tolist() == [[0, 8]]
        assert found.selected_sum.tolist() == [[0, 6]]
        found = field.claimed_once(torch.tensor([[0.5, 0.8]], dtype=torch.float64))
        assert found.volume.tolist() == [[8, 0]]


def test_passes_run_ahead_without_asking(monkeypatch):
    """The host asks once after PASSES_AHEAD passes, not after each."""
    asked = []
    monkeypatch.setattr(triton_cuda, "PASSES_AHEAD", 9)
    plain = torch.Tensor.any
    monkeypatch.setattr(torch.Tensor, "any", lambda *a, **k: asked.append(1) or plain(*a, **k))
    field = TritonField(values((1, 3, 30), torch.float32))
    field.maximise(Dice(field.totals().mu).ratio, field.totals().peak > 0.5)
    assert len(asked) == 1


def test_rows_that_are_finished_are_left_out(monkeypatch):
    """Their cut is one that ``above`` does not visit."""
    cuts = []
    visit = TritonField._add_above

    def record(self, threshold, *arguments):
        cuts.append(threshold.clone())
        visit(self, threshold, *arguments)

    field = TritonField(values((1, 3, 30), torch.float32))
    totals = field.totals()
    monkeypatch.setattr(TritonField, "_add_above", record)
    active = torch.tensor([[True, False, True]])
    field.maximise(Dice(totals.mu).ratio, active)
    assert len(cuts) % triton_cuda.PASSES_AHEAD == 0
    assert ((cuts[0] == NOTHING) == ~active).all()
    assert (cuts[-1] == NOTHING).all()


@pytest.mark.parametrize(("layout", "classes"), [("contiguous", 1), ("channels last", 16)])
def test_tiles_lie_along_the_memory(layout, classes, monkeypatch):
    seen = []
    launch = TritonField._launch

    def record(self, kernel, programs, *arguments, **constants):
        seen.append((kernel.fn.__name__, constants))
        launch(self, kernel, programs, *arguments, **constants)

    monkeypatch.setattr(TritonField, "_launch", record)
    TritonField(LAYOUTS[layout](torch.rand(1, 9, 4, 5))).totals()
    name, constants = seen[0]
    assert (name, constants["CLASSES"], constants["PIXELS"]) == ("totals", classes, 1024 // classes)


def test_ratio_terms_are_doubles():
    """A plain Python float would reach a kernel as float32."""
    probs = values((1, 2, 40), torch.float32)
    none = torch.zeros(1, 2, dtype=torch.float64)
    ratio = LinearFractional(0.1, 1 / 3, none + 1.7, 0.1, -1 / 7)
    active = none == 0
    found = TritonField(probs).maximise(ratio, active)
    same(found, TensorField(probs).maximise(ratio, active), "maximise")


def test_it_is_interpreted():
    assert kernels.INTERPRETED
    assert not TritonField.obstacle(torch.rand(1, 1, 1))
    assert type(field_for(torch.rand(1, 1, 1))) is NumbaField
