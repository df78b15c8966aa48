"""Pairs that lie in files: opened one at a time, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rankseg.evaluation.open_pair import Labels, Probs, open_labels, open_probs
from rankseg.evaluation.pairs import PairError
from rankseg.evaluation.places import VolumePlace
from rankseg.files import FileError, describe
from rankseg.files.matching import Entry, Match
from rankseg.inputs import Reading
from rankseg.layout import Layout, check_classes_axis

NO_LABEL = -(2**62)
"""Label of pixels about which nothing is known: ignored ones, and those without data."""

TROUBLE = (FileError, OSError, ValueError, TypeError, RuntimeError, MemoryError)
"""What one pair can suffer from; a missing package ends the command."""


@dataclass(frozen=True)
class LabelReading:
    """How labels are read; see ``rankseg evaluate``."""

    key: str | None
    ignore_index: int | None
    values: tuple[int, ...] | None
    """Stored label of class 0, 1, ...; None where they are stored so."""
    nifti_order: str | None
    """'zyx' or 'xyz': order of the other file's axes beside a NIfTI file."""
    check_place: bool


@dataclass
class FilePairs:
    """Pairs of files as ``evaluate`` and ``tune`` take them, with ``ignore_index=NO_LABEL``.

    Attributes
    ----------
    matches : sequence of Match
    reading : Reading
        Of probabilities.
    labels : LabelReading
    lacking : dict of str to float
        Share of pixels of an image that lack data, filled by every visit.
    done : float
        Share of the visit that is done.
    """

    matches: Sequence[Match]
    reading: Reading
    labels: LabelReading
    lacking: dict[str, float] = field(default_factory=dict)
    done: float = 0.0

    def __iter__(self) -> Iterator[Any]:
        """(probs, labels, name, canvas) of every image, or the PairError that says why not."""
        for place, match in enumerate(self.matches):
            for share, item in self._of(match):
                self.done = (place + share) / len(self.matches)
                yield item

    def _of(self, match: Match) -> Iterator[tuple[float, Any]]:
        """Images of one pair of files, each with the share of them that are done."""
        with ExitStack() as stack:
            try:
                with _named(match.probs):
                    probs = stack.enter_context(open_probs(match.probs, self.reading))
                with _named(match.labels):
                    labels = open_labels(match.labels, self.labels.key, self.reading.limit, probs)
                self._check_place(probs, labels)
            except TROUBLE as error:
                yield 1.0, PairError(match.name, describe(error))
                return
            for index in range(probs.count):
                yield (index + 1) / probs.count, self._item(match, probs, labels, index)

    def _check_place(self, probs: Probs, labels: Labels) -> None:
        here, there = probs.place, labels.place
        if self.labels.check_place and here is not None and type(here) is type(there):
            here.check(there)  # type: ignore[arg-type]

    def _item(self, match: Match, probs: Probs, labels: Labels, index: int) -> Any:
        name = f"{match.name} {index}" if probs.count > 1 else match.name
        try:
            values = probs.image(index)
            truth = _one(labels.image(index), values.ndim - 2, labels.axis)
            truth = self._turned(truth, values, probs, labels)
            if truth.ndim < values.ndim and self.reading.probabilities:
                check_classes_axis(values)
            truth = self._as_classes(truth)
            return self._with_data(name, values, truth, probs, labels)
        except TROUBLE as error:
            return PairError(name, describe(error))

    def _turned(self, truth: Tensor, values: Tensor, probs: Probs, labels: Labels) -> Tensor:
        """Labels in the order of the probabilities' axes, where one of them is NIfTI.

        NIfTI files hold x, y, z, and are shown as z, y, x (see ``VolumeInput``).
        """
        volumes = [isinstance(one.place, VolumePlace) for one in (probs, labels)]
        first = 1 + (truth.ndim == values.ndim)
        turned = truth.permute(*range(first), *reversed(range(first, truth.ndim)))
        if volumes[0] == volumes[1]:
            return turned if volumes[0] else truth
        if self.labels.nifti_order is not None:
            as_shown = self.labels.nifti_order == "zyx"
            return turned if as_shown == volumes[1] else truth
        spatial = values.shape[2:]
        fit, turned_fit = truth.shape[first:] == spatial, turned.shape[first:] == spatial
        if fit and turned_fit and len(spatial) > 1:
            raise FileError(
                f"axes of shape {tuple(spatial)} beside a NIfTI file can be read in two ways: say "
                "--nifti-order zyx (SimpleITK, nnU-Net) or xyz (nibabel) for the other file"
            )
        return turned if turned_fit else truth

    def _as_classes(self, truth: Tensor) -> Tensor:
        """Stored labels as numbers of classes, NO_LABEL where they are ignored."""
        ignored, values = self.labels.ignore_index, self.labels.values
        if truth.dtype == torch.bool or (ignored is None and values is None):
            return truth
        truth = truth.to(torch.int64)
        known = torch.ones_like(truth, dtype=torch.bool) if ignored is None else truth != ignored
        found = truth if values is None else _places(truth, torch.tensor(values), known)
        return found.masked_fill(~known, NO_LABEL)

    def _with_data(
        self, name: str, values: Tensor, truth: Tensor, probs: Probs, labels: Labels
    ) -> Any:
        """The pair without pixels that lack probabilities; labels that lack data are unknown."""
        lacking = torch.zeros(values.shape[2:], dtype=torch.bool)
        if labels.valid is not None and tuple(labels.valid.shape) == tuple(truth.shape[-2:]):
            self._refuse_class(labels.nodata, values.shape[1])
            truth = truth.to(torch.int64).masked_fill(~labels.valid, NO_LABEL)
            if labels.valid.shape == lacking.shape:
                lacking |= ~labels.valid
        if probs.valid is None or truth.shape[-2:] != values.shape[-2:]:
            if lacking.any():
                self.lacking[name] = lacking.double().mean().item()
            return values, truth, name
        if not probs.valid.any():
            raise FileError("no pixel of the probabilities has data")
        lacking |= ~probs.valid
        self.lacking[name] = lacking.double().mean().item()
        return values[..., probs.valid], truth[..., probs.valid], name, probs.valid

    def _refuse_class(self, nodata: float | None, classes: int) -> None:
        """Refuse a nodata value that is a class, too: to leave it out may be a mistake."""
        known = self.labels.values or range(max(classes, 2))
        if nodata is not None and nodata in known and nodata != self.labels.ignore_index:
            raise FileError(
                f"the labels' nodata value {nodata:g} is a class, too: say --ignore-index "
                f"{nodata:g} to leave these pixels out, or take the nodata value out of the file: "
                "rasterio.open(path, 'r+').nodata = None"
            )


@contextmanager
def _named(entry: Entry) -> Iterator[None]:
    """Let errors name the file."""
    try:
        yield
    except TROUBLE as error:
        raise FileError(f"{entry}: {describe(error)}") from error


def _one(stored: Tensor, spatial: int, axis: Any) -> Tensor:
    """Labels (1, *spatial) or masks (1, C, *spatial) of one image."""
    if stored.ndim == spatial:
        return stored[None]
    if stored.ndim == spatial + 1 and axis != "none":
        return Layout(axis, batched=False).images(stored)
    raise FileError(
        f"labels of shape {tuple(stored.shape)} do not go with an image of {spatial} spatial axes"
    )


def _places(truth: Tensor, values: Tensor, known: Tensor) -> Tensor:
    """Place of each label among the values."""
    order = values.argsort()
    place = torch.searchsorted(values[order], truth.contiguous()).clamp_(max=len(values) - 1)
    found = order[place]
    odd = truth[known & (values[found] != truth)]
    if len(odd):
        listed = ",".join(map(str, values.tolist()))
        raise FileError(f"label {odd[0].item()} is not among --label-values {listed}")
    return found
