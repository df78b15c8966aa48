"""The field over pixels that come in tiles: one image cut up, or the images of a data set.

Every question is put to all tiles and the answers are merged. Answers are integers and extremes, so
the order of the tiles, their shapes and who merged what change nothing, and the field's numbers
are those of the field over all pixels at once, bit for bit. Memory does not grow with the image.

A ``Source`` decides where the tiles are: here, on the workers of a cluster, on other ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor

from rankseg.cached import cached_property
from rankseg.fields import dinkelbach
from rankseg.fields.base import Best, Field, LabelRule, Selection, Totals, Whole, Windows
from rankseg.fields.choose import field_for, part_of
from rankseg.fields.exact_sum import Scale, Tally
from rankseg.fields.tensor import TensorField
from rankseg.objectives import LinearFractional, RatioFamily

BINS = 1 << 12
"""Bins of the histogram that tells where to begin: 19 classes are 1.2 MB."""

UNIT = 2.0**30
"""Integers that make 1 in the sums of its bins: sums below 2^33 overflow nothing."""

CHANGED = (
    "the tiles changed between two visits: each visit must give the same pixels, in any order; "
    "switch off dropout, augmentation, sampling and drop_last, or store the probabilities first"
)

Answer = TypeVar("Answer", bound="Mergeable")


class Mergeable(Protocol):
    """Answers add up, in any order."""

    def merge(self: Answer, other: Answer) -> Answer:
        """Answer for both parts."""
        ...


@runtime_checkable
class Source(Protocol):
    """Where the tiles are."""

    def reduce(self, ask: Callable[[Tensor], Answer]) -> Answer:
        """Put a question, which can be pickled, to every tile once; merge the answers."""
        ...


class Here:
    """Tiles that come one after the other in this process, on every visit."""

    def __init__(self, visit: Callable[[], Iterable[Tensor]]) -> None:
        self.visit = visit

    def reduce(self, ask: Callable[[Tensor], Answer]) -> Answer:
        """One tile at a time."""
        found: Answer | None = None
        for answer in map(ask, self.visit()):
            found = answer if found is None else found.merge(answer)
        if found is None:
            raise ValueError("there are no tiles to decide on")
        return found


@dataclass(frozen=True)
class Extent:
    """First answer: what kind of pixels, how many, and each class's extremes, (1, C)."""

    dtype: torch.dtype
    pixels: int
    checksum: int
    lowest: Tensor
    peak: Tensor

    def merge(self, other: Extent) -> Extent:
        """Extent of both parts; ValueError if they are not parts of one image."""
        mine, theirs = self.lowest.shape[1], other.lowest.shape[1]
        if mine != theirs:
            raise ValueError(
                f"tiles disagree in the number of classes: one has {mine}, another {theirs}"
            )
        if self.dtype != other.dtype:
            kinds = sorted(str(kind).removeprefix("torch.") for kind in (self.dtype, other.dtype))
            raise ValueError(f"tiles disagree: one is {kinds[0]}, another {kinds[1]}")
        return Extent(
            self.dtype,
            self.pixels + other.pixels,
            self.checksum + other.checksum,
            torch.minimum(self.lowest, other.lowest),
            torch.maximum(self.peak, other.peak),
        )


@dataclass(frozen=True)
class Count:
    """Later answers: integers of a sum, what was seen, a histogram (2, C, BINS) if asked for."""

    tally: Tally
    pixels: int
    checksum: int
    bins: Tensor

    def merge(self, other: Count) -> Count:
        """Count of both parts."""
        return Count(
            self.tally.plus(other.tally),
            self.pixels + other.pixels,
            self.checksum + other.checksum,
            self.bins + other.bins,
        )


@dataclass(frozen=True)
class Sketch:
    """Only answer of a single visit: extent and histogram (2, C, BINS)."""

    extent: Extent
    bins: Tensor

    def merge(self, other: Sketch) -> Sketch:
        """Sketch of both parts."""
        return Sketch(self.extent.merge(other.extent), self.bins + other.bins)


@dataclass(frozen=True)
class How:
    """How tiles are read: what becomes of a tile before it is looked at."""

    check: Callable[[Tensor], Tensor]
    activation: str
    backend: str


def extent(how: How, tile: Tensor) -> Extent:
    """Extent of one tile."""
    values = how.check(tile)
    field = field_for(values, how.activation, how.backend)
    totals = field.totals()
    no_image = torch.full((1, field.classes), torch.inf, dtype=torch.float64)
    lowest, peak = totals.lowest.cpu(), totals.peak.cpu()
    return Extent(
        values.dtype,
        values.shape[0] * field.pixels,
        checksum(values),
        torch.cat([lowest, no_image]).amin(0, keepdim=True),
        torch.cat([peak, -no_image]).amax(0, keepdim=True),
    )


def checksum(values: Tensor) -> int:
    """Sum of the values' bits as integers: the same in any order, another if a value changes."""
    bits = {8: torch.int64, 4: torch.int32, 2: torch.int16}[values.element_size()]
    flat = values.flatten(2)
    return sum(int(image.contiguous().view(bits).sum(dtype=torch.int64)) for image in flat)


def sketch(how: How, tile: Tensor) -> Sketch:
    """Sketch of one tile."""
    first = extent(how, tile)
    field = field_for(how.check(tile), how.activation, how.backend)
    valid = bool((first.lowest >= 0).all() and (first.peak <= 1).all())  # others are refused
    none = torch.zeros(2, field.classes, BINS, dtype=torch.int64)
    return Sketch(first, field.histogram(BINS, UNIT).cpu() if valid else none)


def total(how: How, whole: Whole, tile: Tensor) -> Count:
    """Sum of all pixels of a tile, and their histogram."""
    field = _part(how, whole, tile)
    everything = torch.full((field.batch, field.classes), -1.0, dtype=torch.float64)
    return _count(
        field, field.tally_above(everything.to(field.device)), field.histogram(BINS, UNIT)
    )


def above(how: How, whole: Whole, threshold: Tensor, tile: Tensor) -> Count:
    """What ``Field.above`` sums up, in a tile."""
    field = _part(how, whole, tile)
    return _count(field, field.tally_above(_rows(threshold, field)))


def claimed_once(how: How, whole: Whole, threshold: Tensor, tile: Tensor) -> Count:
    """What ``Field.claimed_once`` sums up, in a tile."""
    field = _part(how, whole, tile)
    return _count(field, field.tally_claimed_once(_rows(threshold, field)))


def regions(how: How, whole: Whole, rule: LabelRule, tile: Tensor) -> Count:
    """What ``Field.regions`` sums up, in a tile."""
    field = _part(how, whole, tile)
    return _count(field, field.tally_regions(rule.expand(field.batch, field.device)))


def spread(
    how: How, whole: Whole, windows: Windows, region: LabelRule | None, tile: Tensor
) -> Count:
    """What ``Field.spread`` counts, in a tile."""
    field = _part(how, whole, tile)
    rule = None if region is None else region.expand(field.batch, field.device)
    bins = torch.zeros(2, len(windows.row), windows.bins, dtype=torch.int64)
    if field.batch:
        found = field.spread(windows.of_images(field.batch), rule).cpu()
        bins = found.reshape(2, field.batch, *bins.shape[1:]).sum(1)
    nothing = Tally(*torch.zeros(2, 1, 1, 1, dtype=torch.int64))
    return _count(field, nothing, bins)


@dataclass(frozen=True)
class Values:
    """Different probabilities of one class, rising, and how often each occurs."""

    value: Tensor
    count: Tensor

    def merge(self, other: Values) -> Values:
        """Values of both parts."""
        value, place = torch.unique(torch.cat([self.value, other.value]), return_inverse=True)
        count = torch.zeros_like(value, dtype=torch.int64)
        return Values(value, count.index_add(0, place, torch.cat([self.count, other.count])))


def distinct(
    how: How, class_: int, low: float, high: float, region: LabelRule | None, tile: Tensor
) -> Values:
    """What ``Field.distinct`` finds in a tile."""
    field = field_for(how.check(tile), how.activation, how.backend)
    rule = None if region is None else region.expand(tile.shape[0], field.device)
    found = Values(torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.int64))
    for image in range(tile.shape[0]):
        value, count = field.distinct((image, class_), low, high, rule)
        found = found.merge(Values(value.cpu(), count.cpu()))
    return found


def _part(how: How, whole: Whole, tile: Tensor) -> TensorField:
    values = how.check(tile)
    if values.shape[1] != whole.totals.peak.shape[1]:
        raise ValueError(CHANGED)
    return part_of(whole, values, how.activation, how.backend)


def _rows(numbers: Tensor, field: TensorField) -> Tensor:
    return numbers.to(field.device).expand(field.batch, field.classes).contiguous()


def _count(field: TensorField, tally: Tally, bins: Tensor | None = None) -> Count:
    nothing = torch.zeros(0, dtype=torch.int64)
    together = tally.together()
    return Count(
        Tally(together.limbs.cpu(), together.volume.cpu()),
        field.batch * field.pixels,
        checksum(field.rows),
        nothing if bins is None else bins.cpu(),
    )


def representable(number: float, pixels: Extent, how: How) -> float:
    """The number as the input's type holds it: that of probabilities made from logits is wider."""
    wide = torch.float64 if pixels.dtype == torch.float64 else torch.float32
    kind = pixels.dtype if how.activation == "none" else wide
    return torch.tensor(number, dtype=kind).item()


class TiledField:
    """Field of one image, (1, C, n), whose pixels come in tiles."""

    def __init__(self, source: Source, how: How) -> None:
        self.source = source
        self.how = how
        self.device = torch.device("cpu")
        first = source.reduce(partial(extent, how))
        self.extent = first
        self.classes, self.pixels = first.lowest.shape[1], first.pixels
        self.block_dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
        plain = how.activation == "none"
        self.spacing = torch.finfo(first.dtype if plain else self.block_dtype).eps

    def representable(self, number: float) -> float:
        """The number as the input's type holds it."""
        return representable(number, self.extent, self.how)

    def totals(self) -> Totals:
        """Expected volume, smallest and largest probability of each class."""
        return self._whole.totals

    def above(self, threshold: Tensor) -> Selection:
        """Sum and count of {p > threshold} in each class."""
        return self._ask(partial(above, self.how, self._whole, threshold))

    def claimed_once(self, threshold: Tensor) -> Selection:
        """As ``above``, over the pixels that exactly one class claims."""
        return self._ask(partial(claimed_once, self.how, self._whole, threshold))

    def regions(self, rule: LabelRule) -> Selection:
        """Sum and count of each class's region under the rule."""
        return self._ask(partial(regions, self.how, self._whole, rule))

    def best(self, family: RatioFamily, limit: Tensor, masks: bool) -> Best:
        """Totals and, for classes whose peak is above the limit, the largest value of the ratio."""
        totals = self.totals()
        active = totals.peak > limit
        cut, region = self.maximise(family.of(totals.mu), active)
        return Best(cut, region, active, None)

    def maximise(
        self, ratio: LinearFractional, active: Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, Selection]:
        """Cut and region of the largest value of a ratio; the histogram tells where to begin."""
        first = self._first_cut(ratio) if start is None else start
        return dinkelbach.maximise(cast(Field, self), ratio, active, first)  # asks for sums only

    def distinct(
        self,
        at: tuple[int, int],
        low: float,
        high: float,
        region: Tensor | LabelRule | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Different probabilities of a class in (low, high], rising, and how often each occurs."""
        rule = cast("LabelRule | None", region)
        found = self.source.reduce(partial(distinct, self.how, at[1], low, high, rule))
        return found.value, found.count

    def spread(self, windows: Windows, region: Tensor | LabelRule | None = None) -> Tensor:
        """Pixels in the bins of each window, and the sum of their distances from its low end.

        A ``region`` is the rule of labels, which tiles can make for themselves.
        """
        rule = cast("LabelRule | None", region)
        found = self.source.reduce(partial(spread, self.how, self._whole, windows, rule))
        self._same_pixels(found)
        return found.bins

    def _first_cut(self, ratio: LinearFractional) -> Tensor:
        """Cut at the largest value over the edges of the bins."""
        volume, selected_sum = self._totals_and_bins[1].flip(-1).cumsum(-1).double()
        base = ratio.base.mT if isinstance(ratio.base, Tensor) else ratio.base
        width = ratio.width.mT if isinstance(ratio.width, Tensor) else ratio.width
        value = replace(ratio, base=base, width=width).value(selected_sum / UNIT, volume).amax(-1)
        return ratio.cut(value.unsqueeze(0))

    @cached_property
    def _whole(self) -> Whole:
        return Whole(self.pixels, self._totals_and_bins[0])

    @cached_property
    def _totals_and_bins(self) -> tuple[Totals, Tensor]:
        nothing = torch.zeros_like(self.extent.peak)
        extremes = (self.extent.lowest, self.extent.peak)
        found = self.source.reduce(
            partial(total, self.how, Whole(self.pixels, Totals(nothing, *extremes)))
        )
        self._same_pixels(found)
        return Totals(self._scale.numbers(list(found.tally.limbs)), *extremes), found.bins

    @cached_property
    def _scale(self) -> Scale:
        return Scale(self.extent.peak, self.pixels, self.block_dtype)

    def _ask(self, question: Callable[[Tensor], Count]) -> Selection:
        found = self.source.reduce(question)
        self._same_pixels(found)
        return Selection(self._scale.numbers(list(found.tally.limbs)), found.tally.volume)

    def _same_pixels(self, seen: Count) -> None:
        if (seen.pixels, seen.checksum) != (self.extent.pixels, self.extent.checksum):
            raise ValueError(CHANGED)
