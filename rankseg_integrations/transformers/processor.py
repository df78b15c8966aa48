"""A processor like the official one, whose ``post_process_*`` methods decide with RankSEG."""

from __future__ import annotations

from numbers import Real
from pathlib import Path
from typing import Any

from rankseg import RankSEG
from rankseg_integrations._common import choice, each_image_alone
from rankseg_integrations.transformers import saved
from rankseg_integrations.transformers.arguments import by_name
from rankseg_integrations.transformers.checks import (
    TASKS,
    check_processor,
    check_shown,
    method_name,
)
from rankseg_integrations.transformers.segments import decided_segments
from rankseg_integrations.transformers.semantic import (
    QUERY_PROBS,
    postprocess_semantic_segmentation,
)

_WANTED = ("outputs", "target_sizes", "size")
_SEMANTIC = ("activation", "output_mode", "query_probs")
_LABELS = (
    *("assignment", "unassigned_policy", "void_index", "ignore_index"),
    *("class_weights", "include_background"),
)
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
        For options that `rankseg.RankSEG` refuses, and for anything without
        ``post_process_*_segmentation`` methods, such as the processors of SAM and CLIPSeg.

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
        check_processor(processor)
        self.processor = processor
        self._check(options)
        self.options = {  # numbers of numpy are no JSON
            name: value.item() if hasattr(value, "item") else value
            for name, value in options.items()
        }

    @classmethod
    def from_processor(cls, processor: Any, **options: Any) -> RankSEGImageProcessor:
        """Put RankSEG's decision on an official processor, or other options on one of ours."""
        own = isinstance(processor, RankSEGImageProcessor)
        return cls(processor.processor if own else processor, **options)

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> RankSEGImageProcessor:
        """Load what `save_pretrained` saved: a folder, or a repository on the hub.

        Other arguments, such as ``revision`` or ``token``, are passed to transformers.

        Raises
        ------
        OSError
            If RankSEG was not saved with it.
        ValueError
            If the file is broken, or this transformers lacks the class of the official processor.
        """
        official, options = saved.read(name, **kwargs)
        return cls(official.from_pretrained(name, **kwargs), **options)

    def save_pretrained(self, folder: str | Path, push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Save the official processor, which still loads as such, and beside it the options.

        With ``push_to_hub=True`` other arguments are those of `push_to_hub`; ``repo_id`` is the
        folder's name if not given.
        """
        saved.write(folder, self.processor, self.options)
        if not push_to_hub:
            return self.processor.save_pretrained(folder, **kwargs)
        files = self.processor.save_pretrained(folder)
        self.push_to_hub(kwargs.pop("repo_id", Path(folder).name), **kwargs)
        return files

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Upload what `save_pretrained` saves; the arguments are the official ones."""
        # The official method saves what it is called on, and uploads the files.
        return type(self.processor).push_to_hub(self, *args, **kwargs)

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

    def _semantic(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Labels or masks of each image; with scores, these are the official ones."""
        official = self.processor.post_process_semantic_segmentation
        given = by_name(official, args, kwargs)
        wanted = {name: given.pop(name) for name in _WANTED if name in given}
        scores = given.pop("return_segmentation_scores", False)
        if given:
            raise TypeError(
                f"{official.__name__} takes no argument {', '.join(map(repr, given))} here; it "
                f"takes {', '.join(_WANTED)}, return_segmentation_scores. How to decide is an "
                "option of RankSEGImageProcessor.from_processor"
            )
        decided = postprocess_semantic_segmentation(
            **wanted, processor=self.processor, **self.options
        )
        check_shown(wanted["outputs"], decided, self._nameless())
        if not scores:
            return list(decided)
        if wanted.get("target_sizes") is not None:
            wanted["target_sizes"] = [tuple(found.shape[-2:]) for found in decided]
        results = official(**wanted, return_segmentation_scores=True)
        for result, prediction in zip(results, decided, strict=True):
            result["segmentation"] = prediction
        return list(results)

    def _instance(self, *args: Any, **kwargs: Any) -> list[Any]:
        return decided_segments(self.processor, "instance", self._masks(), *args, **kwargs)

    def _panoptic(self, *args: Any, **kwargs: Any) -> list[Any]:
        return decided_segments(self.processor, "panoptic", self._masks(), *args, **kwargs)

    def _masks(self) -> RankSEG:
        """Decide masks of instances, from probabilities."""
        if str(self.options.get("metric")).lower() == "acc":
            return RankSEG("acc", "multilabel")  # the official result: nothing else plays a part
        ignored = (*_SEMANTIC, *_LABELS)
        options = {name: value for name, value in self.options.items() if name not in ignored}
        if not isinstance(options.get("pruning_prob", 0.5), Real):  # one for each class
            del options["pruning_prob"]
        try:
            return RankSEG(**options, output_mode="multilabel")
        except ValueError as error:
            raise ValueError(
                f"instances and panoptic maps are decided a mask at a time: {error}"
            ) from error

    def _nameless(self) -> int | None:
        """Label of pixels of no class, for which official pipelines have no name."""
        return void_index(self.options)

    def _check(self, options: dict[str, Any]) -> None:
        """Refuse options that no decision of the processor can take."""
        each_image_alone(options)
        choice("query_probs", options.get("query_probs", QUERY_PROBS[0]), QUERY_PROBS)
        core = {name: value for name, value in options.items() if name != "query_probs"}
        core["activation"] = options.get("activation") or "none"
        masks = any(hasattr(self.processor, method_name(task)) for task in TASKS[1:])
        if masks and str(options.get("solver")).upper() == "TR":  # for masks alone
            core["output_mode"] = "multilabel"
        RankSEG(**core)


def void_index(options: dict[str, Any]) -> int | None:
    """Label of the pixels that no class claims; None where each goes to a class."""
    if str(options.get("unassigned_policy")).lower() != "void":
        return None
    given = {name: options[name] for name in ("unassigned_policy", "void_index") if name in options}
    return int(RankSEG(**given).settings.parameter("void_index"))
