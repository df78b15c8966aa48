"""The original ``segment_anything``: its predictor, with masks decided by RankSEG."""

from __future__ import annotations

import copy
from typing import Any

from rankseg_integrations._common import require
from rankseg_integrations.sam.threshold import RankSEGThreshold

SamPredictor: Any = require("segment_anything", extra="sam").SamPredictor


class RankSEGSamPredictor(SamPredictor):  # type: ignore[misc]  # the guest is untyped
    """A ``SamPredictor`` whose masks have the largest expected Dice or IoU.

    ``predict`` and ``predict_torch`` are inherited: same arguments, shapes and types. Scores and
    low-resolution logits are the model's, and ``return_logits=True`` gives the same logits. For
    a mask generator, set ``generator.predictor = RankSEGSamPredictor(sam)``: its filters by
    predicted IoU and stability keep what they kept; masks, boxes and areas are RankSEG's, and
    with them the removal of duplicates by box.

    Parameters
    ----------
    sam_model : segment_anything.modeling.Sam
        Left as it is: ``predictor.model`` shares its weights and has its own ``mask_threshold``.
    metric : str, default 'dice'
        What to maximise; ``'acc'`` gives the masks of ``SamPredictor``, bit for bit.
    **options
        Passed to `RankSEGThreshold`: ``temperature``, ``solver``, ``pruning_prob`` and so on.

    Raises
    ------
    TypeError
        If `sam_model` is no model of ``segment_anything``; the message names what fits.
    TypeError, ValueError
        For options that `RankSEGThreshold` refuses.
    """

    def __init__(self, sam_model: Any, metric: str = "dice", **options: Any) -> None:
        if not hasattr(sam_model, "mask_threshold"):
            raise TypeError(
                f"sam_model must be a segment_anything model with a mask_threshold, got "
                f"{type(sam_model).__name__}: for SAM2ImagePredictor of sam2 pass "
                "mask_threshold=RankSEGThreshold(...), for models of transformers use "
                "postprocess_masks"
            )
        if "mask_threshold" in options:
            raise ValueError(
                "mask_threshold is read from the model: leave "
                f"mask_threshold={options['mask_threshold']!r} out, or set sam_model.mask_threshold"
            )
        model = copy.copy(sam_model)  # shares every weight and buffer, even if moved later
        number = float(sam_model.mask_threshold)
        model.mask_threshold = RankSEGThreshold(metric, mask_threshold=number, **options)
        super().__init__(model)
