"""The image-segmentation pipeline with RankSEG's masks, the metric chosen for every call."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from rankseg_integrations._common import require
from rankseg_integrations.transformers.processor import RankSEGImageProcessor, void_index

_Official: Any = require("transformers", extra="transformers").ImageSegmentationPipeline

_OPTIONS = (
    *("metric", "solver", "smooth", "pruning_prob", "activation", "query_probs"),
    *("assignment", "unassigned_policy", "void_index", "eps", "alpha", "beta"),
    *("class_weights", "include_background", "empty"),
)

_MARK = "rankseg_"  # of our options among the official ones


class _Deciding(RankSEGImageProcessor):
    """A processor whose void pixels the pipeline below leaves out itself."""

    def _nameless(self) -> None:
        return None


class RankSEGPipeline(_Official):  # type: ignore[misc]
    """``pipeline("image-segmentation", model=..., pipeline_class=RankSEGPipeline)``.

    When it is made, or called, it takes ``metric``, ``solver``, ``smooth``, ``pruning_prob`` and
    the other options of `RankSEGImageProcessor` for labels, beside what the official pipeline
    takes: ``subtask`` 'semantic', 'instance' or 'panoptic', ``threshold`` and so on. Options not
    given are those of ``image_processor``, if that is a `RankSEGImageProcessor`, or the defaults.

    Pixels of ``unassigned_policy='void'`` are in no segment.

    Raises
    ------
    TypeError
        For an argument that neither knows.
    ValueError
        For options that `RankSEGImageProcessor` refuses, and for ``output_mode='multilabel'``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deciding(self._postprocess_params)  # wrong options are refused now

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
        processor = self._deciding(kwargs)
        official = {name: kwargs[name] for name in kwargs if not name.startswith(_MARK)}
        # A copy, because threads may share this pipeline.
        deciding = copy.copy(self)
        deciding.image_processor = processor
        void = void_index(processor.options)
        if void is None:
            return super(RankSEGPipeline, deciding).postprocess(model_outputs, **official)
        names = {**self.model.config.id2label, void: None}
        deciding.model = SimpleNamespace(config=SimpleNamespace(id2label=names))
        segments = super(RankSEGPipeline, deciding).postprocess(model_outputs, **official)
        return [segment for segment in segments if segment["label"] is not None]

    def _deciding(self, parameters: Mapping[str, Any]) -> RankSEGImageProcessor:
        """The processor with the options among the parameters of the last step."""
        given = {
            name.removeprefix(_MARK): value
            for name, value in parameters.items()
            if name.startswith(_MARK)
        }
        own = getattr(self.image_processor, "options", {})
        return _Deciding.from_processor(self.image_processor, **{**own, **given})
