"""Instance and panoptic segmentation: RankSEG decides the masks, the official code the rest.

The official methods cut masks at a fixed probability. Here they are given other mask logits, such
that their own cut falls where RankSEG's does; classes, scores, overlaps and the form of the result
stay theirs. There are two kinds of methods:

- *competing* queries: each pixel goes to the query with the largest product of score and
  probability, and a query whose part of its own mask is too small is dropped. Its products are
  raised inside its mask, by the same amount for all, so that those inside a mask keep their order
  and win over those outside. Where the official code would also give away pixels that are in no
  query's mask, one more query, between the two, takes them and is no segment.
- queries *cut* one by one at logit 0, a later one painted over an earlier. A mask's probability
  is part of its score, so the mask is written at the one level that leaves the score as it was.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rankseg import RankSEG
from rankseg_integrations._common import require
from rankseg_integrations.transformers.arguments import by_name, with_defaults
from rankseg_integrations.transformers.families import FAMILIES, Family, field, recognise, unwrapped
from rankseg_integrations.transformers.scores import (
    Size,
    by_torchvision,
    first_grid,
    image_field,
    parse_sizes,
    resized,
)

_CUT = ("maskformer", "mask2former", "eomt", "eomt_dinov3", "videomt")
"""Families whose instances are cut one by one."""
_ON_THE_IMAGE = ("eomt", "eomt_dinov3", "videomt")
"""Families that bring mask logits to the image's size before they use them."""
_PADDED = ("eomt", "eomt_dinov3")
"""Families whose method pads and crops masks: it takes the size of that from its arguments."""
_FAINT = 1e-5
"""Lowest logit of a mask that is cut at 0."""
_LOWEST, _LARGEST = -80.0, 1e4
"""Logits that stand for a probability of 0, and for infinity."""
_RAISED, _CUT_AT, _NOBODY = 3.0, 1.5, 1.25
"""In units of the largest product: what a mask adds to the products inside it, which then are at
least 2, and outside at most 1; the cut between them; below it, the query of unclaimed pixels."""


@torch.no_grad()
def decided_segments(
    processor: Any, task: str, rankseg: RankSEG, *args: Any, **given: Any
) -> list[Any]:
    """Result of the official method for a task, one image after another, with RankSEG's masks.

    Parameters
    ----------
    processor : image processor
        Has ``post_process_instance_segmentation`` and its panoptic sister.
    task : {'instance', 'panoptic'}
        Which of them.
    rankseg : RankSEG
        Decides masks from probabilities.
    *args, **given
        Arguments of the method.
    """
    method = getattr(unwrapped(processor), f"post_process_{task}_segmentation")
    given = by_name(method, args, given)
    outputs = given.pop("outputs")
    family = recognise(outputs, processor=processor)
    if family.kind != "queries":
        own = ", ".join(name for name, known in FAMILIES.items() if known.kind == "queries")
        raise ValueError(
            f"{task} segmentation is decided here for {own}; got outputs of {family.name}"
            + "; its instances belong to rankseg_integrations.sam" * (family.name == "sam3")
        )
    sizes = parse_sizes(given.pop("target_sizes", None), len(field(outputs, family.masks)))
    for index, name in itertools.product(range(len(sizes)), family.shapes):
        image_field(outputs, name, index)  # NaN is refused before any image is decided
    if rankseg.settings.metric == "acc":
        return list(method(outputs, target_sizes=None if None in sizes else sizes, **given))
    results: list[Any] = []
    for index, wanted in enumerate(sizes):
        query = _Queries(family, processor, outputs, index, wanted, given.get("size"))
        cut = task == "instance" and family.name in _CUT
        segment = _cut_one_by_one if cut else _competing
        results += segment(query, method, task, rankseg, given)
    return results


class _Queries:
    """The queries of one image: logits of their classes (1, Q, C) and masks (1, Q, h, w)."""

    def __init__(
        self,
        family: Family,
        processor: Any,
        outputs: Any,
        index: int,
        wanted: Size | None,
        size: Any,
    ) -> None:
        self.family = family
        self.processor = processor
        self.wanted = wanted
        self.size = unwrapped(processor).size if size is None else size
        self.classes = image_field(outputs, family.classes, index)
        self.masks = image_field(outputs, family.masks, index)
        if wanted is None and family.name in _ON_THE_IMAGE:
            raise ValueError(f"{family.name} needs target_sizes: (height, width) of each image")

    def where_cut(self) -> Tensor:
        """Mask logits on the grid where the official code cuts or compares them."""
        masks = resized(self.masks, first_grid(self.family, self.processor, self.size))
        if self.family.name in _PADDED:
            images: list[Tensor] = unwrapped(self.processor).unpad_image(
                masks, [self.wanted], self.size
            )
            return images[0][None]
        return resized(masks, self.wanted) if self.family.name in _ON_THE_IMAGE else masks

    def where_compared(self, logits: bool) -> Tensor:
        """What the official code multiplies by scores: mask probabilities, or logits."""
        values = self.where_cut() if logits else self.where_cut().sigmoid()
        if self.family.name in _ON_THE_IMAGE:
            return values
        smooth = self.family.antialias and by_torchvision(self.processor)
        values = resized(values, self.wanted, smooth)
        return values.clamp(-_LARGEST, _LARGEST) if logits else values.clamp(0, 1)

    def only(self, kept: Tensor) -> _Queries:
        """Some of the queries, (Q,) bool."""
        some = copy.copy(self)
        some.classes, some.masks = self.classes[:, kept], self.masks[:, kept]
        return some

    def call(self, method: Callable[..., Any], given: Mapping[str, Any]) -> Any:
        """Result of the official method on one image."""
        fields = {self.family.classes: self.classes, self.family.masks: self.masks}
        wanted = None if self.wanted is None else [self.wanted]
        return method(SimpleNamespace(**fields), target_sizes=wanted, **given)

    def call_with(self, masks: Tensor, method: Callable[..., Any], given: Mapping[str, Any]) -> Any:
        """The same with other mask logits, on the grid that the method brings masks to."""
        other = copy.copy(self)
        other.masks = masks
        if self.family.name not in _PADDED:
            return other.call(method, given)
        # This method resizes to (shortest, longest) edge and back. For that to be the image's own
        # size the image has to lie on its long side.
        height, width = masks.shape[2:]
        upright = height > width
        other.wanted = (width, height) if upright else (height, width)
        edges = dict(zip(("shortest_edge", "longest_edge"), other.wanted, strict=True))
        other.masks = masks.transpose(2, 3).contiguous() if upright else masks
        (result,) = other.call(method, {**given, "size": edges})
        if upright:
            result["segmentation"] = result["segmentation"].T.contiguous()
        return [result]


def _competing(
    queries: _Queries,
    method: Callable[..., Any],
    task: str,
    rankseg: RankSEG,
    given: Mapping[str, Any],
) -> Any:
    """Raise each query's products of score and probability inside its mask."""
    official = with_defaults(method, given)
    on_logits = queries.family.name == "oneformer" and task == "instance"
    kept = _in_the_running(queries.classes[0], official, on_logits)
    probs = queries.classes[0, kept].softmax(dim=-1)
    scores = probs[:, : -1 if on_logits else None].amax(dim=-1)[:, None, None]
    # Where the official cut applies to the product, a lower score is never a segment.
    weak = scores < official["mask_threshold"]
    if on_logits or queries.family.name in _ON_THE_IMAGE:
        weak = torch.zeros_like(weak)
    if weak.all():
        return queries.call(method, given)

    some = queries.only(kept)
    values = some.where_compared(on_logits)
    masks = rankseg(values.sigmoid() if on_logits else values)
    products = scores * values
    masks = _of_segments(masks, products, weak)

    unit = products.abs().max().clamp(min=_FAINT)
    raised = values + masks * (_RAISED * unit / scores)
    scale = torch.ones(()) if on_logits else 0.5 / raised.max()  # probabilities stay below 1
    given = {**given, "mask_threshold": float(_CUT_AT * unit * scale)}
    if queries.family.name not in _ON_THE_IMAGE:
        nobody = torch.full_like(raised[:, :1], float(_NOBODY * unit))
        raised = torch.cat([raised, nobody], dim=1)
        known = _best_pairs(probs) if on_logits else some.classes
        some.classes = _with_sure(known, _thing(queries.processor) if on_logits else 0)
    raised = raised if on_logits else (raised * scale).logit().clamp(min=_LOWEST)
    return some.call_with(raised, _without_a_grid(method, queries.family), given)


def _of_segments(masks: Tensor, products: Tensor, weak: Tensor) -> Tensor:
    """Masks without those of weak queries, and without the pixels that these win."""
    if not weak.any():
        return masks
    rival = products.where(masks & weak, -torch.inf).amax(dim=1, keepdim=True)
    return masks & ~weak & (products >= rival)


def _in_the_running(classes: Tensor, official: Mapping[str, Any], on_logits: bool) -> Tensor:
    """Queries (Q,) that the official code compares, from their logits (Q, C)."""
    if not on_logits:
        scores, labels = classes.softmax(dim=-1).max(dim=-1)
        sure: Tensor = scores > official["threshold"]
        return sure & (labels != classes.shape[1] - 1)
    # OneFormer's instances: the best pairs of query and class, as many as there are queries.
    probs = classes.softmax(dim=-1)[:, :-1]
    best = probs.flatten().topk(len(probs), sorted=False)
    pairs = best.indices[(best.values > official["threshold"]) | (not official["is_demo"])]
    kept = torch.zeros(len(probs), dtype=torch.bool, device=probs.device)
    kept[pairs // probs.shape[1]] = True
    return kept


def _best_pairs(probs: Tensor) -> Tensor:
    """Class logits (1, Q, C) of queries that have only their best class, with the same score.

    OneFormer's pairs of a query and its second class win no pixel from that with its first one,
    but they would leave no room for the pairs that count.
    """
    score, label = probs[:, :-1].max(dim=-1, keepdim=True)
    logits = torch.full_like(probs, -100.0).scatter(1, label, score.log())
    logits[:, -1] = (-score[:, 0]).log1p()
    return logits[None]


def _with_sure(classes: Tensor, label: int) -> Tensor:
    """Class logits with one more query, (1, Q + 1, C), that is sure of a class."""
    sure = torch.full_like(classes[:, :1], -100.0)
    sure[..., label] = 100.0
    return torch.cat([classes, sure], dim=1)


def _without_a_grid(method: Callable[..., Any], family: Family) -> Callable[..., Any]:
    """The official method; that of MaskFormer where the only difference is a grid of 384x384."""
    if family.name != "mask2former":
        return method
    transformers = require("transformers", extra="transformers")
    pil = getattr(transformers, "MaskFormerImageProcessorPil", None)
    kind = pil or transformers.MaskFormerImageProcessor  # neither needs torchvision
    return functools.partial(kind.post_process_panoptic_segmentation, None)


def _cut_one_by_one(
    queries: _Queries,
    method: Callable[..., Any],
    task: str,
    rankseg: RankSEG,
    given: Mapping[str, Any],
) -> Any:
    """Write RankSEG's masks at the level whose probability is the official mask's mean."""
    logits = queries.where_cut()
    probs, inside = logits.sigmoid(), logits > 0
    area = inside.sum(dim=(2, 3), keepdim=True)
    mean = (probs * inside).sum(dim=(2, 3), keepdim=True) / area.clamp(min=1)
    level = mean.logit(eps=1e-7).clamp(min=_FAINT)
    masks = torch.where(rankseg(probs) & (area > 0), level, -1.0)
    return queries.call_with(masks, method, given)


def _thing(processor: Any) -> int:
    """A class that OneFormer takes for countable objects."""
    return int(next(iter(unwrapped(processor).metadata["thing_ids"]), 0))
