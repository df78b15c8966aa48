"""From an array as it lies in a file to ``(B, C, *spatial)`` probabilities, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from rankseg.validation import classes_lie_along, count

FEW_CLASSES, SMALL_SIDE = 16, 32
"""So few numbers along the last axis, and more than so many along each other one, are an image with
its classes last; images of so few columns are rarer, and can say so."""

ChannelAxis: TypeAlias = int | Literal["first", "none"]


def parse_axis(text: str) -> ChannelAxis:
    """Channel axis of :class:`Layout` from what was typed.

    Raises
    ------
    ValueError
        If it is neither an integer nor ``first`` nor ``none``.
    """
    if text in ("first", "none"):
        return cast('Literal["first", "none"]', text)
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--channel-axis must be an integer or 'none', got {text!r}") from None


@dataclass(frozen=True)
class Layout:
    """Where the classes and the images are in an array.

    Attributes
    ----------
    channel_axis : int, 'first' or 'none'
        Axis of the classes *within one image*, so a batch axis does not shift it: 0 first, -1
        last. ``'none'``: the array is one map per image. ``'first'`` is 0, except that an image
        with two axes is refused, because it may as well be a map without a channel axis, and one
        that looks as if its classes were last.
    batched : bool, optional
        True if the first axis counts images. Left out it does not, except that an array of four
        or more axes is refused while ``channel_axis`` is ``'first'``, because it has two readings.
    """

    channel_axis: ChannelAxis = "first"
    batched: bool | None = None

    def images(self, array: Tensor) -> Tensor:
        """View of the array as ``(B, C, *spatial)``; the values are untouched.

        Raises
        ------
        ValueError
            If the array has no such axis, no spatial axis, an empty image, or two readings.
        """
        axis = self._axis(array)
        batch = array if self.batched else array[None]
        batch = batch.unsqueeze(1) if axis is None else batch.movedim(axis, 1)
        if 0 in batch.shape[1:]:
            raise ValueError(f"shape {tuple(array.shape)} has no values: an axis has length 0")
        return batch

    def _axis(self, array: Tensor) -> int | None:
        """Channel axis counted from the batch axis, None where there is none."""
        axes = array.ndim - bool(self.batched)
        shape = tuple(array.shape)
        if axes < (1 if self.channel_axis == "none" else 2):
            raise ValueError(f"shape {shape} leaves no spatial axis")
        if self.channel_axis == "none":
            return None
        if self.channel_axis == "first":
            self._refuse_two_readings(shape, axes)
            return 1
        if not -axes <= self.channel_axis < axes:
            raise ValueError(
                f"--channel-axis {self.channel_axis} does not exist in shape {shape}"
                + (" (it counts after the batch axis)" if self.batched else "")
            )
        return 1 + self.channel_axis % axes

    def _refuse_two_readings(self, shape: tuple[int, ...], axes: int) -> None:
        if axes == 2:
            raise ValueError(
                f"shape {shape} can be read in two ways: say --channel-axis none for one map, "
                "or --channel-axis 0 for classes along the first axis of an image"
            )
        if axes > 3 and self.batched is None:
            first, second = shape[:2]
            one = f"one image of {count(first, 'class', 'classes')} in {axes - 1}-D"
            many = f"{count(first, 'image')} of {count(second, 'class', 'classes')}"
            raise ValueError(f"{shape} may be {one} or {many}; say --no-batched or --batched")
        *others, last = shape[-axes:]
        if 0 < last <= FEW_CLASSES and min(others) > max(SMALL_SIDE, 4 * last - 1):
            raise ValueError(
                f"shape {shape} looks as if the {count(last, 'class', 'classes')} were along the "
                f"last axis: say --channel-axis -1 if so, or --channel-axis 0 for {others[0]} "
                "classes along the first"
            )

    def restore(self, prediction: Tensor, masks: bool) -> Tensor:
        """Labels or masks of all images in the layout the array came in."""
        if masks and self.channel_axis == "none":
            prediction = prediction.squeeze(1)
        elif masks and isinstance(self.channel_axis, int):
            axes = prediction.ndim - 1
            prediction = prediction.movedim(1, 1 + self.channel_axis % axes)
        return prediction if self.batched else prediction[0]


def check_classes_axis(images: Tensor) -> None:
    """Refuse probabilities that sum to 1 along a spatial axis and not along the classes.

    A wrong channel axis gives a plausible shape and a worthless result; softmax output betrays
    it. A corner of the first image is enough.

    Raises
    ------
    ValueError
        If another axis is the one that sums to 1.
    """
    for axis in range(2, images.ndim):
        if classes_lie_along(images[:1], axis):
            raise ValueError(
                "the values sum to 1 along another axis than the classes' (of length "
                f"{images.shape[axis]}, not {images.shape[1]}): check --channel-axis and --batched"
            )


def compact(prediction: Tensor, classes: int, void_index: int | None) -> npt.NDArray[Any]:
    """Array for a file: bool masks as they are, labels in the smallest integer type.

    The type depends on the number of classes and on ``void_index``, not on the labels seen, so
    that all files of a run agree.
    """
    array: npt.NDArray[Any] = prediction.numpy()
    if array.dtype == np.bool_:
        return array
    return array.astype(label_type(classes, void_index))


def label_type(classes: int, void_index: int | None) -> np.dtype[Any]:
    """Smallest integer type that holds the labels of so many classes, and the void one."""
    values = (0, classes - 1, void_index or 0)
    return np.promote_types(*map(np.min_scalar_type, (min(values), max(values))))
