"""What RankSEG installs may be used as RankSEG may, or docs/licences.md says what is different.

``python tests/test_licences.py`` prints that page's table.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution, metadata
from pathlib import Path

import pytest

requirements = pytest.importorskip("packaging.requirements")
PAGE = Path(__file__).parents[1] / "docs" / "licences.md"

PERMISSIVE = {
    "MIT": r"\bMIT\b|MIT-CMU|HPND",
    "BSD": r"\bBSD\b|0BSD",
    "Apache-2.0": r"Apache",
    "ISC": r"\bISC",
    "PSF-2.0": r"PSF|Python Software Foundation|CNRI",
    "Boost": r"\bBSL-1",
    "Zlib": r"\bZlib\b",
    "public domain": r"\bCC0|Unlicense",
}
OTHER = {
    "LGPL": r"LGPL|Lesser",
    "GPL": r"(?<!L)GPL|General Public",
    "MPL-2.0": r"MPL|Mozilla",
    "proprietary": r"Proprietary",
}
NAMED = {
    "certifi": "MPL-2.0",
    "connected-components-3d": "LGPL",
    "cuda-toolkit": "",
    "nvidia-*": "proprietary",
    "segment-anything": "",
    "tqdm": "MPL-2.0",
}
"""Explained in docs/licences.md: what is neither permissive nor, without a word, unknown."""
OWN = {"all", "dev", "docs", "test"}
"""Extras that are not for what users run, and the one that is the others together."""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def licences(name: str) -> set[str]:
    """Families of licences that the distribution's metadata states."""
    about = metadata(name)
    classifiers = [line for line in about.get_all("Classifier", []) if line.startswith("License")]
    first_line = (about.get("License") or "").strip().partition("\n")[0]
    said = about.get("License-Expression") or " ".join(classifiers) or first_line
    return {family for family, word in (PERMISSIVE | OTHER).items() if re.search(word, said, re.I)}


def needs(name: str, extras: tuple[str, ...] = ()) -> list[tuple[str, tuple[str, ...]]]:
    """What a distribution with these extras asks for here, with the extras it asks for."""
    asked = map(requirements.Requirement, distribution(name).requires or [])
    environments = [{"extra": extra} for extra in extras or ("",)]
    return [
        (plain(need.name), tuple(sorted(need.extras)))
        for need in asked
        if need.marker is None or any(map(need.marker.evaluate, environments))
    ]


def everything(name: str, extras: tuple[str, ...]) -> set[str]:
    """A distribution and whatever installing it brings."""
    seen, found = set(), [(name, extras)]
    while found:
        now = found.pop()
        if now not in seen:
            try:
                found += needs(*now)
            except PackageNotFoundError:
                continue  # an extra that is not installed
            seen.add(now)
    return {name for name, _ in seen}


def table() -> str:
    lines = ["| extra | asks for | licence |", "|---|---|---|"]
    base = set(needs("rankseg"))
    for extra in [
        "",
        *(extra for extra in metadata("rankseg").get_all("Provides-Extra") if extra not in OWN),
    ]:
        names = sorted(
            {name for name, _ in (set(needs("rankseg", (extra,))) - base if extra else base)}
        )
        for name in names:
            stated = " and ".join(sorted(licences(name))) or "not stated"
            lines.append(f"| {extra or '(always)'} | {name} | {stated} |")
    return "\n".join(lines)


def pattern(name: str) -> str:
    return "nvidia-*" if name.startswith("nvidia-") else name


def test_every_licence_is_permissive_or_explained() -> None:
    for name in everything("rankseg", ("all",)):
        found = licences(name)
        if not found or found - set(PERMISSIVE):
            expected = NAMED.get(pattern(name))
            assert expected is not None, f"{name}: {found or 'no licence stated'}"
            assert found - set(PERMISSIVE) <= {expected}, f"{name}: {found}"


def test_what_rankseg_always_needs_is_permissive() -> None:
    for name in everything("rankseg", ()):
        if not name.startswith(("nvidia-", "cuda-")):  # torch's, where it is built for a GPU
            assert licences(name) <= set(PERMISSIVE), name
            assert licences(name), name


def test_the_page_says_so() -> None:
    page = PAGE.read_text()
    assert table() in page, f"docs/licences.md is old; its table now:\n{table()}"
    assert all(f"`{name}`" in page for name in NAMED)


def test_copyleft_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "metadata", lambda name: Said("GPL-3.0-or-later"))
    assert licences("anything") == {"GPL"}
    with pytest.raises(AssertionError, match="GPL"):
        test_every_licence_is_permissive_or_explained()


class Said(dict):
    """Metadata with a licence."""

    def __init__(self, licence: str) -> None:
        super().__init__({"License-Expression": licence})

    def get_all(self, name: str, missing: list[str]) -> list[str]:
        return missing


if __name__ == "__main__":
    print(table())
