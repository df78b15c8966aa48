"""The SAM families at a size of 64 pixels, from configurations: random weights, no download.

Untrained decoders give logits within 1e-4 of 0, so what a model returns is spread out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

SIZE = 64
VISION = {
    **{"hidden_size": 16, "output_channels": 32, "num_hidden_layers": 1, "num_pos_feats": 16},
    **{"num_attention_heads": 2, "image_size": SIZE, "patch_size": 16, "mlp_dim": 16},
    **{"window_size": 2, "global_attn_indexes": [0]},
}
HIERA = {
    **{"model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [SIZE, SIZE]},
    **{"blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64]},
    **{"num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 4, 2, 2]},
    **{"global_attention_blocks": [3], "mlp_ratio": 2.0},
}
VIT = {
    **{"model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 16},
    **{"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 56, "patch_size": 14},
    **{"window_size": 2, "global_attn_indexes": [0], "pretrain_image_size": 56},
}
LEVELS = {"backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 32}
PROMPTS = {"hidden_size": 32, "image_size": SIZE, "patch_size": 16, "mask_input_channels": 4}
DECODER = {
    **{"hidden_size": 32, "mlp_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"iou_head_hidden_dim": 16, "iou_head_depth": 2},
}
PARTS = {"prompt_encoder_config": PROMPTS, "mask_decoder_config": DECODER}


@dataclasses.dataclass
class Prompted:
    """One promptable family: a model, its processor, and how images are given to them."""

    model: Any
    processor: Any
    padded: bool
    """Whether masks come back through a padded square: the family needs the sizes in it."""

    def inputs(self, sizes: list[tuple[int, int]], points: int = 2) -> Any:
        """Two points for each image, each of them a prompt of its own."""
        coordinates = [[[[9 * k + 5, 7 * k + 3]] for k in range(points)] for _ in sizes]
        return self.processor(
            images=[image(*size) for size in sizes],
            input_points=coordinates,
            input_labels=[[[1]] * points for _ in sizes],
            return_tensors="pt",
        )

    def outputs(self, inputs: Any) -> Any:
        """What the model returns, with logits spread around 0."""
        known = ("pixel_values", "input_points", "input_labels")
        with torch.no_grad():
            outputs = self.model(**{name: inputs[name] for name in known})
        outputs.pred_masks = spread(outputs.pred_masks)
        if "object_score_logits" in outputs:
            outputs.object_score_logits = spread(outputs.object_score_logits)
        return outputs

    def sizes(self, inputs: Any) -> list[Any]:
        """The sizes that the family's own post-processing takes, in its order."""
        padding = [inputs["reshaped_input_sizes"]] if self.padded else []
        return [inputs["original_sizes"], *padding]


def image(height: int, width: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(height * width).integers(0, 255, (height, width, 3), np.uint8)


def spread(values: Tensor, by: float = 3.0) -> Tensor:
    """Give every mask mean 0 and standard deviation `by`, or every score its sign and 1 or more."""
    axes = (-2, -1) if values.shape[-1] > 1 else tuple(range(values.ndim))
    centred = values.detach() - values.mean(axes, keepdim=True)
    return by * centred / centred.std(axes, keepdim=True)


def build(library: Any, family: str) -> Prompted:
    """Build the family's tiny model, or skip where the installed version lacks the family."""
    model = {
        "sam": "SamModel",
        "sam_hq": "SamHQModel",
        "sam2": "Sam2Model",
        "sam3_tracker": "Sam3TrackerModel",
        "edgetam": "EdgeTamModel",
    }[family]
    if not hasattr(library, model):
        pytest.skip(f"this version of transformers has no {model}")
    torch.manual_seed(0)
    return BUILDERS[family](library)


def _sam(library: Any) -> Prompted:
    parts = library.SamConfig(vision_config=VISION, **PARTS)
    return Prompted(library.SamModel(parts).eval(), library.SamProcessor(_square(library)), True)


def _sam_hq(library: Any) -> Prompted:
    decoder = {**DECODER, "vit_dim": 16}
    parts = library.SamHQConfig(
        vision_config=VISION, prompt_encoder_config=PROMPTS, mask_decoder_config=decoder
    )
    processor = library.SamHQProcessor(_square(library))
    return Prompted(library.SamHQModel(parts).eval(), processor, True)


def _square(library: Any) -> Any:
    return library.SamImageProcessor(
        size={"longest_edge": SIZE}, pad_size={"height": SIZE, "width": SIZE}
    )


def _sam2(library: Any) -> Prompted:
    channels = {"backbone_channel_list": [64, 32, 16, 8]}
    vision = library.Sam2VisionConfig(
        backbone_config=library.Sam2HieraDetConfig(**without_type(HIERA)), **channels, **LEVELS
    )
    model = library.Sam2Model(library.Sam2Config(vision_config=vision, **PARTS)).eval()
    return Prompted(model, _sam2_processor(library), False)


def _sam2_processor(library: Any) -> Any:
    images = getattr(library, "Sam2ImageProcessor", None) or library.Sam2ImageProcessorFast
    side = {"height": SIZE, "width": SIZE}
    return library.Sam2Processor(images(size=side, mask_size=side), target_size=SIZE)


def _edgetam(library: Any) -> Prompted:
    pytest.importorskip("timm", reason="EdgeTAM's backbone comes from timm")
    backbone = library.TimmWrapperConfig(
        architecture="test_convnext",
        model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    )
    vision = library.EdgeTamVisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 48, 32, 24], **LEVELS
    )
    model = library.EdgeTamModel(library.EdgeTamConfig(vision_config=vision, **PARTS)).eval()
    return Prompted(model, _sam2_processor(library), False)


def _sam3_vision(library: Any) -> Any:
    return library.Sam3VisionConfig(
        backbone_config=library.Sam3ViTConfig(**without_type(VIT)), **LEVELS
    )


def _sam3_tracker(library: Any) -> Prompted:
    prompts = {**PROMPTS, "image_size": 56, "patch_size": 14}
    parts = library.Sam3TrackerConfig(
        vision_config=_sam3_vision(library),
        prompt_encoder_config=prompts,
        mask_decoder_config=DECODER,
    )
    processor = library.Sam3TrackerProcessor(_sam3_images(library), target_size=56)
    return Prompted(library.Sam3TrackerModel(parts).eval(), processor, False)


def _sam3_images(library: Any) -> Any:
    side = {"height": 56, "width": 56}
    return library.Sam3ImageProcessor(size=side, mask_size=side)


def without_type(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "model_type"}


BUILDERS: dict[str, Callable[[Any], Prompted]] = {
    "sam": _sam,
    "sam_hq": _sam_hq,
    "sam2": _sam2,
    "sam3_tracker": _sam3_tracker,
    "edgetam": _edgetam,
}


def build_sam3(library: Any) -> tuple[Any, Any]:
    """SAM 3 for prompts of text, and its image processor (the processor adds a tokenizer)."""
    if not hasattr(library, "Sam3Model"):
        pytest.skip("this version of transformers has no Sam3Model")
    torch.manual_seed(0)
    layers = {
        **{"hidden_size": 32, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
    }
    text = library.CLIPTextConfig(
        **{"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "projection_dim": 16},
        **{"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 8},
        **{"bos_token_id": 0, "eos_token_id": 1},
    )
    parts = library.Sam3Config(
        vision_config=_sam3_vision(library),
        text_config=text,
        geometry_encoder_config=layers,
        detr_encoder_config=layers,
        detr_decoder_config={**layers, "num_queries": 6},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )
    return library.Sam3Model(parts).eval(), _sam3_images(library)


def sam3_outputs(library: Any, batch: int = 2) -> tuple[Any, Any]:
    """What SAM 3 returns for `batch` images, spread out, and its image processor."""
    model, processor = build_sam3(library)
    images = processor(images=[image(48, 80), image(60, 40)][:batch], return_tensors="pt")
    words = torch.tensor([[2, 3, 1]]).expand(batch, -1)
    with torch.no_grad():
        outputs = model(
            pixel_values=images["pixel_values"],
            input_ids=words,
            attention_mask=torch.ones_like(words),
        )
    for name in ("pred_masks", "semantic_seg", "pred_logits"):
        outputs[name] = spread(outputs[name])
    outputs.presence_logits = torch.full_like(outputs.presence_logits, 1.5)
    return outputs, processor


def original_sam(size: int = SIZE) -> Any:
    """Build a model of the original package, its logits and scores spread as a trained one's."""
    modeling = pytest.importorskip("segment_anything.modeling")
    torch.manual_seed(0)
    grid = (size // 16, size // 16)
    encoder = modeling.ImageEncoderViT(
        **{"img_size": size, "patch_size": 16, "embed_dim": 16, "depth": 1, "num_heads": 2},
        **{"out_chans": 32, "global_attn_indexes": (0,)},
    )
    decoder = modeling.MaskDecoder(
        transformer_dim=32,
        transformer=modeling.TwoWayTransformer(2, 32, 2, 32),
        iou_head_depth=2,
        iou_head_hidden_dim=16,
    )
    prompts = modeling.PromptEncoder(32, grid, (size, size), 4)
    sam = modeling.Sam(encoder, prompts, decoder).eval()
    for network in decoder.output_hypernetworks_mlps:
        for values in network.layers[-1].parameters():
            values.data *= 100
    return sam


def sam2_package() -> Any:
    """Build a model of the ``sam2`` package; its parts for video are left out."""
    base = pytest.importorskip("sam2.modeling.sam2_base")
    encoder = pytest.importorskip("sam2.modeling.backbones.image_encoder")
    hiera = pytest.importorskip("sam2.modeling.backbones.hieradet")
    positions = pytest.importorskip("sam2.modeling.position_encoding")
    torch.manual_seed(0)
    trunk = hiera.Hiera(
        **{"embed_dim": 8, "stages": (1, 1, 2, 1), "global_att_blocks": (3,)},
        **{"window_spec": (4, 4, 2, 2), "window_pos_embed_bkg_spatial_size": (7, 7)},
    )
    neck = encoder.FpnNeck(
        positions.PositionEmbeddingSine(32), 32, [64, 32, 16, 8], fpn_top_down_levels=[2, 3]
    )
    sam = base.SAM2Base(
        **{"image_encoder": encoder.ImageEncoder(trunk, neck, scalp=1), "image_size": SIZE},
        **{"memory_attention": torch.nn.Identity(), "memory_encoder": torch.nn.Identity()},
        **{"directly_add_no_mem_embed": True, "use_high_res_features_in_sam": True},
        **{"iou_prediction_use_sigmoid": True, "pred_obj_scores": True},
    ).eval()
    for network in sam.sam_mask_decoder.output_hypernetworks_mlps:
        for values in network.layers[-1].parameters():
            values.data *= 100
    return sam
