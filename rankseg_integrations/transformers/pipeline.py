"""The image-segmentation pipeline with RankSEG's masks, the metric chosen for every call."""

from __future__ import annotations

import copy
from typing import Any

from rankseg_integrations._common import require
from rankseg_integrations.transformers.processor import RankSEGImageProcessor

_Official: Any = require("transformers", extra="transformers").ImageSegmentationPipeline

_OPTIONS = (
    *("metric", "solver", "smooth", "pruning_prob", "activation", "query_probs"),
    *("unassigned_policy", "void_index", "eps", "alpha", "beta"),
)

_MARK = "rankseg_"  # of our options among the official ones


class RankSEGPipeline(_Official):  # type: ignore[misc]
    """``pipeline("image-segmentation", model=..., pipeline_class=RankSEGPipeline)``.

    When it is made, or called, it takes ``metric``, ``solver``, ``smooth``, ``pruning_prob`` and
    the other options of `RankSEGImageProcessor` for labels, beside what the official pipeline
    takes: ``subtask`` 'semantic', 'instance' or 'panoptic', ``threshold`` and so on. Options not
    given are those of ``image_processor``, if that is a `RankSEGImageProcessor`, or the defaults.

    Raises
    ------
    TypeError
        For an argument that neither knows.
    """

    def _sanitize_parameters(self, **kwargs: Any) -> Any:
        options = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
        steps = super()._sanitize_parameters(**kwargs)
        known = {name for step in steps for name in step}
        for name in kwargs.keys() - known:
            raise TypeError(
                f"{type(self).__name__} takes no argument {name!r}; besides the official "
                f"pipeline's it takes {', '.join(_OPTIONS)}"
            )
        before, during, after = steps
        return before, during, {**after, **{_MARK + name: options[name] for name in options}}

    def postprocess(self, model_outputs: Any, **kwargs: Any) -> Any:
        """Segments with their masks, in the form of the official pipeline."""
        given = {name.removeprefix(_MARK): kwargs.pop(name) for name in [*kwargs] if _MARK in name}
        own = getattr(self.image_processor, "options", {})
        # A copy, because threads may share this pipeline.
        deciding = copy.copy(self)
        deciding.image_processor = RankSEGImageProcessor.from_processor(
            self.image_processor, **{**own, **given}
        )
        return super(RankSEGPipeline, deciding).postprocess(model_outputs, **kwargs)
