"""Instance and panoptic segmentation: RankSEG's masks in the official code's results."""

from __future__ import annotations

import copy
import functools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("transformers")

import tiny_transformers as tiny
from tiny_transformers import Case

from rankseg import RankSEG
from rankseg_integrations.transformers import RankSEGImageProcessor

FAMILIES = (
    *("maskformer", "mask2former", "oneformer", "detr", "conditional_detr"),
    *("eomt", "eomt_dinov3", "videomt"),
)
COCO = ("maskformer", "mask2former", "oneformer", "detr", "conditional_detr")
LOW = {"threshold": 0.3}


def case(name: str) -> Case:
    if not tiny.available(name):
        pytest.skip(f"the installed transformers has no {name}")
    return tiny.case(name)


def segments(processor: Any, task: str, outputs: Any, **more: Any) -> list[dict[str, Any]]:
    return getattr(processor, f"post_process_{task}_segmentation")(outputs, **more)


def ours(one: Case, task: str, metric: str = "dice", **more: Any) -> list[dict[str, Any]]:
    options = {key: more.pop(key) for key in ("pruning_prob", "solver", "smooth") if key in more}
    processor = RankSEGImageProcessor.from_processor(one.processor, metric=metric, **options)
    return segments(processor, task, one.outputs, **{"target_sizes": one.sizes, **more})


def official(one: Case, task: str, **more: Any) -> list[dict[str, Any]]:
    return segments(one.processor, task, one.outputs, **{"target_sizes": one.sizes, **more})


def scene(name: str, classes: int = 3, side: int = 48) -> tuple[Case, Tensor]:
    """Three faint discs as queries that are sure of their class, on a grid of the image's size.

    Their probability falls from 0.8 to 0: RankSEG's masks are larger than those cut at 0.5.
    """
    one = case(name)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    centres, radius = ((14, 12), (12, 36), (36, 24)), 10
    distance = torch.stack([((y - v) ** 2 + (x - u) ** 2).sqrt() for v, u in centres])
    probs = (0.8 * (1 - (distance / radius).clamp(max=1) ** 2)).clamp(min=1e-6)
    logits = torch.zeros(3, classes + (name != "conditional_detr"))
    if name == "conditional_detr":  # its method takes the last class for none all the same
        logits = torch.zeros(3, classes + 1)
    logits[torch.arange(3), torch.arange(3)] = 6.0
    first, second = (
        ("logits", "pred_masks")
        if "detr" in name
        else ("class_queries_logits", "masks_queries_logits")
    )
    fields = {first: logits[None], second: probs.logit()[None], "patch_offsets": None}
    return Case(name, one.model, one.processor, SimpleNamespace(**fields), [(side, side)]), probs


def by_label(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Segments in an order of their own: OneFormer's topk promises none."""
    return sorted(result["segments_info"], key=lambda segment: segment["label_id"])


def labels(result: dict[str, Any]) -> list[int]:
    return [segment["label_id"] for segment in by_label(result)]


def identical(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["segments_info"] == expected["segments_info"]
    if isinstance(expected["segmentation"], Tensor):
        torch.testing.assert_close(found["segmentation"], expected["segmentation"], rtol=0, atol=0)
    else:
        assert found["segmentation"] == expected["segmentation"]


# --- accuracy is what the processor does ------------------------------------------------------


@pytest.mark.parametrize("task", ["instance", "panoptic"])
@pytest.mark.parametrize("name", FAMILIES)
def test_accuracy_gives_the_official_result(name: str, task: str) -> None:
    one = case(name)
    found, expected = ours(one, task, "acc", **LOW), official(one, task, **LOW)
    assert len(found) == len(expected) == len(one.sizes)
    for mine, theirs in zip(found, expected, strict=True):
        identical(mine, theirs)
    if task == "instance":
        assert sum(len(item["segments_info"]) for item in expected) > 0


@pytest.mark.parametrize("task", ["instance", "panoptic"])
@pytest.mark.parametrize("name", FAMILIES)
def test_results_have_the_official_form(name: str, task: str) -> None:
    one = scene(name)[0]
    for mine, theirs in zip(ours(one, task, **LOW), official(one, task, **LOW), strict=True):
        assert mine.keys() == theirs.keys()
        assert mine["segmentation"].dtype == theirs["segmentation"].dtype
        assert mine["segmentation"].shape == theirs["segmentation"].shape
        assert mine["segments_info"]
        for segment in mine["segments_info"]:
            assert segment.keys() == theirs["segments_info"][0].keys()
            assert {type(value) for value in segment.values()} == {
                type(value) for value in theirs["segments_info"][0].values()
            }


# --- masks are RankSEG's ----------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("task", ["instance", "panoptic"])
@pytest.mark.parametrize("name", FAMILIES)
def test_masks_are_the_cores(name: str, task: str, metric: str) -> None:
    """On the image's own grid nothing is resized, but for the detours of two families."""
    one, probs = scene(name)
    (found,) = ours(one, task, metric, threshold=0.2)
    exact = name not in ("mask2former", "eomt", "eomt_dinov3")
    if name == "mask2former" and task == "instance":  # decided at 384x384, then the nearest pixel
        big = F.interpolate(probs.logit()[None], (384, 384), mode="bilinear").sigmoid()
        expected, cut = (
            RankSEG(metric, "multilabel")(big)[0, :, ::8, ::8],
            big[0, :, ::8, ::8] > 0.5,
        )
        exact = True
    else:
        expected, cut = RankSEG(metric, "multilabel")(probs[None])[0], probs > 0.5
    assert labels(found) == [0, 1, 2]
    seen = torch.zeros_like(found["segmentation"], dtype=torch.bool)
    for segment, mask, small in zip(by_label(found), expected, cut, strict=True):
        painted = found["segmentation"] == segment["id"]
        wrong = (painted != mask).sum()
        assert wrong == 0 if exact else wrong < 0.2 * (mask.sum() - small.sum())
        assert painted.sum() > small.sum() + 20
        seen |= painted
    rest = found["segmentation"][~seen].unique().tolist()
    assert rest in ([0], [-1]), "pixels in no mask belong to no segment"


@pytest.mark.parametrize("name", FAMILIES)
def test_instances_keep_their_classes_and_scores(name: str) -> None:
    one = case(name) if name not in ("oneformer", "detr", "conditional_detr") else scene(name)[0]
    for found, expected in zip(
        ours(one, "instance", threshold=0.2), official(one, "instance", threshold=0.2), strict=True
    ):
        order = by_label if name == "oneformer" else lambda result: result["segments_info"]
        pairs = list(zip(order(found), order(expected), strict=True))
        assert pairs
        for mine, theirs in pairs:
            assert mine["label_id"] == theirs["label_id"]
            assert mine["score"] == pytest.approx(theirs["score"], abs=2e-5)


@pytest.mark.parametrize("sizes", [[(30, 50)] * 2, [(50, 30)] * 2, [(64, 64), (20, 64)]])
@pytest.mark.parametrize("name", ["eomt", "eomt_dinov3", "videomt"])
def test_masks_decided_on_the_image_at_any_shape(name: str, sizes: list[tuple[int, int]]) -> None:
    """These instances are cut at the image's size, which the same steps give here."""
    one = case(name)
    found = ours(one, "instance", target_sizes=sizes, threshold=0.0)
    for index, (item, size) in enumerate(zip(found, sizes, strict=True)):
        masks = one.outputs.masks_queries_logits[index : index + 1]
        if name != "videomt":
            masks = F.interpolate(masks, (64, 64), mode="bilinear")
            masks = one.processor.unpad_image(masks, [size], one.processor.size)[0][None]
        logits = F.interpolate(masks, size, mode="bilinear")
        expected = RankSEG(output_mode="multilabel", activation="sigmoid")(logits)[0]
        painted = torch.full(size, -1)
        shown = [mask for mask, own in zip(expected, logits[0], strict=True) if own.max() > 0]
        for number, mask in enumerate(shown):
            painted[mask] = number
        torch.testing.assert_close(item["segmentation"].long(), painted, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["maskformer", "mask2former"])
def test_binary_maps_and_run_lengths(name: str) -> None:
    one, probs = scene(name)
    (found,) = ours(one, "instance", return_binary_maps=True, **LOW)
    assert found["segmentation"].shape == (3, 48, 48)
    if name == "maskformer":
        expected = RankSEG(output_mode="multilabel")(probs[None])[0]
        order = [segment["label_id"] for segment in found["segments_info"]]
        torch.testing.assert_close(found["segmentation"].bool(), expected[order], rtol=0, atol=0)
    (found,) = ours(one, "instance", return_coco_annotation=True, **LOW)
    assert isinstance(found["segmentation"], list)


@pytest.mark.parametrize("name", COCO)
def test_overlaps_are_resolved_by_the_official_rule(name: str) -> None:
    """Two overlapping masks: the pixel goes to the larger product of score and probability."""
    one, probs = scene(name)
    field = "pred_masks" if "detr" in name else "masks_queries_logits"
    shifted = torch.stack([probs[0], probs[0].roll(9, 1) * 0.98, probs[2]])
    setattr(one.outputs, field, shifted.logit()[None])
    (found,) = ours(one, "panoptic", overlap_mask_area_threshold=0.1, **LOW)
    both = RankSEG(output_mode="multilabel")(shifted[None])[0][:2].all(0)
    assert both.sum() > 5
    ids = {segment["label_id"]: segment["id"] for segment in found["segments_info"]}
    first = both & (shifted[0] > shifted[1] + 0.2)
    second = both & (shifted[1] > shifted[0] + 0.2)
    assert first.any() or name == "mask2former"
    assert found["segmentation"][first].eq(ids[0]).all()
    assert found["segmentation"][second].eq(ids[1]).all()


FIELDS = ("class_queries_logits", "masks_queries_logits"), ("logits", "pred_masks")


def fields_of(one: Case) -> tuple[Tensor, Tensor]:
    """Logits of classes and of masks."""
    first, second = FIELDS["detr" in one.name]
    return getattr(one.outputs, first), getattr(one.outputs, second)


def with_queries(one: Case, scores: list[float], probs: Tensor) -> None:
    """Queries of the classes 0, 1, ... with these scores and mask probabilities."""
    classes = torch.tensor(scores)[:, None].expand(-1, 4)
    classes = ((1 - classes) / 3).clone()
    classes[torch.arange(len(scores)), torch.arange(len(scores))] = torch.tensor(scores)
    first, second = FIELDS["detr" in one.name]
    setattr(one.outputs, first, classes.log()[None])
    setattr(one.outputs, second, probs.logit()[None])


def squares(side: int = 48) -> Tensor:
    """A large sure square with a doubtful edge, and a square of 0.6 that reaches into it."""
    probs = torch.full((2, side, side), 1e-6)
    probs[0, :30] = 0.999
    probs[0, 26:30, 20:40] = 0.52
    probs[1, 20:46, 20:40] = 0.6
    return probs


def by_rule(
    one: Case, index: int, metric: str, threshold: float, cut: float, share: float
) -> tuple[Tensor, list[tuple[int, float]], Tensor]:
    """What docs/hugging-face.md says of competing queries, a pixel and a query at a time.

    And where two products differ by less than the rounding of float32, a hundred times.
    """
    classes, masks = (values[index : index + 1] for values in fields_of(one))
    if one.name == "mask2former":
        masks = F.interpolate(masks, (384, 384), mode="bilinear")
    resized = F.interpolate(masks.sigmoid(), one.sizes[index], mode="bilinear").clamp(0, 1)
    scores, labels = classes[0].softmax(-1).max(-1)
    kept = (scores > threshold) & (labels < classes.shape[2] - 1)
    scores, labels, probs = scores[kept], labels[kept], resized[0, kept]
    inside = RankSEG(metric, "multilabel")(probs[None])[0]
    products = (scores[:, None, None] * probs).where(inside, -1.0)
    best, winner = products.max(0)
    winner[best < 0] = -1
    painted, found = torch.zeros_like(winner), []
    for query, (score, label) in enumerate(zip(scores.tolist(), labels.tolist(), strict=True)):
        mine = winner == query
        # Where a query too weak to be a segment has the larger product, the mask has no pixel.
        beaten = (products[scores < cut] > products[query]).any(0)
        area = (inside[query] & ~beaten).sum()
        if score >= cut and mine.any() and mine.sum() / area > share:
            found.append((label, score))
            painted[mine] = len(found)
    first, second = F.pad(products, (0, 0, 0, 0, 0, 1), value=-2).topk(2, dim=0).values
    close = (first >= 0) & (first - second < 100 * torch.finfo(torch.float32).eps)
    return painted, found, close


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("task", ["instance", "panoptic"])
@pytest.mark.parametrize("name", FAMILIES)
def test_overlaps_go_to_the_larger_product_with_unequal_scores(
    name: str, task: str, metric: str
) -> None:
    """At the doubtful edge 0.97 * 0.52 < 0.6 * 0.6 is false: all of the overlap is the first's."""
    one, _ = scene(name)
    if task == "instance" and name not in ("oneformer", "detr", "conditional_detr"):
        pytest.skip("cut one by one, a later one over an earlier")
    probs = squares()
    with_queries(one, [0.97, 0.6], probs)
    given = {"threshold": 0.5, "overlap_mask_area_threshold": 0.0}
    (found,) = ours(one, task, metric, **given)
    assert labels(found) == [0, 1]
    both = RankSEG(metric, "multilabel")(probs[None])[0].all(0)
    assert both.sum() > 50
    first, second = (found["segmentation"] == segment["id"] for segment in by_label(found))
    # OneFormer's instances multiply scores with logits instead.
    values = probs.logit() if (name, task) == ("oneformer", "instance") else probs
    mine = 0.97 * values[0] > 0.6 * values[1]
    near = name in ("mask2former", "eomt", "eomt_dinov3")  # edges are smoothed on another grid
    allowed = 0.1 * both.sum() if near else 0
    assert (first[both] != mine[both]).sum() <= allowed
    assert (second[both] == mine[both]).sum() <= allowed


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("cut", [0.5, 0.3])
@pytest.mark.parametrize("name", COCO)
def test_competing_queries_follow_the_rule(name: str, cut: float, metric: str) -> None:
    one = case(name)
    given = {"threshold": 0.2, "mask_threshold": cut, "overlap_mask_area_threshold": 0.3}
    found = ours(one, "panoptic", metric, **given)
    for index, item in enumerate(found):
        painted, expected, close = by_rule(one, index, metric, 0.2, cut, 0.3)
        torch.testing.assert_close(
            item["segmentation"].long()[~close], painted[~close], rtol=0, atol=0
        )
        assert close.float().mean() < 0.01
        assert labels(item) == sorted(label for label, _ in expected)
    assert any(item["segments_info"] for item in found)


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("given", [(0.1, 0.5), (0.3, 0.5), (0.3, 0.8), (0.3, 0.995)])
@pytest.mark.parametrize("task", ["instance", "panoptic"])
@pytest.mark.parametrize("name", FAMILIES)
def test_classes_of_low_score(
    name: str, task: str, given: tuple[float, float], metric: str, monkeypatch: Any
) -> None:
    """A query between threshold and mask_threshold is no segment, and spoils no other."""
    one, probs = scene(name)
    sure = (probs * 1.2).clamp(max=0.999)  # their peak is found by the official cut as well
    with_queries(one, [0.99, 0.4, 0.99], sure)
    threshold, cut = given
    arguments = {"threshold": threshold, "mask_threshold": cut}
    if task == "instance" and name in ("eomt", "eomt_dinov3", "videomt"):
        arguments = {"threshold": threshold}
    spied = spy(one, task, monkeypatch)
    (found,) = ours(one, task, metric, **arguments)
    if name in ("eomt", "eomt_dinov3", "videomt") or (name, task) == ("oneformer", "instance"):
        arguments.pop("mask_threshold", None)  # there it is no bound of scores
    (expected,) = official(one, task, **arguments)
    assert spied
    assert all(values.isfinite().all() for values in spied)
    assert labels(found) == labels(expected)
    scores = [[segment["score"] for segment in by_label(item)] for item in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=2e-5)
    for segment in found["segments_info"]:
        assert (found["segmentation"] == segment["id"]).sum() > 20


def spy(one: Case, task: str, monkeypatch: Any) -> list[Tensor]:
    """Mask logits that official methods are given from now on."""
    given: list[Tensor] = []
    import transformers

    kinds = {type(one.processor)}
    if one.name == "mask2former" and task == "panoptic":
        name = "MaskFormerImageProcessor"
        kinds.add(getattr(transformers, name + "Pil", None) or getattr(transformers, name))
    for kind in kinds:
        method = getattr(kind, f"post_process_{task}_segmentation")

        def spied(self: Any, outputs: Any, *args: Any, _to: Any = method, **more: Any) -> Any:
            given.append(fields_of(Case(one.name, None, None, outputs, []))[1])
            return _to(self, outputs, *args, **more)

        functools.update_wrapper(spied, method)
        monkeypatch.setattr(kind, f"post_process_{task}_segmentation", spied)
    return given


def test_mask2former_is_maskformer_on_a_grid() -> None:
    """The official methods are the same, but for the resize that ours has done already."""
    one = case("mask2former")
    big = F.interpolate(one.outputs.masks_queries_logits, (384, 384), mode="bilinear")
    outputs = SimpleNamespace(
        class_queries_logits=one.outputs.class_queries_logits, masks_queries_logits=big
    )
    for sizes in (None, one.sizes):
        given = {"target_sizes": sizes, "overlap_mask_area_threshold": 0.2, **LOW}
        found = segments(case("maskformer").processor, "panoptic", outputs, **given)
        expected = segments(one.processor, "panoptic", one.outputs, **given)
        for mine, theirs in zip(found, expected, strict=True):
            identical(mine, theirs)
        assert any(item["segments_info"] for item in expected)


@pytest.mark.parametrize("name", COCO)
def test_fused_classes_stay_fused(name: str) -> None:
    one, _ = scene(name)
    classes = one.outputs.logits if "detr" in name else one.outputs.class_queries_logits
    classes[0, :2] = classes[0, 0]
    (found,) = ours(one, "panoptic", label_ids_to_fuse={0}, **LOW)
    assert [segment["id"] for segment in found["segments_info"]] == [1, 1, 2]


def test_a_mask_that_is_skipped_is_no_segment() -> None:
    """Its largest probability is at most pruning_prob, so RankSEG leaves it empty."""
    for name in ("maskformer", "detr"):
        one, _ = scene(name)
        for task in ("instance", "panoptic"):
            (found,) = ours(one, task, pruning_prob=0.9, **LOW)
            assert found["segments_info"] == []


def test_without_any_segment_the_result_is_the_official_one() -> None:
    for name in FAMILIES:
        if tiny.available(name):
            one, _ = scene(name)
            for task in ("instance", "panoptic"):
                sure = {"threshold": 0.99999}
                identical(ours(one, task, **sure)[0], official(one, task, **sure)[0])


def test_without_sizes_the_models_grid_stays() -> None:
    for name in ("maskformer", "mask2former", "detr"):
        one = case(name)
        for task in ("instance", "panoptic"):
            for metric in ("acc", "dice"):
                found = ours(one, task, metric, target_sizes=None, **LOW)
                expected = official(one, task, target_sizes=None, **LOW)
                for mine, theirs in zip(found, expected, strict=True):
                    assert mine["segmentation"].shape == theirs["segmentation"].shape


def test_oneformer_things_only() -> None:
    """Class 0 is none here; the pixels that nobody claims must not need it."""
    one, probs = scene("oneformer")
    one.processor = copy.deepcopy(one.processor)
    one.processor.metadata["thing_ids"] = [1, 2]
    (found,) = ours(one, "instance", task_type="panoptic", **LOW)
    (expected,) = official(one, "instance", task_type="panoptic", **LOW)
    assert labels(found) == labels(expected) == [1, 2]
    masks = RankSEG(output_mode="multilabel")(probs[None])[0]
    for segment in found["segments_info"]:
        painted = found["segmentation"] == segment["id"]
        torch.testing.assert_close(painted, masks[segment["label_id"]], rtol=0, atol=0)


def test_oneformer_without_a_threshold() -> None:
    one, _ = scene("oneformer")
    (found,) = ours(one, "instance", is_demo=False, **LOW)
    assert len(found["segments_info"]) >= 3


def test_official_arguments_by_place() -> None:
    one, _ = scene("maskformer")
    processor = RankSEGImageProcessor.from_processor(one.processor)
    by_place = processor.post_process_panoptic_segmentation(
        one.outputs, 0.3, 0.5, 0.8, {0}, one.sizes
    )
    by_name = ours(one, "panoptic", label_ids_to_fuse={0}, **LOW)
    identical(by_place[0], by_name[0])


def test_where_the_official_cut_lies_does_not_matter() -> None:
    for name in ("detr", "videomt", "oneformer"):
        if tiny.available(name):
            one, _ = scene(name)
            (low,) = ours(one, "panoptic", mask_threshold=0.3, **LOW)
            (high,) = ours(one, "panoptic", mask_threshold=0.6, **LOW)
            torch.testing.assert_close(low["segmentation"], high["segmentation"])


# --- refusals ---------------------------------------------------------------------------------


def test_refusals() -> None:
    one, _ = scene("detr")
    with pytest.raises(ValueError, match="each of 1 images; got 2"):
        ours(one, "instance", target_sizes=[(4, 4)] * 2)
    with pytest.raises(ValueError, match="of image 0, two positive ints"):
        ours(one, "instance", target_sizes=[(4, 0)])
    with pytest.raises(TypeError, match="return_dict=True"):
        RankSEGImageProcessor(one.processor).post_process_instance_segmentation((1, 2))
    one.outputs.pred_masks[0, 0, 0, 0] = torch.nan
    for metric in ("acc", "dice"):
        with pytest.raises(ValueError, match="pred_masks of image 0 holds NaN"):
            ours(one, "instance", metric)
    eomt, _ = scene("eomt")
    with pytest.raises(ValueError, match="eomt needs target_sizes"):
        ours(eomt, "instance", target_sizes=None)
    with pytest.raises(
        ValueError, match="decided a mask at a time: solver='argmax' makes no sense"
    ):
        ours(one, "instance", solver="argmax")


def test_arguments_in_the_wrong_number() -> None:
    one, _ = scene("detr")
    processor = RankSEGImageProcessor(one.processor)
    for task in ("instance", "panoptic"):
        method = getattr(processor, f"post_process_{task}_segmentation")
        name = rf"post_process_{task}_segmentation\(outputs, threshold, .*\)"
        with pytest.raises(TypeError, match=rf"{name} needs outputs"):
            method()
        with pytest.raises(TypeError, match=rf"{name} takes \d arguments; got 9"):
            method(one.outputs, 0.5, 0.5, 0.8, None, None, 7, 8, 9)
        with pytest.raises(TypeError, match=rf"{name} got 'threshold' twice"):
            method(one.outputs, 0.5, threshold=0.3)
        with pytest.raises(TypeError, match=rf"post_process_{task}_seg.* unexpected .* 'foo'"):
            method(one.outputs, foo=1)


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_accuracy_looks_at_nothing_else(task: str) -> None:
    one, _ = scene("detr")
    processor = RankSEGImageProcessor(one.processor, metric="ACC", solver="argmax")
    found = segments(processor, task, one.outputs, target_sizes=one.sizes, **LOW)
    identical(found[0], official(one, task, **LOW)[0])


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_a_fixed_cut_is_for_masks(task: str) -> None:
    one, probs = scene("detr")
    processor = RankSEGImageProcessor(one.processor, solver="TR", threshold=0.3)
    (found,) = segments(processor, task, one.outputs, target_sizes=one.sizes, **LOW)
    for segment, mask in zip(by_label(found), probs >= 0.3, strict=True):
        assert torch.equal(found["segmentation"] == segment["id"], mask)
    with pytest.raises(ValueError, match="'TR' makes no sense with output_mode='multiclass'"):
        processor.post_process_semantic_segmentation(one.outputs)
    with pytest.raises(ValueError, match="'TR' makes no sense with output_mode='multiclass'"):
        RankSEGImageProcessor(tiny.processor("segformer"), solver="TR")


def test_sam3_instances_are_sent_to_their_own_adapter() -> None:
    one = case("sam3")
    with pytest.raises(ValueError, match=r"got outputs of sam3; .* to rankseg_integrations\.sam"):
        ours(one, "instance")
