"""Measure how sums over queries should become probabilities: ``python docs/query_probs.py``.

Trains a small Mask2Former and a small EoMT from nothing on the upper half of the nuclei image of
examples/huggingface_nuclei.py, some minutes each, and prints the table of hugging-face.md: on the
lower half, the Brier score of the probabilities and the Dice of the labels decided on them.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    EomtConfig,
    EomtForUniversalSegmentation,
    EomtImageProcessor,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessor,
    SwinConfig,
)

from rankseg_integrations.transformers import (
    postprocess_semantic_segmentation,
    restore_semantic_probs,
)

NUCLEI = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "huggingface_nuclei.py"))
SIDE, CLASSES = 96, 3


def mask2former() -> tuple[Any, Any]:
    """Processor and untrained model."""
    backbone = SwinConfig(
        embed_dim=24,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 4, 8],
        window_size=4,
        image_size=SIDE,
        drop_path_rate=0.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        hidden_dim=64,
        feature_size=64,
        mask_feature_size=64,
        num_attention_heads=4,
        encoder_layers=1,
        decoder_layers=4,
        dim_feedforward=128,
        encoder_feedforward_dim=128,
        num_queries=10,
        train_num_points=1500,
        num_labels=CLASSES,
        no_object_weight=0.1,
    )
    processor = Mask2FormerImageProcessor(do_resize=False, size_divisor=32)
    return processor, Mask2FormerForUniversalSegmentation(config)


def eomt() -> tuple[Any, Any]:
    """Processor and untrained model."""
    config = EomtConfig(
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=192,
        image_size=SIDE,
        patch_size=8,
        num_blocks=2,
        num_upscale_blocks=1,
        num_queries=10,
        train_num_points=1500,
        num_labels=CLASSES,
        drop_path_rate=0.0,
    )
    size = {"shortest_edge": SIDE, "longest_edge": SIDE}
    processor = EomtImageProcessor(size=size, do_split_image=False, do_pad=True)
    return processor, EomtForUniversalSegmentation(config)


def train(model: Any, processor: Any, image: np.ndarray, labels: np.ndarray, steps: int) -> None:
    """Train on random crops, with the model's own loss."""
    random = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=steps)
    model.train()
    for step in range(steps):
        pictures, truths = NUCLEI["crops"](image, labels, SIDE, random)
        inputs = processor(pictures, truths, return_tensors="pt")
        loss = model(
            pixel_values=inputs["pixel_values"],
            mask_labels=inputs["mask_labels"],
            class_labels=inputs["class_labels"],
        ).loss
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step:4}  loss {loss.item():.3f}", file=sys.stderr)
    model.eval()


def tiles(image: np.ndarray, labels: np.ndarray) -> tuple[list[np.ndarray], torch.Tensor]:
    """Squares of the size that models were trained on, without overlap."""
    rows, columns = (length // SIDE for length in labels.shape)
    cut = [np.s_[r * SIDE :, c * SIDE :][:2] for r in range(rows) for c in range(columns)]
    pictures = [np.ascontiguousarray(image[at][:SIDE, :SIDE]) for at in cut]
    return pictures, torch.stack([torch.from_numpy(labels[at][:SIDE, :SIDE]) for at in cut])


def measure(name: str, processor: Any, model: Any, pictures: list, truth: torch.Tensor) -> None:
    """Print Brier score and Dice of each rule."""
    with torch.no_grad():
        outputs = model(pixel_values=processor(pictures, return_tensors="pt")["pixel_values"])
    given = {"processor": processor, "target_sizes": [(SIDE, SIDE)] * len(pictures)}
    target = torch.nn.functional.one_hot(truth, CLASSES).movedim(-1, 1).float()

    def dice(**options: Any) -> str:
        labels = torch.stack(postprocess_semantic_segmentation(outputs, **given, **options))
        pairs = NUCLEI["scores"](labels, truth, CLASSES)
        return " ".join(f"{value:.3f}" for value, _ in pairs) + (
            f"  mean {sum(value for value, _ in pairs) / CLASSES:.3f}"
        )

    print(f"{name}: argmax Dice {dice(metric='acc')}")
    for rule in ("normalise", "share", "clip"):
        probs = torch.stack(restore_semantic_probs(outputs, query_probs=rule, **given))
        brier = (probs - target).square().sum(1).mean().item()
        print(
            f"  {rule:9}  Brier {brier:.4f}  sum {probs.sum(1).mean():.3f}  "
            f"Dice {dice(query_probs=rule)}  no pruning {dice(query_probs=rule, pruning_prob=0.0)}"
        )


def main() -> None:
    """Train and measure both models."""
    image, labels = NUCLEI["load"](NUCLEI["fetch"](NUCLEI["CACHE"]))
    half = len(labels) // 2
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    pictures, truth = tiles(image[half:], labels[half:])
    for make in (mask2former, eomt):
        start = time.perf_counter()
        torch.manual_seed(0)
        processor, model = make()
        train(model, processor, image[:half], labels[:half], steps)
        measure(make.__name__, processor, model, pictures, truth)
        print(f"  {steps} steps, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
