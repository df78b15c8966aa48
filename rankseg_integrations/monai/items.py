"""One item, channel first and without a batch: read it, decide it, write it as MONAI does."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor, get_track_meta
from monai.utils import ImageMetaKey, convert_data_type, convert_to_dst_type, convert_to_tensor
from torch import Tensor

from rankseg import DecisionRule, RankSEG
from rankseg.validation import FLOAT_DTYPES, MOST_VALUES, unusual
from rankseg_integrations.monai.arguments import activation_of, output_mode_of, void_label

# What `RankSEG` itself calls rounding; linear interpolation leaves [0, 1] by less than 1e-6.
_ROUNDING = 1e-3

_MOST_AXES = 4

_WIDE = (torch.float32, torch.float64, torch.int32, torch.int64)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Put into an error's message which item it is about; nothing if that is not known."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if not what:
            raise
        raise type(error)(f"{what}: {error}") from error


def name_of(item: Any) -> str:
    """Name of the file an item came from, if its metadata has one."""
    found = item.meta.get(ImageMetaKey.FILENAME_OR_OBJ) if isinstance(item, MetaTensor) else None
    return str(found) if isinstance(found, str) and found else ""


def name_of_key(key: Hashable, data: Mapping[Hashable, Any]) -> str:
    """Name of an entry: its key, and its file or that of the first other entry that has one."""
    files = map(name_of, (data.get(key), *data.values()))
    file = next(filter(None, files), "")
    return f"key {key!r}" + (f" of {file}" if file else "")


def check_present(key: Hashable, data: Mapping[Hashable, Any], where: str) -> None:
    """Refuse an item without a key, and say what it has."""
    if key in data:
        return
    file = next(filter(None, map(name_of, data.values())), "")
    has = ", ".join(map(repr, data)) or "nothing"
    raise KeyError(
        f"Key `{key}` of transform `{where}` was missing in the data"
        + (f" of {file}" if file else "")
        + f" and allow_missing_keys==False: the item has {has}"
    )


def as_item(img: Any) -> tuple[Any, Tensor]:
    """Return an item as MONAI tracks it, and its plain values (C, *spatial)."""
    if not isinstance(img, (Tensor, np.ndarray)):
        raise TypeError(
            "an item must be a tensor, MetaTensor or NumPy array of shape (C, *spatial); got "
            f"{type(img).__name__}"
        )
    _check_readable("an item", img)
    if getattr(img, "is_batch", False) or img.ndim > _MOST_AXES:
        raise ValueError(
            f"an item must have shape (C, *spatial), without a batch axis; got a batch of shape "
            f"{tuple(img.shape)}: split it with monai.data.decollate_batch first"
        )
    if isinstance(img, np.ndarray):  # torch reads neither foreign byte orders nor read-only memory
        img = np.require(img, img.dtype.newbyteorder("="), "W")
    item = convert_to_tensor(img, track_meta=get_track_meta())
    return item, _plain(item)


def read_mask(mask: Any, values: Tensor) -> Tensor:
    """Return which pixels count, bool (1, *spatial), on the values' device."""
    if not isinstance(mask, (Tensor, np.ndarray)):
        raise TypeError(f"valid_mask must be a tensor or NumPy array; got {type(mask).__name__}")
    _check_readable("valid_mask", mask)
    if tuple(mask.shape) not in {tuple(values.shape[1:]), (1, *values.shape[1:])}:
        raise ValueError(
            f"valid_mask must have shape (1, *spatial) or (*spatial) for probabilities of shape "
            f"{tuple(values.shape)}; got {tuple(mask.shape)}"
        )
    counts = _plain(convert_to_tensor(mask)).to(values.device) > 0
    return counts.reshape(1, *values.shape[1:])


def check_masks_are_read(decides: RankSEG | DecisionRule) -> None:
    """Refuse a mask where a finished rule decides each pixel by itself."""
    if isinstance(decides, DecisionRule):
        raise ValueError(
            "a DecisionRule decides every pixel by itself and takes no valid_mask or mask_key: "
            "leave it out, or give a RankSEG"
        )


def decided(values: Tensor, decides: RankSEG | DecisionRule, mask: Tensor | None) -> Tensor:
    """Labels int64 (1, *spatial) or masks bool (C, *spatial)."""
    values = as_probabilities(values, decides, mask)
    outside = outside_of(values, decides)
    if outside is not None:
        outside = outside if mask is None else outside & mask
        mask = ~outside if mask is None else mask & ~outside
    batch = values.unsqueeze(0)
    found = decides(batch) if isinstance(decides, DecisionRule) else decides(batch, mask)
    if output_mode_of(decides) == "multilabel":
        return found[0]
    return found if outside is None else found.masked_fill(outside, 0)


def as_probabilities(
    values: Tensor, decides: RankSEG | DecisionRule, mask: Tensor | None = None
) -> Tensor:
    """Put probabilities (C, *spatial) that left [0, 1] by rounding back; others will be refused."""
    if activation_of(decides) != "none" or values.dtype not in FLOAT_DTYPES or not values.numel():
        return values
    if mask is not None:
        values = values.masked_fill(~mask, 0)  # there may be anything
    low, high = (number.item() for number in values.aminmax())
    rounded = low > -_ROUNDING and high < 1 + _ROUNDING and (low < 0 or high > 1)
    return values.clamp(0, 1) if rounded else values


def outside_of(values: Tensor, decides: RankSEG | DecisionRule) -> Tensor | None:
    """Pixels, bool (1, *spatial), where no class has any probability; None if there are none.

    A network never says so after a softmax: it is how ``Invertd`` pads. All classes gain the least
    there, and the one that loses least would not be the background in an image full of organs.
    """
    labels = output_mode_of(decides) == "multiclass" and len(values) > 1
    if not labels or activation_of(decides) != "none" or void_label(decides) is not None:
        return None
    nothing = values.amax(0, keepdim=True) == 0
    return nothing if bool(nothing.any()) else None


def one_hot(labels: Tensor, number: int, channels: int) -> Tensor:
    """Masks (number, *spatial) of labels (1, *spatial); a void label is in none."""
    classes = max(channels, 2)
    if number < classes:
        raise ValueError(
            f"to_onehot={number} is too small for labels of {classes} classes, 0 to {classes - 1}"
        )
    column = torch.arange(number, device=labels.device).reshape(-1, *(1 for _ in labels.shape[1:]))
    return labels == column


def as_written(found: Tensor, item: Any, dtype: torch.dtype) -> Any:
    """Result as MONAI writes it: of a type, with the metadata of what it was made from."""
    if found.dtype != torch.bool and dtype not in _WIDE and found.numel():
        low, high = (int(number) for number in found.aminmax())
        check_holds(low, high, dtype)
    return convert_to_dst_type(found, item, dtype=dtype)[0]


def check_holds(low: int, high: int, dtype: torch.dtype) -> None:
    """Refuse a type in which a label, low to high, would become another."""
    if dtype == torch.bool:
        least, most = 0, 1
    elif dtype.is_floating_point:
        most = int(2 / torch.finfo(dtype).eps)  # integers up to there are exact
        least = -most
    else:
        least, most = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    if low < least or high > most:
        raise ValueError(
            f"dtype={str(dtype).removeprefix('torch.')} holds {least} to {most}, and labels are "
            f"{low} to {high}: choose a wider dtype"
        )


def _check_readable(name: str, values: Any) -> None:
    """Refuse what MONAI would make a tensor of in vain, before it tries."""
    numbers = isinstance(values, Tensor) or values.dtype.kind in "fiub"
    kind = unusual(values) if isinstance(values, Tensor) else "" if numbers else str(values.dtype)
    if kind:
        raise TypeError(f"{name} must be dense, with numbers as values; got a {kind} {_of(values)}")
    shape = tuple(values.shape)
    if not shape or math.prod(shape) > MOST_VALUES:
        raise ValueError(f"{name} must have shape (C, *spatial) and fit into memory; got {shape}")


def _of(values: Any) -> str:
    return "tensor" if isinstance(values, Tensor) else "array"


def _plain(item: Any) -> Tensor:
    plain: Tensor = convert_data_type(item, Tensor)[0]
    return plain.detach()
