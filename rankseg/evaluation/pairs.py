"""Pairs of probabilities and ground truth: checked, one image at a time, each with its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rankseg import validation

Groups = Callable[[str], str] | Mapping[str, str] | None

UNKNOWN = "no pixel counts: all are ignored"
"""Why an image is not counted that has nothing wrong with it."""

_WIDE = (torch.uint16, torch.uint32, torch.uint64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Image:
    """One image and what is true of it.

    Attributes
    ----------
    name : str
    values : Tensor, shape (1, C, *spatial)
        Probabilities, or logits.
    truth : Tensor
        Labels int64 (1, *spatial), or masks bool (1, C, *spatial).
    counts : Tensor, bool, shaped like `truth`, or None
        Where the ground truth says something; None where it does everywhere.
    canvas : Tensor, bool (height, width), or None
        Where the pixels lay, if those without data were taken out; for pictures.
    """

    name: str
    values: Tensor
    truth: Tensor
    counts: Tensor | None
    canvas: Tensor | None = None

    @property
    def masks(self) -> bool:
        """Whether the truth is masks."""
        return self.truth.ndim == self.values.ndim

    @property
    def counted(self) -> int:
        """Pixels (of classes, for masks) that count."""
        return self.truth.numel() if self.counts is None else int(self.counts.sum())


class PairError(ValueError):
    """A pair that cannot be used; the message begins with the image's name.

    Attributes
    ----------
    name, reason : str
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type[PairError], tuple[str, str]]:
        """Errors travel between processes."""
        return type(self), (self.name, self.reason)


@dataclass(frozen=True)
class Skipped:
    """Images that are not counted, each with the reason.

    Attributes
    ----------
    strict : bool
        Whether a pair that cannot be used is an error. An image about which nothing is known is
        none.
    reasons : dict of str to str
    """

    strict: bool
    reasons: dict[str, str] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def begin(self) -> None:
        """Begin a visit: its images are those of the last."""
        self.seen.clear()

    def add(self, error: PairError) -> None:
        """Remember an image that cannot be used, or raise."""
        if self.strict:
            raise error
        self.note(error.name, error.reason)

    def note(self, name: str, reason: str) -> None:
        """Remember an image; the second of a name, in another folder, say, as another one."""
        self.seen[name] += 1
        number = self.seen[name]
        self.reasons[name if number == 1 else f"{name} ({number})"] = reason


def are_pairs(pairs: object) -> Iterable[Any]:
    """Refuse what is no pairs: a tensor, above all, whose first axis would be taken for them."""
    wrong = (str, bytes, Mapping, Tensor, np.ndarray, type)
    if isinstance(pairs, wrong) or not hasattr(pairs, "__iter__"):
        raise TypeError(
            "pairs must be a list or another iterable of (probs, labels) or (probs, labels, "
            f"name); got {type(pairs).__name__}"
        )
    return cast(Iterable[Any], pairs)


def re_iterable(pairs: object) -> Iterable[Any]:
    """Refuse what is no pairs, or gives them once."""
    if isinstance(pairs, Iterator):
        raise TypeError(
            f"pairs are visited several times, and a {type(pairs).__name__} gives them once: pass "
            "a list, a DataLoader, or an object whose __iter__ starts anew"
        )
    return are_pairs(pairs)


def each_image(
    pairs: Iterable[Any], masks: bool, ignore_index: int | None, skipped: Skipped
) -> Iterator[Image]:
    """Images of all pairs about which something is known, in order.

    Parameters
    ----------
    pairs : iterable
        (probs, labels), or (probs, labels, names): probs (B, C, *spatial); labels int (B,
        *spatial) or, for masks, bool (B, C, *spatial), or 0 and 1; a str, or B of them. Arrays of
        numpy are taken as well. A pair that could not be read may be the PairError that says why.
        Pixels without data may have been taken out, which leaves an image of one axis: a fourth
        part, bool (height, width), then tells the pictures where the others lay.
    masks : bool
        Which of the two the labels are.
    ignore_index : int, optional
        Label of pixels about which nothing is known.
    skipped : Skipped
        Where the others are noted.

    Raises
    ------
    PairError
        For a pair whose parts do not go together, if `skipped` is strict.
    """
    first = 0
    skipped.begin()
    for place, pair in enumerate(pairs):
        try:
            values, truth, names, canvas = _parts(pair, place, first)
        except PairError as error:
            skipped.add(error)
            first += _images_in(pair)
            continue
        if truth.ndim == values.ndim - 1 and values.shape[1] == 1 and masks:
            truth = truth[:, None]  # one channel, binary
        counts = _counts(truth, ignore_index)
        for index, name in enumerate(names):
            here = slice(index, index + 1)
            part = None if counts is None else counts[here]
            try:
                image = _checked(Image(name, values[here], truth[here], part, canvas), masks)
            except PairError as error:
                skipped.add(error)
                continue
            if image.counted:
                yield image
            else:
                skipped.note(name, UNKNOWN)
        first += len(names)


def group_of(groups: Groups, name: str) -> str:
    """What an image belongs to: a patient, a film; itself if nothing is said."""
    if groups is None:
        return name
    if not callable(groups) and not isinstance(groups, Mapping):
        raise TypeError(
            "groups must be a function of an image's name, or a mapping from it; got "
            f"{type(groups).__name__}"
        )
    try:
        found = groups(name) if callable(groups) else groups[name]
    except KeyError as error:
        raise ValueError(f"groups has no entry for the image {name!r}") from error
    return str(found)


def _parts(pair: Any, place: int, first: int) -> tuple[Tensor, Tensor, list[str], Tensor | None]:
    """Tensors of a pair with a batch, a name for each image, and the canvas."""
    if isinstance(pair, PairError):
        raise pair
    if not isinstance(pair, (tuple, list)) or len(pair) not in (2, 3, 4):
        got = f"{len(pair)} things" if isinstance(pair, (tuple, list)) else type(pair).__name__
        raise PairError(
            f"pair {place}", f"each pair is (probs, labels) or (probs, labels, name); got {got}"
        )
    given = pair[2] if len(pair) > 2 else None
    where = given if isinstance(given, str) else f"pair {place}"
    try:
        values, truth = (_tensor(part) for part in pair[:2])
        values = validation.pixel_tensor(values)
        if isinstance(truth, Tensor):
            truth = validation.plain_tensor("labels", truth)
    except (TypeError, ValueError) as error:
        raise PairError(where, str(error)) from error
    if not isinstance(truth, Tensor) or truth.ndim < 2:
        got = str(tuple(truth.shape)) if isinstance(truth, Tensor) else type(truth).__name__
        raise PairError(
            where, f"labels must be a tensor (B, *spatial), or masks (B, C, *spatial); got {got}"
        )
    if len(truth) != len(values):
        raise PairError(where, f"{len(values)} images of probs, {len(truth)} of labels")
    names = _names(given, len(values), first, where)
    return values, truth.to(values.device), names, pair[3] if len(pair) == 4 else None


def _tensor(part: Any) -> Any:
    """Arrays as tensors; kinds that torch hardly knows, such as uint16, in a wider one."""
    if isinstance(part, Tensor) and part.dtype in _WIDE:
        return part.to(torch.int64)
    if not isinstance(part, np.ndarray):
        return part
    if isinstance(part, np.ma.MaskedArray):
        raise TypeError(
            "arrays must be plain; got a masked one: fill it, labels with the ignore_index"
        )
    kind = np.dtype("int64") if part.dtype.kind == "u" and part.dtype.itemsize > 1 else part.dtype
    native = part.astype(kind.newbyteorder("="), copy=False)
    if native.dtype.kind not in "fiubc":
        raise TypeError(f"arrays must hold numbers; got {native.dtype}")
    # Torch takes no negative strides, and warns of memory that cannot be written.
    return torch.as_tensor(np.require(native, requirements=["C", "W"]))


def _images_in(pair: Any) -> int:
    """How many images a pair that cannot be used would have had, for the numbers of the others."""
    probs = next(iter(pair), None) if isinstance(pair, (tuple, list)) else None
    shape: tuple[int, ...] = tuple(getattr(probs, "shape", ()))
    return int(shape[0]) if len(shape) > 2 else 1


def _names(given: Any, images: int, first: int, where: str) -> list[str]:
    if given is None:
        return [f"image {index}" for index in range(first, first + images)]
    if isinstance(given, Tensor):  # a loader makes tensors of numbers
        given = _plain_names(given, where)
    several = isinstance(given, (Sequence, np.ndarray, Tensor)) and not isinstance(given, str)
    if not several or getattr(given, "ndim", 1) == 0:
        return [str(given)] if images == 1 else [f"{given} {i}" for i in range(images)]
    if len(given) != images:
        raise PairError(where, f"{images} images, {len(given)} names")
    return [str(name) for name in (given.tolist() if hasattr(given, "tolist") else given)]


def _plain_names(given: Tensor, where: str) -> Any:
    """Names that came as numbers: a tensor of one axis, or a number."""
    try:
        given = validation.plain_tensor("names", given)
    except TypeError as error:
        raise PairError(where, str(error)) from error
    if given.ndim > 1:
        raise PairError(where, f"names must be one for each image; got shape {tuple(given.shape)}")
    return given if given.ndim else given.item()


def _counts(truth: Tensor, ignore_index: int | None) -> Tensor | None:
    if ignore_index is None or truth.dtype == torch.bool:
        return None
    counts = truth.long() != ignore_index  # uint8 would be compared with -1 as with 255
    return None if bool(counts.all()) else counts


def _checked(image: Image, masks: bool) -> Image:
    """The image with truth of the type wanted."""
    classes, spatial = image.values.shape[1], tuple(image.values.shape[2:])
    wanted = (1, classes, *spatial) if masks else (1, *spatial)
    truth, name = image.truth, image.name
    if tuple(truth.shape) != wanted:
        other = (1, *spatial) if masks else (1, classes, *spatial)
        kind = "masks" if masks else "labels"
        advice = ""
        if tuple(truth.shape) == other:
            advice = f"; these are {'labels' if masks else 'masks'}: choose the other output_mode"
        elif truth.ndim == len(wanted):
            advice = "; bring the probabilities to the size of the labels first"
        raise PairError(
            name,
            f"{kind} of shape {tuple(truth.shape[1:])} do not go with probs of "
            f"{validation.count(classes, 'class', 'classes')} and spatial shape {spatial}{advice}",
        )
    if truth.dtype != torch.bool and truth.dtype not in _INTEGERS:
        raise PairError(name, f"labels must be integers or bool; got {truth.dtype}")
    if truth.dtype == torch.bool and not masks and classes > 2:
        raise PairError(name, f"bool labels have two classes, probs {classes}")
    known = truth if image.counts is None else truth[image.counts]
    most = 2 if masks else max(classes, 2)  # one channel: 0 and 1
    if known.numel() and truth.dtype != torch.bool:
        low, high = int(known.min()), int(known.max())
        if low < 0 or high >= most:
            why = ", because probs have one channel" if classes == 1 and not masks else ""
            raise PairError(
                name,
                f"labels from {low} to {high}, but {'masks are' if masks else 'there are'} "
                f"0 to {most - 1}{why}; say ignore_index={high if high >= most else low} if that "
                "marks pixels to leave out",
            )
    if image.counts is not None:
        truth = truth.masked_fill(~image.counts, 0)
    return replace(image, truth=truth.to(torch.bool if masks else torch.int64))
