"""Plots as SVG: they follow the page's colours and are sharp at any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rankseg.evaluation.bootstrap import Estimate
from rankseg.evaluation.report.markup import minus, points, text

SIDE, LEFT, TOP = 180.0, 44.0, 8.0
"""Of a reliability diagram: side of the square and where it begins, in pixels."""
STRIP = 34.0
"""Height of the bars below it."""


@dataclass(frozen=True)
class Line:
    """A row of an interval plot; `value` may be NaN, its interval, too."""

    name: str
    value: Estimate
    marked: bool = False


def intervals(lines: Sequence[Line], title: str) -> str:
    """Differences with their intervals, one a row, on one scale with a line at 0."""
    known = [
        number
        for line in lines
        for number in (line.value.value, line.value.low, line.value.high)
        if not math.isnan(number)
    ]
    low, high = min([0.0, *known]), max([0.0, *known])
    margin = 0.07 * (high - low) or 0.01
    scale = _Scale(low - margin, high + margin)
    rows = "".join(_row(line, scale) for line in lines)
    return f'<div role="group" aria-label="{text(title)}">{rows}{_axis(scale)}</div>'


@dataclass(frozen=True)
class _Scale:
    """From differences to percent of the width."""

    low: float
    high: float

    def __call__(self, value: float) -> str:
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"

    def ticks(self) -> list[float]:
        """Round numbers, four or so."""
        rough = (self.high - self.low) / 4
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [number * step for number in range(first, last + 1)]


def _row(line: Line, scale: _Scale) -> str:
    one = line.value
    colour = "soft" if not (one.low > 0 or one.high < 0) else "good" if one.low > 0 else "bad"
    marks = f'<line x1="{scale(0)}" x2="{scale(0)}" y1="0" y2="100%" stroke="var(--soft)"/>'
    if not math.isnan(one.low):
        marks += (
            f'<line x1="{scale(one.low)}" x2="{scale(one.high)}" y1="50%" y2="50%" '
            f'stroke="var(--{colour})" stroke-width="3" stroke-linecap="round"/>'
        )
    if not math.isnan(one.value):
        marks += f'<circle cx="{scale(one.value)}" cy="50%" r="5" fill="var(--{colour})"/>'
    told = points(one.value)
    if not math.isnan(one.low):
        told += f" ({points(one.low)} to {points(one.high)})"
    return (
        f'<div class="row{" marked" if line.marked else ""}">'
        f'<span class="name">{text(line.name)}</span>'
        f'<span class="track"><svg width="100%" aria-hidden="true">{marks}</svg></span>'
        f'<span class="told">{text(told)}</span></div>'
    )


def _axis(scale: _Scale) -> str:
    labels = "".join(
        f'<text x="{scale(tick)}" y="14" text-anchor="middle">'
        f"{text(minus(f'{100 * tick:+g}') if tick else '0')}</text>"
        for tick in scale.ticks()
    )
    return (
        '<div class="row axis" aria-hidden="true"><span class="name"></span><span class="track">'
        f'<svg width="100%">{labels}</svg></span><span class="told soft">hundredths</span></div>'
    )


def diagram(
    said: Sequence[float], found: Sequence[float], count: Sequence[float], axes: tuple[str, str]
) -> str:
    """What was said against what was found, from 0 to 1, with bars for how many.

    Parameters
    ----------
    said, found : sequence of float
        Of each bin; NaN where it is empty.
    count : sequence of float
    axes : pair of str
        What is said, what is found.
    """
    there = [k for k, number in enumerate(count) if number > 0]
    dots = [(_x(said[k]), _y(found[k])) for k in there]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
    marks = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in dots)
    told = "; ".join(f"{said[k]:.2f}: {found[k]:.2f}" for k in there)
    wide, high = LEFT + SIDE + 12, TOP + SIDE + STRIP + 44
    return (
        f'<svg viewBox="0 0 {wide:g} {high:g}" role="img" '
        f'aria-label="{text(f"{axes[1]} for {axes[0]}: {told}")}">'
        f'<rect x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" fill="none" '
        'stroke="var(--line)"/>'
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="var(--soft)" '
        'stroke-dasharray="4 4"/>'
        f'<polyline points="{path}" fill="none" stroke="var(--accent)" stroke-width="2"/>'
        f'<g fill="var(--accent)">{marks}</g>{_bars(count)}{_words(axes)}</svg>'
    )


def _bars(count: Sequence[float]) -> str:
    """Bars of logarithmic height: most pixels are in one bin."""
    most = math.log1p(max([1.0, *count]))
    base, width = TOP + SIDE + 8 + STRIP, SIDE / len(count)
    bars = "".join(
        f'<rect x="{LEFT + k * width + 0.5:.1f}" y="{base - STRIP * math.log1p(n) / most:.1f}" '
        f'width="{width - 1:.1f}" height="{STRIP * math.log1p(n) / most:.1f}"/>'
        for k, n in enumerate(count)
        if n > 0
    )
    return f'<g fill="var(--accent)" fill-opacity="0.35">{bars}</g>'


def _words(axes: tuple[str, str]) -> str:
    below, beside = TOP + SIDE + STRIP + 22, LEFT - 5
    ticks = "".join(
        f'<text x="{_x(tick)}" y="{below}" text-anchor="middle">{tick:g}</text>'
        f'<text x="{beside}" y="{_y(tick) + 4}" text-anchor="end">{tick:g}</text>'
        for tick in (0, 0.5, 1)
    )
    middle = TOP + SIDE / 2
    return (
        f'{ticks}<text x="{_x(0.5)}" y="{below + 16}" text-anchor="middle">{text(axes[0])}</text>'
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">'
        f"{text(axes[1])}</text>"
    )


def _x(value: float) -> float:
    return LEFT + SIDE * value


def _y(value: float) -> float:
    return TOP + SIDE * (1 - value)
