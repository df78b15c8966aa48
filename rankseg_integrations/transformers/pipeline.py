"""The image-segmentation pipeline with RankSEG's masks, the metric chosen for every call."""

from __future__ import annotations

import copy
from typing import Any

from rankseg_integrations._common import require
from rankseg_integrations.transformers.processor import RankSEGImageProcessor

_Official: Any = require("transformers", extra="transformers").ImageSegmentationPipeline

_OPTIONS = ("metric", "solver", "smooth", "pruning_prob", "activation", "query_probs")


class RankSEGPipeline(_Official):  # type: ignore[misc]
    """``pipeline("image-segmentation", model=..., pipeline_class=RankSEGPipeline)``.

    Takes ``metric``, ``solver``, ``smooth``, ``pruning_prob``, ``activation`` and ``query_probs``
    when it is made or called, and what the official pipeline takes: ``subtask`` 'semantic',
    'instance' or 'panoptic', ``threshold`` and so on. Options not given are those of the
    `RankSEGImageProcessor`, if ``image_processor`` is one; otherwise the defaults.
    """

    def _sanitize_parameters(self, **kwargs: Any) -> Any:
        options = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
        before, during, after = super()._sanitize_parameters(**kwargs)
        return before, during, {**after, **({"rankseg": options} if options else {})}

    def postprocess(self, model_outputs: Any, rankseg: Any = None, **kwargs: Any) -> Any:
        """Segments with their masks, as the official pipeline returns them."""
        own = getattr(self.image_processor, "options", {})
        # A copy, because threads may share this pipeline.
        deciding = copy.copy(self)
        deciding.image_processor = RankSEGImageProcessor.from_processor(
            self.image_processor, **{**own, **(rankseg or {})}
        )
        return super(RankSEGPipeline, deciding).postprocess(model_outputs, **kwargs)
