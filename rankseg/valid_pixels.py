"""Decisions on the pixels that count: the others are left out before, and put back after.

So they are in no sum, and whatever stands there, NaN included, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import torch
from torch import Tensor

from rankseg import validation
from rankseg.cached import cached_property
from rankseg.decision import Decision, Together, decision_on
from rankseg.result import Segmentation
from rankseg.solvers import Settings


def decision_for(
    values: object, settings: Settings, valid_mask: object = None
) -> Decision | MaskedDecision:
    """Decision on a tensor that has yet to be checked, or on a part of its pixels."""
    if valid_mask is None:
        return decision_on(values, settings)
    tensor = validation.pixel_tensor(values, settings.activation)
    valid = validation.valid_mask(valid_mask, tensor)
    if bool(valid.all()):
        return decision_on(tensor, settings)
    kind = MaskedTogether if settings.aggregation == "dataset" else MaskedDecision
    return kind(tensor, valid, settings)


def valid_images(tensor: Tensor, valid: Tensor) -> Iterator[Tensor]:
    """Valid pixels of each image, (1, C, n) of (B, C, *spatial); (1, n) of (B, *spatial)."""
    for image, inside in zip(tensor, valid.flatten(1), strict=True):
        yield image.flatten(1 + image.ndim - valid.ndim)[..., inside].unsqueeze(0)


class MaskedDecision:
    """One batch under one configuration, image by image: each has its own number of pixels."""

    def __init__(self, values: Tensor, valid: Tensor, settings: Settings) -> None:
        self.values = values
        self.valid = valid
        self.settings = settings

    def prediction(self) -> Tensor:
        """Masks, False at pixels left out, or labels, ``ignore_index`` there."""
        return self._put_back([decision.prediction() for decision in self._images()])

    def segmentation(self) -> Segmentation:
        """Prediction, and the numbers of the pixels that count."""
        found = [decision.segmentation() for decision in self._images()]
        names = [field.name for field in fields(Segmentation) if field.name != "prediction"]
        numbers = {name: torch.cat([getattr(one, name) for one in found]) for name in names}
        return Segmentation(self._put_back([one.prediction for one in found]), **numbers)

    def _images(self) -> Iterator[Decision]:
        for image in valid_images(self.values, self.valid):
            yield decision_on(image, self.settings) if image.shape[-1] else self._of_nothing()

    def _of_nothing(self) -> Decision:
        """What is decided where no pixel counts: empty masks of classes without probability."""
        nothing = self.values.new_zeros(1, self.values.shape[1], 1)
        masks = replace(self.settings, output_mode="multilabel", activation="none", calibrator=None)
        return decision_on(nothing, masks)

    def _put_back(self, predictions: list[Tensor]) -> Tensor:
        batch, classes, *spatial = self.values.shape
        masks = self.settings.output_mode == "multilabel"
        kind = torch.bool if masks else torch.int64
        fill = False if masks else self.settings.parameter("ignore_index")
        shape = (batch, classes, *spatial) if masks else (batch, *spatial)
        result = torch.full(shape, fill, dtype=kind, device=self.values.device)
        for image, inside, prediction in zip(result, self.valid, predictions, strict=True):
            if bool(inside.any()):
                image[..., inside] = prediction[0]
        return result


class MaskedTogether(MaskedDecision):
    """All valid pixels of the batch, decided as one image."""

    def prediction(self) -> Tensor:
        """Masks or labels of every image, by the rule of all."""
        decided = iter(self._everything.predictions() if bool(self.valid.any()) else [])
        nothing = self.values.new_empty(0)  # never put anywhere
        return self._put_back([next(decided) if bool(v.any()) else nothing for v in self.valid])

    def segmentation(self) -> Segmentation:
        """Prediction, and the numbers (1, C) of the pixels that count."""
        validation.some_pixels(int(self.valid.sum()))
        return self._everything.report(self.prediction())

    @cached_property
    def _everything(self) -> Together:
        images = [image for image in valid_images(self.values, self.valid) if image.shape[-1]]
        return Together(images, self.settings)
