"""Tiny random models of every family of Hugging Face transformers, with their own processors."""

from __future__ import annotations

import functools
import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoConfig

IMAGES = ((40, 56), (48, 36))
"""Heights and widths of the images that models are run on."""
CLASSES = 5


@dataclass
class Case:
    """Outputs of a model that was really run, and what belongs to them."""

    name: str
    model: Any
    processor: Any
    outputs: Any
    sizes: list[tuple[int, int]]


def pictures(sizes: Any = IMAGES) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def _vit(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 37,
        "image_size": 64,
        "patch_size": 16,
        **more,
    }


def _resnet() -> Any:
    return transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def _swin(kind: Any) -> Any:
    return kind(
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def _segformer() -> Any:
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        num_labels=CLASSES,
    )
    return transformers.SegformerForSemanticSegmentation(config)


def _upernet() -> Any:
    config = transformers.UperNetConfig(
        backbone_config=_resnet(),
        hidden_size=16,
        auxiliary_in_channels=24,
        auxiliary_channels=8,
        num_labels=CLASSES,
    )
    return transformers.UperNetForSemanticSegmentation(config)


def _beit() -> Any:
    more = {"out_indices": [0, 1, 2, 3], "num_labels": CLASSES, "use_relative_position_bias": True}
    return transformers.BeitForSemanticSegmentation(transformers.BeitConfig(**_vit(**more)))


def _data2vec() -> Any:
    more = {"out_indices": [0, 1, 2, 3], "num_labels": CLASSES, "use_relative_position_bias": True}
    config = transformers.Data2VecVisionConfig(**_vit(**more))
    return transformers.Data2VecVisionForSemanticSegmentation(config)


def _dpt() -> Any:
    more = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16, "is_hybrid": False}
    config = transformers.DPTConfig(
        **_vit(backbone_out_indices=[0, 1, 2, 3], num_labels=CLASSES, **more)
    )
    return transformers.DPTForSemanticSegmentation(config)


_WIDE = 0.3  # with the usual 0.02 nothing is left of the signal after this many layers


def _mobilevit() -> Any:
    config = transformers.MobileViTConfig(
        image_size=64,
        hidden_sizes=[12, 16, 20],
        neck_hidden_sizes=[8, 8, 16, 16, 20, 24, 32],
        aspp_out_channels=16,
        num_labels=CLASSES,
        initializer_range=_WIDE,
    )
    return transformers.MobileViTForSemanticSegmentation(config)


def _mobilevitv2() -> Any:
    config = transformers.MobileViTV2Config(
        image_size=64,
        width_multiplier=0.25,
        aspp_out_channels=16,
        num_labels=CLASSES,
        initializer_range=_WIDE,
    )
    return transformers.MobileViTV2ForSemanticSegmentation(config)


def _mobilenet() -> Any:
    config = transformers.MobileNetV2Config(
        image_size=64, depth_multiplier=0.25, num_labels=CLASSES, initializer_range=_WIDE
    )
    return transformers.MobileNetV2ForSemanticSegmentation(config)


def _clipseg() -> Any:
    inside = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = transformers.CLIPSegConfig(
        text_config={**inside, "vocab_size": 99, "intermediate_size": 37},
        vision_config={**inside, "image_size": 64, "patch_size": 16, "intermediate_size": 37},
        projection_dim=16,
        reduce_dim=16,
        extract_layers=[0, 1, 2],
        decoder_intermediate_size=37,
        decoder_num_attention_heads=2,
    )
    return transformers.CLIPSegForImageSegmentation(config)


def _detr(kind: str) -> Any:
    config = AutoConfig.for_model(
        kind,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=_resnet(),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=9,
        num_labels=CLASSES,
    )
    name = {"detr": "Detr", "conditional_detr": "ConditionalDetr"}[kind]
    return getattr(transformers, f"{name}ForSegmentation")(config)


_SMALL = {
    "hidden_dim": 32,
    "num_attention_heads": 2,
    "encoder_layers": 1,
    "dim_feedforward": 32,
    "encoder_feedforward_dim": 32,
    "feature_size": 32,
    "mask_feature_size": 32,
    "num_labels": CLASSES,
}


def _maskformer() -> Any:
    decoder = transformers.DetrConfig(
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=9,
        use_timm_backbone=False,
        backbone=None,
        use_pretrained_backbone=False,
        backbone_config=_resnet(),
    )
    config = transformers.MaskFormerConfig(
        backbone_config=_swin(transformers.MaskFormerSwinConfig),
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=32,
        num_labels=CLASSES,
    )
    return transformers.MaskFormerForInstanceSegmentation(config)


def _mask2former() -> Any:
    config = transformers.Mask2FormerConfig(
        backbone_config=_swin(transformers.SwinConfig), num_queries=9, decoder_layers=3, **_SMALL
    )
    return transformers.Mask2FormerForUniversalSegmentation(config)


def _oneformer() -> Any:
    config = transformers.OneFormerConfig(
        backbone_config=_swin(transformers.SwinConfig),
        hidden_dim=32,
        mask_dim=32,
        conv_dim=32,
        num_attention_heads=2,
        encoder_layers=1,
        decoder_layers=3,
        dim_feedforward=32,
        encoder_feedforward_dim=32,
        query_dec_layers=1,
        text_encoder_width=32,
        text_encoder_num_layers=1,
        text_encoder_vocab_size=99,
        text_encoder_context_length=7,
        text_encoder_n_ctx=2,
        task_seq_len=7,
        num_queries=9,
        use_task_norm=True,
        num_labels=CLASSES,
        is_training=False,
    )
    return transformers.OneFormerForUniversalSegmentation(config)


def _eomt(kind: str) -> Any:
    config = AutoConfig.for_model(
        kind,
        **_vit(num_blocks=1, num_queries=9, num_upscale_blocks=1, num_labels=CLASSES),
    )
    name = {"eomt": "Eomt", "eomt_dinov3": "EomtDinov3", "videomt": "Videomt"}[kind]
    return getattr(transformers, f"{name}ForUniversalSegmentation")(config)


def _sam3() -> Any:
    text = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 37, "projection_dim": 16}
    backbone = {"hidden_size": 32, "intermediate_size": 37, "image_size": 56, "patch_size": 14}
    depth = {"num_hidden_layers": 2, "num_attention_heads": 2}
    part = {"hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 2, "num_layers": 1}
    config = transformers.Sam3Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam3_vit_model",
                **backbone,
                **depth,
                "window_size": 2,
                "global_attn_indexes": [1],
                "pretrain_image_size": 56,
            },
            "fpn_hidden_size": 32,
        },
        text_config={**text, **depth, "max_position_embeddings": 32},
        geometry_encoder_config=part,
        detr_encoder_config=part,
        detr_decoder_config={**part, "num_queries": 9},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )
    return transformers.Sam3Model(config)


def _seggpt() -> Any:
    config = transformers.SegGptConfig(
        **_vit(image_size=[128, 64], decoder_hidden_size=8, merge_index=0, mlp_dim=32),
        intermediate_hidden_state_indices=[0, 1, 2, 3],
        pretrain_image_size=64,
    )
    return transformers.SegGptForImageSegmentation(config)


MODELS: dict[str, Callable[[], Any]] = {
    "segformer": _segformer,
    "upernet": _upernet,
    "beit": _beit,
    "data2vec-vision": _data2vec,
    "dpt": _dpt,
    "mobilevit": _mobilevit,
    "mobilevitv2": _mobilevitv2,
    "mobilenet_v2": _mobilenet,
    "clipseg": _clipseg,
    "sam3": _sam3,
    "seggpt": _seggpt,
    "maskformer": _maskformer,
    "mask2former": _mask2former,
    "oneformer": _oneformer,
    "detr": functools.partial(_detr, "detr"),
    "conditional_detr": functools.partial(_detr, "conditional_detr"),
    "eomt": functools.partial(_eomt, "eomt"),
    "eomt_dinov3": functools.partial(_eomt, "eomt_dinov3"),
    "videomt": functools.partial(_eomt, "videomt"),
}
DENSE = tuple(MODELS)[:8]
PROCESSORS = {
    "segformer": "SegformerImageProcessor",
    "upernet": "SegformerImageProcessor",
    "beit": "BeitImageProcessor",
    "data2vec-vision": "BeitImageProcessor",
    "dpt": "DPTImageProcessor",
    "mobilevit": "MobileViTImageProcessor",
    "mobilevitv2": "MobileViTImageProcessor",
    "mobilenet_v2": "MobileNetV2ImageProcessor",
    "clipseg": "ViTImageProcessor",
    "sam3": "Sam3ImageProcessor",
    "seggpt": "SegGptImageProcessor",
    "maskformer": "MaskFormerImageProcessor",
    "mask2former": "Mask2FormerImageProcessor",
    "oneformer": "OneFormerImageProcessor",
    "detr": "DetrImageProcessor",
    "conditional_detr": "ConditionalDetrImageProcessor",
    "eomt": "EomtImageProcessor",
    "eomt_dinov3": "EomtImageProcessor",
    "videomt": "VideomtVideoProcessor",
}
SQUARE = {"height": 64, "width": 64}
EDGES = {"shortest_edge": 64, "longest_edge": 64}
LONG = {"shortest_edge": 64, "longest_edge": 96}
OPTIONS: dict[str, dict[str, Any]] = {
    "mobilevit": {"size": {"shortest_edge": 72}, "crop_size": SQUARE},
    "mobilevitv2": {"size": {"shortest_edge": 72}, "crop_size": SQUARE},
    "mobilenet_v2": {"size": {"shortest_edge": 72}, "crop_size": SQUARE},
    "beit": {"size": SQUARE, "do_center_crop": False},
    "data2vec-vision": {"size": SQUARE, "do_center_crop": False},
    "sam3": {"size": {"height": 56, "width": 56}, "mask_size": {"height": 16, "width": 16}},
    "maskformer": {"size": LONG, "size_divisor": 32},
    "mask2former": {"size": LONG, "size_divisor": 32},
    "oneformer": {"size": LONG},
    "detr": {"size": LONG},
    "conditional_detr": {"size": LONG},
    "eomt": {"size": EDGES, "do_split_image": False, "do_pad": True},
    "eomt_dinov3": {"size": EDGES, "do_split_image": False, "do_pad": True},
    "videomt": {"size": SQUARE},
}


def available(name: str) -> bool:
    """Whether the installed transformers has the family."""
    return name.replace("-", "_") in _folders() or name == "data2vec-vision"


@functools.cache
def _folders() -> set[str]:
    return {path.name for path in (Path(transformers.__file__).parent / "models").iterdir()}


@functools.cache
def model(name: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MODELS[name]().eval()


def processor(name: str, suffix: str = "", **options: Any) -> Any:
    """Processor of a family; ``suffix`` 'Fast' or 'Pil' asks for another implementation."""
    kind = getattr(transformers, PROCESSORS[name] + suffix)
    options = {"size": SQUARE, **OPTIONS.get(name, {}), **options}
    if name == "oneformer":
        info = {str(k): {"name": f"class {k}", "isthing": int(k < 3)} for k in range(CLASSES)}
        folder = _folder()
        (folder / "info.json").write_text(json.dumps(info))
        options |= {"repo_path": str(folder), "class_info_file": "info.json"}
    return kind(**options)


@functools.cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp())


def spread(values: torch.Tensor, width: float) -> torch.Tensor:
    """Logits of a random network, which are all alike, at the spread of a trained one's.

    Classes and masks vary over the pixels, (B, Q, H, W); classes of queries over these, (B, Q, C).
    And they vary among each other, where there are several.
    """
    axes = (0, 1) if values.ndim == 3 else (0, 2, 3)
    centred = values - (values.mean(1, keepdim=True) if values.shape[1] > 1 else 0)
    centred = centred - centred.mean(axes, keepdim=True)
    return centred / centred.std(axes, keepdim=True) * width


@functools.cache
def case(name: str, patches: bool = False) -> Case:
    """Outputs of a tiny model on two images of different shapes, through its own processor."""
    options = {"size": {"shortest_edge": 64, "longest_edge": None}, "do_split_image": True}
    options["do_pad"] = False
    own = processor(name, **(options if patches else {}))
    sizes = list(IMAGES)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library to itself
        torch.manual_seed(0)
        outputs = model(name)(**_inputs(name, own))
    if name == "videomt":
        sizes = [IMAGES[0]] * 2
    for field in {"logits", "semantic_seg", "pred_masks", "masks_queries_logits"} & set(outputs):
        outputs[field] = spread(outputs[field], 3.0)
    if "class_queries_logits" in outputs:
        outputs["class_queries_logits"] = spread(outputs["class_queries_logits"], 3.0)
    return Case(name, model(name), own, outputs, sizes)


def _inputs(name: str, own: Any) -> dict[str, Any]:
    if name == "videomt":
        video = np.stack([pictures()[0], pictures()[0][::-1]])
        return dict(own(videos=[video], return_tensors="pt"))
    tokens = torch.arange(14).reshape(2, 7) + 3
    if name == "oneformer":
        # The processor's own encoding of images needs a tokenizer only for the task.
        inputs = own.preprocess(pictures(), task_inputs=["semantic"] * 2, return_tensors="pt")
        return {"pixel_values": inputs["pixel_values"], "task_inputs": tokens}
    inputs = dict(own(images=pictures(), return_tensors="pt"))
    if name in ("clipseg", "sam3"):
        inputs = {"pixel_values": inputs["pixel_values"], "input_ids": tokens}
        if name == "sam3":
            inputs["attention_mask"] = torch.ones_like(tokens)
    if name == "seggpt":
        prompt = torch.rand(2, 3, 64, 64)
        inputs = {"pixel_values": prompt, "prompt_pixel_values": prompt, "prompt_masks": prompt}
    return {key: value for key, value in inputs.items() if "labels" not in key}
