"""The original ``segment_anything``: its predictor and its mask generator, decided by RankSEG."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_sam import SIZE, image, original_sam
from torch import Tensor

from rankseg import RankSEG
from rankseg_integrations.sam import RankSEGThreshold

segment_anything = pytest.importorskip("segment_anything")
from rankseg_integrations.sam import RankSEGSamPredictor  # noqa: E402  # needs the guest

HEIGHT, WIDTH = 48, 80
POINTS = {"point_coords": np.array([[40, 20], [11, 30]]), "point_labels": np.array([1, 0])}
BOX = {"box": np.array([10, 5, 60, 40])}


@pytest.fixture(scope="module")
def sam() -> Any:
    return original_sam()


def with_image(predictor: Any) -> Any:
    predictor.set_image(image(HEIGHT, WIDTH))
    return predictor


def best(logits: Tensor, metric: str = "dice") -> Tensor:
    """What the core decides on the probabilities of each mask."""
    rows = logits.double().sigmoid().reshape(-1, 1, *logits.shape[-2:])
    return RankSEG(metric, "multilabel")(rows).reshape(logits.shape)


def prompts() -> list[dict[str, Any]]:
    mask = np.random.default_rng(0).normal(size=(1, SIZE // 4, SIZE // 4)).astype(np.float32)
    return [POINTS, BOX, {**POINTS, **BOX}, {**POINTS, "mask_input": mask}]


IDS = ["points", "box", "both", "mask"]


# --- the predictor ---------------------------------------------------------------------------


@pytest.mark.parametrize("several", [True, False], ids=["multimask", "single"])
@pytest.mark.parametrize("prompt", prompts(), ids=IDS)
def test_with_accuracy_everything_is_the_originals(
    sam: Any, prompt: dict[str, Any], several: bool
) -> None:
    ours = with_image(RankSEGSamPredictor(sam, metric="acc"))
    theirs = with_image(segment_anything.SamPredictor(sam))
    expected = theirs.predict(**prompt, multimask_output=several)
    found = ours.predict(**prompt, multimask_output=several)
    assert expected[0].shape == (3 if several else 1, HEIGHT, WIDTH)
    assert 0 < expected[0].sum() < expected[0].size
    for mine, its in zip(found, expected, strict=True):
        assert mine.dtype == its.dtype
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("several", [True, False], ids=["multimask", "single"])
@pytest.mark.parametrize("prompt", prompts(), ids=IDS)
def test_masks_are_decided_on_the_originals_logits(
    sam: Any, prompt: dict[str, Any], several: bool
) -> None:
    theirs = with_image(segment_anything.SamPredictor(sam))
    logits, scores, low = theirs.predict(**prompt, multimask_output=several, return_logits=True)
    masks, *rest = with_image(RankSEGSamPredictor(sam)).predict(**prompt, multimask_output=several)
    np.testing.assert_array_equal(masks, best(torch.from_numpy(logits)).numpy())
    assert masks.sum() > (logits > 0).sum()
    for mine, its in zip(rest, (scores, low), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_logits_come_back_unchanged(sam: Any) -> None:
    found = with_image(RankSEGSamPredictor(sam)).predict(**POINTS, return_logits=True)
    theirs = with_image(segment_anything.SamPredictor(sam))
    for mine, its in zip(found, theirs.predict(**POINTS, return_logits=True), strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("metric", ["acc", "iou"])
def test_batches_of_tensors(sam: Any, metric: str) -> None:
    boxes = torch.tensor([[10.0, 5, 60, 40], [0, 0, 30, 30], [40, 10, 64, 38]])
    ours = with_image(RankSEGSamPredictor(sam, metric))
    theirs = with_image(segment_anything.SamPredictor(sam))
    logits, scores, low = theirs.predict_torch(None, None, boxes, return_logits=True)
    expected = logits > 0 if metric == "acc" else best(logits, metric)
    found = ours.predict_torch(None, None, boxes)
    assert found[0].shape == (3, 3, HEIGHT, WIDTH)
    for mine, its in zip(found, (expected, scores, low), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0)


def test_options_reach_the_threshold(sam: Any) -> None:
    predictor = with_image(RankSEGSamPredictor(sam, "iou", temperature=3.0))
    logits, *_ = predictor.predict(**POINTS, return_logits=True)
    masks, *_ = predictor.predict(**POINTS)
    np.testing.assert_array_equal(masks, best(torch.from_numpy(logits) / 3, "iou").numpy())
    with pytest.raises(ValueError, match="no parameter 'size'"):
        RankSEGSamPredictor(sam, size=3)


def test_a_models_own_threshold_is_kept(sam: Any) -> None:
    other = original_sam()
    other.mask_threshold = 1.25
    expected = with_image(segment_anything.SamPredictor(other)).predict(**POINTS)
    found = with_image(RankSEGSamPredictor(other, "acc")).predict(**POINTS)
    np.testing.assert_array_equal(found[0], expected[0])
    zero = with_image(RankSEGSamPredictor(sam, "acc")).predict(**POINTS)
    assert (found[0] != zero[0]).any()
    logits, *_ = with_image(segment_anything.SamPredictor(other)).predict(
        **POINTS, return_logits=True
    )
    masks, *_ = with_image(RankSEGSamPredictor(other)).predict(**POINTS)
    np.testing.assert_array_equal(masks, best(torch.from_numpy(logits) - 1.25).numpy())


def test_the_model_is_shared_and_left_as_it_is() -> None:
    model = original_sam()
    predictor = RankSEGSamPredictor(model)
    assert model.mask_threshold == 0.0
    assert "mask_threshold" not in vars(model)
    model.double()  # as .to(device) does, this replaces buffers and the data of parameters
    assert predictor.model.pixel_mean.dtype == torch.float64
    mine, its = predictor.model.parameters(), model.parameters()
    assert all(a is b for a, b in zip(mine, its, strict=True))


def test_a_predictor_on_the_model_of_another(sam: Any) -> None:
    first = RankSEGSamPredictor(sam, "dice")
    second = with_image(RankSEGSamPredictor(first.model, "acc"))
    expected = with_image(segment_anything.SamPredictor(sam)).predict(**POINTS)
    np.testing.assert_array_equal(second.predict(**POINTS)[0], expected[0])


def test_the_model_alone_with_a_threshold() -> None:
    model = original_sam()
    batch = {
        "image": torch.from_numpy(image(HEIGHT, SIZE)).permute(2, 0, 1).float(),
        "original_size": (30, 40),
        "boxes": torch.tensor([[10.0, 5, 60, 40], [0, 0, 30, 30]]),
    }
    (before,) = model([batch], multimask_output=True)
    model.mask_threshold = RankSEGThreshold("acc")
    (after,) = model([batch], multimask_output=True)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    model.mask_threshold = RankSEGThreshold("dice")
    (after,) = model([batch], multimask_output=True)
    assert after["masks"].shape == (2, 3, 30, 40)
    assert after["masks"].sum() > before["masks"].sum()


# --- the mask generator ----------------------------------------------------------------------


def generator(sam: Any, **options: Any) -> Any:
    """Thresholds under which random weights keep some masks and lose some."""
    lax = {"points_per_side": 4, "points_per_batch": 5, "pred_iou_thresh": -0.1}
    return segment_anything.SamAutomaticMaskGenerator(
        sam, **{**lax, "stability_score_thresh": 0.5, **options}
    )


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected) > 0
    for mine, its in zip(found, expected, strict=True):
        assert mine.keys() == its.keys()
        np.testing.assert_equal(mine, its)


@pytest.mark.parametrize(
    "options",
    [{}, {"crop_n_layers": 1}, {"output_mode": "uncompressed_rle"}, {"box_nms_thresh": 1.0}],
    ids=["plain", "crops", "rle", "duplicates"],
)
def test_the_generator_with_accuracy_is_the_originals(sam: Any, options: dict[str, Any]) -> None:
    expected = generator(sam, **options).generate(image(HEIGHT, WIDTH))
    ours = generator(sam, **options)
    ours.predictor = RankSEGSamPredictor(sam, "acc")
    same(ours.generate(image(HEIGHT, WIDTH)), expected)


def test_the_generator_filters_as_before_and_cuts_with_rankseg(sam: Any) -> None:
    """Without the removal of duplicates, so that every survivor of the filters is seen."""
    expected = generator(sam, box_nms_thresh=1.0).generate(image(HEIGHT, WIDTH))
    assert 1 < len(expected) < 48, "the filters must keep some of 16 points' 3 masks"
    ours = generator(sam, box_nms_thresh=1.0)
    ours.predictor = RankSEGSamPredictor(sam, "dice")
    found = ours.generate(image(HEIGHT, WIDTH))
    kept = ("predicted_iou", "point_coords", "stability_score", "crop_box")
    same([{k: m[k] for k in kept} for m in found], [{k: m[k] for k in kept} for m in expected])

    predictor = with_image(segment_anything.SamPredictor(sam))
    for mask in found:
        logits, scores, _ = predictor.predict(
            np.array(mask["point_coords"]), np.array([1]), return_logits=True
        )
        which = np.abs(scores - mask["predicted_iou"]).argmin()
        decided = best(torch.from_numpy(logits[which])).numpy()
        # Its points are predicted in batches, which rounds the logits: pixels at the cut may flip.
        assert (mask["segmentation"] != decided).mean() < 0.002
        assert mask["area"] == mask["segmentation"].sum()
        columns = np.flatnonzero(mask["segmentation"].any(0))
        assert mask["bbox"][0] == columns[0]
    areas = [sum(mask["area"] for mask in masks) for masks in (found, expected)]
    assert areas[0] > areas[1]


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [torch.nn.Linear(2, 2), None, "vit_b"], ids=["nn", "none", "str"])
def test_another_model_is_refused(model: Any) -> None:
    with pytest.raises(
        TypeError, match=r"segment_anything model .*SAM2ImagePredictor.*postprocess_masks"
    ):
        RankSEGSamPredictor(model)


def test_logits_that_are_nan_are_refused() -> None:
    model = original_sam()
    for values in model.mask_decoder.output_hypernetworks_mlps[0].parameters():
        values.data.fill_(torch.nan)
    for metric in ("acc", "dice"):
        with pytest.raises(ValueError, match="NaN"):
            with_image(RankSEGSamPredictor(model, metric)).predict(**POINTS, multimask_output=False)


def test_the_threshold_comes_with_the_model() -> None:
    with pytest.raises(
        ValueError, match=r"mask_threshold is read from the model: leave .*=0\.5 out"
    ):
        RankSEGSamPredictor(original_sam(), mask_threshold=0.5)
    with pytest.raises(ValueError, match="activation='softmax' out"):
        RankSEGSamPredictor(original_sam(), activation="softmax")
