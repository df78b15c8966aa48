"""Semantic segmentation: outputs to probabilities, and to the labels or masks decided on them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rankseg import RankSEG
from rankseg_integrations._common import activate, choice, each_image_alone
from rankseg_integrations.transformers.families import Family, field, recognise
from rankseg_integrations.transformers.scores import as_probs, score_maps

QUERY_PROBS = ("share", "normalise", "clip")


def restore_semantic_probs(
    outputs: Any,
    *,
    model: Any = None,
    processor: Any = None,
    target_sizes: Any = None,
    activation: str | None = None,
    query_probs: str = "share",
    size: Any = None,
) -> list[Tensor]:
    """Probabilities of each class at each pixel, at the size of the images.

    Resizing follows the model's own processor to the bit; what that hands to ``argmax`` or to a
    cut is here turned into probabilities. Gradients pass.

    Parameters
    ----------
    outputs : ModelOutput
        What the model returned: of a dense family (SegFormer, UperNet, BEiT, Data2Vec, DPT,
        MobileViT, MobileNetV2, or any that returns a ``SemanticSegmenterOutput``), a family with
        queries (MaskFormer, Mask2Former, OneFormer, EoMT, VidEoMT, DETR, Conditional DETR), SAM 3
        with ``semantic_seg``, or CLIPSeg, where every item of the batch is one prompt.
    model, processor : optional
        Either tells the family where the outputs' class does not. EoMT needs the processor, whose
        size belongs to the geometry; for OneFormer it tells the way of resizing.
    target_sizes : sequence of (height, width), optional
        One pair an image: a list, tuple, tensor or array. None leaves the model's own grid.
    activation : {'softmax', 'sigmoid'}, optional
        For dense families: how logits become probabilities. ``'sigmoid'`` is for models trained
        with one binary loss a class. Default: softmax, but sigmoid for a single class.
    query_probs : {'share', 'normalise', 'clip'}, default 'share'
        For families with queries: class scores are sums over the queries, and may exceed 1.
        ``'share'`` divides them by their sum over the classes, since every pixel has a class;
        ``'normalise'`` does so only where that sum exceeds 1, and elsewhere leaves the rest to
        "no object"; ``'clip'`` cuts each score at 1. docs/hugging-face.md measures them.
    size : mapping, optional
        For EoMT: the size its processor was called with, if not its own.

    Returns
    -------
    list of Tensor, shape (C, H, W)
        One an image, float32 (float64 where the outputs are). C is 1 for SAM 3 and CLIPSeg.

    Raises
    ------
    TypeError, ValueError
        For a tuple, an unknown or refused family, missing fields, sizes that do not fit the
        images, NaN; the message says what was got and what to do.

    Examples
    --------
    >>> import torch
    >>> from transformers.modeling_outputs import SemanticSegmenterOutput
    >>> outputs = SemanticSegmenterOutput(logits=torch.zeros(1, 4, 8, 8))
    >>> restore_semantic_probs(outputs, target_sizes=[(30, 40)])[0].shape
    torch.Size([4, 30, 40])
    """
    family = recognise(outputs, model, processor)
    activation = _activation(outputs, family, activation)
    rule = choice("query_probs", query_probs, QUERY_PROBS)
    maps = score_maps(outputs, family, processor, target_sizes, size)
    if family.kind == "queries":
        return [as_probs(sums, rule)[0] for sums in maps]
    return [activate(scores, activation)[0] for scores in maps]


def postprocess_semantic_segmentation(
    outputs: Any,
    *,
    model: Any = None,
    processor: Any = None,
    target_sizes: Any = None,
    metric: str = "dice",
    output_mode: str = "multiclass",
    activation: str | None = None,
    query_probs: str = "share",
    size: Any = None,
    **options: Any,
) -> list[Tensor]:
    """Labels or masks whose expected metric is largest, at the size of the images.

    Takes the place of a processor's ``post_process_semantic_segmentation``. One image's scores
    are held at a time.

    Parameters
    ----------
    outputs, model, processor, target_sizes, activation, query_probs, size
        As for `restore_semantic_probs`.
    metric : str, default 'dice'
        What to maximise. ``'acc'`` gives the labels of the processor itself, pixel for pixel.
    output_mode : {'multiclass', 'multilabel'}
        One label a pixel, or one mask a class.
    **options
        Passed to `rankseg.RankSEG`: ``solver``, ``smooth``, ``pruning_prob`` and so on.

    Returns
    -------
    list of Tensor
        Labels int64 (H, W), or masks bool (C, H, W) for multilabel; one an image.

    Raises
    ------
    TypeError, ValueError
        As for `restore_semantic_probs` and `rankseg.RankSEG`.

    Examples
    --------
    >>> import torch
    >>> from transformers.modeling_outputs import SemanticSegmenterOutput
    >>> outputs = SemanticSegmenterOutput(logits=torch.randn(1, 4, 8, 8))
    >>> postprocess_semantic_segmentation(outputs, metric="iou", target_sizes=[(30, 40)])[0].shape
    torch.Size([30, 40])
    """
    family = recognise(outputs, model, processor)
    activation = _activation(outputs, family, activation)
    rule = choice("query_probs", query_probs, QUERY_PROBS)
    each_image_alone(options)
    # With an activation the core reads logits, and no array of probabilities is made.
    rankseg = RankSEG(metric, output_mode, activation=activation, **options)
    if _is_argmax(rankseg):
        rule = "order"
    with torch.no_grad():
        maps = score_maps(outputs, family, processor, target_sizes, size)
        # `map` lets go of one image's scores before it asks for the next one's.
        if family.kind == "queries":
            maps = map(lambda sums: as_probs(sums, rule), maps)
        return list(map(lambda scores: rankseg(scores)[0], maps))


def _activation(outputs: Any, family: Family, chosen: str | None) -> str:
    """How the family's scores become probabilities; 'none' where they are no logits."""
    if family.kind in ("semantic", "queries"):
        if chosen is not None:
            raise ValueError(
                f"activation is for families with logits of pixels; those of {family.name} have "
                f"theirs built in: leave activation={chosen!r} out"
            )
        return "none"
    if chosen is None:
        single = family.kind == "prompt" or field(outputs, family.masks).shape[1] == 1
        return "sigmoid" if single else "softmax"
    if family.kind == "prompt" and chosen != "sigmoid":
        raise ValueError(f"{family.name} has one class an item, for 'sigmoid'; got {chosen!r}")
    return choice("activation", chosen, ("softmax", "sigmoid"))


def _is_argmax(rankseg: RankSEG) -> bool:
    """Whether labels are each pixel's largest score, so that only the order of scores counts."""
    chosen = rankseg.settings
    labels = chosen.output_mode == "multiclass"
    return labels and (chosen.metric == "acc" or chosen.solver == "argmax")
