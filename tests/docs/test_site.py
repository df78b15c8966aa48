"""The site names everything public, is built without a warning, and its links lead somewhere."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import chromium
import pytest

ROOT = Path(__file__).parents[2]
PUBLIC = (
    *("rankseg", "rankseg.functional", "rankseg.evaluation", "rankseg_integrations.torch"),
    *("rankseg_integrations.transformers", "rankseg_integrations.sam"),
    *("rankseg_integrations.monai", "rankseg_integrations.nnunet"),
    *("rankseg_integrations.dask", "rankseg_integrations.distributed"),
    "rankseg_integrations.lightning",
)
OTHER_NAMES = {"AsRankSEGD", "AsRankSEGDict", "VistaPostRankSEGD", "VistaPostRankSEGDict"}
"""Of classes that are there."""


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_is_in_the_reference(name: str) -> None:
    source = importlib.util.find_spec(name).origin
    listed = re.search(r"^__all__ = \[(.*?)\]", Path(source).read_text(), re.DOTALL | re.MULTILINE)
    public = set(re.findall(r'"(\w+)"', listed[1])) if listed else {"rankseg"}
    text = "".join(path.read_text() for path in (ROOT / "docs").glob("api-*.md"))
    shown = re.findall(rf"^\.\. auto(?:class|function):: {re.escape(name)}\.(\w+)$", text, re.M)
    assert public - {"__version__"} - OTHER_NAMES == set(shown)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_files_at_the_top(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text()):
        if not re.match("[a-z]+:", target):
            file, _, anchor = target.partition("#")
            path = ROOT / (file or name)
            assert path.exists(), target
            assert not anchor or anchor in slugs(path.read_text()), target


def slugs(text: str) -> list[str]:
    """Anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


class Links(HTMLParser):
    """Where a page of HTML leads, what can be led to, and pictures that say nothing."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.mute: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        self.targets += [found[name] for name in ("href", "src") if found.get(name)]
        if tag == "img" and not found.get("alt"):
            self.mute.append(found.get("src") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", f"{folder}/trees"]
    command += ["-b", "html", str(ROOT / "docs"), f"{folder}/html"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def broken(site: Path) -> Iterator[str]:
    files = (path for path in site.rglob("*.html") if "_static" not in path.parts)
    pages = {path: Links(path.read_text()) for path in files}
    for path, page in pages.items():
        yield from (f"{path.name}: {source} has no text instead" for source in page.mute)
        for target in page.targets:
            if re.match(r"[a-z]+:|//", target):
                continue
            parts = urlsplit(unquote(target))
            file = (path.parent / parts.path).resolve() if parts.path else path
            if not file.exists():
                yield f"{path.name}: {target} is not there"
            elif parts.fragment and parts.fragment not in pages[file].anchors:
                yield f"{path.name}: {target} has no such anchor"


@pytest.mark.slow
def test_every_link_leads_there(site: Path) -> None:
    assert list(broken(site)) == []


CUT_OFF = """(() => {
  const edge = (one) => { // where it is cut off, unless it can be scrolled alone
    let right = innerWidth;
    for (let at = one; at && at.tagName !== "ARTICLE"; at = at.parentElement) {
      const overflow = getComputedStyle(at).overflowX;
      if (["auto", "scroll"].includes(overflow)) return Infinity;
      if (["hidden", "clip"].includes(overflow))
        right = Math.min(right, at.getBoundingClientRect().right);
    }
    return right;
  };
  const reach = (text) => {
    const range = document.createRange();
    range.selectNodeContents(text);
    return Math.max(0, ...[...range.getClientRects()].map((place) => place.right));
  };
  const found = [], page = document.querySelector("article"); // the search has none
  const texts = document.createTreeWalker(page || document.head, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode, holder = text.parentElement;
    if (text.data.trim() && !holder.closest(".headerlink") && reach(text) > edge(holder) + 1)
      found.push(text.data.trim().slice(0, 60));
  }
  return found;
})()"""
"""Texts of the page that reach beyond the screen, or what holds them, where nothing scrolls."""


@pytest.mark.slow
@pytest.mark.skipif(chromium.find() is None, reason="needs Chromium or Chrome")
def test_pages_fit_on_a_phone_and_load_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)
    assert {"options.html", "quickstart.html"} <= {path.name for path in pages}
    with chromium.page() as tab:
        for path in pages:
            tab.open(path, 390)
            wide = tab.run("document.documentElement.scrollWidth")
            assert wide <= 390, f"{path.name} is {wide} pixels wide"
            assert not tab.run(CUT_OFF), path.name
    assert not [url for url in tab.requests if url.startswith("http")]
