"""From what was typed to pairs: which files, how they are read, what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import typer

from rankseg import batch
from rankseg.cli.groups import PairOptions
from rankseg.cli.terminal import FAILED, USAGE, Passes, ends_with, fail, plain, stoppable
from rankseg.cli.wording import as_typed
from rankseg.evaluation.file_pairs import FilePairs, LabelReading
from rankseg.evaluation.images import look
from rankseg.evaluation.pairs import UNKNOWN, PairError
from rankseg.files import (
    LABEL_SUFFIXES,
    NIFTI_SUFFIXES,
    RASTER_SUFFIXES,
    SUFFIXES,
    FileError,
)
from rankseg.files.matching import ZARR_SUFFIX, Matched, Side, found_in, match
from rankseg.inputs import Reading
from rankseg.layout import Layout, parse_axis

LISTED = 20
"""Files that the terminal names; the report and the JSON name all."""

MARKS = "if that marks pixels to leave out"
"""Advice that the command line can add to."""


@dataclass(frozen=True)
class Opened:
    """Pairs that go together, with the first of them looked at.

    Attributes
    ----------
    pairs : FilePairs
    alone : dict of str to str
        Files without a partner.
    output_mode : str
    classes : int
    """

    pairs: FilePairs
    alone: dict[str, str]
    output_mode: str
    classes: int


def open_pairs(options: PairOptions) -> Opened:
    """Pairs for the options; those that make no sense, and files that do not pair, end it."""
    with ends_with(USAGE, ValueError):
        reading, labels, pattern = _readings(options)
    sides = (
        Side(options.probs, (*SUFFIXES, ZARR_SUFFIX), options.key),
        Side(
            options.labels,
            (*LABEL_SUFFIXES, *NIFTI_SUFFIXES, *RASTER_SUFFIXES, ZARR_SUFFIX),
            options.label_key,
        ),
    )
    with (
        stoppable(lambda: "nothing was written"),
        ends_with(FAILED, FileError, OSError, ImportError),
    ):
        return _opened(options, FilePairs([], reading, labels), match(*sides, pattern))


def _opened(options: PairOptions, pairs: FilePairs, matched: Matched) -> Opened:
    """The pairs that were matched; files without a partner, or no pair to read, end it."""
    if matched.alone and not (options.allow_unpaired and matched.pairs):
        tell("unpaired", matched.alone)
        fail(
            f"{len(matched.alone)} files have no partner, {len(matched.pairs)} pairs do: say "
            "--allow-unpaired to go on without them, or --match to pair by a part of the path",
            FAILED,
        )
    pairs.matches = matched.pairs
    first = _first(pairs)
    return Opened(pairs, matched.alone, options.output_mode or look([first]), first[0].shape[1])


def _readings(options: PairOptions) -> tuple[Reading, LabelReading, re.Pattern[str] | None]:
    batch.check_scale(options.scale)
    reading = Reading(
        layout=Layout(parse_axis(options.channel_axis), options.batched),
        masks=True,  # labels are looked at one by one
        void_index=None,
        probabilities=options.activation == "none",
        key=options.key,
        max_bytes=options.max_bytes,
        scale=options.scale,
        whole=True,
    )
    labels = LabelReading(
        key=options.label_key,
        ignore_index=options.ignore_index,
        values=None if options.label_values is None else _integers(options.label_values),
        nifti_order=options.nifti_order,
        check_place=not options.ignore_place,
    )
    return reading, labels, pattern_of("--match", options.match)


def _integers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(map(int, text.split(",")))
    except ValueError:
        raise ValueError(f"--label-values must be integers with commas; got {text!r}") from None
    if len(set(found)) < len(found):
        raise ValueError(f"--label-values has a number twice; got {text!r}")
    return found


def pattern_of(option: str, text: str | None) -> re.Pattern[str] | None:
    """Compiled regular expression; ValueError if it is none."""
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise ValueError(f"{option} is no regular expression: {error}") from error


def groups_of(text: str | None, pairs: FilePairs) -> Callable[[str], str] | None:
    """What images come from, by their names; ends the command if the pattern finds nothing."""
    with ends_with(USAGE, ValueError):
        pattern = pattern_of("--group-by", text)
    if pattern is None:
        return None
    with ends_with(FAILED, FileError):
        for one in pairs.matches:
            found_in(pattern, one.name)
    return lambda name: found_in(pattern, name)


def _first(pairs: FilePairs) -> Any:
    """The first pair that can be read; ends the command if there is none."""
    failures: dict[str, str] = {}
    for pair in pairs:
        if not isinstance(pair, PairError):
            return pair
        failures[pair.name] = pair.reason
    tell("failed", typed(failures))
    fail("no pair can be read", FAILED)


class Visits:
    """Pairs that show a bar for every visit."""

    def __init__(self, pairs: FilePairs, passes: Passes, title: str) -> None:
        self.pairs = pairs
        self.passes = passes
        self.title = title
        self.number = 0

    def __iter__(self) -> Iterator[Any]:
        """The pairs."""
        self.number += 1
        title = self.title.format(self.number)
        return self.passes.track(self.pairs, title, lambda: self.pairs.done)


def typed(reasons: Mapping[str, str]) -> dict[str, str]:
    """Reasons whose advice is for the command line."""
    more = f"{MARKS}, or --label-values if classes have other labels"
    return {name: as_typed(reason).replace(MARKS, more) for name, reason in reasons.items()}


def tell(word: str, reasons: Mapping[str, str]) -> None:
    """Name files on stderr, one a line; of many, some and how many more."""
    for name, reason in list(reasons.items())[:LISTED]:
        typer.echo(plain(f"{word}: {name}: {reason}"), err=True)
    if len(reasons) > LISTED:
        typer.echo(f"{word}: {len(reasons) - LISTED:,} more", err=True)


def tell_skipped(skipped: Mapping[str, str]) -> bool:
    """Name images that are not counted; True if something is wrong with one."""
    unknown = {name: reason for name, reason in skipped.items() if reason == UNKNOWN}
    failed = {name: reason for name, reason in skipped.items() if name not in unknown}
    tell("left out", unknown)
    tell("failed", failed)
    return bool(failed)
