"""Hugging Face's SAM models: from their outputs to masks at the size of the image.

The processor of the model brings logits to that size and does everything but the cut. Which
family an output belongs to is read from its fields, the geometry from the processor.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rankseg_integrations._common import check_tensor, parse_size
from rankseg_integrations.sam.threshold import ProbsThreshold, RankSEGThreshold, positive

_ABSENT = -1024.0
"""Logit that the video models give every pixel of an object they find absent."""

_INSTANCES = {
    **{"pred_masks": "(B, Q, h, w)", "pred_logits": "(B, Q)", "pred_boxes": "(B, Q, 4)"},
    "presence_logits": "(B, 1)",
}
_CONCEPT = {"semantic_seg": "(B, 1, h, w)"}
"""Fields of SAM 3 that a decision reads, and their shapes; mask logits come first."""

_OPTIONAL = "presence_logits"


def restore_mask_logits(
    outputs: Any,
    original_sizes: Any,
    reshaped_input_sizes: Any = None,
    *,
    processor: Any,
    empty_absent: bool = False,
) -> list[Tensor]:
    """Mask logits at the size of each image, before any cut.

    For SAM, SAM-HQ, SAM 2, EdgeTAM and the SAM 3 tracker: `processor` resizes them as it would
    for its own masks, through the padded square for SAM and SAM-HQ, straight for the others.
    Gradients pass.

    Parameters
    ----------
    outputs : ModelOutput or mapping
        What the model returned: ``pred_masks`` (B, P, M, h, w) and ``iou_scores``, for B images,
        P prompts and M masks a prompt.
    original_sizes : sequence of (H, W), Tensor or ndarray of shape (B, 2)
        ``inputs["original_sizes"]``.
    reshaped_input_sizes : the same, for SAM and SAM-HQ only
        ``inputs["reshaped_input_sizes"]``: what of the square is no padding.
    processor : SamProcessor, SamHQProcessor, Sam2Processor, Sam3TrackerProcessor
        The model's own, or its image processor.
    empty_absent : bool, default False
        Give the masks of a prompt whose ``object_score_logits`` is not positive the logit -1024,
        as the video models do. The image models' official masks ignore that score.

    Returns
    -------
    list of Tensor, shape (P, M, H, W)
        In the type of ``pred_masks``. ``sigmoid`` makes them probabilities.

    Raises
    ------
    TypeError
        If the outputs or the processor belong to another family; the message says which function
        takes them. If logits are not floating-point, or on the meta device.
    ValueError
        If a field has another shape, there are not as many sizes as images, a size is not positive
        (the message names the image), or outputs and processor do not belong together.
    """
    return list(_restored(outputs, original_sizes, reshaped_input_sizes, processor, empty_absent))


def postprocess_masks(
    outputs: Any,
    original_sizes: Any,
    reshaped_input_sizes: Any = None,
    *,
    processor: Any,
    metric: str = "dice",
    empty_absent: bool = False,
    apply_non_overlapping_constraints: bool = False,
    **options: Any,
) -> list[Tensor]:
    """Masks with the largest expected Dice or IoU, where the processor's would cut at 0.

    Parameters
    ----------
    outputs, original_sizes, reshaped_input_sizes, processor, empty_absent
        As for `restore_mask_logits`.
    metric : str, default 'dice'
        What to maximise; ``'acc'`` gives the masks of ``processor.post_process_masks``.
    apply_non_overlapping_constraints : bool, default False
        Leave each pixel to the prompt whose logit is largest there, before the decision: the
        prompts of an image are then taken to show different objects.
    **options
        Passed to `RankSEGThreshold`: ``temperature``, ``mask_threshold``, ``solver`` and so on.

    Returns
    -------
    list of Tensor, bool (P, M, H, W)
        One image at a time is held at full size.

    Raises
    ------
    TypeError, ValueError
        As for `restore_mask_logits` and `RankSEGThreshold`.
    """
    threshold = RankSEGThreshold(metric, **options)
    images = _restored(outputs, original_sizes, reshaped_input_sizes, processor, empty_absent)
    if apply_non_overlapping_constraints:
        images = map(_one_prompt_a_pixel, images)
    # `map` lets go of one image's logits before it asks for the next one's.
    return list(map(threshold.above, images))


def postprocess_instance_segmentation(
    outputs: Any,
    *,
    processor: Any,
    threshold: float = 0.3,
    target_sizes: Any = None,
    metric: str = "dice",
    temperature: float = 1.0,
    **options: Any,
) -> list[dict[str, Tensor]]:
    """Instances of SAM 3, each with the mask of the largest expected Dice or IoU.

    Which instances there are, their scores (times the presence of the concept) and scaled boxes
    are the processor's; boxes are the model's and not drawn around the masks.

    Parameters
    ----------
    outputs : Sam3ImageSegmentationOutput or mapping
        ``pred_masks`` (B, Q, h, w), ``pred_logits`` (B, Q), ``pred_boxes`` (B, Q, 4) and, if
        there, ``presence_logits``, for B images and Q queries.
    processor : Sam3Processor
        Or its image processor.
    threshold : float, default 0.3
        Instances with a larger score are kept.
    target_sizes : sequence of (H, W), Tensor or ndarray of shape (B, 2), optional
        Without them masks keep the model's size, and boxes lie in [0, 1].
    metric : str, default 'dice'
        What to maximise; ``'acc'`` gives the processor's own masks.
    temperature : float > 0, default 1
        Divides the mask logits; see `RankSEGThreshold`.
    **options
        Passed to `rankseg.RankSEG`: ``solver``, ``smooth``, ``pruning_prob`` and so on.

    Returns
    -------
    list of dict
        ``scores`` (N,), ``boxes`` (N, 4) as x1, y1, x2, y2, and ``masks`` int64 (N, H, W); one an
        image.

    Raises
    ------
    TypeError, ValueError
        As for `restore_mask_logits`.

    Notes
    -----
    The processor resizes probabilities, not logits.
    """
    decide = ProbsThreshold(metric, **options)
    fields = _sam3(outputs, _INSTANCES, positive("temperature", temperature), decide)
    official = _method(processor, "post_process_instance_segmentation")
    sizes = _optional_sizes(target_sizes, len(fields["pred_masks"]))
    return [
        found
        for part, size in _parts(fields, sizes, whole=decide.is_plain)
        for found in official(part, threshold=threshold, mask_threshold=decide, target_sizes=size)
    ]


def postprocess_semantic_segmentation(
    outputs: Any,
    *,
    processor: Any,
    target_sizes: Any = None,
    metric: str = "dice",
    temperature: float = 1.0,
    **options: Any,
) -> list[Tensor]:
    """Pixels of the prompted concept in SAM 3, with the largest expected Dice or IoU.

    Parameters
    ----------
    outputs : Sam3ImageSegmentationOutput or mapping
        ``semantic_seg`` (B, 1, h, w).
    processor, target_sizes, metric, temperature, **options
        As for `postprocess_instance_segmentation`.

    Returns
    -------
    list of Tensor, int64 (H, W)
        1 where the concept is, 0 elsewhere. One image's probabilities are held at full size, but
        for ``'acc'``, where the processor does the whole batch.

    Raises
    ------
    TypeError, ValueError
        As for `restore_mask_logits`.
    """
    decide = ProbsThreshold(metric, **options)
    fields = _sam3(outputs, _CONCEPT, positive("temperature", temperature), decide)
    official = _method(processor, "post_process_semantic_segmentation")
    sizes = _optional_sizes(target_sizes, len(fields["semantic_seg"]))
    return [
        found
        for part, size in _parts(fields, sizes, whole=decide.is_plain)
        for found in official(part, target_sizes=size, threshold=decide)
    ]


def _restored(
    outputs: Any, original_sizes: Any, reshaped_input_sizes: Any, processor: Any, empty_absent: bool
) -> Iterator[Tensor]:
    """Check everything, then restore one image at a time."""
    fields = _fields(outputs, ("pred_masks", "iou_scores"))
    masks = fields["pred_masks"]
    _check_shapes({"pred_masks": masks}, {"pred_masks": "(B, P, M, h, w)"})
    official = _method(processor, "post_process_masks")
    padded = _restores_through_padding(processor)
    if padded == ("object_score_logits" in fields):
        kinds = ("SAM and SAM-HQ", "SAM 2, EdgeTAM and the SAM 3 tracker")
        raise ValueError(
            f"{type(outputs).__name__} and {type(processor).__name__} do not belong together: "
            f"{'with' if padded else 'without'} object_score_logits the outputs are of "
            f"{kinds[padded]}, the processor is for {kinds[not padded]}; pass "
            "the model's own processor"
        )
    sizes = {"original_sizes": _sizes("original_sizes", original_sizes, len(masks))}
    if padded:
        name = "reshaped_input_sizes"
        sizes[name] = _sizes(name, reshaped_input_sizes, len(masks))
    elif reshaped_input_sizes is not None:
        raise ValueError(
            f"{type(processor).__name__} resizes masks straight to the original size: leave "
            "reshaped_input_sizes out"
        )
    if empty_absent:
        masks = _without_absent(masks, fields)
    for k in range(len(masks)):
        mine = {name: [size[k]] for name, size in sizes.items()}
        yield official(masks[k : k + 1], **mine, binarize=False)[0]


def _without_absent(masks: Tensor, fields: Mapping[str, Any]) -> Tensor:
    scores = fields.get("object_score_logits")
    if scores is None:
        raise ValueError(
            "empty_absent needs object_score_logits, which SAM and SAM-HQ do not predict; "
            f"got {', '.join(fields)}"
        )
    return masks.where(scores[..., None, None] > 0, _ABSENT)


def _one_prompt_a_pixel(logits: Tensor) -> Tensor:
    """Rule each pixel of (P, M, H, W) out for all prompts but that of the largest logit.

    In place: the logits are those that the processor has just made, and a copy is as large.
    """
    prompts = torch.arange(len(logits), device=logits.device)[:, None, None, None]
    return logits.masked_fill_(logits.argmax(0, keepdim=True) != prompts, -math.inf)


def _sam3(
    outputs: Any, shapes: Mapping[str, str], temperature: float, decide: ProbsThreshold
) -> dict[str, Tensor]:
    """SAM 3's fields of these shapes, checked, the logits of the masks divided."""
    given = _fields(outputs, [name for name in shapes if name != _OPTIONAL])
    fields = {name: given[name] for name in shapes if name in given}
    _check_shapes(fields, shapes)
    for name, values in fields.items():
        if values.isnan().any():
            raise ValueError(f"{name} contains NaN; check the model's output")
    if not decide.is_plain:
        name, logits = next(iter(fields.items()))
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        fields[name] = wide / temperature
    return fields


def _parts(
    fields: Mapping[str, Tensor], sizes: Sequence[Any] | None, *, whole: bool
) -> Iterator[tuple[SimpleNamespace, Sequence[Any] | None]]:
    """Outputs and sizes of one image at a time, or of the whole batch, as the processor reads them.

    By image, because the processor keeps all it has resized until it returns. The whole batch for
    masks equal bit for bit: a pixel's place in memory can change the last bit of its sigmoid.
    """
    images = len(next(iter(fields.values())))
    step = images if whole else 1
    for k in range(0, images, step or 1):
        part = {name: values[k : k + step] for name, values in fields.items()}
        size = None if sizes is None else sizes[k : k + step]
        yield SimpleNamespace(**{_OPTIONAL: None, **part}), size


def _fields(outputs: Any, wanted: Sequence[str]) -> dict[str, Any]:
    """Fields of the outputs that are there, those wanted among them."""
    if not isinstance(outputs, Mapping):
        raise TypeError(f"outputs must be what a model returned, got {_elsewhere(outputs)}")
    # A ModelOutput whose field was set to None, or from None, tells so by its attributes only.
    given = vars(outputs) if dataclasses.is_dataclass(outputs) else outputs
    fields = {name: value for name, value in given.items() if value is not None}
    if not set(wanted) <= set(fields):
        raise TypeError(
            f"outputs must hold {', '.join(wanted)}; got {type(outputs).__name__} with "
            f"{', '.join(fields)}: {_advice(set(fields), wanted)}"
        )
    for name in [name for name in fields if name in (*wanted, _OPTIONAL)]:
        if not isinstance(fields[name], Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(fields[name]).__name__}")
        check_tensor(name, fields[name])
    return fields


def _check_shapes(fields: Mapping[str, Tensor], shapes: Mapping[str, str]) -> None:
    """Compare shapes with those wanted; axes that share a capital letter are equally long."""
    lengths: dict[str, int] = {}
    for name, values in fields.items():
        shape, axes = tuple(values.shape), shapes[name].strip("()").split(", ")
        if not _fits(shape, axes):
            raise ValueError(f"{name} must have shape {shapes[name]}, got {shape}")
        for axis, length in zip(axes, shape, strict=True):
            if axis.isupper() and lengths.setdefault(axis, length) != length:
                got = ", ".join(str(tuple(each.shape)) for each in fields.values())
                raise ValueError(f"{', '.join(fields)} must agree on {axis}; got shapes {got}")


def _fits(shape: tuple[int, ...], axes: Sequence[str]) -> bool:
    """Whether there are as many axes, and those given by a number have that length."""
    return len(shape) == len(axes) and all(
        not axis.isdigit() or int(axis) == length for axis, length in zip(axes, shape, strict=True)
    )


def _elsewhere(outputs: Any) -> str:
    name = type(outputs).__name__
    if isinstance(outputs, (tuple, list)):
        return (
            f"a {name}: call the model with return_dict=True; for segment_anything use "
            "RankSEGSamPredictor, for sam2 SAM2ImagePredictor(mask_threshold=RankSEGThreshold())"
        )
    if isinstance(outputs, Tensor):
        return f"a {name}: pass the whole outputs, or compare logits with RankSEGThreshold()"
    return name


def _advice(fields: set[str], wanted: Sequence[str]) -> str:
    """Name the function that takes outputs with these fields, or the fields that are missing."""
    missing = [name for name in wanted if name not in fields]
    if {"pred_masks", "iou_scores"} <= fields:
        return "use postprocess_masks"
    if {"pred_masks", "object_ids"} <= fields:
        return (
            "for videos pass mask_threshold=RankSEGThreshold() to the processor's "
            "post_process_masks"
        )
    if fields & {"pred_logits", "semantic_seg"} and not fields & {*wanted} - {"pred_masks"}:
        return (
            "SAM 3's are for postprocess_instance_segmentation and "
            "postprocess_semantic_segmentation"
        )
    if fields & {*wanted} and "logits" not in fields:
        return (
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing, pass all "
            "that the model returned"
        )
    return "for models that are no SAM use rankseg_integrations.transformers"


def _method(processor: Any, name: str) -> Any:
    """Look up the official method, on the processor or its image processor."""
    found = getattr(processor, name, None)
    if found is None:
        raise TypeError(
            f"processor must be the SAM model's own and have {name}, got {type(processor).__name__}"
        )
    return found


def _restores_through_padding(processor: Any) -> bool:
    """Whether masks come back through the padded square: then their size in it must be given."""
    images = getattr(processor, "image_processor", processor)
    return "reshaped_input_sizes" in inspect.signature(images.post_process_masks).parameters


def _optional_sizes(sizes: Any, count: int) -> list[tuple[int, ...]] | None:
    return None if sizes is None else _sizes("target_sizes", sizes, count)


def _sizes(name: str, sizes: Any, count: int) -> list[tuple[int, ...]]:
    one = getattr(sizes, "ndim", 1) == 0  # a tensor or an array that pretends to be iterable
    if one or isinstance(sizes, Mapping) or not isinstance(sizes, Iterable):
        raise TypeError(f"{name} must hold (H, W) of each image, got {type(sizes).__name__}")
    parsed = [_size(f"{name}[{k}]", size) for k, size in enumerate(sizes)]
    if len(parsed) != count:
        raise ValueError(f"{name} must hold (H, W) of each of {count} images, got {parsed}")
    return parsed


def _size(name: str, size: Any) -> tuple[int, ...]:
    """(H, W) of one image, or an error that names it."""
    try:
        parsed = parse_size(size)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error
    if len(parsed) != 2:
        raise ValueError(f"{name}: size must be (H, W), got {size!r}")
    return parsed
