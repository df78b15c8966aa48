"""`AsRankSEG` and `AsRankSEGd`: what `AsDiscrete` and `AsDiscreted` do, with the best masks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms.transform import MapTransform, Transform
from monai.utils import TransformBackends

from rankseg import DecisionRule, RankSEG
from rankseg_integrations.monai.arguments import (
    decider,
    for_each_key,
    one_hot_classes,
    torch_dtype,
)
from rankseg_integrations.monai.items import (
    as_item,
    as_written,
    check_masks_are_read,
    check_present,
    decided,
    name_of,
    name_of_key,
    naming,
    one_hot,
    read_mask,
)

__all__ = ["AsRankSEG", "AsRankSEGD", "AsRankSEGDict", "AsRankSEGd"]


class AsRankSEG(Transform):
    """Turn the probabilities of an item into the labels or masks with the best expected score.

    It stands where ``AsDiscrete(argmax=True)`` or ``AsDiscrete(threshold=0.5)`` stands, after the
    activation, and after ``Invertd`` if there is one: resampled probabilities are decided on the
    original grid. Metadata and applied operations of a ``MetaTensor`` are kept.

    Parameters
    ----------
    rankseg : RankSEG or DecisionRule, optional
        Who decides, instead of options: a configured `rankseg.RankSEG`, or the rule of a data
        set.
    to_onehot : int, optional
        Channels of one-hot labels, at least as many as there are classes. Void pixels have none.
    dtype : torch or NumPy type, or its name, default torch.float
        Of the result. One that cannot hold a label is refused.
    **options
        Of `rankseg.RankSEG`: ``metric``, ``output_mode`` ('multiclass' gives labels, 'multilabel'
        masks), ``solver``, ``smooth``, ``pruning_prob``, ``activation`` ('softmax' or 'sigmoid'
        reads logits) and so on; ``aggregation`` is 'image'.

    Raises
    ------
    TypeError, ValueError
        For an argument that `rankseg.RankSEG` does not know or refuses. On a call: for an item that
        has a batch axis or is no floating-point array, and values that are no probabilities; the
        message gives the file name from the metadata, or the place in a list.

    Notes
    -----
    Input (C, *spatial): a tensor, ``MetaTensor`` or array, or a list of such items, the batch that
    ``decollate_batch`` gives. Output, as that of ``AsDiscrete``, is a tensor or ``MetaTensor``:
    (1, *spatial) of labels, (to_onehot, *spatial), or (C, *spatial) of masks. One channel is
    binary: 0 and 1.

    Linear interpolation leaves [0, 1] by rounding; probabilities within 1e-3 of it are clamped.
    Where all classes have probability 0, as ``Invertd`` pads outside of what a network saw, there
    is nothing to decide: labels are background, 0, as argmax has it, and such pixels count for
    nothing.

    Examples
    --------
    >>> import torch
    >>> probs = torch.tensor([[[0.3, 0.6, 0.7]], [[0.7, 0.4, 0.3]]])  # (C, H, W)
    >>> AsRankSEG(metric="dice")(probs)
    metatensor([[[1., 0., 0.]]])
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012  # MONAI reads it so

    def __init__(
        self,
        rankseg: RankSEG | DecisionRule | None = None,
        *,
        to_onehot: int | None = None,
        dtype: Any = torch.float,
        **options: Any,
    ) -> None:
        self.rankseg = decider(rankseg, options)
        self.to_onehot = one_hot_classes(to_onehot, self.rankseg)
        self.dtype = torch_dtype(dtype)

    def __call__(self, img: Any, valid_mask: Any = None) -> Any:
        """Decide an item, or each item of a list.

        Parameters
        ----------
        img : Tensor, MetaTensor or ndarray, shape (C, *spatial), floating-point; or a list of them
            Probabilities, or logits where there is an activation. Never modified.
        valid_mask : the same kinds, shape (1, *spatial) or (*spatial), optional
            Pixels count where it is larger than 0; the others may be NaN, get the label
            ``ignore_index``, and are in no mask. For a list a list.
        """
        if not isinstance(img, (list, tuple)):
            with naming(name_of(img)):
                return self.of(img, valid_mask)
        masks = [None] * len(img) if valid_mask is None else valid_mask
        found = []
        for place, (item, mask) in enumerate(zip(img, masks, strict=True)):
            with naming(f"item {place} of a list of {len(img)}"):
                found.append(self(item, mask))
        return found

    def of(self, img: Any, valid_mask: Any = None) -> Any:
        """Decide one item; errors do not name it."""
        item, values = as_item(img)
        mask = None
        if valid_mask is not None:
            check_masks_are_read(self.rankseg)
            mask = read_mask(valid_mask, values)
        found = decided(values, self.rankseg, mask)
        if self.to_onehot is not None:
            found = one_hot(found, self.to_onehot, len(values))
        return as_written(found, item, self.dtype)


class AsRankSEGd(MapTransform):
    """Dictionary version of `AsRankSEG`.

    Parameters
    ----------
    keys : str or sequence of str
        Items to decide; each is replaced by its labels or masks.
    rankseg, to_onehot, dtype, **options
        As `AsRankSEG`. A sequence has one entry for each key. ``pruning_prob`` and
        ``class_weights`` take numbers for each class, too: with one key as such, ``(0.5, 0.2)``;
        with several keys ``pruning_prob`` as one sequence for each key.
    mask_key : str, optional, or one for each key
        Entry that holds a ``valid_mask``.
    allow_missing_keys : bool, default False
        Whether items may lack keys, which are then skipped.

    Raises
    ------
    TypeError, ValueError
        As `AsRankSEG`; the message names the key as well, and the file also where only another
        entry of the item knows it.
    KeyError
        If a key is missing from the data; the message says what is there.

    Notes
    -----
    Takes an item, a dictionary, or a list of them. Put it after ``Invertd`` of the probabilities
    (``nearest_interp=False``) and before ``SaveImaged``.
    """

    backend = AsRankSEG.backend

    def __init__(
        self,
        keys: KeysCollection,
        rankseg: Any = None,
        *,
        to_onehot: Any = None,
        dtype: Any = torch.float,
        mask_key: Any = None,
        allow_missing_keys: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        given = {"rankseg": rankseg, "to_onehot": to_onehot, "dtype": dtype, **options}
        each = {name: for_each_key(name, value, self.keys) for name, value in given.items()}
        self.mask_key = for_each_key("mask_key", mask_key, self.keys)
        self.converters = tuple(
            AsRankSEG(**{name: values[place] for name, values in each.items()})
            for place in range(len(self.keys))
        )
        for mask, converter in zip(self.mask_key, self.converters, strict=True):
            if mask is not None:
                check_masks_are_read(converter.rankseg)

    def __call__(self, data: Any) -> Any:
        """Decide the keys of an item, or of each item of a list."""
        if not isinstance(data, (list, tuple)):
            return self._decide(data)
        found = []
        for place, item in enumerate(data):
            with naming(f"item {place} of a list of {len(data)}"):
                found.append(self._decide(item))
        return found

    def _decide(self, data: Any) -> dict[Hashable, Any]:
        if not isinstance(data, Mapping):
            raise TypeError(
                f"an item must be a dictionary; got {type(data).__name__}: for arrays use AsRankSEG"
            )
        d = dict(data)
        for key, converter, mask_key in zip(self.keys, self.converters, self.mask_key, strict=True):
            if key not in d and self.allow_missing_keys:
                continue
            for needed in (key, mask_key):
                if needed is not None:
                    check_present(needed, d, type(self).__name__)
            with naming(name_of_key(key, d)):
                d[key] = converter.of(d[key], None if mask_key is None else d[mask_key])
        return d


AsRankSEGD = AsRankSEGDict = AsRankSEGd
