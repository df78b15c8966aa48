"""A processor like the official one, whose ``post_process_*`` methods decide with RankSEG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from rankseg import RankSEG
from rankseg_integrations._common import choice, require
from rankseg_integrations.transformers.segments import decided_segments
from rankseg_integrations.transformers.semantic import (
    QUERY_PROBS,
    postprocess_semantic_segmentation,
)

_FILE = "rankseg_config.json"
_SEMANTIC = ("activation", "output_mode", "query_probs")
_LABELS = ("assignment", "unassigned_policy", "void_index")
"""Options that say nothing about the masks of instances."""


class RankSEGImageProcessor:
    """A model's official processor, but its masks are those with the best expected score.

    It has the ``post_process_*_segmentation`` methods that the official one has; all else is
    the official one's. It can be called, passed to ``pipeline("image-segmentation", model=...,
    image_processor=...)``, saved and loaded.

    Parameters
    ----------
    processor : image processor, video processor or processor
        The official one, such as ``AutoImageProcessor.from_pretrained(...)``.
    **options
        How to decide: ``metric`` (default 'dice'), ``solver``, ``smooth``, ``pruning_prob`` and
        so on as for `rankseg.RankSEG`; ``output_mode``, ``activation`` and ``query_probs`` as for
        `postprocess_semantic_segmentation`, which instances do not look at.

    Raises
    ------
    TypeError, ValueError
        For options that `rankseg.RankSEG` refuses.

    Notes
    -----
    Instance and panoptic results have the official form. RankSEG decides the mask of every
    query; the official code decides classes, scores, which segments are kept, and overlaps. With
    ``metric='acc'`` all results are the official ones.

    Examples
    --------
    >>> from transformers import SegformerImageProcessor
    >>> RankSEGImageProcessor.from_processor(SegformerImageProcessor(), metric="iou").size["height"]
    512
    """

    processor: Any
    options: dict[str, Any]

    def __init__(self, processor: Any, **options: Any) -> None:
        core = {name: value for name, value in options.items() if name != "query_probs"}
        RankSEG(**{**core, "activation": options.get("activation") or "none"})
        choice("query_probs", options.get("query_probs", QUERY_PROBS[0]), QUERY_PROBS)
        self.processor = processor
        self.options = options

    @classmethod
    def from_processor(cls, processor: Any, **options: Any) -> RankSEGImageProcessor:
        """Put RankSEG's decision on an official processor, or other options on one of ours."""
        return cls(processor.processor if isinstance(processor, cls) else processor, **options)

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> RankSEGImageProcessor:
        """Load what `save_pretrained` saved: a folder, or a repository on the hub.

        Other arguments, such as ``revision`` or ``token``, are passed to transformers.
        """
        transformers = require("transformers", extra="transformers")
        try:
            file = transformers.utils.cached_file(name, _FILE, **kwargs)
        except OSError as error:
            raise OSError(
                f"{name} has no {_FILE}, so RankSEG was not saved with it; use RankSEGImage"
                f"Processor.from_processor(AutoImageProcessor.from_pretrained({str(name)!r}))"
            ) from error
        saved = json.loads(Path(file).read_text())
        official = getattr(transformers, saved["processor"])
        return cls(official.from_pretrained(name, **kwargs), **saved["options"])

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> Any:
        """Save the official processor, which still loads as such, and beside it the options."""
        saved = {"processor": type(self.processor).__name__, "options": self.options}
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, _FILE).write_text(json.dumps(saved, indent=2) + "\n")
        return self.processor.save_pretrained(folder, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Inputs of the model, made by the official processor."""
        return self.processor(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Look up what the official processor has, and its decisions among ours."""
        if name in ("processor", "options"):  # not there yet while being unpickled
            raise AttributeError(name)
        official = getattr(self.processor, name)
        ours = {
            "post_process_semantic_segmentation": self._semantic,
            "post_process_instance_segmentation": self._instance,
            "post_process_panoptic_segmentation": self._panoptic,
        }
        return ours.get(name, official)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set what the official processor has there, such as its size."""
        own = name in ("processor", "options")
        object.__setattr__(self if own else self.processor, name, value)

    def __repr__(self) -> str:
        """Show the options and the official processor."""
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"RankSEGImageProcessor({type(self.processor).__name__}(...){options})"

    def _semantic(
        self,
        outputs: Any,
        target_sizes: Any = None,
        *,
        size: Any = None,
        return_segmentation_scores: bool = False,
    ) -> list[Any]:
        """Labels or masks of each image; with scores, these are the official ones."""
        decided: list[Tensor] = postprocess_semantic_segmentation(
            outputs,
            processor=self.processor,
            target_sizes=target_sizes,
            size=size,
            **self.options,
        )
        if not return_segmentation_scores:
            return decided
        results = self.processor.post_process_semantic_segmentation(
            outputs, target_sizes=target_sizes, return_segmentation_scores=True
        )
        for result, prediction in zip(results, decided, strict=True):
            result["segmentation"] = prediction
        return list(results)

    def _instance(self, *args: Any, **kwargs: Any) -> list[Any]:
        return decided_segments(self.processor, "instance", self._masks(), *args, **kwargs)

    def _panoptic(self, *args: Any, **kwargs: Any) -> list[Any]:
        return decided_segments(self.processor, "panoptic", self._masks(), *args, **kwargs)

    def _masks(self) -> RankSEG:
        """Decide masks of instances, from probabilities."""
        ignored = (*_SEMANTIC, *_LABELS)
        options = {name: value for name, value in self.options.items() if name not in ignored}
        return RankSEG(**options, output_mode="multilabel")
