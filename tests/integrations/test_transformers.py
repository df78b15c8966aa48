"""Semantic segmentation with Hugging Face models: restored scores, decisions, refusals."""

from __future__ import annotations

import inspect
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("transformers")

import tiny_transformers as tiny
from tiny_transformers import Case
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.utils import ModelOutput

from rankseg import RankSEG
from rankseg_integrations.transformers import (
    postprocess_semantic_segmentation,
    restore_semantic_probs,
    scores,
)

QUERIES = (
    *("maskformer", "mask2former", "oneformer", "detr", "conditional_detr"),
    *("eomt", "eomt-patches", "eomt_dinov3", "eomt_dinov3-patches", "videomt"),
)
SINGLE = ("sam3", "clipseg")
ALL = (*tiny.DENSE, *SINGLE, *QUERIES)


def case(name: str) -> Case:
    """Case of a family, 'eomt-patches' with images cut into patches."""
    family = name.removesuffix("-patches")
    if not tiny.available(family):
        pytest.skip(f"the installed transformers has no {family}")
    return tiny.case(family, patches=family != name)


def official(one: Case, **more: Any) -> list[Any]:
    return one.processor.post_process_semantic_segmentation(
        one.outputs, target_sizes=one.sizes, **more
    )


def restored(one: Case, **more: Any) -> list[Tensor]:
    return restore_semantic_probs(
        one.outputs, processor=one.processor, target_sizes=one.sizes, **more
    )


def decided(one: Case, **more: Any) -> list[Tensor]:
    return postprocess_semantic_segmentation(
        one.outputs, processor=one.processor, target_sizes=one.sizes, **more
    )


def equal(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.to(one.dtype), rtol=0, atol=0)


def dense(*shape: int) -> SemanticSegmenterOutput:
    generator = torch.Generator().manual_seed(0)
    return SemanticSegmenterOutput(logits=3 * torch.randn(*shape, generator=generator))


def with_scores(one: Case) -> bool:
    """Whether this transformers returns scores; asked of the signature, not the version."""
    method = one.processor.post_process_semantic_segmentation
    return "return_segmentation_scores" in inspect.signature(method).parameters


def test_only_older_versions_lack_a_family() -> None:
    """So that nothing is skipped with the newest one."""
    lacking = {name for name in tiny.MODELS if not tiny.available(name)}
    older = int(tiny.transformers.__version__.partition(".")[0]) < 5
    expected = {"sam3", "eomt_dinov3", "videomt"} if older else set()
    assert lacking == expected
    assert with_scores(case("segformer")) == (not older)


# --- accuracy is what the processor does ------------------------------------------------------


@pytest.mark.parametrize("name", [*tiny.DENSE, "sam3", *QUERIES])
def test_accuracy_gives_the_official_labels(name: str) -> None:
    one = case(name)
    if name in ("eomt", "conditional_detr") and not with_scores(one):
        pytest.skip("a defect of this version's processor: see the tests below")
    found = decided(one, metric="acc")
    equal(found, official(one))
    assert {label.dtype for label in found} == {torch.int64}
    assert [tuple(label.shape) for label in found] == one.sizes
    assert torch.cat([label.flatten() for label in found]).unique().numel() > 1


@pytest.mark.parametrize("name", ["segformer", "mask2former", "detr", "videomt"])
@pytest.mark.parametrize("rule", ["normalise", "clip"])
def test_accuracy_keeps_ties_and_sums_beyond_one(name: str, rule: str) -> None:
    one = case(name)
    outputs = type(one.outputs)(**dict(one.outputs))
    for key in ("logits", "class_queries_logits"):
        if outputs.get(key) is not None:
            outputs[key] = outputs[key].round()
            outputs[key][:, ..., 1] = outputs[key][:, ..., 0]  # two classes of every query tie
            if name == "segformer":
                outputs[key][:, 1] = outputs[key][:, 0]
    tied = Case(one.name, one.model, one.processor, outputs, one.sizes)
    if name != "segformer":
        assert max(sums.max() for sums in raw_sums(tied)) > 1.2
    equal(decided(tied, metric="acc", query_probs=rule), official(tied))
    equal(decided(tied, solver="argmax", query_probs=rule), official(tied))


def test_accuracy_tells_apart_sums_that_differ_by_one_bit() -> None:
    """Dividing by the sum over the classes makes dozens of these equal."""
    sums = torch.rand(1, 1, 100, 100, generator=torch.Generator().manual_seed(0)) * 3
    pair = torch.cat([sums, torch.nextafter(sums, torch.tensor(9.0)), 0.3 * sums], 1)
    in_order = scores.as_probs(pair.clone(), "order")
    assert 0 <= in_order.min() < in_order.max() <= 1
    assert (in_order[:, 0] < in_order[:, 1]).all()
    shared = scores.as_probs(pair.clone(), "share")
    assert (shared[:, 0] == shared[:, 1]).sum() > 20


def raw_sums(one: Case) -> list[Tensor]:
    family = tiny_family(one)
    return list(scores.score_maps(one.outputs, family, one.processor, one.sizes))


def tiny_family(one: Case) -> Any:
    from rankseg_integrations.transformers.families import FAMILIES

    return FAMILIES[one.name]


def test_conditional_detr_has_no_null_class() -> None:
    """Older processors drop its last class, a real one: they agree once a null class is added."""
    one = case("conditional_detr")
    found = decided(one, metric="acc")
    assert restored(one)[0].shape[0] == one.outputs.logits.shape[2] == tiny.CLASSES
    if not with_scores(one):
        null = torch.full_like(one.outputs.logits[..., :1], -torch.inf)
        outputs = SimpleNamespace(
            logits=torch.cat([one.outputs.logits, null], -1), pred_masks=one.outputs.pred_masks
        )
        one = Case(one.name, one.model, one.processor, outputs, one.sizes)
    equal(found, official(one))


def test_eomt_without_patches_follows_the_newest_processor() -> None:
    """Processors of 4.57 fail on such outputs; a patch that covers the image is the same."""
    one = case("eomt")
    grid = scores.first_grid(tiny_family(one), one.processor)
    masks = F.interpolate(one.outputs.masks_queries_logits, grid, mode="bilinear").sigmoid()
    classes = one.outputs.class_queries_logits.softmax(-1)[..., :-1]
    sums = torch.einsum("bqc,bqhw->bchw", classes, masks)
    expected = [
        F.interpolate(sums[index : index + 1], size, mode="bilinear")[0].clamp(max=1)
        for index, size in enumerate(one.sizes)
    ]
    for found, other in zip(restored(one, query_probs="clip"), expected, strict=True):
        torch.testing.assert_close(found, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["segformer", "maskformer", "oneformer", "detr"])
@pytest.mark.parametrize("suffix", ["Pil", "Fast"])
def test_other_implementations_of_a_processor(name: str, suffix: str) -> None:
    try:
        other = tiny.processor(name, suffix)
    except AttributeError:
        other = tiny.processor(name)
    one = case(name)
    small = Case(name, one.model, other, one.outputs, [(9, 11), (13, 7)])
    equal(decided(small, metric="acc"), official(small))


def test_oneformer_smooths_when_it_shrinks_by_torchvision_only() -> None:
    one = case("oneformer")
    smooth, rough = (
        scores.resized(torch.rand(1, 2, 32, 32), (8, 8), antialias=value) for value in (True, False)
    )
    assert not torch.allclose(smooth, rough)
    small = {"target_sizes": [(9, 11), (13, 7)], "query_probs": "clip"}
    plain = restore_semantic_probs(one.outputs, model=one.model, **small)
    named = restore_semantic_probs(
        one.outputs, processor=SimpleNamespace(backend="torchvision"), **small
    )
    equal(plain, named)
    rough = restore_semantic_probs(one.outputs, processor=SimpleNamespace(backend="pil"), **small)
    assert not torch.allclose(plain[0], rough[0])


@pytest.mark.parametrize("name", ["segformer", "beit", "dpt", "maskformer", "mask2former", "detr"])
def test_without_sizes_the_models_grid_stays(name: str) -> None:
    one = case(name)
    found = postprocess_semantic_segmentation(
        one.outputs, processor=one.processor, metric="acc", target_sizes=None
    )
    equal(found, list(one.processor.post_process_semantic_segmentation(one.outputs)))


# --- probabilities ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", tiny.DENSE)
def test_dense_probabilities_are_the_softmax_of_resized_logits(name: str) -> None:
    one = case(name)
    for index, found in enumerate(restored(one)):
        logits = one.outputs.logits[index : index + 1]
        big = F.interpolate(logits, one.sizes[index], mode="bilinear", align_corners=False)
        torch.testing.assert_close(found, big.softmax(1)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [*tiny.DENSE, "sam3", *QUERIES])
def test_scores_are_the_official_ones(name: str) -> None:
    one = case(name)
    if not with_scores(one):
        pytest.skip("this transformers does not return scores")
    for item, found in zip(
        official(one, return_segmentation_scores=True),
        restored(one, query_probs="clip"),
        strict=True,
    ):
        expected = item.segmentation_scores
        expected = expected.softmax(0) if name in tiny.DENSE else expected.clamp(max=1)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_probabilities_lie_in_range_at_the_size_of_the_image(name: str) -> None:
    one = case(name)
    for found, size in zip(restored(one), one.sizes, strict=True):
        assert found.shape == (1 if name in SINGLE else tiny.CLASSES, *size)
        assert found.dtype == torch.float32
        assert 0 <= found.min() < found.max() <= 1
        assert name in SINGLE or found.sum(0).max() <= 1 + 1e-5


def test_rules_for_sums() -> None:
    one = case("mask2former")
    classes = one.outputs.class_queries_logits.clone()
    classes[..., -1] += 4.0  # many queries hold no object: some sums are below 1
    outputs = type(one.outputs)(**{**one.outputs, "class_queries_logits": classes})
    one = Case(one.name, one.model, one.processor, outputs, one.sizes)
    sums = torch.cat([maps.flatten(2) for maps in raw_sums(one)], dim=2)[0]
    total = sums.sum(0)
    assert total.min() < 0.95
    assert total.max() > 1.05
    rules = {
        "normalise": sums / total.clamp(min=1),
        "share": sums / total,
        "clip": sums.clamp(max=1),
    }
    for rule, expected in rules.items():
        found = torch.cat([maps.flatten(1) for maps in restored(one, query_probs=rule)], dim=1)
        torch.testing.assert_close(found, expected)
        masks = decided(one, query_probs=rule, output_mode="multilabel", pruning_prob=0.0)
        again = RankSEG(output_mode="multilabel", pruning_prob=0.0)
        equal(masks, [again(probs[None])[0] for probs in restored(one, query_probs=rule)])


def test_clipseg_has_one_prompt_an_item() -> None:
    one = case("clipseg")
    logits = one.outputs.logits
    found = restore_semantic_probs(one.outputs, target_sizes=one.sizes)
    for index, size in enumerate(one.sizes):
        big = F.interpolate(logits[index][None, None], size, mode="bilinear")[0]
        torch.testing.assert_close(found[index], big.sigmoid(), rtol=0, atol=1e-6)
    labels = postprocess_semantic_segmentation(one.outputs, metric="acc")
    equal(labels, list((logits > 0).long()))


def test_a_single_class_is_binary() -> None:
    outputs = dense(2, 1, 8, 8)
    torch.testing.assert_close(restore_semantic_probs(outputs)[0], outputs.logits[0].sigmoid())
    (labels, _) = postprocess_semantic_segmentation(outputs, metric="acc")
    torch.testing.assert_close(labels, (outputs.logits[0, 0] > 0).long(), rtol=0, atol=0)


def test_gradients_reach_the_network() -> None:
    for name in ("segformer", "mask2former", "oneformer", "eomt-patches", "sam3", "videomt"):
        one = case(name) if tiny.available(name.partition("-")[0]) else case("segformer")
        outputs = type(one.outputs)(
            **{
                key: value.clone().requires_grad_() if value.is_floating_point() else value
                for key, value in one.outputs.items()
                if isinstance(value, Tensor)
            }
        )
        outputs["patch_offsets"] = one.outputs.get("patch_offsets")
        again = Case(name, one.model, one.processor, outputs, one.sizes)
        sum(probs[0].square().sum() for probs in restored(again)).backward()
        for key in tiny_family(one).shapes:
            assert outputs[key].grad.abs().sum() > 0, (name, key)


@pytest.mark.parametrize("rule", ["share", "normalise", "clip"])
def test_gradients_of_the_rules_are_right(rule: str) -> None:
    sums = torch.rand(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: scores.as_probs(values * 1.3, rule), sums)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["segformer", "mask2former", "detr", "clipseg"])
def test_half_precision_is_widened(name: str, dtype: torch.dtype) -> None:
    one = case(name)
    half, wide = (
        Case(
            name,
            one.model,
            one.processor if name != "clipseg" else None,
            ModelOutput(
                {
                    key: value.to(dtype).to(kind)
                    for key, value in one.outputs.items()
                    if isinstance(value, Tensor)
                }
            ),
            one.sizes,
        )
        for kind in (dtype, torch.float32)
    )
    given = {"model": one.model, "target_sizes": one.sizes}
    (found, *_) = restore_semantic_probs(half.outputs, **given)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, restore_semantic_probs(wide.outputs, **given)[0])
    equal(
        postprocess_semantic_segmentation(half.outputs, **given),
        postprocess_semantic_segmentation(wide.outputs, **given),
    )


def test_float64_stays() -> None:
    outputs = SemanticSegmenterOutput(logits=torch.randn(1, 3, 4, 4, dtype=torch.float64))
    (found,) = restore_semantic_probs(outputs, target_sizes=[(8, 8)])
    assert found.dtype == torch.float64


def test_a_class_ruled_out_stays_so() -> None:
    outputs = dense(1, 4, 8, 8)
    outputs.logits[:, 2] = -torch.inf
    (probs,) = restore_semantic_probs(outputs, target_sizes=[(20, 24)])
    assert probs[2].eq(0).all()
    (labels,) = postprocess_semantic_segmentation(outputs, target_sizes=[(20, 24)])
    assert not labels.eq(2).any()


# --- decisions --------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("name", ["segformer", "mask2former", "eomt-patches", "sam3", "clipseg"])
def test_decisions_are_the_cores_on_the_probabilities(name: str, mode: str, metric: str) -> None:
    one = case(name)
    if name == "clipseg":
        one = Case(name, one.model, None, one.outputs, one.sizes)
    rankseg = RankSEG(metric, mode, pruning_prob=0.1)
    found = decided(one, metric=metric, output_mode=mode, pruning_prob=0.1)
    for labels, probs in zip(found, restored(one), strict=True):
        assert labels.dtype == (torch.int64 if mode == "multiclass" else torch.bool)
        expected = rankseg(probs[None])[0]
        assert labels.shape == expected.shape
        differ = labels != expected
        assert differ.float().mean() < 1e-3  # read from logits, probabilities are rounded anew


def test_it_finds_what_argmax_misses() -> None:
    """A faint ring of probability 0.45 around a sure centre, on a sure background."""
    probs = torch.full((1, 1, 12, 12), 0.001)
    probs[..., 3:8, 3:8] = 0.45
    probs[..., 4:7, 4:7] = 0.9
    outputs = SemanticSegmenterOutput(logits=torch.cat([1 - probs, probs], 1).log())
    argmax = postprocess_semantic_segmentation(outputs, metric="acc")[0]
    dice = postprocess_semantic_segmentation(outputs)[0]
    assert argmax.sum() == 9
    assert dice.sum() == 25


def test_sigmoid_for_models_with_a_loss_for_each_class() -> None:
    outputs = dense(2, 4, 8, 8)
    (found, _) = restore_semantic_probs(outputs, activation="sigmoid")
    torch.testing.assert_close(found, outputs.logits[0].sigmoid())
    (masks, _) = postprocess_semantic_segmentation(
        outputs, activation="sigmoid", output_mode="multilabel", metric="acc"
    )
    torch.testing.assert_close(masks, outputs.logits[0] > 0, rtol=0, atol=0)


def test_options_reach_the_core() -> None:
    outputs = SemanticSegmenterOutput(logits=dense(1, 4, 8, 8).logits / 3)
    (void,) = postprocess_semantic_segmentation(
        outputs, unassigned_policy="void", void_index=77, pruning_prob=0.7
    )
    assert void.eq(77).any()


@pytest.mark.parametrize("name", ["segformer", "mask2former"])
def test_one_images_scores_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = case(name)
    alive: list[weakref.ref[Tensor]] = []
    peak = 0
    inner = scores.resized

    def watched(values: Tensor, size: Any, *more: Any) -> Tensor:
        nonlocal peak
        result = inner(values, size, *more)
        if size in one.sizes:
            alive.append(weakref.ref(result))
            peak = max(peak, sum(reference() is not None for reference in alive))
        return result

    monkeypatch.setattr(scores, "resized", watched)
    decided(one)
    assert len(alive) == len(one.sizes)
    assert peak == 1


def test_inputs_are_not_changed() -> None:
    for name in ("segformer", "maskformer", "detr"):
        one = case(name)
        before = {k: v.clone() for k, v in one.outputs.items() if isinstance(v, Tensor)}
        decided(one)
        decided(one, metric="acc")
        for key, value in before.items():
            torch.testing.assert_close(one.outputs[key], value, rtol=0, atol=0)


# --- sizes ------------------------------------------------------------------------------------

SIZES = [(12, 10), (9, 14)]


@pytest.mark.parametrize(
    "sizes",
    [
        SIZES,
        tuple(SIZES),
        [list(size) for size in SIZES],
        torch.tensor(SIZES),
        [torch.tensor(size) for size in SIZES],
        np.array(SIZES),
        [torch.Size(size) for size in SIZES],
    ],
    ids=["tuples", "tuple", "lists", "tensor", "tensors", "array", "Size"],
)
def test_sizes_of_any_kind(sizes: Any) -> None:
    found = postprocess_semantic_segmentation(dense(2, 3, 4, 4), target_sizes=sizes)
    assert [tuple(labels.shape) for labels in found] == SIZES


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([(4, 4)], ValueError, "each of 2 images; got 1"),
        ([(4, 4)] * 3, ValueError, "each of 2 images; got 3"),
        ([(4, 4), (0, 4)], ValueError, r"target_sizes\[1\] .* two positive ints; got \(0, 4\)"),
        ([(4, 4), (4, -1)], ValueError, r"of image 1, two positive ints; got \(4, -1\)"),
        ([(4, 4, 4)] * 2, ValueError, r"target_sizes\[0\] .* of image 0.*; got \(4, 4, 4\)"),
        ([(4, 4), None], TypeError, r"target_sizes\[1\] .* got None"),
        ([(4.0, 4.0)] * 2, TypeError, r"two positive ints; got \(4\.0, 4\.0\)"),
        ((12, 10), TypeError, r"target_sizes\[0\] must be \(height, width\) .* got 12"),
        (12, TypeError, "must hold .height, width. of each image; got 12"),
        (torch.zeros(2, 2), TypeError, r"two positive ints; got tensor"),
    ],
)
@pytest.mark.parametrize("function", [restore_semantic_probs, postprocess_semantic_segmentation])
def test_wrong_sizes(function: Any, sizes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        function(dense(2, 3, 4, 4), target_sizes=sizes)


def test_patches_need_sizes_and_fit_them() -> None:
    one = case("eomt-patches")
    given = {"processor": one.processor}
    with pytest.raises(ValueError, match="patches need target_sizes"):
        restore_semantic_probs(one.outputs, **given)
    with pytest.raises(ValueError, match="each of 2 images; got 1"):
        restore_semantic_probs(one.outputs, target_sizes=one.sizes[:1], **given)
    outputs = type(one.outputs)(**{**one.outputs, "patch_offsets": one.outputs.patch_offsets[:3]})
    with pytest.raises(ValueError, match="each of 4 patches; got 3"):
        restore_semantic_probs(outputs, target_sizes=one.sizes, **given)


# --- what is no outputs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        (None, TypeError, "what the model returned.*got None"),
        (torch.zeros(1, 3, 4, 4), TypeError, r"Tensor of \(1, 3, 4, 4\): .* not outputs\.logits"),
        (np.zeros((1, 3, 4, 4)), TypeError, "got a ndarray of"),
        ({"logits": np.zeros((1, 3, 4, 4))}, TypeError, r"logits must be .* got numpy\.ndarray"),
        (
            SemanticSegmenterOutput(logits=np.zeros((1, 3, 4, 4))),
            TypeError,
            r"torch\.as_tensor\(logits\)",
        ),
        (
            {"pred_masks": torch.zeros(1, 1, 3, 4, 4), "iou_scores": torch.zeros(1, 1, 3)},
            ValueError,
            r"fields of SAM: .*use rankseg_integrations\.sam",
        ),
    ],
)
@pytest.mark.parametrize("function", [restore_semantic_probs, postprocess_semantic_segmentation])
def test_what_is_no_outputs_is_said(
    function: Any, outputs: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        function(outputs)


# --- which family -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_family_is_known_by_its_outputs(name: str) -> None:
    one = case(name)
    processor = one.processor if name.startswith("eomt") else None
    found = restore_semantic_probs(one.outputs, processor=processor, target_sizes=one.sizes)
    equal(found, restore_semantic_probs(
        one.outputs, processor=processor, target_sizes=one.sizes, model=one.model
    ))  # fmt: skip


@pytest.mark.parametrize("name", [*tiny.DENSE[:1], "mask2former", "conditional_detr", "clipseg"])
def test_outputs_without_a_class_are_known_by_model_or_processor(name: str) -> None:
    """Pipelines pass on a plain ModelOutput."""
    one = case(name)
    fields = {k: v for k, v in one.outputs.items() if isinstance(v, Tensor)}
    expected = restore_semantic_probs(one.outputs, target_sizes=one.sizes)
    for plain in (ModelOutput(fields), fields, SimpleNamespace(**fields)):
        found = restore_semantic_probs(plain, model=one.model, target_sizes=one.sizes)
        equal(found, expected)


def test_fields_that_leave_no_doubt_are_enough() -> None:
    outputs = dense(1, 3, 4, 4)
    equal(restore_semantic_probs(dict(outputs)), restore_semantic_probs(outputs))
    probs = restore_semantic_probs(SimpleNamespace(semantic_seg=torch.zeros(1, 1, 4, 4)))
    assert probs[0].eq(0.5).all()


@pytest.mark.parametrize(
    "outputs",
    [
        {"class_queries_logits": torch.zeros(1, 2, 3), "masks_queries_logits": torch.zeros(1)},
        {"logits": torch.zeros(1, 2, 3), "pred_masks": torch.zeros(1, 2, 4, 4)},
        {"logits": torch.zeros(1, 4, 4)},
        {"predicted_depth": torch.zeros(1, 4, 4)},
    ],
)
def test_a_family_is_not_guessed(outputs: Any) -> None:
    message = "cannot be told from its fields: pass processor= or model=.*segformer.*videomt"
    with pytest.raises(ValueError, match=message):
        restore_semantic_probs(outputs)


def test_tuples_are_refused_with_help() -> None:
    one = case("segformer")
    with torch.no_grad():
        returned = one.model(torch.zeros(1, 3, 64, 64), return_dict=False)
    with pytest.raises(TypeError, match=r"got a tuple of \d+: call the model with return_dict="):
        postprocess_semantic_segmentation(returned)


def test_seggpt_is_refused_with_the_reason() -> None:
    one = case("seggpt")
    with pytest.raises(ValueError, match="colours of a painted picture, not probabilities"):
        restore_semantic_probs(one.outputs)
    with pytest.raises(ValueError, match="seggpt is not served"):
        restore_semantic_probs(dict(one.outputs), processor=one.processor)


def test_sam_is_sent_to_its_own_adapter() -> None:
    from transformers.models.sam.modeling_sam import SamImageSegmentationOutput

    outputs = SamImageSegmentationOutput(pred_masks=torch.zeros(1, 1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"use rankseg_integrations\.sam"):
        restore_semantic_probs(outputs)


def test_edgetam_is_called_by_its_name_and_not_by_that_of_its_processor() -> None:
    from transformers.models.edgetam.modeling_edgetam import EdgeTamImageSegmentationOutput
    from transformers.models.sam2.processing_sam2 import Sam2Processor

    outputs = EdgeTamImageSegmentationOutput(pred_masks=torch.zeros(1, 1, 3, 4, 4))
    processor = Sam2Processor.__new__(Sam2Processor)
    with pytest.raises(ValueError, match=r"^edgetam is not served.* rankseg_integrations\.sam"):
        restore_semantic_probs(outputs, processor=processor)


def test_videos_of_sam_are_sent_there_too() -> None:
    from transformers.models.edgetam_video.modeling_edgetam_video import (
        EdgeTamVideoSegmentationOutput,
    )

    outputs = EdgeTamVideoSegmentationOutput(pred_masks=torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"^edgetam_video is not .* rankseg_integrations\.sam"):
        restore_semantic_probs(outputs)


def test_sam3_without_semantic_masks() -> None:
    one = case("sam3")
    outputs = type(one.outputs)(pred_masks=one.outputs.pred_masks)
    with pytest.raises(ValueError, match="must have a tensor semantic_seg"):
        restore_semantic_probs(outputs)


def test_types_that_contradict_each_other() -> None:
    one = case("mask2former")
    message = "processor of segformer, outputs of mask2former do not go together"
    with pytest.raises(ValueError, match=message):
        restore_semantic_probs(one.outputs, processor=tiny.processor("segformer"))
    with pytest.raises(ValueError, match="model of detr, outputs of mask2former"):
        restore_semantic_probs(one.outputs, model=tiny.model("detr"))


def test_missing_and_misshapen_fields() -> None:
    segformer, detr = tiny.processor("segformer"), tiny.processor("detr")
    with pytest.raises(ValueError, match=r"tensor logits .B, C, H, W.; got dict\(depth\); was"):
        restore_semantic_probs({"depth": 1}, processor=segformer)
    with pytest.raises(ValueError, match=r"shape \(B, C, H, W\); got \(1, 3\)"):
        restore_semantic_probs({"logits": torch.zeros(1, 3)}, processor=segformer)
    with pytest.raises(ValueError, match="must have a tensor pred_masks"):
        restore_semantic_probs({"logits": torch.zeros(1, 2, 3)}, processor=detr)
    queries = {"logits": torch.zeros(1, 2, 3), "pred_masks": torch.zeros(1, 5, 4, 4)}
    with pytest.raises(ValueError, match=r"agree on images and queries.*\(1, 2, 3\).*\(1, 5"):
        restore_semantic_probs(queries, processor=detr)
    alone = {"logits": torch.zeros(1, 2, 1), "pred_masks": torch.zeros(1, 2, 4, 4)}
    with pytest.raises(ValueError, match='a class besides the last one, which means "no object"'):
        restore_semantic_probs(alone, processor=detr)
    wide = SimpleNamespace(semantic_seg=torch.zeros(1, 2, 4, 4))
    with pytest.raises(ValueError, match=r"shape \(B, 1, H, W\); got \(1, 2, 4, 4\)"):
        restore_semantic_probs(wide)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.zeros(1, 2, 4, 4, device="meta"), "dense tensor with values; got a meta"),
        (torch.zeros(1, 2, 4, 4, dtype=torch.int64), "got int64"),
        (torch.zeros(1, 2, 4, 4).to_sparse(), "got a torch.sparse_coo"),
    ],
)
def test_tensors_without_usable_values(logits: Tensor, message: str) -> None:
    with pytest.raises(TypeError, match=f"logits must be .*{message}"):
        postprocess_semantic_segmentation({"logits": logits})


@pytest.mark.parametrize("name", ["segformer", "mask2former", "eomt-patches"])
@pytest.mark.parametrize("function", [restore_semantic_probs, postprocess_semantic_segmentation])
def test_nan_names_the_image(name: str, function: Any) -> None:
    one = case(name)
    for key in tiny_family(one).shapes:
        outputs = type(one.outputs)(**one.outputs)
        outputs[key] = outputs[key].clone().contiguous()
        outputs[key][1].view(-1)[3] = torch.nan
        with pytest.raises(ValueError, match=f"{key} of image 1 holds NaN, 1 of"):
            function(outputs, processor=one.processor, target_sizes=one.sizes)


def test_eomt_needs_its_processor() -> None:
    one = case("eomt")
    with pytest.raises(ValueError, match="eomt needs processor=: its size is the grid"):
        restore_semantic_probs(one.outputs, model=one.model, target_sizes=one.sizes)
    found = restored(one, size={"shortest_edge": 32, "longest_edge": None})
    assert not torch.allclose(found[0], restored(one)[0])


def test_options_that_would_have_no_effect_are_refused() -> None:
    one = case("mask2former")
    with pytest.raises(ValueError, match="those of mask2former have theirs built in"):
        restored(one, activation="softmax")
    with pytest.raises(ValueError, match="one class an item, for 'sigmoid'; got 'softmax'"):
        restore_semantic_probs(case("clipseg").outputs, activation="softmax")
    with pytest.raises(ValueError, match="query_probs must be one of 'share', 'normalise'"):
        restored(one, query_probs="sum")
    with pytest.raises(ValueError, match="metric must be one of"):
        decided(one, metric="f1")
    with pytest.raises(ValueError, match="softmax over one channel"):
        postprocess_semantic_segmentation(dense(1, 1, 4, 4), activation="softmax")
