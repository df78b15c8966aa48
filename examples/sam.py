"""SAM's masks before (cut at 0) and after (RankSEG), for one box on a photograph.

Without a checkpoint the network is small and random: its masks show nothing but that the code
runs. With one, the path is the same:

    python examples/sam.py --checkpoint sam_vit_b_01ec64.pth --model-type vit_b

Any image and box: --image my.jpg --box 60 40 180 300. Needs pip install ".[sam,demo]".
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image
from segment_anything import sam_model_registry
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

from rankseg import expected_score
from rankseg.demo import load_photo
from rankseg_integrations.sam import RankSEGSamPredictor

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the backend is chosen

BLUE, ORANGE = "#0072b2", "#d55e00"


def random_sam(size: int = 256) -> Sam:
    """Build SAM with a tiny transformer and random weights, its logits spread over -10 to 10."""
    torch.manual_seed(3)
    grid = (size // 16, size // 16)
    encoder = ImageEncoderViT(
        img_size=size, embed_dim=32, depth=2, num_heads=2, out_chans=32, global_attn_indexes=(1,)
    )
    decoder = MaskDecoder(transformer_dim=32, transformer=TwoWayTransformer(2, 32, 2, 64))
    for network in decoder.output_hypernetworks_mlps:
        for values in network.layers[-1].parameters():
            values.data *= 100  # untrained, every probability would be 0.5
    return Sam(encoder, PromptEncoder(32, grid, (size, size), 16), decoder)


def expected(logits: torch.Tensor, masks: np.ndarray) -> list[float]:
    """Expected Dice of each mask, if the probabilities are right and pixels independent."""
    probs = logits.sigmoid()[None]
    return expected_score(probs, torch.from_numpy(masks)[None], metric="dice")[0].tolist()


def draw(image: np.ndarray, box: list[float], probs: np.ndarray, masks: dict[str, Any]) -> Any:
    """Show the prompt, the probabilities and both masks."""
    figure, axes = plt.subplots(1, 4, figsize=(16, 4), layout="constrained")
    axes[0].imshow(image)
    axes[0].add_patch(
        plt.Rectangle(box[:2], box[2] - box[0], box[3] - box[1], fill=False, color=ORANGE, lw=3)
    )
    axes[0].set_title("image and box")
    shown = axes[1].imshow(probs, cmap="cividis", vmin=0, vmax=1)
    axes[1].set_title("probability")
    figure.colorbar(shown, ax=axes[1], shrink=0.8)
    for axis, (title, mask), colour in zip(axes[2:], masks.items(), (ORANGE, BLUE), strict=True):
        axis.imshow(image, alpha=0.6)
        axis.contourf(mask, levels=[0.5, 1.5], colors=[colour], alpha=0.6)
        axis.set_title(f"{title}: {mask.sum():,} pixels", color=colour)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def main() -> None:
    """Predict, decide, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", help="weights of segment-anything; random without")
    parser.add_argument("--model-type", default="vit_b", choices=sorted(sam_model_registry))
    parser.add_argument("--image", help="any picture; a photograph of seven people without")
    parser.add_argument("--box", type=float, nargs=4, default=[190, 55, 340, 215])
    parser.add_argument("--metric", default="dice")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--output", default="rankseg-sam.png", help="where the picture goes")
    options = parser.parse_args()

    photo = Image.open(options.image).convert("RGB") if options.image else load_photo().rgb
    image = np.asarray(photo)
    if options.checkpoint:
        print(f"{options.model_type} with the weights in {options.checkpoint}")
        sam = sam_model_registry[options.model_type](checkpoint=options.checkpoint)
    else:
        print("random weights: the masks show nothing, the code is that of a real checkpoint")
        sam = random_sam()
    sam.eval()

    predictor = RankSEGSamPredictor(sam, metric=options.metric, temperature=options.temperature)
    predictor.set_image(image)
    prompt = {"box": np.array(options.box)}
    best, quality, _ = predictor.predict(**prompt)
    logits, _, _ = predictor.predict(**prompt, return_logits=True)
    cut = logits > sam.mask_threshold  # the masks of SamPredictor

    softened = torch.from_numpy(logits) / options.temperature
    columns = (quality, cut.sum((1, 2)), best.sum((1, 2)))
    scores = (expected(softened, cut), expected(softened, best))
    print(f"{'mask':>4} {'predicted IoU':>14} {'pixels: cut at 0':>17} {'RankSEG':>8}", end="")
    print(f" {'expected Dice: cut at 0':>24} {'RankSEG':>8}")
    for k, (iou, old, new, was, now) in enumerate(zip(*columns, *scores, strict=True)):
        print(f"{k:4} {iou:14.3f} {old:17,} {new:8,} {was:24.3f} {now:8.3f}")

    k = int(quality.argmax())
    masks = {"cut at 0": cut[k], f"RankSEG, {options.metric}": best[k]}
    figure = draw(image, options.box, softened[k].sigmoid().numpy(), masks)
    figure.savefig(options.output, dpi=80)
    print(f"picture of the mask with the best predicted IoU: {Path(options.output).resolve()}")


if __name__ == "__main__":
    main()
