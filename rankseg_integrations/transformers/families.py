"""Which family of models made the outputs, and what its fields are called and mean.

A family is known by types: the processor's class, the model's configuration, the outputs' class.
Only where no type is known do the fields decide, and only if they leave no doubt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from rankseg_integrations._common import check_tensor, require


@dataclass(frozen=True)
class Family:
    """Names and meaning of a family's outputs.

    Attributes
    ----------
    name : str
        The model type, as in ``model.config.model_type``.
    kind : {'dense', 'prompt', 'semantic', 'queries'}
        Logits of every class (B, C, H, W); logits of one prompt an item (B, H, W); logits of one
        concept (B, 1, H, W); or queries with a class and a mask each.
    masks, classes : str
        The fields with the logits of the queries' masks (B, Q, H, W) and classes (B, Q, C + 1).
        The other kinds have one field, ``masks``.
    null_class : bool
        Whether the last class of a query means "no object".
    first_grid : (int, int), 'processor' or None
        The grid that mask logits are resized to before anything else.
    antialias : bool
        Whether torchvision-backed processors smooth class scores that they shrink.
    """

    name: str
    kind: Literal["dense", "prompt", "semantic", "queries"]
    masks: str = "logits"
    classes: str = ""
    null_class: bool = True
    first_grid: tuple[int, int] | Literal["processor"] | None = None
    antialias: bool = False

    @property
    def shapes(self) -> dict[str, str]:
        """Fields that the outputs must have, and their shapes."""
        axes = {"dense": "(B, C, H, W)", "prompt": "(B, H, W)", "semantic": "(B, 1, H, W)"}
        if self.kind == "queries":
            return {self.classes: "(B, Q, C)", self.masks: "(B, Q, H, W)"}
        return {self.masks: axes[self.kind]}


def _queries(name: str, **more: Any) -> Family:
    return Family(name, "queries", "masks_queries_logits", "class_queries_logits", **more)


_DENSE = (
    *("beit", "data2vec-vision", "dpt", "mobilenet_v2", "mobilevit", "mobilevitv2"),
    *("segformer", "upernet"),
)
FAMILIES = {
    family.name: family
    for family in [
        *(Family(name, "dense") for name in _DENSE),
        Family("clipseg", "prompt"),
        Family("sam3", "semantic", "semantic_seg"),
        Family("detr", "queries", "pred_masks", "logits"),
        Family("conditional_detr", "queries", "pred_masks", "logits", null_class=False),
        _queries("maskformer"),
        _queries("mask2former", first_grid=(384, 384)),
        _queries("oneformer", antialias=True),
        _queries("eomt", first_grid="processor"),
        _queries("eomt_dinov3", first_grid="processor"),
        _queries("videomt"),
    ]
}
_OTHER_DENSE = Family("SemanticSegmenterOutput", "dense")
_FOLDERS = {"data2vec": "data2vec-vision"}  # where the folder is not named like the model type

_PROMPTED = "masks of prompts belong to another adapter: use rankseg_integrations.sam"
_REFUSED = {
    "seggpt": "its pred_masks are the colours of a painted picture, not probabilities, and leave "
    "nothing to decide: use the processor's own post_process_semantic_segmentation",
    **dict.fromkeys(
        (
            *("edgetam", "edgetam_video", "sam", "sam_hq", "sam2", "sam2_video"),
            *("sam3_tracker", "sam3_tracker_video", "sam3_video"),
        ),
        _PROMPTED,
    ),
}


def recognise(outputs: Any, model: Any = None, processor: Any = None) -> Family:
    """Family of a model's outputs, whose fields are there, hold values, and fit together.

    Raises
    ------
    TypeError
        For a tuple, a single tensor or None, or a field that is no dense floating-point tensor.
    ValueError
        For a family that is not served, types that contradict each other, fields that are
        missing or have the wrong shape.
    """
    _check_named(outputs)
    family = _by_type(outputs, model, processor) or _by_fields(outputs)
    _check_fields(outputs, family)
    return family


def refusal(processor: Any) -> str:
    """Why outputs of a processor's models are not served, and what to use; empty if they are."""
    names = [*_model_types(processor), *_model_types(unwrapped(processor))]
    return next((_REFUSED[name] for name in names if name in _REFUSED), "")


def field(outputs: Any, name: str) -> Any:
    """Entry of a `ModelOutput`, of any other object, or of a mapping; None where it is missing."""
    return outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)


def unwrapped(processor: Any) -> Any:
    """Official image processor inside one of ours, or beside a tokenizer, or the one given."""
    official = getattr(processor, "processor", processor)
    return getattr(official, "image_processor", official)


def _check_named(outputs: Any) -> None:
    if isinstance(outputs, (tuple, list)):
        raise TypeError(
            "outputs must have named fields; got a "
            f"{type(outputs).__name__} of {len(outputs)}: call the model with return_dict=True"
        )
    if outputs is None or isinstance(outputs, type) or hasattr(outputs, "ndim"):
        got = "None" if outputs is None else f"a {type(outputs).__name__}"
        if hasattr(outputs, "ndim") and not isinstance(outputs, type):
            nested = getattr(outputs, "is_nested", False)  # these have no shape
            got += "" if nested else f" of {tuple(outputs.shape)}"
        raise TypeError(
            f"outputs must be what the model returned, with its named fields; got {got}: pass "
            "outputs as they are, not outputs.logits"
        )


def _by_type(outputs: Any, model: Any, processor: Any) -> Family | None:
    config = getattr(model, "config", None)
    types = {  # processors last: some serve several families, as that of SAM 2 does EdgeTAM
        "outputs": list(_model_types(outputs)),
        "model": [getattr(config, "model_type", ""), *_model_types(model)],
        "processor": [*_model_types(processor), *_model_types(unwrapped(processor))],
    }
    found = {who: known for who, names in types.items() if (known := _first_known(names))}
    if len({replace(family, name="") for family in found.values()}) > 1:
        seen = ", ".join(f"{who} of {family.name}" for who, family in reversed(found.items()))
        raise ValueError(f"{seen} do not go together: pass those of one family, or leave one out")
    if found:
        return next(iter(found.values()))
    dense = require("transformers.modeling_outputs", extra="transformers").SemanticSegmenterOutput
    return _OTHER_DENSE if isinstance(outputs, dense) else None


def _model_types(thing: Any) -> Iterator[str]:
    """Folders of transformers in which the class of an object and its bases are defined."""
    for base in type(thing).__mro__:
        package, _, rest = base.__module__.partition("transformers.models.")
        if rest and not package:
            folder = rest.partition(".")[0]
            yield _FOLDERS.get(folder, folder)


def _first_known(names: list[str]) -> Family | None:
    for name in names:
        if name in _REFUSED:
            raise ValueError(f"{name} is not served here: {_REFUSED[name]}")
        if name in FAMILIES:
            return FAMILIES[name]
    return None


def _by_fields(outputs: Any) -> Family:
    """Family of outputs whose class says nothing, as those that a pipeline passes on."""
    if field(outputs, "pred_masks") is not None and field(outputs, "iou_scores") is not None:
        raise ValueError(f"{_describe(outputs)} has the fields of SAM: {_PROMPTED}")
    if field(outputs, "semantic_seg") is not None:
        return FAMILIES["sam3"]
    logits = field(outputs, "logits")
    _check_is_tensor("logits", logits)
    if isinstance(logits, Tensor) and logits.ndim == 4 and field(outputs, "pred_masks") is None:
        return _OTHER_DENSE
    raise ValueError(
        f"the family of {_describe(outputs)} cannot be told from its fields: pass processor= or "
        f"model=. Served are {', '.join(FAMILIES)}, and any model that returns a "
        f"{_OTHER_DENSE.name}"
    )


def _check_fields(outputs: Any, family: Family) -> None:
    for name, shape in family.shapes.items():
        tensor = field(outputs, name)
        _check_is_tensor(name, tensor)
        if not isinstance(tensor, Tensor):
            advice = "; was the model run for semantic segmentation?" * (family.kind != "queries")
            raise ValueError(
                f"outputs of {family.name} must have a tensor {name} {shape}; "
                f"got {_describe(outputs)}{advice}"
            )
        axes = shape.count(",") + 1
        wrong = tensor.ndim != axes or (family.kind == "semantic" and tensor.shape[1] != 1)
        if wrong:
            raise ValueError(
                f"{name} of {family.name} must have shape {shape}; got {tuple(tensor.shape)}"
            )
        check_tensor(name, tensor)
    if family.kind == "queries":
        _check_queries(field(outputs, family.classes), field(outputs, family.masks), family)


def _check_is_tensor(name: str, values: Any) -> None:
    """Refuse a field that is there, but of another library."""
    if values is not None and not isinstance(values, Tensor):
        raise TypeError(
            f"{name} must be a torch tensor; got {type(values).__module__}."
            f"{type(values).__qualname__}: pass the outputs as the model returned them, or "
            f"torch.as_tensor({name})"
        )


def _check_queries(classes: Tensor, masks: Tensor, family: Family) -> None:
    if classes.shape[:2] != masks.shape[:2]:
        raise ValueError(
            f"{family.classes} and {family.masks} must agree on images and queries; got shapes "
            f"{tuple(classes.shape)} and {tuple(masks.shape)}"
        )
    if classes.shape[2] == 1 and family.null_class:
        raise ValueError(
            f"{family.classes} of {family.name} must hold a class besides the last one, "
            f'which means "no object"; got shape {tuple(classes.shape)}'
        )


def _describe(outputs: Any) -> str:
    named = outputs if isinstance(outputs, Mapping) else getattr(outputs, "__dict__", {})
    return f"{type(outputs).__name__}({', '.join(map(str, named))})"
