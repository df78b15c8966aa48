"""Tensors as nobody expects them: those that must be decided, and those that must be refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SIZES = [1, 2, 3, 5, 7, 8, 13, 31]


class Subclass(Tensor):
    """Keeps its class through operations, as image libraries' tensors do."""


class Refusing(Tensor):
    """Lets nobody call an operation."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("this class serves no operation")


class Elsewhere(Tensor):
    """A tensor whose values are somewhere else, as those of sharded ones are."""

    @staticmethod
    def __new__(cls, values: Tensor) -> Elsewhere:
        return Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype)  # type: ignore[attr-defined, no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} has no values")


# Values

FAMILIES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Any]] = {
    "softmax": lambda rng, shape: torch.from_numpy(rng.normal(size=shape) * 3).softmax(1).numpy(),
    "free": lambda rng, shape: rng.random(shape),
    "low": lambda rng, shape: rng.random(shape) ** 12,
    "all equal": lambda rng, shape: np.full(shape, rng.random()),
    "zeros": lambda rng, shape: np.zeros(shape),
    "negative zeros": lambda rng, shape: -np.zeros(shape),
    "ones": lambda rng, shape: np.ones(shape),
    "one-hot": lambda rng, shape: np.eye(shape[1])[
        rng.integers(0, shape[1], (shape[0], *shape[2:]))
    ].transpose(0, -1, *range(1, len(shape) - 1)),
    "few values": lambda rng, shape: rng.integers(0, 5, shape) / 4,
    "denormal": lambda rng, shape: rng.integers(0, 4, shape) * 1e-45,
    "tiny": lambda rng, shape: rng.random(shape) * 1e-38,
    "nearly one": lambda rng, shape: 1 - rng.random(shape) * 1e-7,
    "sum above one": lambda rng, shape: np.minimum(1, rng.random(shape) * 1.0000001 + 1e-4),
}


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    """(B, C, *spatial) of some hundred values at most; only the batch may be empty."""
    spatial = draw(st.lists(st.sampled_from(SIZES), min_size=1, max_size=3))
    while np.prod(spatial) > 400:
        spatial.pop()
    return draw(st.sampled_from([0, 1, 1, 2, 3])), draw(st.sampled_from([1, 2, 3, 5])), *spatial


@st.composite
def values(draw: st.DrawFn, dtypes: list[torch.dtype] = DTYPES) -> Tensor:
    """Probabilities, contiguous."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    family = draw(st.sampled_from(sorted(FAMILIES)))
    found = torch.from_numpy(np.array(FAMILIES[family](rng, draw(shapes()))))
    return found.to(draw(st.sampled_from(dtypes))).contiguous()


# Forms that are decided: the values may be arranged anew, their plain copy is what counts


def padded(t: Tensor) -> Tensor:
    """A part of a larger tensor, every second pixel, at an offset; NaN all around."""
    wide = torch.full((*(n + 2 for n in t.shape[:-1]), 2 * t.shape[-1] + 3), torch.nan).to(t)
    inside = (*(slice(1, n + 1) for n in t.shape[:-1]), slice(2, 2 + 2 * t.shape[-1], 2))
    wide[inside] = t
    return wide[inside]


def overlapping(t: Tensor) -> Tensor:
    """Rows that share their memory with their neighbours, shifted by a pixel."""
    size = (t.shape[1], t[0, 0].numel()) if len(t) else (t.shape[1], 1)
    flat = t.flatten() if t.numel() else torch.zeros(1).to(t)
    flat = torch.cat([flat, flat.new_zeros(sum(size))])
    return flat.as_strided((1, *size), (0, 1, 1))


def read_only(t: Tensor) -> Tensor:
    array = (t if t.dtype != torch.bfloat16 else t.float()).numpy().copy()
    array.flags.writeable = False
    return torch.from_numpy(array)


def in_inference_mode(t: Tensor) -> Tensor:
    with torch.inference_mode():
        return t.clone()


def upside_down(t: Tensor) -> Tensor:
    """Negative strides of NumPy, which torch can take as a copy only."""
    if t.dtype == torch.bfloat16:
        return t.flip(-1)
    return torch.from_numpy(t.numpy()[..., ::-1].copy())


def imaginary(t: Tensor) -> Tensor:
    """The imaginary part of a complex tensor's conjugate: its sign is put off."""
    if t.dtype not in (torch.float32, torch.float64):
        return t
    return torch.view_as_complex(torch.stack([t, -t], -1)).conj().imag


SUBCLASSES: dict[str, Callable[[Tensor], Tensor]] = {
    "parameter": lambda t: nn.Parameter(t.clone()),
    "subclass": lambda t: t.as_subclass(Subclass),
}
if find_spec("monai"):
    from monai.data import MetaTensor

    SUBCLASSES["MetaTensor"] = lambda t: MetaTensor(t, meta={"filename_or_obj": "here.nii.gz"})
if find_spec("torchvision"):
    from torchvision import tv_tensors

    SUBCLASSES["tv_tensors.Image"] = tv_tensors.Image
    SUBCLASSES["tv_tensors.Mask"] = tv_tensors.Mask
SERVED: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda t: t,
    "classes last": lambda t: t.movedim(1, -1).contiguous().movedim(-1, 1),
    "transposed": lambda t: t.transpose(2, -1),
    "batch and classes swapped": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
    "padded": padded,
    "expanded batch": lambda t: t[:1].expand(3 * min(1, len(t)), *t.shape[1:]),
    "expanded classes": lambda t: t[:, :1].expand(-1, 3, *t.shape[2:]),
    "expanded pixels": lambda t: t[..., :1].expand(*t.shape[:-1], 9),
    "overlapping": overlapping,
    "flipped": lambda t: t.flip(-1),
    "upside down": upside_down,
    "read-only": read_only,
    "shared": lambda t: t.clone().share_memory_(),
    "in inference mode": in_inference_mode,
    "with gradient": lambda t: t.clone().requires_grad_(),
    "inside a graph": lambda t: t.clone().requires_grad_() * 1,
    "sign put off": lambda t: torch._neg_view(t.neg()),
    "imaginary": imaginary,
    "zeros put off": lambda t: torch._efficientzerotensor(t.shape, dtype=t.dtype),  # type: ignore[attr-defined]
    **SUBCLASSES,
}


def plain(t: Tensor) -> Tensor:
    """The same values in memory of their own, one after the other."""
    with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
        return torch.empty(t.shape, dtype=t.dtype).copy_(t.detach().as_subclass(Tensor))


@st.composite
def served(draw: st.DrawFn, dtypes: list[torch.dtype] = DTYPES) -> Tensor:
    """Probabilities in any form that is decided."""
    form = draw(st.sampled_from(sorted(SERVED)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about read-only memory
        return SERVED[form](draw(values(dtypes)))


# Forms that are refused

SPOILS = [torch.nan, torch.inf, -torch.inf, 2.0, -1.0, "just above one", "just below zero"]


@st.composite
def spoiled(draw: st.DrawFn) -> Tensor:
    """Probabilities with one value that is none, anywhere, in any layout."""
    t = draw(values().filter(lambda t: t.numel() > 0))
    wrong = draw(st.sampled_from(SPOILS))
    if wrong == "just above one":
        wrong = 1 + torch.finfo(t.dtype).eps
    elif wrong == "just below zero":
        wrong = -torch.finfo(t.dtype).smallest_normal
    t.view(-1)[draw(st.integers(0, t.numel() - 1))] = wrong
    arrange = ["as it is", "classes last", "transposed", "padded", "subclass", "with gradient"]
    return SERVED[draw(st.sampled_from(arrange))](t)


def freed(t: Tensor) -> Tensor:
    """Its memory was taken away, as FSDP does with parameters."""
    t = t.clone()
    t.untyped_storage().resize_(0)
    return t


def of_type(name: str) -> Callable[[Tensor], Any]:
    return lambda t: t.to(getattr(torch, name))


BASE = torch.tensor([[[0.25, 0.75, 0.5], [0.75, 0.25, 0.5]]])
REFUSED: dict[str, Callable[[Tensor], Any]] = {
    **{
        name: of_type(name)
        for name in (
            *("int8", "uint8", "int16", "int32", "int64", "bool", "complex64", "complex128"),
            *("float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64", "complex32"),
        )
    },
    "no spatial axis": lambda t: t[0],
    "a number": lambda t: t[0, 0, 0],
    "no pixels": lambda t: t[..., :0],
    "no classes": lambda t: t[:, :0],
    "no classes, no images": lambda t: t[:0, :0],
    "meta": lambda t: t.to("meta"),
    "sparse": lambda t: t.to_sparse(),
    "hybrid sparse": lambda t: t.to_sparse(1),
    "compressed rows": lambda t: t[0].to_sparse_csr(),
    "compressed blocks": lambda t: torch.eye(4).to_sparse_bsr((2, 2)),
    "nested": lambda t: torch.nested.nested_tensor([t[0], t[0, :, :2]]),
    "jagged": lambda t: torch.nested.nested_tensor([t[0, 0], t[0, 1, :2]], layout=torch.jagged),
    "mkldnn": lambda t: t.to_mkldnn(),
    "quantized": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.quint8),
    "elsewhere": Elsewhere,
    "freed": freed,
    "2^40 pixels": lambda t: t[..., :1].expand(1, 2, 2**39),
    "2^40 images": lambda t: t[:, :1, :1].expand(2**40, 1, 1),
    "2^40 classes": lambda t: t[:, :1, :1].expand(1, 2**40, 1),
    "2^62 values": lambda t: t[:, :1, :1].expand(2**31, 2**31, 1),
    "array": lambda t: t.numpy(),
    "masked array": lambda t: np.ma.masked_less(t.numpy(), 0.3),
    "array of objects": lambda t: t.numpy().astype(object),
    "list": lambda t: t.tolist(),
    "none": lambda t: None,
    "text": lambda t: "probs",
    "number": lambda t: 0.5,
    "dictionary": lambda t: {"probs": t},
    "generator": lambda t: (n for n in t.tolist()),
    "class": lambda t: Tensor,
    "function": lambda t: t.softmax,
}


def refused(name: str) -> Any:
    """A fresh thing that is no tensor of probabilities."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about prototypes and deprecation
        return REFUSED[name](BASE.clone())
