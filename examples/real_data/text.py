"""Lines and regions of text on a handwritten page: four classes that overlap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image, ImageDraw

from ._blla import build
from ._data_set import DataSet, Pair
from ._fetch import from_sdist
from ._images import tiles

PACKAGE = "kraken==4.3.13"
FILES = {
    "kraken-4.3.13/kraken/blla.mlmodel": (
        "77a638a83c9e535620827a09e410ed36391e9e8e8126d5796a0f15b978186056"
    ),
    "kraken-4.3.13/tests/resources/170025120000003,0074.jpg": (
        "1e8bbebe4e21fa22e9030adcdb341b996fa1a1b21d5192e9e03908cc37d96140"
    ),
    "kraken-4.3.13/tests/resources/170025120000003,0074.xml": (
        "1758f378927b23494d41fea2e0f364a92f0225d189c6361068c5f3ccab0e73fa"
    ),
}
HEIGHT = 1800
"""Pixels to which the network wants pages scaled."""
LINE_WIDTH, END = 8, 5
"""Pixels: how broad kraken draws baselines to train on, and how much of a line is its end."""
CLASSES = ("start of a line", "end of a line", "baseline", "text region")

Points = list[tuple[float, float]]


def make(folder: Path) -> Iterator[Pair]:
    model, picture, page = from_sdist(PACKAGE, FILES, folder)
    with Image.open(picture) as image:
        scale = HEIGHT / image.height
        size = (int(image.width * scale), HEIGHT)
        pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    ink = torch.tensor(pixels).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        small = build(model.read_bytes())(ink.max() - ink)
    probs = torch.nn.functional.interpolate(small, size=pixels.shape[:2], mode="bilinear")
    truth = torch.from_numpy(draw(page, scale, size))[None]
    yield from tiles(probs.clamp(0, 1), truth, "page", rows=6, columns=2)


def draw(page: Path, scale: float, size: tuple[int, int]) -> np.ndarray:
    """Ground truth bool (4, H, W) of a PAGE file, as kraken draws it to train such a network."""
    root = ElementTree.parse(page).getroot()
    name = root.tag.removesuffix("PcGts")
    masks = [Image.new("1", size) for _ in CLASSES]
    start, end, baseline, region = (ImageDraw.Draw(mask) for mask in masks)
    for node in root.iter(f"{name}TextRegion"):
        region.polygon(points(node.find(f"{name}Coords"), scale), fill=1)
    for node in root.iter(f"{name}Baseline"):
        line = points(node, scale)
        baseline.line(line, fill=1, width=LINE_WIDTH, joint="curve")
        start.polygon(around_end(line), fill=1)
        end.polygon(around_end(line[::-1]), fill=1)
    drawn = np.stack([np.asarray(mask) for mask in masks])
    drawn[:2] &= ~drawn[2]
    return drawn


def points(node: ElementTree.Element | None, scale: float) -> Points:
    if node is None:
        raise ValueError("a region without coordinates")
    pairs = (point.split(",") for point in node.attrib["points"].split())
    return [(float(x) * scale, float(y) * scale) for x, y in pairs]


def around_end(line: Points) -> Points:
    """Corners of the box of one line width around the first few pixels of a line."""
    origin, toward = np.array(line[0]), np.array(line[1])
    along = (toward - origin) / np.linalg.norm(toward - origin)
    aside = LINE_WIDTH * np.array([-along[1], along[0]])
    back, front = origin - LINE_WIDTH * along, origin + (END + LINE_WIDTH) * along
    return [tuple(corner) for corner in (back - aside, front - aside, front + aside, back + aside)]


DATA_SET = DataSet(
    name="text",
    title="lines and regions of text on a handwritten page",
    classes=CLASSES,
    output_mode="multilabel",
    model="kraken's default network for layout (blla), rebuilt in PyTorch from its weights",
    truth=(
        "baselines and regions of the page's PAGE file, drawn as kraken draws them; they lie a few "
        "pixels lower than those the network has learned"
    ),
    split="not trained here; what kraken's authors trained it on is not known to us",
    images=1,
    source="kraken 4.3.13 (source distribution): network and test page 170025120000003,0074",
    licence="Apache-2.0, which states no other terms for the page",
    predict=make,
)
