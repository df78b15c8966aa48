"""Hugging Face's SAM families: restored, decided, compared with their own post-processing."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tiny_sam import BUILDERS, SIZE, Prompted, build, image, sam3_outputs, spread
from torch import Tensor

from rankseg import RankSEG
from rankseg_integrations.sam import (
    RankSEGThreshold,
    postprocess_instance_segmentation,
    postprocess_masks,
    postprocess_semantic_segmentation,
    restore_mask_logits,
)
from rankseg_integrations.sam.threshold import ProbsThreshold

transformers = pytest.importorskip("transformers")
# SAM-HQ's processor warns of its own argument in transformers 4.57.
pytestmark = pytest.mark.filterwarnings("ignore:The following named arguments are not valid")
SIZES = [(48, 80), (60, 40)]
SCORED = ["sam2", "sam3_tracker", "edgetam"]
"""Families that predict whether the object is there."""


@pytest.fixture(scope="module", params=list(BUILDERS))
def family(request: pytest.FixtureRequest) -> Prompted:
    return build(transformers, request.param)


@pytest.fixture(scope="module", params=SCORED)
def scored(request: pytest.FixtureRequest) -> Prompted:
    return build(transformers, request.param)


@pytest.fixture(scope="module")
def sam3() -> Iterator[tuple[Any, Any]]:
    return sam3_outputs(transformers)


def run(family: Prompted, points: int = 2) -> tuple[Any, list[Any]]:
    """Outputs for two images of different size, and the sizes that post-processing takes."""
    inputs = family.inputs(SIZES, points)
    return family.outputs(inputs), family.sizes(inputs)


def official(family: Prompted, outputs: Any, sizes: list[Any], **options: Any) -> list[Tensor]:
    found: list[Tensor] = family.processor.post_process_masks(
        outputs.pred_masks.clone(), *sizes, **options
    )
    return found


def best(probs: Tensor, metric: str = "dice") -> Tensor:
    """What the core decides on each mask of probabilities."""
    rows = probs.double().reshape(-1, 1, *probs.shape[-2:])
    return RankSEG(metric, "multilabel")(rows).reshape(probs.shape)


def equal(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected) > 0
    for mine, its in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0)


# --- prompted families: SAM, SAM-HQ, SAM 2, EdgeTAM, the SAM 3 tracker ------------------------


def test_restored_logits_are_the_processors(family: Prompted) -> None:
    outputs, sizes = run(family)
    found = restore_mask_logits(outputs, *sizes, processor=family.processor)
    assert [tuple(logits.shape) for logits in found] == [(2, 3, *size) for size in SIZES]
    equal(found, official(family, outputs, sizes, binarize=False))


def test_restoring_passes_gradients(family: Prompted) -> None:
    outputs, sizes = run(family)
    outputs.pred_masks.requires_grad_()
    sum(
        logits.sum() for logits in restore_mask_logits(outputs, *sizes, processor=family.processor)
    ).backward()
    assert outputs.pred_masks.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_with_accuracy_masks_are_the_processors(family: Prompted, dtype: torch.dtype) -> None:
    outputs, sizes = run(family)
    outputs.pred_masks = outputs.pred_masks.to(dtype)
    outputs.pred_masks[0, 0, 0] = 1e-9
    expected = official(family, outputs, sizes)
    found = postprocess_masks(outputs, *sizes, processor=family.processor, metric="acc")
    equal(found, expected)
    assert found[0].dtype == torch.bool
    assert expected[0][0, 0].all(), "a logit of 1e-9 is above 0"
    assert 0 < expected[1].sum() < expected[1].numel()


@pytest.mark.parametrize("metric", ["dice", "iou"])
def test_masks_are_decided_on_probabilities_of_full_size(family: Prompted, metric: str) -> None:
    outputs, sizes = run(family)
    logits = official(family, outputs, sizes, binarize=False)
    found = postprocess_masks(outputs, *sizes, processor=family.processor, metric=metric)
    equal(found, [best(image.sigmoid(), metric) for image in logits])
    assert sum(mask.sum() for mask in found) > sum((image > 0).sum() for image in logits)


def test_the_processor_itself_takes_the_threshold(family: Prompted) -> None:
    outputs, sizes = run(family)
    threshold = RankSEGThreshold("iou", temperature=2.0)
    found = official(family, outputs, sizes, mask_threshold=threshold)
    equal(
        found,
        postprocess_masks(
            outputs, *sizes, processor=family.processor, metric="iou", temperature=2.0
        ),
    )
    cold = postprocess_masks(outputs, *sizes, processor=family.processor, metric="iou")
    assert not torch.equal(found[0], cold[0])


def test_another_threshold_is_a_shift_of_the_logits(family: Prompted) -> None:
    outputs, sizes = run(family)
    options = {"processor": family.processor, "mask_threshold": 0.8}
    equal(
        postprocess_masks(outputs, *sizes, metric="acc", **options),
        official(family, outputs, sizes, mask_threshold=0.8),
    )
    logits = official(family, outputs, sizes, binarize=False)
    decided = postprocess_masks(outputs, *sizes, **options)
    equal(decided, [best((image - 0.8).double().sigmoid()) for image in logits])


def test_sizes_may_be_lists_tuples_tensors_or_arrays(family: Prompted) -> None:
    outputs, sizes = run(family)
    expected = postprocess_masks(outputs, *sizes, processor=family.processor)
    for kind in (lambda s: s.tolist(), lambda s: [*map(tuple, s.tolist())], lambda s: s.numpy()):
        given = [kind(torch.as_tensor(size)) for size in sizes]
        equal(postprocess_masks(outputs, *given, processor=family.processor), expected)


def test_an_image_processor_serves_as_well(family: Prompted) -> None:
    outputs, sizes = run(family)
    expected = postprocess_masks(outputs, *sizes, processor=family.processor)
    equal(postprocess_masks(outputs, *sizes, processor=family.processor.image_processor), expected)


@pytest.mark.parametrize("apart", [False, True], ids=["", "non-overlapping"])
def test_one_image_at_a_time_is_held_at_full_size(
    family: Prompted, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs, sizes = run(family)
    alive: list[weakref.ref[Tensor]] = []
    held = []
    restore = type(family.processor).post_process_masks

    def watched(self: Any, masks: Any, *args: Any, **kwargs: Any) -> Any:
        held.append(sum(reference() is not None for reference in alive))
        found = restore(self, masks, *args, **kwargs)
        alive.extend(weakref.ref(logits) for logits in found)
        return found

    monkeypatch.setattr(type(family.processor), "post_process_masks", watched)
    postprocess_masks(
        outputs, *sizes, processor=family.processor, apply_non_overlapping_constraints=apart
    )
    assert len(alive) == len(SIZES), "each call restores one image"
    assert held == [0, 0], "and finds none of those before"


# --- objects that are absent, objects that exclude each other ---------------------------------


def test_the_official_masks_ignore_the_object_score(scored: Prompted) -> None:
    """So do ours unless asked: with accuracy they must be the official ones."""
    outputs, sizes = run(scored)
    outputs.object_score_logits = torch.full_like(outputs.object_score_logits, -5.0)
    assert official(scored, outputs, sizes)[0].any()
    assert postprocess_masks(outputs, *sizes, processor=scored.processor)[0].any()


@pytest.mark.parametrize("metric", ["acc", "dice"])
def test_absent_objects_are_empty_if_asked(scored: Prompted, metric: str) -> None:
    outputs, sizes = run(scored)
    scores = torch.tensor([[1.0, 0.0], [-2.0, 0.1]])
    outputs.object_score_logits = scores[..., None]
    options = {"processor": scored.processor, "empty_absent": True}
    found = postprocess_masks(outputs, *sizes, metric=metric, **options)
    present = [mask.flatten(1).any(1).tolist() for mask in found]
    assert present == [[True, False], [False, True]]
    plain = postprocess_masks(outputs, *sizes, metric=metric, processor=scored.processor)
    torch.testing.assert_close(found[0][0], plain[0][0], rtol=0, atol=0)
    logits = restore_mask_logits(outputs, *sizes, **options)
    assert (logits[1][0] + 1024).abs().max() < 1e-3, "the video models' logit, resized"
    assert outputs.pred_masks.min() > -1024, "the outputs are left as they are"


def test_absence_needs_a_score() -> None:
    sam = build(transformers, "sam")
    outputs, sizes = run(sam)
    with pytest.raises(ValueError, match="empty_absent needs object_score_logits, which SAM and"):
        restore_mask_logits(outputs, *sizes, processor=sam.processor, empty_absent=True)


def test_non_overlapping_masks_with_accuracy_are_the_processors(scored: Prompted) -> None:
    outputs, sizes = run(scored, points=4)
    option = {"apply_non_overlapping_constraints": True}
    expected = official(scored, outputs, sizes, **option)
    found = postprocess_masks(outputs, *sizes, processor=scored.processor, metric="acc", **option)
    equal(found, expected)
    assert not torch.equal(expected[0], official(scored, outputs, sizes)[0])


@pytest.mark.parametrize("temperature", [1.0, 50.0])
def test_masks_of_prompts_do_not_overlap_if_asked(family: Prompted, temperature: float) -> None:
    """Whatever makes the cut low: a suppressed pixel has probability 0, not that of -10."""
    outputs, sizes = run(family, points=4)
    options = {"processor": family.processor, "temperature": temperature, "pruning_prob": 0.0}
    apart = postprocess_masks(outputs, *sizes, apply_non_overlapping_constraints=True, **options)
    assert all(mask.sum(0).max() == 1 for mask in apart)
    free = postprocess_masks(outputs, *sizes, **options)
    assert all(mask.sum(0).max() > 1 for mask in free)
    assert all((mask <= other).all() or mask.any() for mask, other in zip(apart, free, strict=True))


def test_keeping_prompts_apart_leaves_the_outputs_as_they_are(scored: Prompted) -> None:
    """Where nothing is resized, too: there the processor's logits could be the outputs' own."""
    outputs, _ = run(scored, points=4)
    before = outputs.pred_masks.clone()
    small = [tuple(before.shape[-2:])] * len(before)
    postprocess_masks(
        outputs, small, processor=scored.processor, apply_non_overlapping_constraints=True
    )
    torch.testing.assert_close(outputs.pred_masks, before, rtol=0, atol=0)


# --- the pipeline ----------------------------------------------------------------------------


def generate(family: Prompted, **options: Any) -> dict[str, Any]:
    """Masks of a whole image, as tensors; of the filters, stability is the one at work."""
    pipe = transformers.pipeline(
        "mask-generation",
        model=family.model,
        image_processor=family.processor.image_processor,
    )
    picture = pytest.importorskip("PIL.Image").fromarray(image(SIZE, SIZE))
    lax = {"points_per_crop": 4, "points_per_batch": 8, "pred_iou_thresh": -10.0}
    found = pipe(picture, **{**lax, "stability_score_thresh": 0.5, **options})
    return {
        "masks": [torch.as_tensor(mask) for mask in found["masks"]],
        "scores": torch.as_tensor(found["scores"]),
    }


@pytest.fixture
def spread_family(family: Prompted, monkeypatch: pytest.MonkeyPatch) -> Prompted:
    """The family with a model whose logits are spread, more in each next mask of a batch."""
    forward = family.model.forward

    def spreading(*args: Any, **kwargs: Any) -> Any:
        outputs = forward(*args, **kwargs)
        wider = torch.linspace(0.2, 2, outputs.iou_scores.numel()).reshape(outputs.iou_scores.shape)
        outputs.pred_masks = spread(outputs.pred_masks) * wider[..., None, None]
        return outputs

    monkeypatch.setattr(family.model, "forward", spreading)
    return family


def test_the_pipeline_with_accuracy_is_the_official_one(spread_family: Prompted) -> None:
    expected = generate(spread_family)
    found = generate(spread_family, mask_threshold=RankSEGThreshold("acc"))
    assert len(expected["masks"]) > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_pipeline_with_crops(spread_family: Prompted) -> None:
    options = {"crops_n_layers": 1}
    try:
        expected = generate(spread_family, **options)
    except (RuntimeError, ValueError) as error:
        pytest.skip(f"the pipeline of this version of transformers takes no crops: {error}")
    found = generate(spread_family, mask_threshold=RankSEGThreshold("acc"), **options)
    assert len(expected["masks"]) > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_pipeline_filters_as_before_and_cuts_with_rankseg(spread_family: Prompted) -> None:
    """Without the removal of duplicates, so that every survivor of the filters is seen."""
    options = {"crops_nms_thresh": 1.0}
    expected = generate(spread_family, **options)
    found = generate(spread_family, mask_threshold=RankSEGThreshold("dice"), **options)
    assert 1 < len(expected["masks"]) < 48, "the filters must keep some of 16 points' 3 masks"
    torch.testing.assert_close(found["scores"], expected["scores"], rtol=0, atol=0)
    pairs = [*zip(found["masks"], expected["masks"], strict=True)]
    assert all((mine >= its).all() for mine, its in pairs)
    assert sum(mine.sum() for mine, _ in pairs) > sum(its.sum() for _, its in pairs)


# --- SAM 3 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [None, SIZES, torch.tensor(SIZES), np.array(SIZES)])
def test_sam3_instances_with_accuracy_are_the_processors(sam3: tuple[Any, Any], sizes: Any) -> None:
    outputs, processor = sam3
    plain = None if sizes is None else SIZES
    expected = processor.post_process_instance_segmentation(outputs, target_sizes=plain)
    found = postprocess_instance_segmentation(
        outputs, processor=processor, target_sizes=sizes, metric="acc"
    )
    for mine, its in zip(found, expected, strict=True):
        assert mine.keys() == its.keys() == {"scores", "boxes", "masks"}
        assert 0 < len(its["scores"]) < 6
        torch.testing.assert_close(mine, its, rtol=0, atol=0)


@pytest.mark.parametrize("metric", ["dice", "iou"])
def test_sam3_instances_keep_scores_and_boxes_and_get_the_best_mask(
    sam3: tuple[Any, Any], metric: str
) -> None:
    outputs, processor = sam3
    expected = processor.post_process_instance_segmentation(
        outputs, threshold=0.4, target_sizes=SIZES
    )
    found = postprocess_instance_segmentation(
        outputs, processor=processor, threshold=0.4, target_sizes=SIZES, metric=metric
    )
    scores = outputs.pred_logits.sigmoid() * outputs.presence_logits.sigmoid()
    for k, (mine, its) in enumerate(zip(found, expected, strict=True)):
        for name in ("scores", "boxes"):
            torch.testing.assert_close(mine[name], its[name], rtol=0, atol=0)
        assert its["boxes"].max() > 1, "boxes are scaled to pixels"
        probs = outputs.pred_masks[k, scores[k] > 0.4].sigmoid()[None]
        resized = torch.nn.functional.interpolate(probs, SIZES[k], mode="bilinear")[0]
        torch.testing.assert_close(mine["masks"], best(resized, metric).long(), rtol=0, atol=0)
        assert mine["masks"].sum() > its["masks"].sum()


def test_sam3_without_instances(sam3: tuple[Any, Any]) -> None:
    outputs, processor = sam3
    for metric in ("acc", "dice"):
        found = postprocess_instance_segmentation(
            outputs, processor=processor, threshold=1.0, target_sizes=SIZES, metric=metric
        )
        assert [len(each["masks"]) for each in found] == [0, 0]


def test_sam3_without_presence(sam3: tuple[Any, Any]) -> None:
    outputs = sam3[0].__class__(**sam3[0])
    outputs.presence_logits = None
    arguments = {"target_sizes": SIZES, "threshold": 0.5}
    expected = sam3[1].post_process_instance_segmentation(outputs, **arguments)
    found = postprocess_instance_segmentation(outputs, processor=sam3[1], metric="acc", **arguments)
    for mine, its in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0)


def test_defaults_are_the_processors(sam3: tuple[Any, Any]) -> None:
    theirs = inspect.signature(sam3[1].post_process_instance_segmentation).parameters
    ours = inspect.signature(postprocess_instance_segmentation).parameters
    for name in ("threshold", "target_sizes"):
        assert ours[name].default == theirs[name].default
    assert theirs["mask_threshold"].default == 0.5


@pytest.mark.parametrize("sizes", [None, SIZES, torch.tensor(SIZES)])
def test_sam3_semantic_with_accuracy_is_the_processors(sam3: tuple[Any, Any], sizes: Any) -> None:
    outputs, processor = sam3
    plain = None if sizes is None else SIZES
    expected = processor.post_process_semantic_segmentation(outputs, target_sizes=plain)
    found = postprocess_semantic_segmentation(
        outputs, processor=processor, target_sizes=sizes, metric="acc"
    )
    equal(found, expected)
    assert 0 < found[0].sum() < found[0].numel()


def test_sam3_semantic_gets_the_best_mask(sam3: tuple[Any, Any]) -> None:
    outputs, processor = sam3
    found = postprocess_semantic_segmentation(outputs, processor=processor, target_sizes=SIZES)
    for k, mine in enumerate(found):
        probs = outputs.semantic_seg[k : k + 1].sigmoid()
        resized = torch.nn.functional.interpolate(probs, SIZES[k], mode="bilinear")[0, 0]
        torch.testing.assert_close(mine, best(resized).long(), rtol=0, atol=0)
        assert mine.sum() > (resized > 0.5).sum()


@pytest.mark.parametrize(
    ("decide", "field"),
    [
        (postprocess_instance_segmentation, "pred_masks"),
        (postprocess_semantic_segmentation, "semantic_seg"),
    ],
)
def test_sam3_temperature_divides_the_mask_logits(
    sam3: tuple[Any, Any], decide: Any, field: str
) -> None:
    outputs, processor = sam3
    before = outputs[field].clone()
    warm = decide(outputs, processor=processor, target_sizes=SIZES, temperature=4.0)
    torch.testing.assert_close(outputs[field], before, rtol=0, atol=0)
    softened = outputs.__class__(**{**outputs, field: before / 4})
    expected = decide(softened, processor=processor, target_sizes=SIZES)
    cold = decide(outputs, processor=processor, target_sizes=SIZES)
    torch.testing.assert_close(warm, expected, rtol=0, atol=0)
    masks = [[each["masks"] if field == "pred_masks" else each for each in found]
             for found in (warm, cold)]  # fmt: skip
    assert not torch.equal(masks[0][0], masks[1][0])


def test_sam3_half_precision(sam3: tuple[Any, Any]) -> None:
    """Accuracy in the processor's own precision; decisions on probabilities of float32."""
    half = sam3[0].__class__(**sam3[0])
    half.semantic_seg = half.semantic_seg.bfloat16()
    processor = sam3[1]
    expected = processor.post_process_semantic_segmentation(half, target_sizes=SIZES)
    equal(
        postprocess_semantic_segmentation(
            half, processor=processor, target_sizes=SIZES, metric="acc"
        ),
        expected,
    )
    wide = half.__class__(**{**half, "semantic_seg": half.semantic_seg.float()})
    equal(
        postprocess_semantic_segmentation(half, processor=processor, target_sizes=SIZES),
        postprocess_semantic_segmentation(wide, processor=processor, target_sizes=SIZES),
    )


@pytest.mark.parametrize("metric", ["acc", "dice"])
@pytest.mark.parametrize(
    "decide", [postprocess_instance_segmentation, postprocess_semantic_segmentation]
)
def test_sam3_outputs_may_be_a_mapping(sam3: tuple[Any, Any], decide: Any, metric: str) -> None:
    outputs, processor = sam3
    options = {"processor": processor, "target_sizes": SIZES, "metric": metric}
    expected = decide(outputs, **options)
    torch.testing.assert_close(decide(dict(outputs), **options), expected, rtol=0, atol=0)


def test_a_mapping_needs_no_more_than_is_read(sam3: tuple[Any, Any]) -> None:
    outputs, processor = sam3
    read = {name: outputs[name] for name in ("pred_masks", "pred_logits", "pred_boxes")}
    options = {"processor": processor, "threshold": 0.5}
    found = postprocess_instance_segmentation(read, **options)
    absent = outputs.__class__(**read)
    torch.testing.assert_close(
        found, postprocess_instance_segmentation(absent, **options), rtol=0, atol=0
    )
    alone = {"semantic_seg": outputs.semantic_seg}
    equal(
        postprocess_semantic_segmentation(alone, processor=processor),
        postprocess_semantic_segmentation(outputs, processor=processor),
    )


def test_sam3_semantic_holds_one_image_at_full_size(
    sam3: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unlike its processor, which keeps the probabilities of all images until it returns."""
    alive: list[weakref.ref[Tensor]] = []
    held = []
    decide = ProbsThreshold.above

    def watched(self: ProbsThreshold, probs: Tensor) -> Tensor:
        held.append(sum(reference() is not None for reference in alive))
        alive.append(weakref.ref(probs if probs._base is None else probs._base))
        return decide(self, probs)

    monkeypatch.setattr(ProbsThreshold, "above", watched)
    postprocess_semantic_segmentation(sam3[0], processor=sam3[1], target_sizes=SIZES)
    assert held == [0, 0]


# --- the wrong family ------------------------------------------------------------------------


def test_the_wrong_family_is_told_where_to_go(sam3: tuple[Any, Any]) -> None:
    sam2 = build(transformers, "sam2")
    outputs, sizes = run(sam2)
    with pytest.raises(TypeError, match=r"with pred_masks, .*SAM 3's are for postprocess_inst"):
        postprocess_masks(sam3[0], SIZES, processor=sam2.processor)
    for decide in (postprocess_instance_segmentation, postprocess_semantic_segmentation):
        with pytest.raises(TypeError, match=r"Sam2ImageSeg.* iou_scores.*: use postprocess_masks"):
            decide(outputs, processor=sam3[1])
    with pytest.raises(TypeError, match="Sam2Processor"):
        postprocess_instance_segmentation(sam3[0], processor=sam2.processor)
    with pytest.raises(TypeError, match="must be the SAM model's own and have post_process_masks"):
        postprocess_masks(outputs, *sizes, processor=object())


def test_other_models_are_sent_to_the_other_adapter() -> None:
    sam = build(transformers, "sam")
    semantic = transformers.modeling_outputs.SemanticSegmenterOutput(logits=torch.zeros(1, 2, 4, 4))
    for decide in (postprocess_instance_segmentation, postprocess_semantic_segmentation):
        with pytest.raises(TypeError, match=r"with logits: .*rankseg_integrations.transformers"):
            decide(semantic, processor=sam.processor)
    with pytest.raises(TypeError, match=r"must hold pred_masks, iou_scores; .*\.transformers"):
        postprocess_masks(semantic, SIZES, processor=sam.processor)


def test_videos_go_through_their_processor() -> None:
    sam2 = build(transformers, "sam2")
    outputs = {"pred_masks": torch.zeros(1, 1, 4, 4), "object_ids": [1]}
    with pytest.raises(TypeError, match=r"for videos pass mask_threshold=RankSEGThreshold\(\)"):
        postprocess_masks(outputs, SIZES, processor=sam2.processor)


def test_outputs_and_processor_must_belong_together() -> None:
    """Otherwise masks would come back through the wrong geometry, without a word."""
    sam, sam2 = build(transformers, "sam"), build(transformers, "sam2")
    outputs, sizes = run(sam)
    with pytest.raises(ValueError, match="outputs are of SAM and SAM-HQ, the processor is for SAM"):
        postprocess_masks(outputs, sizes[0], processor=sam2.processor)
    outputs, _ = run(sam2)
    with pytest.raises(ValueError, match="outputs are of SAM 2, EdgeTAM and the SAM 3 tracker"):
        postprocess_masks(outputs, *sizes, processor=sam.processor)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ((torch.zeros(1, 2, 3, 4, 4),), "a tuple: call the model with return_dict=True"),
        (torch.zeros(1, 2, 3, 4, 4), r"a Tensor: .* compare logits with RankSEGThreshold"),
        (None, "got NoneType"),
    ],
)
def test_what_no_model_returns_is_refused(outputs: Any, message: str) -> None:
    sam = build(transformers, "sam")
    for decide in (postprocess_instance_segmentation, postprocess_semantic_segmentation):
        with pytest.raises(TypeError, match=message):
            decide(outputs, processor=sam.processor)
    with pytest.raises(TypeError, match=message):
        postprocess_masks(outputs, SIZES, SIZES, processor=sam.processor)


@pytest.mark.parametrize("field", ["pred_masks", "iou_scores"])
def test_missing_fields_are_named(family: Prompted, field: str) -> None:
    outputs, sizes = run(family)
    outputs = {name: value for name, value in outputs.items() if name != field}
    with pytest.raises(TypeError, match="must hold pred_masks, iou_scores; got dict with"):
        postprocess_masks(outputs, *sizes, processor=family.processor)


@pytest.mark.parametrize("field", ["pred_masks", "iou_scores"])
def test_one_field_alone_is_told_what_is_missing(family: Prompted, field: str) -> None:
    outputs, sizes = run(family)
    (other,) = {"pred_masks", "iou_scores"} - {field}
    message = f"got dict with {field}: {other} is missing, pass all that the model returned"
    with pytest.raises(TypeError, match=message):
        postprocess_masks({field: outputs[field]}, *sizes, processor=family.processor)


@pytest.mark.parametrize("axes", [3, 4, 6])
def test_masks_of_another_shape_are_refused(family: Prompted, axes: int) -> None:
    outputs, sizes = run(family)
    outputs.pred_masks = outputs.pred_masks.reshape(2, *[1] * (axes - 4), -1, 16, 16)[
        (0,) * (axes == 3)
    ]
    message = r"pred_masks must have shape \(B, P, M, h, w\), got \(.*\)"
    for decide in (postprocess_masks, restore_mask_logits):
        with pytest.raises(ValueError, match=message):
            decide(outputs, *sizes, processor=family.processor)


@pytest.mark.parametrize(
    ("decide", "field", "shape", "message"),
    [
        (postprocess_instance_segmentation, "pred_masks", (2, 1, 6, 4, 4), r"\(B, Q, h, w\), got"),
        (postprocess_instance_segmentation, "pred_logits", (2, 6, 1), r"\(B, Q\), got \(2, 6, 1"),
        (postprocess_instance_segmentation, "pred_boxes", (2, 6, 5), r"\(B, Q, 4\), got \(2, 6"),
        (postprocess_instance_segmentation, "pred_logits", (2, 5), r"agree on Q; .*\(2, 5\)"),
        (postprocess_instance_segmentation, "pred_boxes", (1, 6, 4), r"agree on B; .*\(1, 6"),
        (postprocess_instance_segmentation, "presence_logits", (1, 1), r"agree on B; .*\(1, 1\)"),
        (postprocess_semantic_segmentation, "semantic_seg", (2, 4, 4), r"\(B, 1, h, w\), got"),
        (postprocess_semantic_segmentation, "semantic_seg", (2, 3, 4, 4), r"\(B, 1, h, w\), got"),
    ],
)
def test_fields_of_sam3_of_another_shape_are_refused(
    sam3: tuple[Any, Any], decide: Any, field: str, shape: tuple[int, ...], message: str
) -> None:
    outputs = {**sam3[0], field: torch.zeros(shape)}
    with pytest.raises(ValueError, match=message):
        decide(outputs, processor=sam3[1])


@pytest.mark.parametrize("field", ["pred_masks", "pred_logits", "pred_boxes"])
def test_missing_fields_of_sam3_are_named(sam3: tuple[Any, Any], field: str) -> None:
    outputs = sam3[0].__class__(**{name: v for name, v in sam3[0].items() if name != field})
    message = "must hold pred_masks, pred_logits, pred_boxes; got Sam3"
    with pytest.raises(TypeError, match=f"{message}.*: {field} is missing, pass all that the"):
        postprocess_instance_segmentation(outputs, processor=sam3[1])


# --- bad values ------------------------------------------------------------------------------


BAD_SIZES = pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([(48, 80)], ValueError, r"of each of 2 images, got \[\(48, 80\)\]"),
        ([(48, 80)] * 3, ValueError, r"of each of 2 images, got"),
        ([(48, 80, 3)] * 2, ValueError, r"sizes\[0\]: size must be \(H, W\), got \(48, 80, 3\)"),
        ([(48, 80), (0, 40)], ValueError, r"sizes\[1\]: size .* positive int .* got \(0, 40\)"),
        ([(48, 80), (-60, 40)], ValueError, r"sizes\[1\]: size .* got \(-60, 40\)"),
        ([(48, 80), (60.0, 40.0)], TypeError, r"sizes\[1\]: size must be a sequence of ints"),
        ((48, 80), TypeError, r"sizes\[0\]: size must be a sequence of ints .*\(H, W\), got 48"),
        ({"original_sizes": SIZES}, TypeError, r"sizes must hold \(H, W\) of each image, got dict"),
        (48, TypeError, r"sizes must hold \(H, W\) of each image, got int"),
        (torch.tensor(48), TypeError, r"sizes must hold \(H, W\) of each image, got Tensor"),
        (np.array(48), TypeError, r"sizes must hold \(H, W\) of each image, got ndarray"),
    ],
    ids=[
        *("few", "many", "axes", "zero", "negative", "float", "flat", "inputs"),
        *("int", "tensor", "array"),
    ],
)


@BAD_SIZES
def test_bad_sizes_are_refused(
    family: Prompted, sizes: Any, error: type[Exception], message: str
) -> None:
    outputs, good = run(family)
    with pytest.raises(error, match=f"original_.*{message}"):
        postprocess_masks(outputs, sizes, *good[1:], processor=family.processor)
    if family.padded:
        with pytest.raises(error, match=f"reshaped_input_.*{message}"):
            restore_mask_logits(outputs, good[0], sizes, processor=family.processor)


@BAD_SIZES
def test_bad_sizes_for_sam3_are_refused(
    sam3: tuple[Any, Any], sizes: Any, error: type[Exception], message: str
) -> None:
    for decide in (postprocess_instance_segmentation, postprocess_semantic_segmentation):
        with pytest.raises(error, match=f"target_.*{message}"):
            decide(sam3[0], processor=sam3[1], target_sizes=sizes)


def test_sizes_in_the_square_are_for_those_who_have_one(family: Prompted) -> None:
    outputs, sizes = run(family)
    if family.padded:
        with pytest.raises(TypeError, match=r"reshaped_input_sizes must hold .* got NoneType"):
            postprocess_masks(outputs, sizes[0], processor=family.processor)
    else:
        with pytest.raises(ValueError, match="straight to the original size: leave reshaped_input"):
            postprocess_masks(outputs, *sizes, SIZES, processor=family.processor)


@pytest.mark.parametrize("metric", ["acc", "dice"])
def test_nan_is_refused(family: Prompted, metric: str) -> None:
    outputs, sizes = run(family)
    outputs.pred_masks[1, 0, 2, 3, 3] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        postprocess_masks(outputs, *sizes, processor=family.processor, metric=metric)


@pytest.mark.parametrize("metric", ["acc", "dice"])
@pytest.mark.parametrize("field", ["pred_masks", "pred_logits", "pred_boxes", "presence_logits"])
def test_nan_in_sam3_is_refused(sam3: tuple[Any, Any], field: str, metric: str) -> None:
    outputs = sam3[0].__class__(**sam3[0])
    outputs[field] = torch.full_like(outputs[field], torch.nan)
    with pytest.raises(ValueError, match=f"{field} contains NaN"):
        postprocess_instance_segmentation(outputs, processor=sam3[1], metric=metric)


def test_arrays_are_refused(family: Prompted, sam3: tuple[Any, Any]) -> None:
    outputs, sizes = run(family)
    arrays = {name: np.zeros(tensor.shape) for name, tensor in outputs.items() if "sc" in name}
    arrays["pred_masks"] = outputs.pred_masks.numpy()
    with pytest.raises(TypeError, match=r"iou_scores must be a torch\.Tensor, got ndarray"):
        postprocess_masks(arrays, *sizes, processor=family.processor)
    arrays = {**sam3[0], "presence_logits": np.zeros((2, 1))}
    with pytest.raises(TypeError, match=r"presence_logits must be a torch\.Tensor, got ndarray"):
        postprocess_instance_segmentation(arrays, processor=sam3[1])


def test_tensors_without_values_are_refused(family: Prompted) -> None:
    outputs, sizes = run(family)
    outputs.pred_masks = outputs.pred_masks.to("meta")
    with pytest.raises(TypeError, match="pred_masks must be a dense tensor with values; got a met"):
        postprocess_masks(outputs, *sizes, processor=family.processor)


def test_sam3s_tensors_without_values_are_refused(sam3: tuple[Any, Any]) -> None:
    outputs = sam3[0].__class__(**sam3[0])
    outputs.semantic_seg = outputs.semantic_seg.to("meta")
    with pytest.raises(TypeError, match="semantic_seg must be a dense tensor"):
        postprocess_semantic_segmentation(outputs, processor=sam3[1])


@pytest.mark.parametrize(
    "decide", [postprocess_instance_segmentation, postprocess_semantic_segmentation]
)
def test_bad_settings_of_sam3(sam3: tuple[Any, Any], decide: Any) -> None:
    for temperature in (0, -1.0, torch.inf):
        for metric in ("acc", "dice"):
            with pytest.raises(ValueError, match="temperature must be"):
                decide(sam3[0], processor=sam3[1], metric=metric, temperature=temperature)
    with pytest.raises(ValueError, match="no parameter 'mask_threshold'"):
        decide(sam3[0], processor=sam3[1], mask_threshold=0.4)
    for option in ({"activation": "sigmoid"}, {"output_mode": "multilabel"}):
        with pytest.raises(ValueError, match=r"are fixed here; leave .*=.* out"):
            decide(sam3[0], processor=sam3[1], **option)
