"""The processor and the pipeline, as users call them."""

from __future__ import annotations

import copy
import inspect
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

import tiny_sam
import tiny_transformers as tiny
import transformers
from PIL import Image
from tiny_transformers import Case
from transformers import AutoImageProcessor, pipeline

from rankseg._require import pip_line
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
    with pytest.raises(ValueError, match="needs all images together"):
        RankSEGImageProcessor(own, aggregation="dataset")
    with pytest.raises(ValueError, match="needs all images together"):
        postprocess_semantic_segmentation(case("segformer").outputs, aggregation="dataset")


def test_options_of_labels_do_not_disturb_instances() -> None:
    one = case("detr")
    options = {"unassigned_policy": "void", "output_mode": "multiclass", "query_probs": "clip"}
    options |= {"class_weights": (1.0, 2.0), "pruning_prob": (0.1, 0.2), "ignore_index": 0}
    found = wrapped("detr", **options).post_process_instance_segmentation(one.outputs)
    assert len(found) == len(one.sizes)


def test_options_of_numpy_are_saved(tmp_path: Path) -> None:
    wrapped("segformer", smooth=np.float32(1.0)).save_pretrained(tmp_path)
    assert RankSEGImageProcessor.from_pretrained(tmp_path).options == {"smooth": 1.0}


@pytest.mark.parametrize("name", ["segformer", "oneformer"])
@pytest.mark.parametrize("way", ["push_to_hub", "save_pretrained"])
def test_pushed_to_the_hub(
    name: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = wrapped(name, metric="iou")
    calls = fake_hub(tmp_path / "hub", monkeypatch)
    if way == "push_to_hub":
        processor.push_to_hub("me/mine", commit_message="ours", private=True)
    else:
        given = {"repo_id": "me/mine", "commit_message": "ours", "private": True}
        processor.save_pretrained(tmp_path / "local", push_to_hub=True, **given)
        assert (tmp_path / "local" / "rankseg_config.json").exists()
    assert calls == [("me/mine", True), ("me/mine", "ours")]
    assert RankSEGImageProcessor.from_pretrained(tmp_path / "hub").options == {"metric": "iou"}


def test_a_folders_name_is_the_default_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_hub(tmp_path / "hub", monkeypatch)
    wrapped("segformer").save_pretrained(tmp_path / "mine", push_to_hub=True)
    assert [repository for repository, _ in calls] == ["mine", "mine"]


def fake_hub(hub: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Instead of the hub, a folder with what was uploaded; the calls that reached it."""
    import transformers.image_processing_base as base
    import transformers.utils.hub as official

    calls: list[tuple[str, Any]] = []
    hub.mkdir()

    def create_repo(repo_id: str, private: Any = None, **_: Any) -> Any:
        calls.append((repo_id, private))
        return SimpleNamespace(repo_id=repo_id)

    def create_commit(repo_id: str, operations: Any, commit_message: str, **_: Any) -> str:
        calls.append((repo_id, commit_message))
        for operation in operations:
            shutil.copy(operation.path_or_fileobj, hub / operation.path_in_repo)
        return "url"

    api = SimpleNamespace(create_repo=create_repo, create_commit=create_commit)
    card = SimpleNamespace(save=lambda path: Path(path).write_text("a card"))
    for module in (official, base):
        monkeypatch.setattr(module, "hf_api", lambda: api, raising=False)
        monkeypatch.setattr(module, "create_repo", create_repo, raising=False)
        monkeypatch.setattr(module, "create_commit", create_commit, raising=False)
    monkeypatch.setattr(official, "create_and_tag_model_card", lambda *_, **__: card)
    return calls


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it is no JSON"),
        ("[]", r'"processor", a class of transformers, and "options"; got \[\]'),
        ('{"options": {}}', "must hold a JSON object with"),
        (
            '{"processor": "NoSuchProcessor", "options": {"metric": "iou"}}',
            r"processor NoSuchProcessor, which transformers \d+\.\d+.* does not have; "
            r".*from_processor\(processor, metric='iou'\)",
        ),
    ],
)
def test_a_broken_file_is_said(text: str, message: str, tmp_path: Path) -> None:
    wrapped("segformer").save_pretrained(tmp_path)
    (tmp_path / "rankseg_config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        RankSEGImageProcessor.from_pretrained(tmp_path)


def test_a_class_of_ones_own_is_loaded_by_hand(tmp_path: Path) -> None:
    custom = type("Custom", (type(tiny.processor("segformer")),), {})
    RankSEGImageProcessor(custom()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="saved with the processor Custom, which transformers"):
        RankSEGImageProcessor.from_pretrained(tmp_path)


def test_what_is_no_processor_is_refused_at_once() -> None:
    wrong: list[tuple[Any, type[Exception], str]] = [
        (None, TypeError, "must have post_process_semantic_segmentation, .*got NoneType"),
        ("nvidia/segformer", TypeError, r"got 'nvidia/segformer': .*from_pretrained"),
        (tiny.processor("clipseg"), TypeError, r"CLIPSeg, use the function postprocess_semantic_"),
        (tiny.processor("seggpt"), ValueError, "colours of a painted picture"),
        (
            segmenter("segformer", tiny.processor("segformer")),
            TypeError,
            "got ImageSegmentationPipeline: pass its image_processor, a Segformer",
        ),
    ]
    for thing, error, message in wrong:
        with pytest.raises(error, match=message):
            RankSEGImageProcessor.from_processor(thing)


@pytest.mark.parametrize("family", ["sam", "sam_hq", "sam2", "sam3_tracker", "edgetam"])
def test_processors_of_sam_are_sent_to_their_adapter(family: str) -> None:
    if not tiny.available(family):
        pytest.skip(f"the installed transformers has no {family}")
    prompted = tiny_sam.build(transformers, family)
    with pytest.raises(ValueError, match=r"not served here: .*use rankseg_integrations\.sam"):
        RankSEGImageProcessor(prompted.processor)


def test_arguments_of_the_semantic_method() -> None:
    one = case("segformer")
    processor = wrapped("segformer")
    method = processor.post_process_semantic_segmentation
    assert len(method(outputs=one.outputs)) == 2
    own = "post_process_semantic_segmentation"
    with pytest.raises(TypeError, match=rf"^{own} takes no argument 'metric' here; it takes"):
        method(one.outputs, metric="iou")
    with pytest.raises(TypeError, match=rf"^{own}\(outputs, target_sizes.*\) needs outputs"):
        method()
    with pytest.raises(TypeError, match=rf"^{own}\(.*got 'target_sizes' twice"):
        method(one.outputs, one.sizes, target_sizes=one.sizes)
    with pytest.raises(TypeError, match=rf"^{own}\(.*got 7 of them by position"):
        method(one.outputs, one.sizes, 1, 2, 3, 4, 5)


@pytest.mark.parametrize("name", ["eomt", "eomt_dinov3"])
def test_eomts_size(name: str) -> None:
    one = case(name)
    size = {"shortest_edge": 32, "longest_edge": 32}
    processor, official = wrapped(name, metric="acc"), one.processor
    expected = postprocess_semantic_segmentation(
        one.outputs, processor=official, target_sizes=one.sizes, size=size, metric="acc"
    )
    by_place = processor.post_process_semantic_segmentation(one.outputs, one.sizes, size)
    torch.testing.assert_close(by_place, expected, rtol=0, atol=0)
    if (
        "return_segmentation_scores"
        not in inspect.signature(official.post_process_semantic_segmentation).parameters
    ):
        return
    given = {"size": size, "return_segmentation_scores": True}
    for found, wanted in zip(
        processor.post_process_semantic_segmentation(
            one.outputs, target_sizes=torch.tensor(one.sizes), **given
        ),
        official.post_process_semantic_segmentation(one.outputs, one.sizes, **given),
        strict=True,
    ):
        torch.testing.assert_close(
            found.segmentation_scores, wanted.segmentation_scores, rtol=0, atol=0
        )


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
        assert found
        assert all(np.array(item["mask"]).any() for item in found)


@pytest.mark.parametrize("name", ["segformer", "mask2former"])
@pytest.mark.parametrize("kind", [None, RankSEGPipeline])
def test_pipelines_have_no_multilabel(name: str, kind: Any) -> None:
    processor = wrapped(name, output_mode="multilabel")
    more = {} if kind is None else {"pipeline_class": kind}
    segment = segmenter(name, processor, **more)
    with pytest.raises(ValueError, match="one label a pixel; got output_mode='multilabel'"):
        segment(Image.fromarray(tiny.pictures()[0]), subtask="semantic")


@pytest.mark.parametrize("void", [{}, {"void_index": -1}])
def test_void_pixels_are_in_no_segment(void: dict[str, int]) -> None:
    options = {"unassigned_policy": "void", "pruning_prob": 0.9, **void}
    one = case("segformer")
    picture = Image.fromarray(tiny.pictures()[0])
    # The tiny model's own probabilities are all alike: those of `case` are spread.
    fields = {"logits": one.outputs.logits[:1], "target_size": one.sizes[:1]}
    segment = segmenter("segformer", one.processor, pipeline_class=RankSEGPipeline, **options)
    (labels,) = postprocess_semantic_segmentation(
        {"logits": fields["logits"]}, target_sizes=one.sizes[:1], **options
    )
    nobody = labels == void.get("void_index", 255)
    assert nobody.any()
    assert not nobody.all()
    found = segment.postprocess(dict(fields), **segment._postprocess_params)
    assert {item["label"] for item in found} == {f"LABEL_{i}" for i in labels[~nobody].unique()}
    covered = np.any([np.array(item["mask"]) > 0 for item in found], axis=0)
    np.testing.assert_array_equal(covered, ~nobody.numpy())
    assert segment(picture) == []
    plain = segmenter("segformer", RankSEGImageProcessor(one.processor, **options))
    with pytest.raises(ValueError, match=r"no name for void pixels.*RankSEGPipeline"):
        plain(picture)


def test_wrong_options_are_refused_when_the_pipeline_is_made() -> None:
    own = case("segformer").processor
    with pytest.raises(ValueError, match="metric must be one of"):
        segmenter("segformer", own, pipeline_class=RankSEGPipeline, metric="f1")
    with pytest.raises(TypeError, match="CLIPSeg, use the function"):
        segmenter("segformer", tiny.processor("clipseg"), pipeline_class=RankSEGPipeline)


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
    assert pip_line("transformers") in done.stderr.splitlines()[-1]
