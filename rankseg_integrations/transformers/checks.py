"""Refusals at the door of the processor, and of pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rankseg_integrations.transformers.families import field, refusal

TASKS = ("semantic", "instance", "panoptic")


def method_name(task: str) -> str:
    """Name of the official method for a task."""
    return f"post_process_{task}_segmentation"


def check_processor(processor: Any) -> None:
    """Refuse what has no methods that RankSEG could take the place of, and say what to use."""
    kind = type(processor).__name__
    if isinstance(processor, (str, Path)):
        raise TypeError(
            f"processor must be an image processor, not the name of one; got {str(processor)!r}: "
            "pass AutoImageProcessor.from_pretrained(...), or use from_pretrained here"
        )
    refused = refusal(processor)
    if refused:
        raise ValueError(f"{kind} is not served here: {refused}")
    if not any(hasattr(processor, method_name(task)) for task in TASKS):
        inner = getattr(processor, "image_processor", None)
        advice = (
            f"pass its image_processor, a {type(inner).__name__}"
            if any(hasattr(inner, method_name(task)) for task in TASKS)
            else "for a model without such a processor, as CLIPSeg, use the function "
            "postprocess_semantic_segmentation(outputs, ...)"
        )
        raise TypeError(
            "processor must have post_process_semantic_segmentation, or its instance or panoptic "
            f"sister; got {kind}: {advice}"
        )


def check_shown(outputs: Any, decided: list[Tensor], void_index: int | None) -> None:
    """Refuse what the official pipeline, which calls with ``target_size``, cannot show.

    `void_index` is the label that has no name; None where there is none.
    """
    if field(outputs, "target_size") is None:
        return
    if any(found.dtype == torch.bool for found in decided):
        raise ValueError(
            "pipelines show one label a pixel; got output_mode='multilabel': for one mask a class "
            "call processor, model and processor.post_process_semantic_segmentation yourself"
        )
    if void_index is not None and any((found == void_index).any() for found in decided):
        raise ValueError(
            f"the official pipeline has no name for void pixels (void_index={void_index}); use "
            "pipeline_class=RankSEGPipeline, which leaves them out of the segments"
        )
