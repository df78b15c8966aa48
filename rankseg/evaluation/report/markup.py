"""Pieces of HTML. Whatever comes from outside passes ``text``."""

from __future__ import annotations

import html
import math
import platform
from collections.abc import Iterable, Mapping, Sequence

import torch

from rankseg import __version__
from rankseg.evaluation.report.style import STYLE

LONG = 500
"""Characters of code that are shown without being asked for."""
LONGEST = 200
"""Names in a list; of more, the number is told."""


def text(value: object) -> str:
    """Text that is no markup, whatever stands in it; bytes that are no text become escapes."""
    plain = str(value).encode(errors="backslashreplace").decode()
    return html.escape(plain, quote=True)


def minus(value: str) -> str:
    """Numbers with a minus as wide as a plus."""
    return value.replace("-", "\N{MINUS SIGN}")


def points(difference: float) -> str:
    """Hundredths, with their sign."""
    return "none" if math.isnan(difference) else minus(f"{100 * difference:+.2f}")


def score(value: float) -> str:
    """Four digits, or that there is none."""
    return "none" if math.isnan(value) else f"{value:.4f}"


def percent(share: float) -> str:
    """Percent with three digits."""
    return "none" if math.isnan(share) else f"{100 * share:.3g} %"


def page(title: str, tone: str, verdict: str, lead: str, body: Iterable[str]) -> str:
    """A whole page: the verdict, then the body.

    Parameters
    ----------
    title, verdict, lead : str
        Plain text.
    tone : {'gain', 'keep', 'unsure'}
        Of the verdict.
    body : iterable of str
        HTML.
    """
    made = f"rankseg {__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
img-src data:">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header>
<p class="kind">{text(title)}</p>
<h1 class="verdict {tone}">{text(verdict)}</h1>
<p class="lead">{text(lead)}</p>
</header>
<main>
{"".join(body)}
</main>
<footer><p>Made by {text(made)}. This file is complete: it loads nothing.</p></footer>
</body>
</html>
"""


def section(title: str, *parts: str) -> str:
    """A section of HTML parts under a title; nothing without parts."""
    inside = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{text(title)}</h2>\n{inside}\n</section>\n" if inside else ""


def paragraph(words: str, kind: str = "") -> str:
    """Plain text as a paragraph."""
    return f'<p class="{kind}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>"


def folded(title: str, *parts: str) -> str:
    """Parts that open when they are asked for."""
    return f"<details>\n<summary>{text(title)}</summary>\n{''.join(parts)}\n</details>"


def code(name: str, value: str) -> str:
    """A name and how it would be written in Python, folded if that is long."""
    written = f"<code>{text(value)}</code>"
    if len(value) > LONG:
        return folded(name, f"<p>{written}</p>")
    return f"<p><b>{text(name)}</b> {written}</p>"


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    marked: int | None = None,
) -> str:
    """Cells of plain text; the first of a row is its name, the others are numbers.

    Parameters
    ----------
    marked : int, optional
        Row to be shown in bold.
    """
    first, *others = head
    above = f'<th scope="col">{text(first)}</th>'
    above += "".join(f'<th scope="col" class="number">{text(name)}</th>' for name in others)
    lines = []
    for place, (name, *numbers) in enumerate(rows):
        cells = "".join(f'<td class="number">{text(number)}</td>' for number in numbers)
        mark = ' class="marked"' if place == marked else ""
        lines.append(f'<tr{mark}><th scope="row">{text(name)}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{above}</tr></thead>\n"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def names(title: str, reasons: Mapping[str, str]) -> str:
    """A section that names files or images with reasons; nothing without names."""
    if not reasons:
        return ""
    lines = [
        f"<dt>{text(name)}</dt><dd>{text(reason)}</dd>"
        for name, reason in list(reasons.items())[:LONGEST]
    ]
    rest = len(reasons) - LONGEST
    more = paragraph(f"And {rest:,} more, which are not listed here.") if rest > 0 else ""
    return section(f"{title} ({len(reasons):,})", f'<dl class="names">{"".join(lines)}</dl>', more)
