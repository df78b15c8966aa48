"""What the Hugging Face adapter adds to the core call and the resize: less than a tenth.

Run with `pytest tests/benchmarks/test_transformers.py -m slow -s` to see the figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("transformers")

from transformers import MaskFormerImageProcessor
from transformers.modeling_outputs import SemanticSegmenterOutput

from rankseg import RankSEG
from rankseg_integrations.transformers import postprocess_semantic_segmentation

CLASSES, SIDE, QUERIES = 150, 512, 100
BOUND = 1.10  # CONTRACT: the adapter adds less than a tenth

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ratio(ours: Callable[[], object], bare: Callable[[], object], repeats: int = 15) -> float:
    """Ratio of processor times, each the least of many taken in turn."""
    least = [float("inf"), float("inf")]
    for _ in range(repeats):
        for place, run in enumerate((ours, bare)):
            start = time.process_time()
            run()
            least[place] = min(least[place], time.process_time() - start)
    print(f"\nadapter {1e3 * least[0]:.0f} ms, bare {1e3 * least[1]:.0f} ms")
    return least[0] / least[1]


def test_dense() -> None:
    logits = torch.randn(1, CLASSES, SIDE // 4, SIDE // 4) * 3
    outputs = SemanticSegmenterOutput(logits=logits)
    rankseg = RankSEG(activation="softmax")

    def bare() -> None:
        rankseg(F.interpolate(logits, (SIDE, SIDE), mode="bilinear", align_corners=False))

    def ours() -> None:
        postprocess_semantic_segmentation(outputs, target_sizes=[(SIDE, SIDE)])

    assert ratio(ours, bare) < BOUND


def test_queries() -> None:
    """Beside the two, the model's own sums over the queries, and their division."""
    classes = torch.randn(1, QUERIES, CLASSES + 1) * 3
    masks = torch.randn(1, QUERIES, SIDE // 4, SIDE // 4) * 3
    outputs = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)
    processor = MaskFormerImageProcessor()
    rankseg = RankSEG()

    def bare() -> None:
        sums = torch.einsum("bqc,bqhw->bchw", classes.softmax(-1)[..., :-1], masks.sigmoid())
        big = F.interpolate(sums, (SIDE, SIDE), mode="bilinear", align_corners=False)
        rankseg(big.div_(big.sum(1, keepdim=True)))

    def ours() -> None:
        postprocess_semantic_segmentation(outputs, processor=processor, target_sizes=[(SIDE, SIDE)])

    assert ratio(ours, bare) < BOUND
