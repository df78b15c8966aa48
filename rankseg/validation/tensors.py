"""Tensors of pixels: class, type and shape."""

from __future__ import annotations

import torch
from torch import Tensor

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

MOST_VALUES = 2**38
"""No tensor in memory has more (half a terabyte in float16); an expanded view may."""

_DENSE = {
    "quantized": "dequantize()",
    "DTensor": "full_tensor(), or to_local() where images are what is sharded",
}


def pixel_tensor(values: object, activation: str = "none") -> Tensor:
    """Check everything about a tensor but its values; returns it plain and without gradient.

    It holds probabilities, or with an activation the logits that this turns into them.
    """
    name = _pixels_name(activation)
    return _fitting_pixels(plain_tensor(name, _pixels_given(values, name)), activation)


def pixels(values: object, activation: str = "none") -> Tensor:
    """As ``pixel_tensor``; returns what was given, which a tracer needs to recognise."""
    return _fitting_pixels(_pixels_given(values, _pixels_name(activation)), activation)


def _pixels_name(activation: str) -> str:
    return "probs" if activation == "none" else "logits"


def _pixels_given(values: object, name: str) -> Tensor:
    if not isinstance(values, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor of shape (B, C, *spatial); got {type(values).__name__}"
            + (f": use torch.from_numpy({name})" if type(values).__module__ == "numpy" else "")
        )
    return values


def _fitting_pixels(values: Tensor, activation: str) -> Tensor:
    """Refuse types and shapes that are none of probabilities or logits."""
    name = _pixels_name(activation)
    if values.dtype not in FLOAT_DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOAT_DTYPES)
        wanted = "probabilities (after softmax or sigmoid)" if name == "probs" else "logits"
        raise TypeError(
            f"{name} must be one of {names}; got {str(values.dtype).removeprefix('torch.')}: "
            f"pass {wanted}, not labels or 8-bit values"
        )
    shape = tuple(values.shape)
    if values.ndim < 3:
        raise ValueError(
            f"{name} must have shape (B, C, *spatial) with at least one spatial dimension; "
            f"got shape {shape}: add the missing dimensions, e.g. {name}[None] for one image"
        )
    if 0 in shape[1:]:
        raise ValueError(f"{name} has an empty class or spatial dimension; got shape {shape}")
    if activation == "softmax" and shape[1] == 1:
        raise ValueError("softmax over one channel is 1 everywhere; use activation='sigmoid'")
    if values.numel() > MOST_VALUES:
        raise ValueError(
            f"{name} of shape {shape} has more than 2^38 values, which no memory holds: it must be "
            "a view that repeats itself; for real ones of that size use RankSEG.decide on tiles"
        )
    return values


def plain_tensor(name: str, tensor: Tensor) -> Tensor:
    """The values of a tensor of any class, without gradient; refused if they cannot be read."""
    with torch._C.DisableTorchFunctionSubclass():  # what a class makes of operations is its own
        kind = unusual(tensor)
        if kind:
            raise TypeError(not_dense(name, kind))
        plain = tensor.detach()
        if type(plain) is not Tensor:  # torch 2.4 refuses the call where modes look on
            plain = plain.as_subclass(Tensor)
        # Zeros and signs that torch has put off.
        return plain.clone() if plain._is_zerotensor() else plain.resolve_neg()


def not_dense(name: str, kind: str) -> str:
    """What is said of a tensor that is ``unusual``, and what makes a dense one of it."""
    way = "to_dense()" if kind.startswith("torch.sparse") else _DENSE.get(kind)
    remedy = f": pass {name}.{way}" if way else ""
    return f"{name} must be a dense tensor with values; got a {kind} tensor{remedy}"


def unusual(tensor: Tensor) -> str:
    """What keeps a tensor from being a dense array of values; empty if nothing does."""
    if tensor.is_nested:
        return "nested"
    if tensor.is_meta:
        return "meta"
    if tensor.is_quantized:
        return "quantized"
    if tensor.layout != torch.strided:
        return str(tensor.layout)
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return type(tensor).__name__  # its values are wherever its class keeps them: fake, sharded
    return "" if _extent(tensor) <= tensor.untyped_storage().nbytes() else "freed"


def _extent(tensor: Tensor) -> int:
    """Bytes of memory up to the end of a tensor's last element."""
    if 0 in tensor.shape:
        return 0
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    last = tensor.storage_offset() + sum((size - 1) * stride for size, stride in steps)
    return int(last + 1) * tensor.element_size()


def valid_mask(mask: object, values: Tensor) -> Tensor:
    """Check which pixels count; returns bool (B, *spatial), plain."""
    plain = plain_tensor("valid_mask", mask) if isinstance(mask, Tensor) else mask
    return counted_pixels(plain, values)


def counted_pixels(mask: object, values: Tensor) -> Tensor:
    """As ``valid_mask``, not made plain."""
    batch, _, *spatial = values.shape
    wanted = f"a bool tensor of shape (B, *spatial) = {(batch, *spatial)}, True where pixels count"
    if not isinstance(mask, Tensor):
        raise TypeError(f"valid_mask must be {wanted}; got {type(mask).__name__}")
    if mask.dtype != torch.bool:
        raise TypeError(f"valid_mask must be {wanted}; got {mask.dtype}: e.g. labels != 255")
    if tuple(mask.shape) not in ((batch, *spatial), (batch, 1, *spatial)):
        raise ValueError(f"valid_mask must be {wanted}; got shape {tuple(mask.shape)}")
    if mask.device != values.device:
        raise ValueError(
            f"valid_mask is on {mask.device}, the values on {values.device}: move one of them"
        )
    return mask.reshape(batch, *spatial)


def prediction_tensor(prediction: object, probs: Tensor) -> Tensor:
    """Check that a prediction is labels or masks for these probabilities, on their device."""
    if not isinstance(prediction, Tensor):
        raise TypeError(f"prediction must be a torch.Tensor; got {type(prediction).__name__}")
    prediction = plain_tensor("prediction", prediction)
    batch, classes, *spatial = probs.shape
    masks, labels = (batch, classes, *spatial), (batch, *spatial)
    shape, dtype = tuple(prediction.shape), prediction.dtype
    if dtype.is_floating_point or dtype.is_complex:
        raise TypeError(f"prediction must be integer labels or bool masks; got {dtype}")
    if dtype == torch.bool and shape != masks:
        raise ValueError(f"bool masks must have the shape of probs, {masks}; got {shape}")
    if dtype != torch.bool and shape != labels:
        raise ValueError(f"integer labels must have shape (B, *spatial) = {labels}; got {shape}")
    if prediction.device != probs.device:
        raise ValueError(
            f"prediction is on {prediction.device}, probs on {probs.device}: move one of them"
        )
    return prediction if dtype == torch.bool else prediction.to(torch.int64)
