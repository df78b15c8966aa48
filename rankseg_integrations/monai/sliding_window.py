"""Sliding-window inference that decides a volume slab by slab, without a buffer of it all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers.inferer import Inferer
from monai.utils import ImageMetaKey, convert_data_type, convert_to_dst_type
from torch import Tensor

from rankseg import DecisionRule, RankSEG
from rankseg_integrations._common import choice
from rankseg_integrations.monai.arguments import (
    check_serves_tiles,
    decider,
    label_range,
    torch_dtype,
)
from rankseg_integrations.monai.items import as_probabilities, check_holds, naming, outside_of
from rankseg_integrations.monai.kept import KEEP, kept
from rankseg_integrations.monai.windows import Device, Plan, Windows

__all__ = ["SlidingWindowRankSEG"]


class SlidingWindowRankSEG(Inferer):
    """``SlidingWindowInferer`` and decision in one: labels or masks, never all probabilities.

    Outputs of the network are blended slab by slab along one axis. A first pass finds the rule of
    all pixels from a few numbers a slab, a second applies it. The result is what
    ``AsRankSEG`` makes of the output of ``SlidingWindowInferer``, but for its buffer of
    (B, C, *spatial) numbers: on `device` there is as much of it as a window is long on `slab_dim`.

    Parameters
    ----------
    roi_size, sw_batch_size, overlap, mode, sigma_scale, padding_mode, cval, sw_device, device, \
progress, with_coord
        As ``monai.inferers.SlidingWindowInferer``. `device` is where outputs are blended and
        decided, and where the result is.
    slab_dim : int, default 0
        Spatial axis that is cut. The longest needs the least memory; with the first, sums are made
        in MONAI's order.
    keep : {'memory', 'disk', 'nothing'}, default 'memory'
        Where slabs wait for the next visit, of which there are some five to find the rule and one
        to apply it. In CPU memory or in temporary files, the network runs once. With 'nothing' it
        runs for every visit, and must give the same each time: call ``network.eval()``.
    folder : path, optional
        Where ``keep='disk'`` makes its temporary folder; by default where the system has them.
    one_pass : bool, default False
        Find the rule of masks in one visit, from 4,096 bins of the probabilities: two runs of the
        network with ``keep='nothing'``. See ``RankSEG.decide``.
    dtype : torch or NumPy type, or its name, default torch.uint8
        Of the result. Masks in float32 would be as large as the buffer that is saved.
    rankseg : RankSEG or DecisionRule, optional
        Who decides, instead of options. A rule of a data set is applied in a single visit.
    **options
        Of `rankseg.RankSEG`, as for `AsRankSEG`: ``metric``, ``activation='softmax'`` for a network
        that returns logits, and so on; RMA, argmax, TR and accuracy.

    Raises
    ------
    TypeError, ValueError
        For arguments that MONAI or RankSEG refuses, options that nothing would read, and solvers
        that need all pixels at once.
    OSError
        On a call, before the network runs: if `folder` cannot be written.

    Notes
    -----
    Made for the grid of the network. To decide on the grid of the file, where masks are smoother,
    invert probabilities first, as docs/monai.md shows; that takes all of them.
    """

    def __init__(
        self,
        roi_size: Any,
        sw_batch_size: int = 1,
        overlap: Any = 0.25,
        mode: str = "constant",
        sigma_scale: Any = 0.125,
        padding_mode: str = "constant",
        cval: float = 0.0,
        sw_device: Device = None,
        device: Device = None,
        progress: bool = False,
        with_coord: bool = False,
        *,
        slab_dim: int = 0,
        keep: str = "memory",
        folder: str | Path | None = None,
        one_pass: bool = False,
        dtype: Any = torch.uint8,
        rankseg: RankSEG | DecisionRule | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.windows = Windows(
            roi_size=roi_size,
            sw_batch_size=sw_batch_size,
            overlap=overlap,
            mode=mode,
            sigma_scale=sigma_scale,
            padding_mode=padding_mode,
            cval=cval,
            sw_device=sw_device,
            device=device,
            progress=progress,
            with_coord=with_coord,
            slab_dim=slab_dim,
        )
        self.rankseg = decider(rankseg, options)
        self.keep = choice("keep", keep, KEEP)
        self.folder = folder
        self.one_pass = one_pass
        self.dtype = torch_dtype(dtype)
        _check_options(self.rankseg, self.keep, folder, one_pass)
        check_holds(*label_range(self.rankseg, 1), self.dtype)

    @torch.no_grad()
    def __call__(
        self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Labels (B, 1, *spatial) or masks (B, C, *spatial) of a batch of images.

        Parameters
        ----------
        inputs : Tensor or MetaTensor, shape (B, channels, *spatial), floating-point
            Each image is decided by itself. Metadata is passed on.
        network : callable
            Called as ``network(windows, *args, **kwargs)``, windows (N, channels, *roi_size);
            returns a tensor (N, C, *roi_size).

        Raises
        ------
        TypeError, ValueError
            If inputs or the network's output have another form, or the output is NaN or no
            probability; the message names the image.
        """
        images = _checked(inputs)

        def predict(*given: Any) -> Any:
            return network(*given, *args, **kwargs)

        parts = []
        for place, image in enumerate(images.unsqueeze(1)):
            with naming(_name(inputs, place)):
                parts.append(self._decide(self.windows.on(image), predict))
        found = parts[0] if len(parts) == 1 else torch.cat(parts)
        return convert_to_dst_type(found, inputs, dtype=self.dtype, device=found.device)[0]

    def _decide(self, plan: Plan, predict: Callable[..., Any]) -> Tensor:
        """Labels or masks of one image."""

        def visit() -> Iterator[Tensor]:
            return map(self._checked_slab, plan.slabs(predict))

        if isinstance(self.rankseg, DecisionRule):
            return self._applied(self.rankseg, visit(), plan)
        with kept(self.keep, visit, self.folder) as slabs:
            rule = self.rankseg.decide(_Pixels(slabs, self.rankseg), one_pass=self.one_pass)
            return self._applied(rule, slabs, plan)

    def _checked_slab(self, slab: Tensor) -> Tensor:
        """Slab as it is decided on; the first is asked whether its labels can be written."""
        check_holds(*label_range(self.rankseg, slab.shape[1]), self.dtype)
        return as_probabilities(slab[0], self.rankseg).unsqueeze(0)

    def _applied(self, rule: DecisionRule, slabs: Iterable[Tensor], plan: Plan) -> Tensor:
        dim, start = plan.axis + 2, 0
        result: Tensor | None = None
        for slab in slabs:
            part = _decided(slab, rule).to(self.dtype)
            if result is None:
                result = part.new_empty((1, part.shape[1], *plan.image.shape[2:]))
            result.narrow(dim, start, part.shape[dim]).copy_(part)
            start += part.shape[dim]
        assert result is not None  # every image has windows
        return result


class _Pixels:
    """Slabs without the pixels where no class has any probability, as `AsRankSEG` decides."""

    def __init__(self, slabs: Iterable[Tensor], rankseg: RankSEG) -> None:
        self.slabs = slabs
        self.rankseg = rankseg

    def __iter__(self) -> Iterator[Tensor]:
        for slab in self.slabs:
            outside = outside_of(slab[0], self.rankseg)
            pixels = slab if outside is None else slab[:, :, ~outside[0]]
            if pixels.numel():
                yield pixels


def _decided(slab: Tensor, rule: DecisionRule) -> Tensor:
    """Labels (1, 1, *spatial) or masks (1, C, *spatial)."""
    found = rule.apply(slab)
    if rule.output_mode == "multilabel":
        return found
    outside = outside_of(slab[0], rule)
    return (found if outside is None else found.masked_fill(outside, 0)).unsqueeze(1)


def _check_options(rankseg: RankSEG | DecisionRule, keep: str, folder: Any, one_pass: bool) -> None:
    """Refuse what nothing would read."""
    if folder is not None and keep != "disk":
        raise ValueError(f"folder is written with keep='disk'; got keep={keep!r}")
    if isinstance(rankseg, RankSEG):
        check_serves_tiles(rankseg, one_pass)
    elif one_pass or keep != "memory":
        raise ValueError(
            "a DecisionRule is applied in one visit, nothing is kept and no rule is found: leave "
            "keep and one_pass out"
        )


def _checked(inputs: Any) -> Tensor:
    if not isinstance(inputs, Tensor):
        raise TypeError(f"inputs must be a tensor or MetaTensor; got {type(inputs).__name__}")
    if inputs.ndim < 3 or not inputs.numel() or not inputs.is_floating_point():
        raise ValueError(
            "inputs must be floating-point images of shape (B, channels, *spatial), not empty; got "
            f"{inputs.dtype} of shape {tuple(inputs.shape)}"
        )
    plain: Tensor = convert_data_type(inputs, Tensor)[0]
    return plain


def _name(inputs: Tensor, place: int) -> str:
    """Name of an image of a batch: its place, and its file if the metadata has one."""
    files = (
        inputs.meta.get(ImageMetaKey.FILENAME_OR_OBJ) if isinstance(inputs, MetaTensor) else None
    )
    known = [files] if isinstance(files, str) else files
    file = f" ({known[place]})" if isinstance(known, list) and place < len(known) else ""
    return f"image {place} of a batch of {len(inputs)}{file}"
