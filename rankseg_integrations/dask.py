"""Dask: a lazy array of probabilities in, a lazy array of labels or masks out.

``segment(dask.array.from_zarr("probs.zarr"), RankSEG("dice")).to_zarr("labels.zarr")``, on the
threads of this machine or on the workers of a cluster. docs/larger-than-memory.md has the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from rankseg import DecisionRule, Mergeable, RankSEG
from rankseg_integrations._common import require

if TYPE_CHECKING:
    from dask.array import Array

__all__ = ["decide", "segment"]

GROUP = 8
"""Answers merged by one task: 19 classes are 10 MB of histograms, and few tasks."""

_FLOATS = (np.float16, np.float32, np.float64)

Answer = TypeVar("Answer", bound=Mergeable)


def decide(probs: Array, rankseg: RankSEG, *, channel_axis: int = 0) -> DecisionRule:
    """One rule for all pixels of a Dask array, found block by block.

    Computed when called: the scheduler that is active visits the blocks five times or so, nine with
    ``assignment='ascent'``. What is slow to make, such as the output of a network, is better stored
    or persisted first.

    Parameters
    ----------
    probs : dask.array.Array, shape (..., C, ...), float16, float32 or float64 in [0, 1]
        Probability of each class at each pixel; logits where `rankseg` has an activation. Every
        axis but `channel_axis` is spatial: all pixels are one image.
    rankseg : RankSEG
        What to maximise and how: RMA, coupled, argmax, TR or accuracy.
    channel_axis : int, default 0
        Where the classes are. Their chunks are merged into one, so a block holds all classes:
        choose the other chunks such that a few blocks fit into memory.

    Returns
    -------
    DecisionRule
        That of all pixels in memory, bit for bit, whatever the chunks and the workers.

    Raises
    ------
    TypeError, ValueError
        Before any block is read: if the array is not what is described above or has chunks of
        unknown size. From the blocks: as ``RankSEG.decide``, and whatever reading one raises.
    """
    pixels, axis = _checked(probs, rankseg, channel_axis)
    return rankseg.decide(_Blocks(pixels, axis))


def segment(probs: Array, rankseg: RankSEG, *, channel_axis: int = 0) -> Array:
    """Labels or masks of a Dask array; the rule is found at once, its application is lazy.

    Parameters
    ----------
    probs, rankseg, channel_axis
        As ``decide``, whose visits of the blocks come before this returns.

    Returns
    -------
    dask.array.Array
        Labels int64, without the channel axis, or masks bool, with it; one visit of the blocks
        computes them. Chunks are those of `probs`.

    Raises
    ------
    TypeError, ValueError
        As ``decide``; a block that has become unreadable or wrong raises when it is computed.
    """
    pixels, axis = _checked(probs, rankseg, channel_axis)
    rule = rankseg.decide(_Blocks(pixels, axis))
    labels = rule.output_mode == "multiclass"
    kind = np.dtype(np.int64 if labels else np.bool_)
    found: Array = _array_module().map_blocks(
        _decided,
        pixels,
        rule=rule,
        axis=axis,
        dtype=kind,
        meta=np.empty((0,) * (pixels.ndim - labels), kind),
        drop_axis=[axis] if labels else [],
    )
    return found


class _Blocks:
    """Tiles that are the blocks of a Dask array; answers are merged in a tree."""

    def __init__(self, array: Array, axis: int) -> None:
        self.array = array
        self.axis = axis

    def reduce(self, ask: Callable[[Tensor], Answer]) -> Answer:
        """One task a block, which is read and asked in one go, then groups of answers."""
        name = f"rankseg-{uuid4().hex}"  # every question is a new one
        asked = _array_module().map_blocks(
            _answer,
            self.array,
            ask=ask,
            axis=self.axis,
            dtype=object,
            meta=np.empty((0,) * self.array.ndim, object),
            name=name,
        )
        found: Answer = _tree(asked, f"{name}-merged").compute()
        return found


def _tree(asked: Array, name: str) -> Any:
    """Delayed merger of the answers; by hand, since ``dask.delayed`` takes some 5 ms a task."""
    (asked,) = require("dask", "dask").optimize(asked)  # reading and asking become one task
    keys: list[Any] = [(asked.name, *place) for place in np.ndindex(asked.numblocks)]
    tasks: dict[Any, Any] = {}
    while not tasks or len(keys) > 1:
        groups = [keys[at : at + GROUP] for at in range(0, len(keys), GROUP)]
        keys = [f"{name}-{len(tasks) + number}" for number in range(len(groups))]
        tasks |= {key: (_merged, group) for key, group in zip(keys, groups, strict=True)}
    layers = require("dask.highlevelgraph", "dask").HighLevelGraph
    graph = layers.from_collections(name, tasks, dependencies=[asked])
    return require("dask.delayed", "dask").Delayed(keys[0], graph, layer=name)


def _answer(block: Any, ask: Callable[[Tensor], Answer], axis: int) -> Answer | None:
    return ask(_tile(block, axis)) if np.size(block) else None


def _merged(answers: list[Answer | None]) -> Answer | None:
    found: Answer | None = None
    for answer in answers:
        if answer is not None:
            found = answer if found is None else found.merge(answer)
    return found


def _decided(block: Any, rule: DecisionRule, axis: int) -> np.ndarray[Any, Any]:
    """Labels or masks of one block, with its axes in their places."""
    labels = rule.output_mode == "multiclass"
    if not np.size(block):
        shape = block.shape[:axis] + block.shape[axis + 1 :] if labels else block.shape
        return np.empty(shape, np.int64 if labels else np.bool_)
    found = rule.apply(_tile(block, axis))[0].numpy()
    return found if labels else np.moveaxis(found, 0, axis)


def _tile(block: Any, axis: int) -> Tensor:
    """A block as a tensor of one image, (1, C, *spatial), without a copy where torch allows."""
    if not isinstance(block, np.ndarray) or isinstance(block, np.ma.MaskedArray):
        raise TypeError(
            f"blocks must be NumPy arrays; got {type(block).__module__}.{type(block).__name__}: "
            "convert them with map_blocks first; to leave pixels out, decide with RankSEG.decide"
        )
    values = np.require(block, block.dtype.newbyteorder("="), "W")
    if min(values.strides) < 0:
        values = values.copy()
    return torch.from_numpy(np.moveaxis(values, axis, 0)).unsqueeze(0)


def _array_module() -> Any:
    return require("dask.array", "dask")


def _checked(probs: Any, rankseg: Any, channel_axis: int) -> tuple[Array, int]:
    """The array with all classes in each block, and the class axis counted from the front."""
    if not isinstance(probs, _array_module().Array):
        raise TypeError(
            f"probs must be a Dask array; got {type(probs).__name__}: dask.array.from_array and "
            "from_zarr make one"
        )
    if not isinstance(rankseg, RankSEG):
        raise TypeError(f"rankseg must be a RankSEG; got {type(rankseg).__name__}")
    if probs.ndim < 2:
        raise ValueError(
            f"probs must have a class axis and at least one spatial axis; got shape {probs.shape}"
        )
    if not -probs.ndim <= channel_axis < probs.ndim:
        raise ValueError(
            f"channel_axis={channel_axis} is no axis of an array of shape {probs.shape}"
        )
    if probs.dtype.newbyteorder("=") not in _FLOATS:
        names = ", ".join(kind.__name__ for kind in _FLOATS)
        raise TypeError(
            f"probs must be one of {names}; got {probs.dtype}: pass probabilities (after softmax "
            "or sigmoid), not labels or 8-bit values"
        )
    if any(np.isnan(size) for size in probs.shape):
        raise ValueError(
            f"chunk sizes must be known; got shape {probs.shape}: call compute_chunk_sizes() first"
        )
    if 0 in probs.shape:
        raise ValueError(f"probs holds no pixels; got shape {probs.shape}")
    axis = channel_axis % probs.ndim
    return probs.rechunk({axis: -1}), axis
