"""Images side by side: the truth, two decisions, what changed, and the probability."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rankseg.evaluation.report.markup import minus, score, text
from rankseg.evaluation.report.png import Colour, data_uri
from rankseg.evaluation.result import Example
from rankseg.evaluation.thumbnails import UNCOUNTED

Picture = npt.NDArray[np.uint8]

# Okabe and Ito's palette stays distinct for colour-blind readers.
NOTHING, LEFT_OUT = (240, 240, 240), (170, 170, 170)
FEW = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (213, 94, 0)),
    *((0, 114, 178), (204, 121, 167), (240, 228, 66)),
)
CHANGES: dict[str, Colour] = {
    "same": (240, 240, 240),
    "same, of a class": (200, 200, 200),
    "now right": (0, 114, 178),
    "now wrong": (213, 94, 0),
    "wrong before and after": (240, 228, 66),
    "does not count": LEFT_OUT,
}
LIGHT, DARK = (247, 251, 255), (8, 48, 107)
LOWEST = 12
"""Rows that a picture has at least: an image of one axis would be a hair."""


def example(one: Example, baseline: str, contender: str, metric: str) -> str:
    """One image with its scores."""
    ahead = one.difference
    kind = "gain-text" if ahead > 0 else "loss-text"
    told = f"{metric} {score(one.baseline_score)} by {baseline}, {score(one.score)} by "
    told = f"{text(told + contender)} "
    words = f"{minus(f'{100 * ahead:+.2f}')} points"
    head = f"<p><b>{text(one.name)}</b>: {told}<span class={kind!r}>({text(words)})</span></p>"
    maps = one.maps
    shown = {
        "truth": (maps["truth"], class_colours()),
        baseline: (maps["baseline"], class_colours()),
        contender: (maps["decided"], class_colours()),
        "what changed": (changes(maps), list(CHANGES.values())),
        "probability": (maps["probability"], ramp()),
    }
    pictures = "".join(
        f'<figure><img src="{data_uri(_tall(places), palette)}" '
        f'alt="{text(f"{one.name}: {title}")}"><figcaption>{text(title)}</figcaption></figure>'
        for title, (places, palette) in shown.items()
    )
    return f'<div class="example">{head}<div class="maps">{pictures}</div></div>'


def changes(maps: dict[str, Picture]) -> Picture:
    """Places among CHANGES of every pixel."""
    truth, before, after = (maps[name] for name in ("truth", "baseline", "decided"))
    differs = before != after
    found: Picture = (truth != 0).astype(np.uint8)
    found[differs] = 4
    found[differs & (after == truth)] = 2
    found[differs & (before == truth)] = 3
    found[truth == UNCOUNTED] = 5
    return found


def class_colours() -> list[Colour]:
    """A colour for each number in the pictures of labels."""
    many = [_spread(number) for number in range(len(FEW), UNCOUNTED - 1)]
    return [NOTHING, *FEW, *many, LEFT_OUT]


def legend(names: Sequence[str], masks: bool) -> str:
    """What colours mean."""
    colours = class_colours()
    if masks:  # 0 is none, the first class is 1
        named = [("none", 0), *((name, 1 + place) for place, name in enumerate(names))]
    elif len(names) == 1:
        named = [("no", 0), (names[0], 1)]
    else:
        named = [(name, place) for place, name in enumerate(names)]
    entries = [(name, colours[place]) for name, place in named[:UNCOUNTED]]
    return _swatches("Classes", entries) + _swatches("What changed", list(CHANGES.items()))


def ramp() -> list[Colour]:
    """Colours of probabilities from 0 to 1."""
    steps = np.linspace(LIGHT, DARK, 256).round().astype(int)
    return [(int(r), int(g), int(b)) for r, g, b in steps]


def _swatches(title: str, entries: Sequence[tuple[str, Colour]]) -> str:
    parts = "".join(
        f'<span><i style="background: rgb({r} {g} {b})"></i>{text(name)}</span>'
        for name, (r, g, b) in entries
    )
    return f'<div class="legend"><b>{text(title)}:</b>{parts}</div>'


def _spread(number: int) -> Colour:
    """Hues that go round by the golden section, so that neighbours differ."""
    hue = (0.618034 * number) % 1
    r, g, b = colorsys.hls_to_rgb(hue, 0.35 + 0.1 * (number % 4), 0.65)
    return round(255 * r), round(255 * g), round(255 * b)


def _tall(picture: Picture) -> Picture:
    times = -(-LOWEST // len(picture))
    return np.repeat(picture, times, axis=0) if times > 1 else picture
