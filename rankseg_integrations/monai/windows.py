"""Sliding windows whose blended outputs come slab by slab: one slab is in memory, not the volume.

Windows stand where ``monai.inferers.sliding_window_inference`` puts them, with its weights, and are
visited in the order of their place on one axis. What no later window touches is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.utils import (
    BlendMode,
    PytorchPadMode,
    ensure_tuple_rep,
    fall_back_tuple,
    look_up_option,
    optional_import,
)
from torch import Tensor

Window = tuple[slice, ...]
Device = torch.device | str | None


@dataclass(frozen=True)
class Windows:
    """Arguments of ``sliding_window_inference``, and the axis that is cut into slabs."""

    roi_size: Sequence[int] | int
    sw_batch_size: int
    overlap: Sequence[float] | float
    mode: str
    sigma_scale: Sequence[float] | float
    padding_mode: str
    cval: float
    sw_device: Device
    device: Device
    progress: bool
    with_coord: bool
    slab_dim: int

    def __post_init__(self) -> None:
        """Check what does not depend on the image."""
        look_up_option(self.mode, BlendMode)
        look_up_option(self.padding_mode, PytorchPadMode)
        overlaps = self.overlap if isinstance(self.overlap, Sequence) else [self.overlap]
        if not all(0 <= overlap < 1 for overlap in overlaps):
            raise ValueError(f"overlap must be at least 0 and below 1; got {self.overlap}")
        if self.sw_batch_size < 1:
            raise ValueError(f"sw_batch_size must be at least 1; got {self.sw_batch_size}")

    def on(self, image: Tensor) -> Plan:
        """Windows of one image (1, C, *spatial)."""
        size = tuple(image.shape[2:])
        if isinstance(self.roi_size, Sequence) and len(self.roi_size) != len(size):
            raise ValueError(
                f"roi_size={tuple(self.roi_size)} has {len(self.roi_size)} axes, inputs of shape "
                f"(B, C, *{size}) have {len(size)}"
            )
        if not -len(size) <= self.slab_dim < len(size):
            raise ValueError(
                f"slab_dim={self.slab_dim} is no spatial axis of inputs of spatial shape {size}"
            )
        roi = fall_back_tuple(self.roi_size, size)
        return Plan(self, image, roi, self.slab_dim % len(size))


@dataclass(frozen=True)
class Plan:
    """Windows on one image."""

    windows: Windows
    image: Tensor
    roi: tuple[int, ...]
    axis: int

    def slabs(self, predict: Callable[..., Any]) -> Iterator[Tensor]:
        """Blended outputs (1, classes, *spatial), one slab after the other along the axis."""
        padded, before = self._padded()
        groups = self._groups(tuple(padded.shape[2:]))
        weight = self._weight(padded)
        target = torch.device(self.windows.device or self.image.device)
        blend: Blend | None = None
        for place, (start, windows) in enumerate(groups):
            for some in self._batches(windows):
                outputs = self._outputs(predict, padded, some)
                if blend is None:
                    shape = (1, outputs.shape[1], *padded.shape[2:])
                    blend = Blend(shape, self.axis, self.roi[self.axis], padded.dtype, target)
                blend.add(outputs, weight, [_moved(window, self.axis, start) for window in some])
            last = place + 1 == len(groups)
            length = self.roi[self.axis] if last else groups[place + 1][0] - start
            assert blend is not None  # every group has windows
            yield self._cropped(blend.complete(length), before, start)

    def _padded(self) -> tuple[Tensor, tuple[int, ...]]:
        """Image that is at least as large as a window, and how much was put before each axis."""
        size = self.image.shape[2:]
        missing = [max(0, roi - have) for roi, have in zip(self.roi, size, strict=True)]
        before = tuple(number // 2 for number in missing)
        if not any(missing):
            return self.image, before
        mode = look_up_option(self.windows.padding_mode, PytorchPadMode).value
        ends = zip(reversed(before), reversed(missing), strict=True)
        pad = [number for low, both in ends for number in (low, both - low)]
        return F.pad(self.image, pad, mode=mode, value=self.windows.cval), before

    def _groups(self, size: tuple[int, ...]) -> list[tuple[int, list[Window]]]:
        """Windows by their start on the slab axis, otherwise in MONAI's order."""
        overlaps = ensure_tuple_rep(self.windows.overlap, len(size))
        steps = [
            roi if roi == length else max(1, int(roi * (1 - overlap)))
            for roi, length, overlap in zip(self.roi, size, overlaps, strict=True)
        ]

        def start(window: Window) -> int:
            return int(window[self.axis].start)

        windows = sorted(dense_patch_slices(size, self.roi, steps), key=start)
        return [(place, list(group)) for place, group in groupby(windows, start)]

    def _weight(self, padded: Tensor) -> Tensor:
        return compute_importance_map(
            self.roi,
            mode=self.windows.mode,
            sigma_scale=self.windows.sigma_scale,
            device=self.windows.sw_device or padded.device,
            dtype=padded.dtype,
        )[None, None]

    def _batches(self, windows: list[Window]) -> Iterator[list[Window]]:
        number = self.windows.sw_batch_size
        starts: Any = range(0, len(windows), number)
        if self.windows.progress:
            tqdm, _ = optional_import("tqdm", name="tqdm")
            starts = tqdm(starts)
        return (windows[at : at + number] for at in starts)

    def _outputs(
        self, predict: Callable[..., Any], padded: Tensor, windows: list[Window]
    ) -> Tensor:
        places = [[slice(0, 1), slice(None), *window] for window in windows]
        patches = torch.cat([padded[tuple(place)] for place in places])
        patches = patches.to(self.windows.sw_device or padded.device)
        outputs = predict(patches, places) if self.windows.with_coord else predict(patches)
        if not isinstance(outputs, Tensor):
            raise TypeError(
                f"the network must return a tensor for a window; got {type(outputs).__name__}: "
                "choose one, for example lambda window: network(window)[0]"
            )
        if outputs.shape[2:] != self.roi or len(outputs) != len(windows):
            raise ValueError(
                f"for {len(windows)} windows the network must return shape ({len(windows)}, C, "
                f"{', '.join(map(str, self.roi))}); got {tuple(outputs.shape)}: outputs of another "
                "resolution are resized first, or decided from SlidingWindowInferer's result"
            )
        return outputs.detach().as_subclass(Tensor)

    def _cropped(self, slab: Tensor, before: tuple[int, ...], start: int) -> Tensor:
        """Part of a slab that lies in the image."""
        places = []
        for axis, (pad, size) in enumerate(zip(before, self.image.shape[2:], strict=True)):
            low = pad - start if axis == self.axis else pad
            places.append(slice(max(0, low), max(0, low + size)))
        whole = (slice(None), slice(None))
        return slab[whole + tuple(places)]


class Blend:
    """Weighted sums of outputs over as much of the slab axis as a window is long."""

    def __init__(
        self,
        shape: tuple[int, ...],
        axis: int,
        length: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.dim = axis + 2
        size = [*shape[: self.dim], length, *shape[self.dim + 1 :]]
        self.total = torch.zeros(size, dtype=dtype, device=device)
        self.weight = torch.zeros([1, 1, *size[2:]], dtype=dtype, device=device)

    def add(self, outputs: Tensor, weight: Tensor, windows: list[Window]) -> None:
        """Add the outputs of windows, whose place on the axis is relative."""
        weighted = (outputs * weight).to(outputs.dtype).to(self.total.device)
        weight = weight.to(self.total.device)
        for output, window in zip(weighted, windows, strict=True):
            place = (slice(0, 1), slice(None)) + window  # noqa: RUF005  # mypy reads it as 3.11's
            self.total[place] += output
            self.weight[place] += weight[0]

    def complete(self, length: int) -> Tensor:
        """Blended outputs of the first pixels on the axis, which leave."""
        slab = self.total.narrow(self.dim, 0, length) / self.weight.narrow(self.dim, 0, length)
        for sums in (self.total, self.weight):
            rest = sums.shape[self.dim] - length
            kept = sums.narrow(self.dim, length, rest).clone()
            sums.narrow(self.dim, 0, rest).copy_(kept)
            sums.narrow(self.dim, rest, length).zero_()
        return slab


def _moved(window: Window, axis: int, start: int) -> Window:
    place = window[axis]
    moved = slice(place.start - start, place.stop - start)
    return (*window[:axis], moved, *window[axis + 1 :])
