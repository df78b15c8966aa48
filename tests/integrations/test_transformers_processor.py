"""The processor and the pipeline, as users call them."""

from __future__ import annotations

import copy
import inspect
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

import tiny_transformers as tiny
from PIL import Image
from tiny_transformers import Case
from transformers import AutoImageProcessor, pipeline

from rankseg_integrations.transformers import (
    RankSEGImageProcessor,
    RankSEGPipeline,
    postprocess_semantic_segmentation,
)

ROOT = Path(__file__).parents[2]
TASKS = (
    *(("segformer", subtask) for subtask in (None, "semantic")),
    *(
        (name, subtask)
        for name in ("mask2former", "maskformer", "detr", "eomt")
        for subtask in (None, "semantic", "instance", "panoptic")
    ),
)


def case(name: str) -> Case:
    if not tiny.available(name):
        pytest.skip(f"the installed transformers has no {name}")
    return tiny.case(name)


def wrapped(name: str, **options: Any) -> RankSEGImageProcessor:
    return RankSEGImageProcessor.from_processor(case(name).processor, **options)


# --- the processor ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["segformer", "mask2former", "sam3", "videomt"])
def test_the_processor_decides_as_the_function_does(name: str) -> None:
    one = case(name)
    options = {"metric": "iou", "pruning_prob": 0.1}
    found = wrapped(name, **options).post_process_semantic_segmentation(one.outputs, one.sizes)
    expected = postprocess_semantic_segmentation(
        one.outputs, processor=one.processor, target_sizes=one.sizes, **options
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_ours_tells_the_family_as_well() -> None:
    one = case("mask2former")
    fields = {name: one.outputs[name] for name in ("class_queries_logits", "masks_queries_logits")}
    found, expected = (
        postprocess_semantic_segmentation(fields, processor=processor, target_sizes=one.sizes)
        for processor in (wrapped("mask2former"), one.processor)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_everything_else_is_the_official_processor() -> None:
    own = tiny.processor("segformer")
    processor = RankSEGImageProcessor.from_processor(own)
    images = tiny.pictures()
    torch.testing.assert_close(
        processor(images, return_tensors="pt")["pixel_values"],
        own(images, return_tensors="pt")["pixel_values"],
    )
    assert processor.image_mean == own.image_mean
    processor.image_mean = [0.0, 0.0, 0.0]
    assert own.image_mean == [0.0, 0.0, 0.0]
    assert not hasattr(processor, "post_process_panoptic_segmentation")
    assert hasattr(wrapped("mask2former"), "post_process_panoptic_segmentation")
    with pytest.raises(AttributeError, match="no_such"):
        _ = processor.no_such
    again = RankSEGImageProcessor.from_processor(processor, metric="iou")
    assert again.processor is own
    assert repr(again) == f"RankSEGImageProcessor({type(own).__name__}(...), metric='iou')"


def test_scores_come_from_the_official_code() -> None:
    one = case("segformer")
    processor = wrapped("segformer", pruning_prob=0.0)
    official = one.processor.post_process_semantic_segmentation
    if "return_segmentation_scores" not in inspect.signature(official).parameters:
        pytest.skip("this transformers does not return scores")
    given = {"target_sizes": one.sizes, "return_segmentation_scores": True}
    for found, labels, expected in zip(
        processor.post_process_semantic_segmentation(one.outputs, **given),
        processor.post_process_semantic_segmentation(one.outputs, one.sizes),
        official(one.outputs, **given),
        strict=True,
    ):
        torch.testing.assert_close(found.segmentation, labels, rtol=0, atol=0)
        assert not torch.equal(labels, expected.segmentation)
        torch.testing.assert_close(found.segmentation_scores, expected.segmentation_scores)


@pytest.mark.parametrize("name", [*tiny.DENSE, "mask2former", "oneformer", "detr", "videomt"])
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    processor = wrapped(name, metric="iou", smooth=1.0, query_probs="clip")
    processor.save_pretrained(tmp_path)
    loaded = RankSEGImageProcessor.from_pretrained(tmp_path)
    assert loaded.options == {"metric": "iou", "smooth": 1.0, "query_probs": "clip"}
    assert type(loaded.processor) is type(processor.processor)
    assert dict(loaded.size) == dict(processor.size)
    one = case(name)
    torch.testing.assert_close(
        loaded.post_process_semantic_segmentation(one.outputs, one.sizes),
        processor.post_process_semantic_segmentation(one.outputs, one.sizes),
        rtol=0,
        atol=0,
    )


def test_the_official_processor_still_loads(tmp_path: Path) -> None:
    wrapped("segformer").save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = AutoImageProcessor.from_pretrained(tmp_path)
    assert "Segformer" in type(plain).__name__
    assert json.loads((tmp_path / "rankseg_config.json").read_text())["options"] == {}


def test_what_was_not_saved_is_said(tmp_path: Path) -> None:
    tiny.processor("segformer").save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"has no rankseg_config\.json.*from_processor"):
        RankSEGImageProcessor.from_pretrained(tmp_path)


def test_copies_and_pickles() -> None:
    processor = wrapped("segformer", metric="iou")
    for again in (copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))):
        assert again.options == {"metric": "iou"}
        assert again.size == processor.size


def test_wrong_options_are_refused_at_once() -> None:
    own = tiny.processor("segformer")
    with pytest.raises(ValueError, match="metric must be one of"):
        RankSEGImageProcessor(own, metric="f1")
    with pytest.raises(ValueError, match="no parameter 'sizes'"):
        RankSEGImageProcessor(own, sizes=1)
    with pytest.raises(ValueError, match="query_probs must be one of"):
        RankSEGImageProcessor(own, query_probs="sum")


def test_options_of_labels_do_not_disturb_instances() -> None:
    one = case("detr")
    options = {"unassigned_policy": "void", "output_mode": "multiclass", "query_probs": "clip"}
    found = wrapped("detr", **options).post_process_instance_segmentation(one.outputs)
    assert len(found) == len(one.sizes)


# --- the pipeline -----------------------------------------------------------------------------


def segmenter(name: str, processor: Any, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipeline("image-segmentation", tiny.model(name), image_processor=processor, **more)


def arguments(name: str, subtask: str | None) -> dict[str, Any]:
    given: dict[str, Any] = {} if subtask is None else {"subtask": subtask}
    return given if name == "segformer" else given | {"threshold": 0.05}


def same(found: list[Any], expected: list[Any]) -> bool:
    return len(found) == len(expected) and all(
        one["label"] == other["label"]
        and one["score"] == other["score"]
        and np.array_equal(one["mask"], other["mask"])
        for one, other in zip(found, expected, strict=True)
    )


@pytest.mark.filterwarnings("ignore:The following named arguments")
@pytest.mark.parametrize(("name", "subtask"), TASKS)
def test_pipelines_with_accuracy_are_the_official_one(name: str, subtask: str | None) -> None:
    own = case(name).processor
    picture = Image.fromarray(tiny.pictures()[0])
    given = arguments(name, subtask)
    if name == "eomt" and subtask == "semantic":
        found = segmenter(name, own, pipeline_class=RankSEGPipeline)(picture, **given)
        assert found, "older official processors fail here"
        return
    expected = segmenter(name, own)(picture, **given)
    by_processor = segmenter(name, RankSEGImageProcessor(own, metric="acc"))
    assert same(by_processor(picture, **given), expected)
    by_class = segmenter(name, own, pipeline_class=RankSEGPipeline)
    assert same(by_class(picture, metric="acc", **given), expected)


def test_the_metric_is_chosen_for_each_call() -> None:
    one = case("segformer")
    segment = segmenter("segformer", one.processor, pipeline_class=RankSEGPipeline)
    pictures = [Image.fromarray(picture) for picture in tiny.pictures()]
    for options in ({"metric": "acc"}, {"metric": "dice", "pruning_prob": 0.0}, {}):
        for found, picture in zip(segment(pictures, **options), pictures, strict=True):
            inputs = one.processor(picture, return_tensors="pt")
            with torch.no_grad():
                outputs = one.model(**inputs)
            (labels,) = postprocess_semantic_segmentation(
                outputs, target_sizes=[picture.size[::-1]], **options
            )
            masks = {item["label"]: np.array(item["mask"]) > 0 for item in found}
            assert masks.keys() == {f"LABEL_{int(label)}" for label in labels.unique()}
            for label, mask in masks.items():
                np.testing.assert_array_equal(mask, labels == int(label.removeprefix("LABEL_")))


def test_options_when_it_is_made_are_defaults_for_calls() -> None:
    own = case("segformer").processor
    picture = Image.fromarray(tiny.pictures()[0])
    official = segmenter("segformer", own)(picture)
    made = segmenter("segformer", own, pipeline_class=RankSEGPipeline, metric="acc")
    assert same(made(picture), official)
    by_processor = segmenter(
        "segformer", RankSEGImageProcessor(own, metric="acc"), pipeline_class=RankSEGPipeline
    )
    by_call = segmenter("segformer", own, pipeline_class=RankSEGPipeline)
    assert same(by_processor(picture), official)
    assert not same(by_call(picture), official)
    assert same(by_processor(picture, metric="dice"), by_call(picture))


def test_the_pipeline_refuses_what_it_does_not_know() -> None:
    own = case("segformer").processor
    segment = segmenter("segformer", own, pipeline_class=RankSEGPipeline)
    with pytest.raises(ValueError, match="metric must be one of"):
        segment(Image.fromarray(tiny.pictures()[0]), metric="f1")
    with pytest.raises(TypeError, match="takes no argument 'metrics'"):
        segment(Image.fromarray(tiny.pictures()[0]), metrics="dice")


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize(
    ("name", "subtask"),
    [
        *((name, "panoptic") for name in ("maskformer", "mask2former", "oneformer", "detr")),
        *(("detr", "instance"), ("oneformer", "instance")),
    ],
)
def test_soft_scores_in_a_pipeline(name: str, subtask: str, metric: str) -> None:
    """Scores between threshold and mask_threshold once left nothing of the result."""
    one = case(name)
    segment = segmenter(name, one.processor, pipeline_class=RankSEGPipeline)
    fields = {key: value for key, value in one.outputs.items() if torch.is_tensor(value)}
    for index, size in enumerate(one.sizes):
        outputs = {key: value[index : index + 1] for key, value in fields.items()}
        given = {"subtask": subtask, "threshold": 0.3, "overlap_mask_area_threshold": 0.0}
        found = segment.postprocess(
            {**outputs, "target_size": [size]}, rankseg_metric=metric, **given
        )
        assert len(found) >= 2
        assert all(np.array(item["mask"]).any() for item in found)


def test_oneformer_gets_its_task() -> None:
    one = case("oneformer")
    processor = wrapped("oneformer")
    found = processor.post_process_semantic_segmentation(one.outputs, target_sizes=one.sizes)
    assert [tuple(labels.shape) for labels in found] == one.sizes


# --- without transformers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        "from rankseg_integrations.transformers import RankSEGPipeline",
        "import torch; from rankseg_integrations.transformers import restore_semantic_probs as r; "
        "r({'logits': torch.zeros(1, 2, 4, 4)})",
    ],
)
def test_a_missing_transformers_is_said_in_one_line(use: str, tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['transformers'] = None; "
    done = subprocess.run(
        [sys.executable, "-c", hidden + use],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert 'pip install "rankseg[transformers]"' in done.stderr.splitlines()[-1]
