"""SAM: the masks of segment-anything models, with the largest expected Dice or IoU.

Every SAM library turns mask logits into masks by comparing them with a ``mask_threshold``.
`RankSEGThreshold` takes that number's place: each mask then gets the cut that is best for it. The
other names are conveniences on top: a predictor for the original ``segment_anything``, and
functions for the outputs of Hugging Face models. No SAM library is imported before it is used.
"""

from __future__ import annotations

from typing import Any

from rankseg_integrations.sam.huggingface import (
    postprocess_instance_segmentation,
    postprocess_masks,
    postprocess_semantic_segmentation,
    restore_mask_logits,
)
from rankseg_integrations.sam.threshold import RankSEGThreshold

__all__ = [
    "RankSEGSamPredictor",
    "RankSEGThreshold",
    "postprocess_instance_segmentation",
    "postprocess_masks",
    "postprocess_semantic_segmentation",
    "restore_mask_logits",
]


def __getattr__(name: str) -> Any:
    """Import the module whose class needs ``segment_anything`` when that class is asked for."""
    if name == "RankSEGSamPredictor":
        from rankseg_integrations.sam.original import RankSEGSamPredictor

        return RankSEGSamPredictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
