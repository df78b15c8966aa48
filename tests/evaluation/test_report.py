"""The HTML report: what it says, and how it looks to a real browser."""

from __future__ import annotations

import base64
import math
import re
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import chromium
import numpy as np
import pytest
import torch

from rankseg import RankSEG
from rankseg.evaluation import Evaluation, TunedRankSEG, evaluate, tune, write_report
from rankseg.evaluation.report import notes, pictures, plots, png

HOSTILE = "<script>alert(1)</script> & \"quotes\" 'n' \udcff"


def pairs(number: int = 8, bias: float = 0.0, masks: bool = False) -> list[tuple]:
    """Smooth maps of three classes and labels drawn from them; the names are hostile."""
    found = []
    for seed in range(number):
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.randn(1, 3, 6, 8, generator=generator)
        logits = 3 * torch.nn.functional.interpolate(coarse, size=(24, 32), mode="bilinear")
        probs = logits.softmax(1)
        draw = torch.rand(1, 1, 24, 32, generator=generator)
        truth = (draw > probs.cumsum(1)).sum(1).clamp(max=2)
        given = (logits + bias * torch.tensor([0.0, 1.0, 0.0])[None, :, None, None]).softmax(1)
        if masks:
            truth = torch.nn.functional.one_hot(truth, 3).movedim(-1, 1).bool()
        found.append((given, truth, f"{HOSTILE} {seed}"))
    return found


@pytest.fixture(scope="module")
def found() -> Evaluation:
    broken = [(torch.ones(1, 3, 4, 4) / 3, torch.full((1, 4, 4), 9), f"broken {HOSTILE}")]
    return evaluate(
        pairs(bias=1.0) + broken,
        {name: RankSEG("dice", solver=name) for name in ("RMA", "exact")} | {HOSTILE: RankSEG()},
        class_names=["sky", HOSTILE, "x" * 120],
        on_error="skip",
    )


@pytest.fixture(scope="module")
def tuned() -> TunedRankSEG:
    options = {"solvers": ["RMA"], "couplings": [], "calibrations": ["temperature", "vector"]}
    return tune(pairs(), **options)


def written(found: object, path: Path) -> str:
    write_report(found, path, {"Files without a partner": {f"alone {HOSTILE}": HOSTILE}})
    return path.read_text(encoding="utf-8")


class Strict(HTMLParser):
    """Collects text and elements; complains about what is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "img", "line", "circle", "rect", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words += data


def parsed(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_it_says_everything(found, tmp_path):
    page = parsed(written(found, tmp_path / "r.html"))
    words = page.words
    best = found.best["RMA"][0]
    shown, _, descriptions = words.rpartition("Contenders")
    assert "RankSEG (RMA)" in shown
    assert not re.search(r"(?<!\()\b(RMA|exact)\b", shown)
    assert "solver='RMA'" in descriptions
    for wanted in (
        found.verdict,
        "8 images, 3 classes, compared with argmax.",
        f"{found.contenders['exact'].per_image['iou'].value:.4f}",
        f"{found.contenders['RMA'].dataset_classes['dice'][1]:.4f}",
        f"{found.reliability.brier[1].item():.4f}",
        f"{100 * found.reliability.true_share[1].item():.3g} %",
        f"{found.contenders['RMA'].promise.achieved:.4f}",
        f"{best.name.encode(errors='backslashreplace').decode()}: Dice {best.baseline_score:.4f}",
        "labels from 9 to 9, but there are 0 to 2",
        "more <script>alert(1)</script>",  # the class is predicted too often
        "A class that an image neither has nor gets does not count.",
        "Files without a partner (1)",
    ):
        assert wanted in words
    assert "script" not in page.seen
    assert all(link.startswith("data:") for link in page.links)


def test_nothing_is_loaded_whoever_named_the_files(found, tuned, tmp_path):
    for one in (found, tuned):
        text = written(one, tmp_path / "r.html")
        assert "<script" not in text
        assert not re.search(r"""(?:src|href)=["'](?!data:)|url\(|@import|https?://""", text)
        assert "default-src 'none'" in text


def test_the_same_result_gives_the_same_file(found, tmp_path):
    assert written(found, tmp_path / "a.html") == written(found, tmp_path / "b.html")


def test_a_tuning_shows_every_candidate(tuned, tmp_path):
    words = parsed(written(tuned, tmp_path / "t.html")).words
    for one in tuned.results_:
        assert one.name in words
        assert f"{one.score.value:.4f}" in words
    assert tuned.verdict in words


@pytest.mark.parametrize("number", [1, 6])
def test_little_to_say(number, tmp_path):
    """One image, no difference, a class without a score: the page holds no NaN."""
    probs = torch.tensor([0.98, 0.01, 0.01])[None, :, None, None].expand(1, 3, 4, 4).contiguous()
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    given = [(probs, labels, str(place)) for place in range(number)]
    for include in (True, False):
        one = evaluate(given, include_background=include)
        page = parsed(written(one, tmp_path / "r.html"))
        assert not re.search(r"\bnan\b", (tmp_path / "r.html").read_text())
        assert "All counted pixels are class 0" in page.words
        assert "No image." in page.words


def test_a_baseline_alone(tmp_path):
    one = evaluate(pairs(3), metric="acc")
    assert "there is nothing to compare" in parsed(written(one, tmp_path / "r.html")).words


def test_many_classes_are_folded(tmp_path):
    probs = torch.rand(1, 30, 5, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    one = evaluate([(probs, torch.arange(25).reshape(1, 5, 5))])
    page = parsed(written(one, tmp_path / "r.html"))
    assert "6 more classes, whose errors are smaller" in page.words
    assert page.seen.count("svg") >= 30


def test_many_names_are_counted(found, tmp_path):
    write_report(found, tmp_path / "r.html", {"Lost": {str(n): "gone" for n in range(1234)}})
    text = (tmp_path / "r.html").read_text()
    assert "Lost (1,234)" in text
    assert "And 1,034 more, which are not listed here." in text


def unpacked(uri: str) -> np.ndarray:
    """Colours (h, w, 3) of a PNG, by its specification alone."""
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    chunks, at = {}, 8
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        chunks[kind] = data[at + 8 : at + 8 + size]
        check = int.from_bytes(data[at + 8 + size : at + 12 + size], "big")
        assert check == zlib.crc32(kind + chunks[kind])
        at += 12 + size
    width, height = (int.from_bytes(chunks[b"IHDR"][k : k + 4], "big") for k in (0, 4))
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    return np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)[rows[:, 1:]]


def test_pictures_hold_the_colours_of_the_numbers():
    places = np.array([[0, 1, 2], [255, 7, 200]], np.uint8)
    colours = pictures.class_colours()
    assert len(colours) == 256
    assert len(set(colours[:40])) == 40
    got = unpacked(png.data_uri(places, colours))
    assert got.tolist() == [[list(colours[one]) for one in row] for row in places.tolist()]


def test_changes_tell_right_from_wrong():
    row = {
        "truth": [0, 1, 1, 0, 1, 255, 2],
        "baseline": [0, 1, 0, 0, 1, 0, 0],
        "decided": [0, 1, 1, 2, 0, 1, 1],
    }
    maps = {name: np.array([values], np.uint8) for name, values in row.items()}
    names = list(pictures.CHANGES)
    assert [names[place] for place in pictures.changes(maps)[0]] == [
        "same",
        "same, of a class",
        "now right",
        "now wrong",
        "now wrong",
        "does not count",
        "wrong before and after",
    ]


def test_masks_have_a_legend_of_their_own(tmp_path):
    one = evaluate(pairs(5, masks=True), RankSEG("dice", "multilabel"))
    words = parsed(written(one, tmp_path / "r.html")).words
    assert "none" in words
    assert "Predictions are masks, one for each class." in words


def test_intervals_lie_where_their_numbers_are():
    estimate = found_estimate(0.02, 0.01, 0.04)
    drawn = plots.intervals([plots.Line("a", estimate), plots.Line("b", NAN)], "x")
    low, high = -0.07 * 0.04, 0.04 + 0.07 * 0.04

    def place(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    assert f'x1="{place(0.01)}" x2="{place(0.04)}"' in drawn
    assert f'cx="{place(0.02)}"' in drawn
    assert drawn.count("<circle") == 1
    assert ">none</span>" in drawn


def found_estimate(value: float, low: float, high: float):
    from rankseg.evaluation import Estimate

    return Estimate(value, 0.01, low, high)


NAN = found_estimate(math.nan, math.nan, math.nan)


@pytest.mark.parametrize(
    ("numbers", "tone"),
    [
        ((0.01, 0.02, 10), "gain"),
        ((-0.02, -0.01, 10), "keep"),
        ((-0.01, 0.01, 10), "unsure"),
        ((0.01, 0.02, 9), "unsure"),
        ((math.nan, math.nan, 10), "unsure"),
    ],
)
def test_tone_of_the_verdict(numbers, tone):
    assert notes.tone(*numbers) == tone


needs_browser = pytest.mark.skipif(
    chromium.find() is None, reason=f"no browser: none of {', '.join(chromium.NAMES)} on the path"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[chromium.Page]:
    with chromium.page() as page:
        yield page


@needs_browser
@pytest.mark.parametrize("kind", ["found", "tuned"])
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, False), (360, True)])
def test_a_browser_shows_it(browser, request, tmp_path, kind, width, dark):
    path = tmp_path / "report <1>.html"
    written(request.getfixturevalue(kind), path)
    browser.requests.clear()
    browser.open(path, width, dark)
    assert browser.run("innerWidth") == width
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert [url for url in browser.requests if not url.startswith("data:")] == [path.as_uri()]
    assert browser.complaints == []
    sizes = browser.run("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
    assert all(sizes)
    assert len(sizes) == {"found": 5 * found_examples(request), "tuned": 0}[kind]
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(20, 23, 26)") == dark
    assert browser.run("document.querySelector('h1').getBoundingClientRect().top") < 200
    small = browser.run(
        "Math.min(...[...document.querySelectorAll('p, td, th, figcaption, .row span')]"
        ".map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert small >= 13


def found_examples(request) -> int:
    one = request.getfixturevalue("found")
    return sum(len(shown) for side in (one.best, one.worst) for shown in side.values())


@needs_browser
def test_the_browser_test_can_fail(browser, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<!DOCTYPE html><meta name="viewport" content="width=device-width"><body>'
        '<div style="width: 2000px">wide</div><img src="none.png">'
        "<script>console.error('x')</script>"
    )
    browser.requests.clear()
    browser.complaints.clear()
    browser.open(bad, 360)
    assert browser.run("document.documentElement.scrollWidth") > 360
    assert [url.rsplit("/", 1)[1] for url in browser.requests] == ["bad.html", "none.png"]
    assert len(browser.complaints) >= 2
    assert browser.run("document.images[0].naturalWidth") == 0
    browser.complaints.clear()
