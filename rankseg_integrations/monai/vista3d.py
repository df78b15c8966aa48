"""VISTA3D: one channel of logits for each prompted class or object, and no background."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms.transform import MapTransform
from monai.transforms.utils import keep_components_with_positive_points
from monai.utils import TransformBackends
from torch import Tensor

from rankseg import RankSEG
from rankseg_integrations._common import each_image_alone
from rankseg_integrations.monai.items import (
    as_item,
    as_written,
    check_present,
    name_of_key,
    naming,
)

__all__ = ["VistaPostRankSEGD", "VistaPostRankSEGDict", "VistaPostRankSEGd"]

_OURS = ("output_mode", "activation", "unassigned_policy", "void_index", "ignore_index")


class VistaPostRankSEGd(MapTransform):
    """VISTA3D's ``VistaPostTransformd`` with the label map that has the best expected score.

    VISTA3D returns logits (objects, H, W, D), one channel for each prompt: sigmoids, which do not
    sum to one, no background, and NaN where no window looked. Each pixel goes to one of the objects
    that claim it, or to none, which is 0. Objects get the labels of ``data["label_prompt"]``, or 1,
    2, 3, ... where there is none; with ``points`` and no ``label_prompt`` the connected components
    without a positive point are dropped, as VISTA3D does it.

    Parameters
    ----------
    keys : str or sequence of str
        Items to decide; each is replaced by its labels (1, H, W, D), float32.
    allow_missing_keys : bool, default False
        Whether items may lack keys, which are then skipped.
    **options
        Of `rankseg.RankSEG`: ``metric``, ``solver``, ``smooth``, ``pruning_prob``, ``assignment``
        and so on, the same for all keys. With the default ``pruning_prob=0.5`` those objects are
        absent that VISTA3D leaves empty.

    Raises
    ------
    TypeError, ValueError
        For options that `rankseg.RankSEG` refuses, and those that VISTA3D's convention settles:
        output_mode, activation, unassigned_policy, void_index, ignore_index. On a call: for an
        item with a batch axis, and where the labels are not one for each channel.
    KeyError
        If a key is missing from the data.

    Notes
    -----
    Items are (objects, H, W, D), after ``Decollated`` or ``decollate_batch``. Pixels without a
    window are taken to have probability 0. To resample first, invert probabilities and use
    `AsRankSEGd` with ``output_mode='multilabel'``: padding with a logit of 0 would mean 0.5.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012  # MONAI reads it so

    def __init__(
        self, keys: KeysCollection, allow_missing_keys: bool = False, **options: Any
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        each_image_alone(options)
        for name in set(_OURS) & set(options):
            raise ValueError(
                f"{name} is settled by VISTA3D's convention (sigmoids; one label a pixel, or 0): "
                "leave it out, or use AsRankSEGd"
            )
        usual = [options.get("metric"), options.get("solver")]
        if any(str(name).lower() in ("acc", "argmax") for name in usual):
            raise ValueError("for accuracy and argmax use VistaPostTransformd itself")
        self.labels = RankSEG(
            activation="sigmoid", unassigned_policy="void", void_index=-1, **options
        )
        alone = {name: value for name, value in options.items() if name != "assignment"}
        self.masks = RankSEG(output_mode="multilabel", activation="sigmoid", **alone)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Decide the keys of an item."""
        d = dict(data)
        for key in self.keys:
            if key not in d and self.allow_missing_keys:
                continue
            check_present(key, d, type(self).__name__)
            with naming(name_of_key(key, d)):
                d[key] = self._decide(d[key], d)
        return d

    def _decide(self, img: Any, data: Mapping[Hashable, Any]) -> Any:
        item, logits = as_item(img)
        prompts = _prompts(data.get("label_prompt"), len(logits))
        logits = logits.masked_fill(logits.isnan(), -torch.inf)
        objects = self.labels(logits[None])[0] if len(logits) > 1 else self._alone(logits)
        if data.get("label_prompt") is None and data.get("points") is not None:
            objects = _with_points(objects, self.masks(logits[None])[0], data)
        table = torch.tensor([0, *prompts], device=objects.device)
        return as_written(table[objects + 1][None], item, torch.float32)

    def _alone(self, logits: Tensor) -> Tensor:
        """Index of the only object, 0, or -1: one channel has no void label."""
        masks: Tensor = self.masks(logits[None])
        return masks[0, 0].long() - 1


def _prompts(given: Any, objects: int) -> list[int]:
    """Label of each object."""
    if given is None:
        return list(range(1, objects + 1))
    labels = [int(label) for label in torch.as_tensor(given).flatten()]
    if len(labels) != objects:
        raise ValueError(
            f"label_prompt must have a label for each of the {objects} channels; got {labels}"
        )
    return labels


def _with_points(objects: Tensor, masks: Tensor, data: Mapping[Hashable, Any]) -> Tensor:
    """Objects, -1 for none, without the components of their masks that hold no positive point.

    A pixel that its object loses goes to the first that keeps it.
    """
    points, labels = (
        torch.as_tensor(data[name]).to(masks.device) for name in ("points", "point_labels")
    )
    signs = masks.float() * 2 - 1
    kept = keep_components_with_positive_points(signs[None], points, labels)[0] > 0
    keeps = kept.gather(0, objects.clamp(min=0)[None])[0] & (objects >= 0)
    other = torch.where(kept.any(0), kept.int().argmax(0), -1)
    return torch.where(keeps, objects, other)


VistaPostRankSEGD = VistaPostRankSEGDict = VistaPostRankSEGd
