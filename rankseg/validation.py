"""The only home of argument checks and of their messages: what was got and what to do.

Inner functions trust what passed here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

Kind = TypeVar("Kind")

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

MOST_VALUES = 2**38
"""No tensor in memory has more (half a terabyte in float16); an expanded view may."""


def _choices(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def choice(argument: str, value: object, names: Collection[str]) -> str:
    """Return the name as it is spelled in ``names``, matched case-insensitively."""
    if not isinstance(value, str):
        raise TypeError(
            f"{argument} must be a string, one of {_choices(names)}; got {type(value).__name__}"
        )
    for name in names:
        if name.lower() == value.lower():
            return name
    raise ValueError(f"{argument} must be one of {_choices(names)}; got {value!r}")


def known_name(argument: str, value: object, names: Collection[str]) -> None:
    """Refuse a name that is not spelled as one of ``names``."""
    if not isinstance(value, str) or value not in names:  # arrays compare element by element
        raise ValueError(f"{argument} must be one of {_choices(names)}; got {value!r}")


def _real(argument: str, value: object, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{argument} must be {expected}; got {type(value).__name__} {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{argument} must be {expected}; got a number beyond float64") from error


def number_in_unit_interval(argument: str, value: object) -> float:
    """Return a finite number in [0, 1]."""
    number = _real(argument, value, "a number in [0, 1]")
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{argument} must lie in [0, 1]; got {value!r}")
    return number


def optional(argument: str, value: Any, kind: type[Kind]) -> Kind | None:
    """Return an object of a class, or None."""
    if value is not None and not isinstance(value, kind):
        raise TypeError(
            f"{argument} must be None or a {kind.__name__}; got {type(value).__name__} {value!r}"
        )
    return value


def in_unit_interval(argument: str, value: object) -> float | tuple[float, ...]:
    """Return a number in [0, 1], or one for each class."""
    if isinstance(value, Real):
        return number_in_unit_interval(argument, value)
    numbers = _sequence(argument, value, "a number in [0, 1] or a sequence of them")
    return tuple(number_in_unit_interval(f"{argument} of every class", n) for n in numbers)


def _sequence(argument: str, value: object, expected: str) -> list[object]:
    """Return what a sequence holds, arrays and tensors of one axis included; it is not empty."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(plain, Sequence) or isinstance(plain, (str, bytes)):
        raise TypeError(f"{argument} must be {expected}; got {type(value).__name__} {value!r}")
    if not plain:
        raise ValueError(f"{argument} must have a number for each class; got none")
    return list(plain)


def several(argument: str, values: Any, what: str) -> list[Any]:
    """Return what a list, array, tensor of one axis or another iterable holds."""
    if isinstance(values, Tensor):
        values = plain_tensor(argument, values)
    no_list = (str, bytes, bytearray, memoryview, type)
    array = hasattr(values, "tolist") and not isinstance(values, no_list)
    plain = values.tolist() if array else values
    if isinstance(plain, no_list) or not isinstance(plain, Iterable):
        raise TypeError(f"{argument} must be a list of {what}; got {type(values).__name__}")
    return list(plain)


def one_for_each_class(argument: str, numbers: object, classes: int) -> None:
    """Refuse a tuple of numbers of another length than there are classes."""
    if isinstance(numbers, tuple) and len(numbers) != classes:
        raise ValueError(
            f"{argument} has {_count(len(numbers), 'number')}, "
            f"probs has {_count(classes, 'class', 'classes')}: give one number for each class"
        )


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number} {one if number == 1 else more or one + 's'}"


def class_weights(value: object, include_background: object) -> tuple[float, ...] | None:
    """Return how much each class counts, None for all alike; some class does."""
    if value is None:
        return None
    numbers = _sequence("class_weights", value, "None or a sequence of numbers >= 0")
    weights = tuple(number_at_least_zero("every class weight", number) for number in numbers)
    if not any(weights):
        raise ValueError(f"class_weights must have a number > 0; got {value!r}")
    if not math.isfinite(sum(weights)):
        raise ValueError(f"class_weights must have a finite sum; got {value!r}")
    if include_background is False and not any(weights[1:]):
        raise ValueError(
            f"class_weights={value!r} count class 0 only, which include_background=False leaves "
            "out: give another class a number > 0, or include the background"
        )
    return weights


def empty(value: object, metric: str, smooth: float) -> float | str:
    """Return 0, 1 or 'nan': the score of an absent class with an empty mask."""
    if isinstance(value, str):
        known = value == "nan"
    else:
        number = isinstance(value, Real) and not isinstance(value, bool)
        known = number and (value in (0, 1) or value != value)
    if not known:
        raise ValueError(f"empty must be 0, 1 or 'nan'; got {value!r}")
    if value != 0 and metric == "acc":
        raise ValueError(f"metric='acc' scores absent classes like others; got empty={value!r}")
    if value != 0 and smooth > 0:
        raise ValueError(
            f"smooth={smooth:g} already gives an absent class with an empty mask the score 1; got "
            f"empty={value!r}: leave one of them 0"
        )
    return int(value) if value in (0, 1) else "nan"


def yes_or_no(argument: str, value: object) -> bool:
    """Return a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be True or False; got {type(value).__name__} {value!r}")
    return value


def background_leaves_a_class(include_background: bool, classes: int) -> None:
    """Refuse to leave out the only channel."""
    if not include_background and classes == 1:
        raise ValueError(
            "include_background=False leaves nothing of probs with one channel, which is the "
            "foreground: leave it out"
        )


def number_in_open_interval(argument: str, value: object) -> float:
    """Return a number strictly between 0 and 1."""
    number = _real(argument, value, "a number between 0 and 1")
    if not 1e-300 <= number < 1.0:
        raise ValueError(f"{argument} must lie strictly between 0 and 1; got {value!r}")
    return number


def coupling_of(method: str, value: object) -> float:
    """Return the coupling of a method of ``expected_score``; 0 for those that know none."""
    if method == "coupled":
        return 0.5 if value is None else number_in_unit_interval("coupling", value)
    if value is not None:
        raise ValueError(
            f"coupling is a parameter of method='coupled'; got method={method!r}: leave it out"
        )
    return 0.0


def number_at_least_zero(argument: str, value: object) -> float:
    """Return a finite number that is not negative."""
    number = _real(argument, value, "a finite number >= 0")
    if not (number >= 0.0 and math.isfinite(number)):
        raise ValueError(f"{argument} must be a finite number >= 0; got {value!r}")
    return number


def recall_weight(beta: object) -> float:
    """Return the beta of F-beta or Tversky; beyond a million, missed pixels are all that counts."""
    number = number_at_least_zero("beta", beta)
    if number > 1e6:
        raise ValueError(f"beta must be at most 1e6; got {beta!r}")
    return number


def tversky_weights(alpha: float, beta: float) -> None:
    """Refuse a Tversky index that no mistake can lower."""
    if alpha == beta == 0.0:
        raise ValueError("metric='tversky' with alpha=0 and beta=0 is 1 for every mask")


def smooth(value: object, metric: str) -> float:
    """Return the smoothing; accuracy has none."""
    number = number_at_least_zero("smooth", value)
    if number > 0.0 and metric == "acc":
        raise ValueError(f"metric='acc' has no smoothing; got smooth={value!r}: leave it 0")
    return number


def integer(argument: str, value: object) -> int:
    """Return a plain int; bools are refused."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{argument} must be an integer; got {type(value).__name__} {value!r}")
    if not -(2**63) <= int(value) < 2**63:
        raise ValueError(f"{argument} must fit into 64 bits; got {value!r}")
    return int(value)


def known_parameters(
    where: str, given: Mapping[str, Any], known: Collection[str], general: Collection[str] = ()
) -> None:
    """Refuse parameters that the solver does not take, naming those it does.

    ``general`` are those that every solver takes: not listed, but one may be what was meant.
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        takes = _choices(known) if known else "none"
        meant = get_close_matches(unknown[0], [*known, *general], 1)
        hint = f"; did you mean {meant[0]!r}?" if meant else ""
        raise ValueError(
            f"{where} takes no parameter {_choices(unknown)}; parameters: {takes}{hint}"
        )


def void_index_is_used(given: bool, policy: str) -> None:
    """Refuse a void label under a policy that never writes it."""
    if given and policy != "void":
        raise ValueError(
            f"void_index is written only with unassigned_policy='void'; got {policy!r}: "
            "set the policy or leave void_index out"
        )


def combination(
    argument: str, value: str, other: str, other_value: str, possible: Collection[str]
) -> None:
    """Refuse a choice that cannot go with another."""
    if value not in possible:
        raise ValueError(
            f"{argument}={value!r} makes no sense with {other}={other_value!r}; "
            f"possible there: {_choices(possible)}"
        )


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
            raise TypeError(f"{name} must be a dense tensor with values; got a {kind} tensor")
        plain = tensor.detach()
        if type(plain) is not Tensor:  # torch 2.4 refuses the call where modes look on
            plain = plain.as_subclass(Tensor)
        # Zeros and signs that torch has put off.
        return plain.clone() if plain._is_zerotensor() else plain.resolve_neg()


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


def plain_numbers(argument: str, values: object, kind: type = Real) -> None:
    """Refuse what is no tuple or list of numbers, or of bools."""
    mixed = not isinstance(values, (tuple, list)) or not all(
        isinstance(value, kind) and isinstance(value, bool) == (kind is bool) for value in values
    )
    if mixed:
        what = "bools" if kind is bool else "numbers"
        raise TypeError(f"{argument} must be a tuple of {what}; got {values!r}")


def floats(argument: str, values: object) -> tuple[float, ...]:
    """Return plain floats: NumPy's and fractions are numbers, too, which JSON does not know."""
    plain_numbers(argument, values)
    numbers: Iterable[object] = values  # type: ignore[assignment]
    return tuple(_real(argument, number, "a number") for number in numbers)


def number_of_classes(got: int, wanted: int, whose: str) -> None:
    """Refuse pixels with another number of classes."""
    if got != wanted:
        raise ValueError(f"{whose} is for {wanted} classes; got {got}")


def tiles(tiles: object, once: bool) -> None:
    """Refuse what is no tiles, or gives them once where each visit starts from the beginning."""
    iterable = hasattr(tiles, "__iter__") or (
        hasattr(tiles, "__getitem__") and hasattr(tiles, "__len__")
    )
    if isinstance(tiles, (str, bytes, Mapping, type)) or not iterable:
        raise TypeError(
            "decide takes a tensor of shape (B, C, *spatial), or tiles: a list or another iterable "
            f"of such tensors; got {type(tiles).__name__}"
            + (": call it in the __iter__ of a small class" if callable(tiles) else "")
        )
    if isinstance(tiles, Iterator) and not once:
        raise TypeError(
            f"tiles are visited several times, and a {type(tiles).__name__} gives them once: pass "
            "a list, a DataLoader, or an object whose __iter__ starts anew"
        )


def tiles_are_served(solver: str, metric: str, empty: float | str) -> None:
    """Refuse solvers that need all pixels of a class at once; accuracy needs one."""
    possible = ("RMA", "coupled", "argmax", "TR")
    if metric != "acc" and solver not in possible:
        raise ValueError(
            f"solver={solver!r} needs all pixels of a class in memory at once; possible for tiles "
            f"and data sets: {_choices(possible)}"
        )
    if empty != 0:
        raise ValueError(
            f"empty={empty!r} needs the probability that a class is absent, for which all its "
            "pixels must be in memory at once; tiles and data sets take empty=0"
        )


def can_be_unrolled(solver: str, metric: str, aggregation: str, backend: str) -> None:
    """Refuse what no fixed number of plain tensor operations decides."""
    possible = ("RMA", "argmax", "TR")
    if metric != "acc" and solver not in possible:
        raise ValueError(
            f"head() unrolls {_choices(possible)} and metric='acc'; got solver={solver!r}, whose "
            "steps depend on the values: torch.export holds it as one operator (rankseg is then "
            "needed where the program runs)"
        )
    if aggregation != "image":
        raise ValueError(
            f"head() decides each image alone; got aggregation={aggregation!r}: find one rule for "
            "the data set with decide(...), whose head() is a fixed rule"
        )
    if backend not in ("auto", "torch"):
        raise ValueError(f"head() is made of plain torch; got backend={backend!r}: use 'auto'")


def graph_number(argument: str, number: float) -> None:
    """Refuse what ONNX, which holds plain numbers as float32, would make zero or infinite."""
    if number and not 1e-30 <= number <= 1e30:
        raise ValueError(
            f"head() takes {argument} = 0 or from 1e-30 to 1e30; got {argument}={number:g}"
        )


def refuse_script(module: object) -> NoReturn:
    """Say what to do instead of ``torch.jit.script``, which knows too little Python."""
    raise TypeError(
        f"torch.jit.script cannot read {type(module).__name__}: use torch.export or "
        "torch.jit.trace; what ends in RankSEG(...).head() then runs without this package"
    )


def at_least_one(argument: str, value: object) -> int:
    """Return a plain int, 1 or more."""
    number = integer(argument, value)
    if number < 1:
        raise ValueError(f"{argument} must be at least 1; got {value!r}")
    return number


def some_pixels(number: int) -> None:
    """Refuse tiles, or a batch that is one image, without a pixel."""
    if not number:
        raise ValueError("there are no pixels to decide on")


def tile(values: object, activation: str) -> Tensor:
    """Check one tile as ``pixel_tensor`` does; says how to get at it in what a loader gives."""
    if isinstance(values, (tuple, list, Mapping)):
        raise TypeError(
            f"each tile must be a torch.Tensor of shape (B, C, *spatial); got a "
            f"{type(values).__name__}: give the probabilities alone, without labels or names"
        )
    return pixel_tensor(values, activation)


def each_tile(tiles: Any) -> Iterable[Tensor]:
    """Tiles one after the other; a data set in the style of torch has a length and no iterator."""
    if hasattr(tiles, "__iter__"):
        checked: Iterable[Tensor] = tiles
        return checked
    return map(tiles.__getitem__, range(len(tiles)))


def one_pass_is_enough(solver: str, output_mode: str, one_ratio: bool) -> None:
    """Refuse what one visit of the pixels cannot decide."""
    if output_mode != "multilabel":
        raise ValueError(
            "one_pass=True decides masks: labels take a second visit, for pixels that several "
            "classes claim; say output_mode='multilabel', or leave one_pass out"
        )
    if solver != "RMA" or not one_ratio:
        raise ValueError(
            "one_pass=True serves solver='RMA' with metric 'dice' or 'fbeta' without smoothing, "
            "'iou' or 'tversky'; leave one_pass out for the others"
        )


def void_index_is_no_class(void_index: int, classes: int) -> None:
    """Refuse a void label that could not be told from a class."""
    if 0 <= void_index < classes:
        raise ValueError(
            f"void_index={void_index} is also the label of one of the {classes} classes; "
            f"pass void_index=-1 or one of at least {classes}"
        )


def void_has_unclaimed_pixels(metric: str, policy: str) -> None:
    """Refuse the void policy where every pixel gets its most probable class."""
    if metric == "acc" and policy == "void":
        raise ValueError(
            "unassigned_policy='void' makes no sense with metric='acc', whose labels are argmax"
        )


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


def probability_range(lowest: Tensor, peak: Tensor, activation: str = "none") -> None:
    """Check the values, from each row's smallest and largest; NaN in a row shows in both."""
    if lowest.numel() == 0:
        return
    low, high = torch.stack([lowest.min(), peak.max()]).tolist()  # one wait; both keep NaN
    if math.isnan(low) or math.isnan(high):
        bad = int((lowest.isnan() | peak.isnan()).sum().item())
        if activation == "softmax":
            raise ValueError(
                f"softmax of the logits is NaN in {bad} of {lowest.numel()} (image, class) pairs: "
                "logits may be finite or -inf, but a pixel needs a finite one"
            )
        raise ValueError(
            f"{'probs contains' if activation == 'none' else 'logits contain'} NaN, in {bad} of "
            f"{lowest.numel()} (image, class) pairs; "
            "check the model's output, or replace them before deciding"
        )
    if low < 0.0 or high > 1.0:
        advice = _advice_on_range(low, high)
        raise ValueError(f"probs must lie in [0, 1], got min={low:.9g}, max={high:.9g}; {advice}")


def _advice_on_range(low: float, high: float) -> str:
    """What values outside [0, 1] may be, and what to do."""
    if low > -1e-3 and high < 1.001:
        return "clamp(0, 1) if this is rounding"
    logits = "apply softmax or sigmoid first, or say activation='softmax' or 'sigmoid'"
    for most, kind in ((100, "percent"), (255, "8-bit values"), (65535, "16-bit values")):
        if low >= 0.0 and high < most + 0.5:
            scaled = f"divide by {most} if they are {kind}; labels are no probabilities"
            return f"{scaled}; if they are logits, {logits}"
    return logits
