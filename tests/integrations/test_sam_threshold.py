"""The mask threshold on its own: what it decides, answers, keeps and refuses."""

from __future__ import annotations

import copy
import operator
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rankseg import RankSEG
from rankseg_integrations.sam import RankSEGThreshold
from rankseg_integrations.sam.threshold import ProbsThreshold


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def core(logits: Tensor, metric: str = "dice", **options: Any) -> Tensor:
    """What the core decides about each mask alone, from its probabilities."""
    decide = RankSEG(metric, "multilabel", **options)
    rows = logits.double().sigmoid().reshape(-1, 1, *logits.shape[-2:])
    return torch.cat([decide(row[None]) for row in rows]).reshape(logits.shape)


# --- what it decides -------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("shape", [(9, 11), (3, 9, 11), (2, 3, 9, 11), (2, 1, 3, 9, 11)])
def test_each_mask_is_decided_alone(shape: tuple[int, ...], metric: str) -> None:
    logits = random_logits(*shape)
    masks = logits > RankSEGThreshold(metric)
    assert masks.dtype == torch.bool
    torch.testing.assert_close(masks, core(logits, metric), rtol=0, atol=0)
    assert masks.sum() > (logits > 0).sum(), "the decision must differ from the usual cut here"


def test_options_reach_the_core() -> None:
    logits = random_logits(2, 9, 11) - 4
    for options in ({"solver": "exact"}, {"smooth": 500.0}, {"pruning_prob": 1.0}):
        expected = core(logits, **options)
        assert not torch.equal(expected, core(logits))
        torch.testing.assert_close(logits > RankSEGThreshold(**options), expected, rtol=0, atol=0)


def test_a_metrics_own_options_reach_the_core() -> None:
    logits = random_logits(2, 9, 11)
    masks = logits > RankSEGThreshold("fbeta", beta=3.0)
    torch.testing.assert_close(masks, core(logits, "fbeta", beta=3.0), rtol=0, atol=0)
    assert masks.sum() > core(logits).sum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("cut", [0.0, 0.75, -2.0])
def test_accuracy_is_the_librarys_own_cut_bit_for_bit(cut: float, dtype: torch.dtype) -> None:
    """Not by way of a sigmoid, which is 0.5 for 1e-9 in float32."""
    edge = torch.tensor([1e-9, -1e-9, 0.0, -0.0, 6e-8, 1e-7, torch.inf, -torch.inf])
    logits = torch.cat([(edge + cut).expand(2, 8), edge.expand(2, 8), random_logits(2, 8)], dim=1)
    logits = logits.to(dtype)[None]
    masks = logits > RankSEGThreshold("acc", mask_threshold=cut, temperature=3.0)
    torch.testing.assert_close(masks, logits > cut, rtol=0, atol=0)


def test_accuracy_by_way_of_a_sigmoid_would_not_be_bit_for_bit() -> None:
    tiny = torch.tensor([[[[1e-9]]]])
    through_core = RankSEG("acc", "multilabel", activation="sigmoid")(tiny)
    assert not through_core.item(), "the core reads the sign of tiny logits: is_plain can go"
    assert (tiny > RankSEGThreshold("acc")).item()


def test_a_fixed_cut_asked_for_is_the_cores() -> None:
    logits = random_logits(2, 9, 11)
    masks = logits > RankSEGThreshold("acc", solver="TR", threshold=0.8)
    torch.testing.assert_close(masks, logits.sigmoid() > 0.8, rtol=0, atol=0)


@pytest.mark.parametrize("temperature", [0.5, 2.5])
def test_temperature_divides_the_logits(temperature: float) -> None:
    logits = random_logits(3, 9, 11)
    masks = logits > RankSEGThreshold("dice", temperature=temperature)
    torch.testing.assert_close(masks, core(logits / temperature), rtol=0, atol=0)
    assert not torch.equal(masks, core(logits))


def test_another_threshold_shifts_the_logits() -> None:
    logits = random_logits(3, 9, 11)
    masks = logits > RankSEGThreshold("iou", mask_threshold=1.5, temperature=2)
    torch.testing.assert_close(masks, core((logits - 1.5) / 2, "iou"), rtol=0, atol=0)


def test_half_precision_is_widened_before_it_is_divided() -> None:
    """In bfloat16 neighbours would become equal, and share the fate of the pixel at the cut."""
    logits = random_logits(60, 30, 30).bfloat16()
    expected = core(logits.double() / 1.3)
    masks = logits > RankSEGThreshold(temperature=1.3)
    torch.testing.assert_close(masks, expected, rtol=0, atol=0)
    assert not torch.equal(core(logits / 1.3), expected), "else the test shows nothing"


def test_masks_the_library_leaves_empty_are_empty_unless_pruning_is_off() -> None:
    faint = random_logits(1, 9, 11).abs().neg()
    assert not (faint > RankSEGThreshold()).any()
    assert (faint > RankSEGThreshold(pruning_prob=0.0)).any()


def test_an_object_found_absent_is_empty_whatever_the_pruning() -> None:
    """The video models write -1024; its sigmoid is 0, and nothing is above a cut of 0."""
    absent = torch.full((1, 9, 11), -1024.0)
    for metric in ("acc", "dice", "iou"):
        options = {} if metric == "acc" else {"pruning_prob": 0.0}
        assert not (absent > RankSEGThreshold(metric, **options)).any()


@pytest.mark.parametrize("metric", ["dice", "acc"])
def test_no_masks_are_no_trouble(metric: str) -> None:
    """Generators filter before they cut; sometimes nothing is left."""
    masks = torch.empty(0, 9, 11) > RankSEGThreshold(metric)
    assert masks.shape == (0, 9, 11)
    assert masks.dtype == torch.bool


def test_the_logits_are_left_as_they_are() -> None:
    logits = random_logits(2, 9, 11).requires_grad_()
    before = logits.detach().clone()
    masks = logits > RankSEGThreshold(temperature=2.0, mask_threshold=1.0)
    assert not masks.requires_grad
    torch.testing.assert_close(logits.detach(), before, rtol=0, atol=0)


# --- what it answers -------------------------------------------------------------------------


def test_every_way_to_ask_for_the_mask() -> None:
    logits, threshold = random_logits(2, 9, 11), RankSEGThreshold()
    expected = core(logits)
    for masks in (operator.gt(logits, threshold), operator.lt(threshold, logits)):
        torch.testing.assert_close(masks, expected, rtol=0, atol=0)
    for masks in (operator.le(logits, threshold), operator.ge(threshold, logits)):
        torch.testing.assert_close(masks, ~expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "ask", [operator.lt, operator.ge, operator.add, operator.mul, torch.maximum, torch.gt]
)
def test_other_questions_have_no_answer(ask: Any) -> None:
    with pytest.raises(TypeError):
        ask(random_logits(2, 9, 11), RankSEGThreshold())


@pytest.mark.parametrize("metric", ["dice", "acc"])
def test_only_tensors_are_decided(metric: str) -> None:
    """Accuracy must not fall back on comparing elements."""
    with pytest.raises(TypeError, match=r"logits must be a torch\.Tensor, got ndarray"):
        operator.gt(np.zeros((9, 11)), RankSEGThreshold(metric))
    with pytest.raises(TypeError, match=r"logits must be a torch\.Tensor, got float"):
        operator.gt(0.5, RankSEGThreshold(metric))


def test_in_sums_it_is_the_number() -> None:
    threshold = RankSEGThreshold(mask_threshold=0.5)
    assert (threshold + 1.0, threshold - 1, float(threshold)) == (1.5, -0.5, 0.5)
    assert RankSEGThreshold(mask_threshold=threshold).number == 0.5  # type: ignore[arg-type]


def test_it_can_be_copied_stored_and_read() -> None:
    logits, threshold = random_logits(2, 9, 11), RankSEGThreshold("iou", temperature=2)
    for other in (copy.deepcopy(threshold), pickle.loads(pickle.dumps(threshold))):
        torch.testing.assert_close(logits > other, logits > threshold, rtol=0, atol=0)
    assert repr(threshold).startswith("RankSEGThreshold(metric='iou', ")
    assert repr(threshold).endswith("temperature=2.0, mask_threshold=0.0)")


# --- what it refuses -------------------------------------------------------------------------

FIXED = r"decided one by one from SAM's logits.* fixed here; leave "
NAN = torch.tensor([[[1.0, torch.nan, 2.0]]])


@pytest.mark.parametrize("metric", ["acc", "dice"])
@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        (NAN, ValueError, "NaN"),
        (torch.zeros(2, 4, 4, dtype=torch.int64), TypeError, "logits must be one of .*got int64"),
        (torch.zeros(2, 4, 4, dtype=torch.bool), TypeError, "got bool: pass what the network"),
        (torch.zeros(2, 4, 4, device="meta"), TypeError, "dense tensor with values; got a meta"),
        (torch.zeros(2, 4, 4).to_sparse(), TypeError, "got a torch.sparse_coo"),
        (torch.zeros(2, 0, 4), ValueError, r"no empty .* axis; got shape \(2, 0, 4\)"),
        (torch.zeros(0, 4), ValueError, r"shape \(\.\.\., H, W\) with pixels, got \(0, 4\)"),
        (torch.zeros(4), ValueError, r"shape \(\.\.\., H, W\) with pixels, got \(4,\)"),
    ],
    ids=["nan", "int", "bool", "meta", "sparse", "no-rows", "empty", "one-axis"],
)
def test_bad_logits_are_refused(
    logits: Tensor, error: type[Exception], message: str, metric: str
) -> None:
    with pytest.raises(error, match=message):
        operator.gt(logits, RankSEGThreshold(metric))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temperature": 0.0}, ValueError, "temperature must be a finite number > 0, got 0.0"),
        ({"temperature": -1}, ValueError, "temperature must be a finite number > 0, got -1"),
        ({"temperature": torch.inf}, ValueError, "temperature must be finite, got inf"),
        ({"temperature": torch.nan}, ValueError, "temperature must be finite, got nan"),
        ({"temperature": "2"}, TypeError, "temperature must be a number, got str '2'"),
        ({"temperature": True}, TypeError, "temperature must be a number, got bool True"),
        ({"mask_threshold": torch.inf}, ValueError, "mask_threshold must be finite"),
        ({"mask_threshold": None}, TypeError, "mask_threshold must be a number, got NoneType"),
        ({"metric": "f1"}, ValueError, "metric must be one of 'dice', 'iou', 'acc'"),
        ({"sizes": 3}, ValueError, "no parameter 'sizes'"),
        ({"output_mode": "multiclass"}, ValueError, FIXED + "output_mode='multiclass' out"),
        ({"activation": "softmax"}, ValueError, FIXED + "activation='softmax' out"),
        ({"aggregation": "dataset"}, ValueError, "needs all images together"),
    ],
)
def test_bad_settings_are_refused_at_once(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        RankSEGThreshold(**options)


def test_numbers_of_any_kind_are_numbers() -> None:
    assert RankSEGThreshold(temperature=np.float32(2)).temperature == 2.0


# --- probabilities, for SAM 3 ----------------------------------------------------------------


def test_probabilities_are_decided_like_logits() -> None:
    logits = random_logits(2, 9, 11)
    masks = logits.sigmoid() > ProbsThreshold("iou")
    torch.testing.assert_close(masks, core(logits, "iou"), rtol=0, atol=0)
    plain = logits.sigmoid() > ProbsThreshold("acc")
    torch.testing.assert_close(plain, logits.sigmoid() > 0.5, rtol=0, atol=0)


def test_interpolated_probabilities_may_round_up_but_logits_are_no_probabilities() -> None:
    probs = torch.tensor([[[1 + 1.2e-7, 0.6, 0.1]]])
    assert probs.max() > 1
    assert (probs > ProbsThreshold()).tolist() == [[[True, True, False]]]
    with pytest.raises(ValueError, match=r"lie in \[0, 1\], got min=0.1"):
        operator.gt(probs + 2e-6, ProbsThreshold())
    with pytest.raises(ValueError, match=r"probs of shape .* contain NaN"):
        operator.gt(NAN, ProbsThreshold("acc"))


# --- missing libraries -----------------------------------------------------------------------


def test_a_missing_library_is_named_where_it_is_needed() -> None:
    """In a process of its own, where the module of the predictor has not been imported."""
    script = """
import sys
sys.modules["segment_anything"] = None
import torch
import rankseg_integrations.sam as sam
assert (torch.ones(1, 4, 4) > sam.RankSEGThreshold()).all()
try:
    sam.RankSEGSamPredictor
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "segment_anything" in done.stdout
    assert 'pip install "segment-anything>=1.0"' in done.stdout


def test_an_unknown_name_is_missing() -> None:
    with pytest.raises(ImportError, match=r"cannot import name .SamPredictors"):
        from rankseg_integrations.sam import SamPredictors  # noqa: F401
