"""Instance and panoptic segmentation: RankSEG decides the masks, the official code the rest.

The official methods cut masks at a fixed probability. Here they are given other mask logits, such
that their own cut falls where RankSEG's does; classes, scores, overlaps and the form of the result
stay theirs. There are two kinds of methods:

- *competing* queries: each pixel goes to the query with the largest score times probability, and
  a query whose part of its own mask is too small is dropped. Its logits are moved by a constant,
  which passes unharmed through any resizing of logits. Where the official code would also give
  away pixels that are in no query's mask, one more query, too faint to be a segment, takes them.
- queries *cut* one by one at logit 0, a later one painted over an earlier. A mask's probability
  is part of its score, so the mask is written at the one level that leaves the score as it was.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rankseg import RankSEG
from rankseg_integrations.transformers.families import FAMILIES, Family, field, recognise, unwrapped
from rankseg_integrations.transformers.scores import (
    Size,
    first_grid,
    image_field,
    parse_sizes,
    resized,
)

_CUT = ("maskformer", "mask2former", "eomt", "eomt_dinov3", "videomt")
"""Families whose instances are cut one by one."""
_ON_THE_IMAGE = ("eomt", "eomt_dinov3", "videomt")
"""Families that bring mask logits to the image's size before they use them."""
_FAINT = 1e-5
"""How far below the cut the query of unclaimed pixels lies; float32 resolves 1e-7 there."""


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
        Decides masks from logits.
    *args, **given
        Arguments of the method.
    """
    method = getattr(unwrapped(processor), f"post_process_{task}_segmentation")
    names = list(inspect.signature(method).parameters)
    given = {**dict(zip(names, args, strict=False)), **given}
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

    def where_decided(self) -> Tensor:
        """Mask logits on the grid where the official code first has probabilities."""
        masks = resized(self.masks, first_grid(self.family, self.processor, self.size))
        if self.family.name in ("eomt", "eomt_dinov3"):
            images: list[Tensor] = unwrapped(self.processor).unpad_image(
                masks, [self.wanted], self.size
            )
            return images[0][None]
        return resized(masks, self.wanted) if self.family.name in _ON_THE_IMAGE else masks

    def call(self, method: Callable[..., Any], given: Mapping[str, Any], **new: Tensor) -> Any:
        """Result of the official method on one image."""
        fields = {self.family.classes: self.classes, self.family.masks: self.masks}
        fields |= {getattr(self.family, name): values for name, values in new.items()}
        wanted = None if self.wanted is None else [self.wanted]
        return method(SimpleNamespace(**fields), target_sizes=wanted, **given)


def _competing(
    queries: _Queries,
    method: Callable[..., Any],
    task: str,
    rankseg: RankSEG,
    given: Mapping[str, Any],
) -> Any:
    """Move each query's logits until the official cut is RankSEG's."""
    official = _arguments(method, given)
    cut = official["mask_threshold"]
    if not 0 < cut < 1:
        raise ValueError(
            f"mask_threshold must lie between 0 and 1, got {cut}: the cut of the official code "
            "is where RankSEG's is moved to"
        )
    on_logits = queries.family.name == "oneformer" and task == "instance"
    scores, labels = queries.classes[0].softmax(dim=-1)[:, : -1 if on_logits else None].max(dim=-1)
    kept = (scores > official["threshold"]) | (on_logits and not official["is_demo"])
    if not on_logits:
        kept &= labels != queries.classes.shape[2] - 1
    if not kept.any():
        return queries.call(method, given)

    decided = queries.where_decided()[:, kept]
    threshold = rankseg.solve(decided).threshold[0].to(decided.dtype)
    masks = queries.masks.clone()
    if queries.family.name in _ON_THE_IMAGE:
        masks[:, kept] += _shift(threshold, _logit(cut))
        return queries.call(method, given, masks=masks)

    level = cut / scores[kept]  # the official code compares score times probability
    masks[:, kept] += _shift(threshold, level if on_logits else _logit(level))
    nobody = cut * (1 - _FAINT) if on_logits else _logit(cut * (1 - _FAINT))
    label = _thing(queries.processor) if on_logits else 0
    sure = torch.full_like(queries.classes[:, :1], -100.0)
    sure[..., label] = 100.0
    return queries.call(
        method,
        given,
        classes=torch.cat([queries.classes, sure], dim=1),
        masks=torch.cat([masks, torch.full_like(masks[:, :1], float(nobody))], dim=1),
    )


def _cut_one_by_one(
    queries: _Queries,
    method: Callable[..., Any],
    task: str,
    rankseg: RankSEG,
    given: Mapping[str, Any],
) -> Any:
    """Write RankSEG's masks at the level whose probability is the official mask's mean."""
    logits = queries.where_decided()
    probs, inside = logits.sigmoid(), logits > 0
    area = inside.sum(dim=(2, 3), keepdim=True)
    mean = (probs * inside).sum(dim=(2, 3), keepdim=True) / area.clamp(min=1)
    level = mean.logit(eps=1e-7).clamp(min=_FAINT)
    masks = torch.where(rankseg(logits) & (area > 0), level, -1.0)
    if queries.family.name not in ("eomt", "eomt_dinov3"):
        return queries.call(method, given, masks=masks)

    # This method resizes to (shortest, longest) edge and back. For that to be the image's own
    # size the image has to lie on its long side.
    height, width = masks.shape[2:]
    upright = height > width
    queries.wanted = (width, height) if upright else (height, width)
    edges = dict(zip(("shortest_edge", "longest_edge"), queries.wanted, strict=True))
    lying = masks.transpose(2, 3).contiguous() if upright else masks
    (result,) = queries.call(method, {**given, "size": edges}, masks=lying)
    if upright:
        result["segmentation"] = result["segmentation"].T.contiguous()
    return [result]


def _arguments(method: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a method as it sees them: those given, and its own defaults."""
    parameters = inspect.signature(method).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters} | dict(given)


def _shift(threshold: Tensor, level: Tensor | float) -> Tensor:
    """What moves the logit of `threshold` to `level`, shaped to be added to masks (Q, h, w)."""
    return (level - _logit(threshold))[:, None, None]


def _logit(probability: Any) -> Tensor:
    """Logit, finite: beyond 30 nothing is left to tell apart in float32."""
    return torch.as_tensor(probability).logit().clamp(-30, 30)


def _thing(processor: Any) -> int:
    """A class that OneFormer takes for countable objects."""
    return int(next(iter(unwrapped(processor).metadata["thing_ids"]), 0))
