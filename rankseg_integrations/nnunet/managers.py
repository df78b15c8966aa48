"""Stand-ins for the two objects of nnU-Net that know how probabilities become labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rankseg import RankSEG
from rankseg.nnunet import refuse_derived

Array = npt.NDArray[Any] | Tensor


class _Delegate:
    """What is not defined here, the object of nnU-Net answers.

    A subclass would have to be made for each class of the user's, and could then not be sent to
    the processes that nnU-Net starts for the export.
    """

    inner: Any

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if name == "inner" or name.startswith("__"):  # asked for before it is there: unpickling
            raise AttributeError(name)
        return getattr(self.inner, name)


class RankSEGLabelManager(_Delegate):
    """A ``LabelManager`` whose segmentations have the largest expected Dice or IoU.

    Parameters
    ----------
    inner : nnunetv2 LabelManager
        Knows the classes or regions; paints regions in ``regions_class_order``.
    options : mapping
        Of `rankseg.RankSEG`, without ``output_mode``: classes want labels, regions masks.
    pixels : int, optional
        Pixels of the whole image, where probabilities are those of a crop: the pixels outside,
        surely background, count as well. By default there are none.
    case : str, optional
        Name of the image, for messages.

    Raises
    ------
    TypeError, ValueError
        On options that `rankseg.RankSEG` refuses, or a void label that does not fit nnU-Net's
        integer type.
    """

    def __init__(
        self,
        inner: Any,
        options: Mapping[str, Any],
        pixels: int | None = None,
        case: str | None = None,
    ) -> None:
        super().__init__(inner)
        refuse_derived(options)
        mode = "multilabel" if inner.has_regions else "multiclass"
        self.rankseg = RankSEG(output_mode=mode, **options)
        self.pixels = pixels
        self.case = case
        _check_void(dict(self.rankseg.settings.parameters).get("void_index", 0), inner)

    def convert_probabilities_to_segmentation(self, predicted_probabilities: Array) -> Array:
        """Segmentation of one image.

        Parameters
        ----------
        predicted_probabilities : ndarray or Tensor, shape (C, *spatial), float in [0, 1]
            After softmax, or after sigmoid for regions.

        Returns
        -------
        ndarray or Tensor, shape (*spatial)
            Of the kind that came in and the integer type that nnU-Net has for it.

        Raises
        ------
        ValueError
            If the number of channels is wrong, or a value is NaN or outside [0, 1].
        """
        probs = torch.as_tensor(predicted_probabilities)
        heads = self.inner.num_segmentation_heads
        if probs.ndim < 2 or probs.shape[0] != heads:
            raise ValueError(
                f"predicted_probabilities must have shape (C, *spatial) with {heads} channels, "
                f"got {tuple(probs.shape)}"
            )
        decided = self._decide(probs)
        kept = decided.numpy() if isinstance(predicted_probabilities, np.ndarray) else decided
        if not self.inner.has_regions:
            return kept
        # Masks are probabilities of 0 and 1: nnU-Net's own cut at 0.5 keeps them, and it paints.
        painted: Array = self.inner.convert_probabilities_to_segmentation(kept)
        return painted

    def convert_logits_to_segmentation(self, predicted_logits: Array) -> Array:
        """Segmentation of one image from logits (C, *spatial), as above."""
        if _is_argmax(self.rankseg):
            # Softmax rounds: two logits may become one probability. nnU-Net compares logits.
            plain: Array = self.inner.convert_logits_to_segmentation(predicted_logits)
            return plain
        probs: Tensor = self.inner.apply_inference_nonlin(predicted_logits)
        given = isinstance(predicted_logits, np.ndarray)
        return self.convert_probabilities_to_segmentation(probs.cpu().numpy() if given else probs)

    def _decide(self, probs: Tensor) -> Tensor:
        """Labels (*spatial) or masks (C, *spatial)."""
        try:
            outside = 0 if self.pixels is None else self.pixels - probs[0].numel()
            if outside <= 0 or self.inner.has_regions:  # no region reaches there: nothing to count
                decided: Tensor = self.rankseg(probs[None])[0]
                return decided
            background = probs.new_zeros(len(probs), outside)
            background[0] = 1
            whole = torch.cat([probs.flatten(1), background], 1)
            labels: Tensor = self.rankseg(whole[None])[0, : probs[0].numel()]
            return labels.reshape(probs.shape[1:])
        except ValueError as error:
            raise ValueError(f"{self.case}: {error}" if self.case else str(error)) from error


class RankSEGPlansManager(_Delegate):
    """A ``PlansManager`` whose label manager decides by RankSEG, in every process it is sent to.

    Parameters
    ----------
    inner : nnunetv2 PlansManager
        Answers everything else.
    options, pixels, case
        Of `RankSEGLabelManager`.
    """

    def __init__(
        self,
        inner: Any,
        options: Mapping[str, Any],
        pixels: int | None = None,
        case: str | None = None,
    ) -> None:
        super().__init__(inner)
        self.decision = (dict(options), pixels, case)

    def get_label_manager(self, dataset_json: dict[str, Any], **kwargs: Any) -> RankSEGLabelManager:
        """Return the label manager of a data set, with RankSEG's decision."""
        plain = self.inner.get_label_manager(dataset_json, **kwargs)
        return RankSEGLabelManager(plain, *self.decision)


def undecided(manager: Any) -> Any:
    """nnU-Net's own manager."""
    return manager.inner if isinstance(manager, _Delegate) else manager


def _is_argmax(rankseg: RankSEG) -> bool:
    """Whether each pixel goes to its most probable class, whatever the others do."""
    chosen = rankseg.settings
    pointwise = chosen.solver == "argmax" or (
        chosen.metric == "acc" and chosen.class_weights is None and chosen.include_background
    )
    return pointwise and chosen.output_mode == "multiclass"


def _check_void(void_index: int, inner: Any) -> None:
    """Refuse a label that nnU-Net's export would wrap around."""
    most = 255 if len(inner.foreground_labels) < 255 else 65535
    if not 0 <= void_index <= most:
        raise ValueError(f"void_index must be 0 to {most} in nnU-Net's export, got {void_index}")
