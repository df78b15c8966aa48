"""Plain PyTorch: a head that ends any segmentation network, and a wrapper that runs one.

``nn.Sequential(model, RankSEGHead("softmax", metric="dice"))`` returns labels instead of logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from rankseg import RankSEG, Segmentation
from rankseg_integrations._common import (
    Activation,
    activate,
    check_activation,
    check_tensor,
    describe,
    parse_size,
    resize,
    yes_or_no,
)

__all__ = ["RankSEGHead", "RankSEGModel"]

_KEYS = ("out", "logits")


class RankSEGHead(nn.Module):
    """A last layer that turns logits or probabilities into the mask with the best expected score.

    It has no parameters, records no gradient, and accepts what networks return: a tensor, a
    mapping or object with an ``out`` (torchvision) or ``logits`` (Hugging Face) entry, or a tuple
    or list whose first element is the tensor. The tensor has a batch axis, (B, C, *spatial): a
    single image (C, H, W) would be read as C images of H classes, so pass ``logits[None]``.

    Parameters
    ----------
    activation : {'none', 'softmax', 'sigmoid'}, default 'none'
        How logits become probabilities; ``'none'`` says that they are probabilities already.
        Computed in at least float32.
    size : sequence of int, optional
        Spatial shape (H, W) of the mask. Logits are resized to it before the activation
        (bilinear, ``align_corners=False``); a class whose logit is -inf at a pixel gets
        probability 0 wherever that pixel contributes.
    key : str or int, optional
        Which entry of a mapping, object (str) or sequence (int) holds the logits, where the rule
        above does not find it.
    **options
        Passed to `rankseg.RankSEG`: ``metric``, ``output_mode``, ``solver``, and so on.

    Raises
    ------
    ValueError, TypeError
        For an unknown activation, a malformed size or key, or what `rankseg.RankSEG` refuses.

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
        self.key = _checked_key(key)
        self.rankseg = RankSEG(activation=self.activation, **options)

    @torch.no_grad()
    def probabilities(self, returned: Any, size: Sequence[int] | None = None) -> Tensor:
        """Probabilities that the decision is made on; it reads the logits itself.

        Parameters
        ----------
        returned : Tensor, mapping, object, tuple or list
            What the network returned; the logits (or probs) in it have shape (B, C, *spatial).
            The batch axis must be there: (C, H, W) is read as B=C, C=H.
        size : sequence of int, optional
            Spatial shape wanted for this call, in place of the head's own.

        Returns
        -------
        Tensor, shape (B, C, *spatial)
            Detached, resized if a size was given.

        Raises
        ------
        ValueError, TypeError
            If there are no logits, or not dense floating-point ones; the message names what was
            got.
        """
        return activate(self._logits(returned, size), self.activation)

    def _logits(self, returned: Any, size: Sequence[int] | None) -> Tensor:
        """Logits (or probs) of the shape wanted, which the decision reads as they are."""
        logits = _select(returned, self.key)
        check_tensor("probs" if self.activation == "none" else "logits", logits)
        wanted = self.size if size is None else parse_size(size)
        return logits if wanted is None else resize(logits, wanted)

    def forward(
        self,
        returned: Any,
        size: Sequence[int] | None = None,
        valid_mask: Tensor | None = None,
    ) -> Tensor:
        """Labels int64 (B, *spatial), or masks bool (B, C, *spatial) for multilabel.

        Takes what `probabilities` takes, and the ``valid_mask`` of `rankseg.RankSEG.predict`, which
        has the spatial shape of the result.
        """
        prediction: Tensor = self.rankseg(self._logits(returned, size), valid_mask)
        return prediction

    @torch.no_grad()
    def solve(
        self,
        returned: Any,
        size: Sequence[int] | None = None,
        valid_mask: Tensor | None = None,
    ) -> Segmentation:
        """Return the prediction with its expected score, threshold and volume per class."""
        return self.rankseg.solve(self._logits(returned, size), valid_mask)

    def extra_repr(self) -> str:
        """Show the head's settings when a model is printed."""
        return f"activation={self.activation!r}, size={self.size}, key={self.key!r}"


class RankSEGModel(nn.Module):
    """A segmentation model that returns masks: runs `model`, decodes with `head`.

    Arguments of a call go to the model unchanged. The mode is the user's: call ``eval()`` before
    predicting, and train ``wrapper.model``, since no gradient passes through the decision.
    The state dict is the model's, each name prefixed with ``model.``.

    Parameters
    ----------
    model : nn.Module
        Any network that returns what `RankSEGHead` accepts, with its batch axis: (B, C, *spatial).
    head : RankSEGHead
        How logits become a mask.
    resize_to_input : bool, default False
        Resize the logits to the spatial shape of the first tensor argument, the image, before
        the activation: for models that predict on a coarser grid than their input. Calls raise
        ValueError if that tensor has another number of axes than the logits.

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
        resize_to_input = yes_or_no("resize_to_input", resize_to_input)
        if resize_to_input and head.size is not None:
            raise ValueError(f"resize_to_input and the head's size={head.size} exclude each other")
        self.model = model
        self.head = head
        self.resize_to_input = resize_to_input

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Labels int64 (B, *spatial), or masks bool (B, C, *spatial) for multilabel."""
        returned = self.model(*args, **kwargs)
        prediction: Tensor = self.head(returned, self._size(returned, args, kwargs))
        return prediction

    @torch.no_grad()
    def solve(self, *args: Any, **kwargs: Any) -> Segmentation:
        """Return the prediction with its expected score, threshold and volume per class."""
        returned = self.model(*args, **kwargs)
        return self.head.solve(returned, self._size(returned, args, kwargs))

    def _size(
        self, returned: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[int, ...] | None:
        if not self.resize_to_input:
            return None
        tensors = _tensors(args, kwargs)
        if not tensors:
            raise TypeError("resize_to_input needs a tensor among the arguments, got none")
        name, image = tensors[0]
        logits = _select(returned, self.head.key)
        if image.ndim != logits.ndim or 0 in image.shape[2:]:
            raise ValueError(
                f"resize_to_input reads the size from the first tensor argument; {name} of shape "
                f"{tuple(image.shape)} is no image for logits of shape {tuple(logits.shape)}: "
                "pass the image (B, channels, *spatial) first, or call the model yourself and "
                "then the head with size=..."
            )
        return tuple(image.shape[2:])


def _tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Tensor]]:
    """Tensors among the arguments of a call, in its order, with a name for messages."""
    named = [(f"positional argument {place}", value) for place, value in enumerate(args, 1)]
    named += [(f"argument {name!r}", value) for name, value in kwargs.items()]
    return [(name, value) for name, value in named if isinstance(value, Tensor)]


def _checked_key(key: object) -> str | int | None:
    if key is None or isinstance(key, str):
        return key
    if isinstance(key, Integral) and not isinstance(key, bool):
        return int(key)
    raise TypeError(
        "key must be a str (an entry of a mapping or object) or an int (a place in a tuple or "
        f"list); got {type(key).__name__} {key!r}"
    )


def _select(returned: Any, key: str | int | None) -> Tensor:
    logits = _first(returned) if key is None else _entry(returned, key)
    if not isinstance(logits, Tensor):
        raise TypeError(f"no logits or probs found: got {describe(returned)}; {_advice(key)}")
    if logits.ndim < 3:
        raise ValueError(
            f"logits and probs must have shape (B, C, *spatial), got {tuple(logits.shape)} "
            f"in {describe(returned)}; {_advice(key)}"
        )
    return logits


def _first(returned: Any) -> Any:
    """Logits found by the usual names or place; None where there are none."""
    if isinstance(returned, Tensor):
        return returned
    named = (_entry(returned, key) for key in _KEYS)
    found = next((entry for entry in named if entry is not None), None)
    return _entry(returned, 0) if found is None else found


def _entry(returned: Any, key: str | int) -> Any:
    """Look `key` up in a mapping, a sequence or an object; None where it is missing."""
    if isinstance(returned, Mapping):
        return returned.get(key)
    if isinstance(key, str):
        return getattr(returned, key, None)
    inside = isinstance(returned, (tuple, list)) and -len(returned) <= key < len(returned)
    return returned[key] if inside else None


def _advice(key: str | int | None) -> str:
    if key is None:
        return f"looked for {' and '.join(_KEYS)}, and for a first element; pass key=... to choose"
    return f"looked for key={key!r}"
