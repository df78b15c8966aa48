"""The ``sam2`` package: its predictor and its mask generator take the threshold as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_sam import SIZE, image, sam2_package

from rankseg import RankSEG
from rankseg_integrations.sam import RankSEGThreshold

predictors = pytest.importorskip("sam2.sam2_image_predictor")
generators = pytest.importorskip("sam2.automatic_mask_generator")
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")  # sam2 0 to 1.1 scripts

HEIGHT, WIDTH = 48, 80
POINTS = {"point_coords": np.array([[40, 20], [11, 30]]), "point_labels": np.array([1, 0])}
BOX = {"box": np.array([10, 5, 60, 40])}
BOXES = {"box": np.array([[10, 5, 60, 40], [0, 0, 30, 30]])}
MASK = np.random.default_rng(0).normal(size=(1, SIZE // 4, SIZE // 4)).astype(np.float32)
PROMPTS = pytest.mark.parametrize(
    "prompt",
    [POINTS, BOX, BOXES, {**POINTS, "mask_input": MASK}],
    ids=["points", "box", "boxes", "mask"],
)


@pytest.fixture(scope="module")
def sam2() -> Any:
    return sam2_package()


def tiny(predictor: Any) -> Any:
    """Tell a predictor of the feature sizes, which it knows for 1024 pixels only."""
    predictor._bb_feat_sizes = [(SIZE // step, SIZE // step) for step in (4, 8, 16)]
    return predictor


def with_image(sam2: Any, **options: Any) -> Any:
    predictor = tiny(predictors.SAM2ImagePredictor(sam2, **options))
    predictor.set_image(image(HEIGHT, WIDTH))
    return predictor


def best(logits: np.ndarray[Any, Any], metric: str = "dice") -> np.ndarray[Any, Any]:
    rows = torch.from_numpy(logits).double().sigmoid().reshape(-1, 1, *logits.shape[-2:])
    return RankSEG(metric, "multilabel")(rows).reshape(logits.shape).numpy()


@PROMPTS
@pytest.mark.parametrize("cut", [0.0, -0.7])
def test_with_accuracy_everything_is_the_librarys(
    sam2: Any, prompt: dict[str, Any], cut: float
) -> None:
    expected = with_image(sam2, mask_threshold=cut).predict(**prompt)
    threshold = RankSEGThreshold("acc", mask_threshold=cut)
    for mine, its in zip(
        with_image(sam2, mask_threshold=threshold).predict(**prompt), expected, strict=True
    ):
        assert mine.dtype == its.dtype == np.float32
        np.testing.assert_array_equal(mine, its)
    assert 0 < expected[0].sum() < expected[0].size


@PROMPTS
@pytest.mark.parametrize("several", [True, False], ids=["multimask", "single"])
def test_masks_are_decided_and_stay_float32(
    sam2: Any, prompt: dict[str, Any], several: bool
) -> None:
    logits, scores, low = with_image(sam2).predict(
        **prompt, multimask_output=several, return_logits=True
    )
    predictor = with_image(sam2, mask_threshold=RankSEGThreshold("dice"))
    found = predictor.predict(**prompt, multimask_output=several)
    assert found[0].dtype == np.float32
    for mine, its in zip(found, (best(logits).astype(np.float32), scores, low), strict=True):
        np.testing.assert_array_equal(mine, its)
    assert found[0].sum() > (logits > 0).sum()
    again = predictor.predict(**prompt, multimask_output=several, return_logits=True)
    np.testing.assert_array_equal(again[0], logits)


def test_batches_of_images(sam2: Any) -> None:
    images = [image(HEIGHT, WIDTH), image(30, 40)]
    masks = {}
    for threshold in (0.0, RankSEGThreshold("acc"), RankSEGThreshold("dice")):
        predictor = tiny(predictors.SAM2ImagePredictor(sam2, mask_threshold=threshold))
        predictor.set_image_batch(images)
        boxes = [BOX["box"], np.array([[3, 3, 20, 20], [1, 5, 30, 28]])]
        found, _, _ = predictor.predict_batch(box_batch=boxes)
        masks[str(threshold)] = found
    plain, acc, dice = masks.values()
    assert [mask.shape for mask in dice] == [(3, HEIGHT, WIDTH), (2, 3, 30, 40)]
    for mine, its, decided in zip(acc, plain, dice, strict=True):
        np.testing.assert_array_equal(mine, its)
        assert decided.sum() > its.sum()


def test_holes_are_filled_by_the_same_cut(sam2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filling holes asks ``logits <= threshold``, too; its CUDA kernel is replaced by a count."""
    asked = []

    def components(background: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(background)
        area = background.sum((-2, -1), keepdim=True).expand_as(background)
        return background.int(), area

    monkeypatch.setattr("sam2.utils.misc.get_connected_components", components)
    areas = {"max_hole_area": 150, "max_sprinkle_area": 5}
    expected = with_image(sam2, **areas).predict(**POINTS)
    official = asked.copy()
    asked.clear()
    found = with_image(sam2, mask_threshold=RankSEGThreshold("acc"), **areas).predict(**POINTS)
    assert len(asked) == len(official) == 2
    for mine, its in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, its)
    assert expected[0].sum() != with_image(sam2).predict(**POINTS)[0].sum(), "nothing was filled"


def generate(sam2: Any, **options: Any) -> list[dict[str, Any]]:
    lax = {"points_per_side": 4, "points_per_batch": 5, "pred_iou_thresh": 0.4}
    generator = generators.SAM2AutomaticMaskGenerator(
        sam2, **{**lax, "stability_score_thresh": 0.4, **options}
    )
    tiny(generator.predictor)
    return generator.generate(image(HEIGHT, WIDTH))


@pytest.mark.parametrize(
    "options",
    [{}, {"crop_n_layers": 1}, {"use_m2m": True, "stability_score_thresh": 0.0}],
    ids=["plain", "crops", "m2m"],
)
def test_the_generator_with_accuracy_is_the_librarys(sam2: Any, options: dict[str, Any]) -> None:
    expected = generate(sam2, **options)
    found = generate(sam2, mask_threshold=RankSEGThreshold("acc"), **options)
    assert len(found) == len(expected) > 0
    for mine, its in zip(found, expected, strict=True):
        np.testing.assert_equal(mine, its)


def test_the_generator_filters_as_before_and_cuts_with_rankseg(sam2: Any) -> None:
    expected = generate(sam2, box_nms_thresh=1.0)
    found = generate(sam2, box_nms_thresh=1.0, mask_threshold=RankSEGThreshold())
    assert 1 < len(found) == len(expected) < 48
    for mine, its in zip(found, expected, strict=True):
        for name in ("predicted_iou", "point_coords", "stability_score", "crop_box"):
            assert mine[name] == its[name]
        assert mine["area"] == mine["segmentation"].sum() >= its["area"]
    assert any(mine["area"] > its["area"] for mine, its in zip(found, expected, strict=True))
