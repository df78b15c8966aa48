"""Plain PyTorch: a head that ends any segmentation network, and a wrapper that runs one.

``nn.Sequential(model, RankSEGHead("softmax", metric="dice"))`` returns labels instead of logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rankseg import RankSEG, Segmentation
from rankseg_integrations._common import (
    Activation,
    activate,
    check_activation,
    parse_size,
    resize,
)

__all__ = ["RankSEGHead", "RankSEGModel"]

_KEYS = ("out", "logits")


class RankSEGHead(nn.Module):
    """A last layer that turns a network's output into the mask with the largest expected score.

    It has no parameters, records no gradient, and accepts what networks return: a tensor, a
    mapping or object with an ``out`` (torchvision) or ``logits`` (Hugging Face) entry, or a tuple
    or list whose first element is the tensor.

    Parameters
    ----------
    activation : {'none', 'softmax', 'sigmoid'}, default 'none'
        How the output becomes probabilities; ``'none'`` says that it is probabilities already.
        Computed in at least float32.
    size : sequence of int, optional
        Spatial shape (H, W) of the mask. The output is resized to it before the activation
        (bilinear, ``align_corners=False``).
    key : str or int, optional
        Which entry of a mapping, object (str) or sequence (int) holds the scores, where the rule
        above does not find it.
    **options
        Passed to `rankseg.RankSEG`: ``metric``, ``output_mode``, ``solver``, and so on.

    Raises
    ------
    ValueError, TypeError
        For an unknown activation, a malformed size, or what `rankseg.RankSEG` refuses.

    Notes
    -----
    Models that score queries (DETR, MaskFormer) have no tensor of class logits per pixel; their
    ``logits`` belong to the queries, and this head cannot decode them.

    Examples
    --------
    >>> head = RankSEGHead("sigmoid", output_mode="multilabel")
    >>> head(torch.tensor([[[[2.0, -0.5], [-4.0, -4.0]]]])).int().tolist()
    [[[[1, 1], [0, 0]]]]
    """

    def __init__(
        self,
        activation: Activation = "none",
        *,
        size: Sequence[int] | None = None,
        key: str | int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.activation = check_activation(activation)
        self.size = None if size is None else parse_size(size)
        self.key = key
        self.rankseg = RankSEG(**options)

    @torch.no_grad()
    def probabilities(self, output: Any, size: Sequence[int] | None = None) -> Tensor:
        """Probabilities that the decision is made on.

        Parameters
        ----------
        output : Tensor, mapping, object, tuple or list
            What the network returned; the scores in it have shape (B, C, *spatial).
        size : sequence of int, optional
            Spatial shape wanted for this call, in place of the head's own.

        Returns
        -------
        Tensor, shape (B, C, *spatial)
            Detached, resized if a size was given.

        Raises
        ------
        ValueError, TypeError
            If no scores are found; the message names what was got.
        """
        scores = _select(output, self.key)
        wanted = self.size if size is None else parse_size(size)
        if wanted is not None:
            scores = resize(scores, wanted)
        return activate(scores, self.activation)

    def forward(self, output: Any, size: Sequence[int] | None = None) -> Tensor:
        """Labels int64 (B, *spatial), or masks bool (B, C, *spatial) for multilabel."""
        prediction: Tensor = self.rankseg(self.probabilities(output, size))
        return prediction

    def solve(self, output: Any, size: Sequence[int] | None = None) -> Segmentation:
        """Return the prediction with its expected score, threshold and volume per class."""
        return self.rankseg.solve(self.probabilities(output, size))

    def extra_repr(self) -> str:
        """Show the head's settings when a model is printed."""
        return f"activation={self.activation!r}, size={self.size}, key={self.key!r}"


class RankSEGModel(nn.Module):
    """A segmentation model that returns masks: runs `model`, decodes its output with `head`.

    Arguments of a call go to the model unchanged. The mode is the user's: call ``eval()`` before
    predicting, and train ``wrapper.model``, since no gradient passes through the decision.
    The state dict is the model's, each name prefixed with ``model.``.

    Parameters
    ----------
    model : nn.Module
        Any network whose output `RankSEGHead` accepts.
    head : RankSEGHead
        How the output becomes a mask.
    resize_to_input : bool, default False
        Resize the scores to the spatial shape of the first tensor argument before the
        activation: for models that predict on a coarser grid than their input.

    Raises
    ------
    TypeError
        If `head` is not a `RankSEGHead`.
    ValueError
        If both `resize_to_input` and the head's own ``size`` are set.

    Examples
    --------
    >>> model = RankSEGModel(nn.Conv2d(3, 2, 1), RankSEGHead("softmax", metric="iou")).eval()
    >>> model(torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 8, 8])
    """

    def __init__(
        self, model: nn.Module, head: RankSEGHead, *, resize_to_input: bool = False
    ) -> None:
        super().__init__()
        if not isinstance(head, RankSEGHead):
            raise TypeError(f"head must be a RankSEGHead, got {type(head).__name__}")
        if resize_to_input and head.size is not None:
            raise ValueError(f"resize_to_input and the head's size={head.size} exclude each other")
        self.model = model
        self.head = head
        self.resize_to_input = resize_to_input

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Labels int64 (B, *spatial), or masks bool (B, C, *spatial) for multilabel."""
        prediction: Tensor = self.head(self.model(*args, **kwargs), self._size(args, kwargs))
        return prediction

    @torch.no_grad()
    def solve(self, *args: Any, **kwargs: Any) -> Segmentation:
        """Return the prediction with its expected score, threshold and volume per class."""
        return self.head.solve(self.model(*args, **kwargs), self._size(args, kwargs))

    def _size(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...] | None:
        if not self.resize_to_input:
            return None
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                return tuple(value.shape[2:])
        raise TypeError("resize_to_input needs a tensor among the arguments, got none")


def _select(output: Any, key: str | int | None) -> Tensor:
    scores = _first(output) if key is None else _entry(output, key)
    if not isinstance(scores, Tensor):
        raise TypeError(f"no scores found: got {_describe(output)}; {_advice(key)}")
    if scores.ndim < 3:
        raise ValueError(
            f"scores must have shape (B, C, *spatial), got {tuple(scores.shape)} "
            f"in {_describe(output)}; {_advice(key)}"
        )
    return scores


def _first(output: Any) -> Any:
    """Scores found by the usual names or place; None where there are none."""
    if isinstance(output, Tensor):
        return output
    named = (_entry(output, key) for key in _KEYS)
    found = next((entry for entry in named if entry is not None), None)
    return _entry(output, 0) if found is None else found


def _entry(output: Any, key: str | int) -> Any:
    """Look `key` up in a mapping, a sequence or an object; None where it is missing."""
    if isinstance(output, Mapping):
        return output.get(key)
    if isinstance(key, str):
        return getattr(output, key, None)
    inside = isinstance(output, (tuple, list)) and -len(output) <= key < len(output)
    return output[key] if inside else None


def _describe(value: Any) -> str:
    """Name the type and what is inside, one level deep: ``dict(loss: Tensor())``."""
    name = type(value).__name__
    if isinstance(value, Tensor):
        return f"{name}{tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"{name}({', '.join(f'{key}: {_brief(entry)}' for key, entry in value.items())})"
    if isinstance(value, (tuple, list)):
        return f"{name}({', '.join(_brief(entry) for entry in value)})"
    return name


def _brief(value: Any) -> str:
    return _describe(value) if isinstance(value, Tensor) else type(value).__name__


def _advice(key: str | int | None) -> str:
    if key is None:
        return f"looked for {' and '.join(_KEYS)}, and for a first element; pass key=... to choose"
    return f"looked for key={key!r}"
