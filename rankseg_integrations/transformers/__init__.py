"""Hugging Face transformers: processor -> model -> outputs -> the mask with the best score.

``postprocess_semantic_segmentation(outputs, metric="dice")`` takes the place of a processor's
``post_process_semantic_segmentation``, ``RankSEGImageProcessor`` that of a processor, and
``RankSEGPipeline`` that of the pipeline. docs/hugging-face.md has the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankseg_integrations.transformers.processor import RankSEGImageProcessor
from rankseg_integrations.transformers.semantic import (
    postprocess_semantic_segmentation,
    restore_semantic_probs,
)

if TYPE_CHECKING:
    from rankseg_integrations.transformers.pipeline import RankSEGPipeline

__all__ = [
    "RankSEGImageProcessor",
    "RankSEGPipeline",
    "postprocess_semantic_segmentation",
    "restore_semantic_probs",
]


def __getattr__(name: str) -> Any:
    """Import the pipeline when it is asked for: its base class needs transformers."""
    if name != "RankSEGPipeline":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rankseg_integrations.transformers.pipeline import RankSEGPipeline

    return RankSEGPipeline
