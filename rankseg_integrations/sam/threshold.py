"""A mask threshold that every mask chooses for itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from rankseg import RankSEG
from rankseg_integrations._common import check_tensor, each_image_alone

# Interpolation weights that sum to 1 + 1e-7 lift a probability of 1 above 1 (measured).
_ROUNDING = 1e-6


class MaskThreshold:
    """What stands to the right of ``values > threshold`` where a library makes its masks.

    A tensor does not know this object and leaves the comparison to it, by Python's rules: `above`
    answers. In sums, as in the stability scores of mask generators, it is the number whose place
    it takes.

    Parameters
    ----------
    rankseg : RankSEG
        Decides probabilities, or logits with ``activation='sigmoid'``.
    number : float
        The library's own threshold.
    """

    __array_ufunc__ = None  # NumPy leaves the comparison, too, instead of trying each element

    def __init__(self, rankseg: RankSEG, number: float) -> None:
        self.rankseg = rankseg
        self.number = number

    def above(self, values: Tensor) -> Tensor:
        """Masks, bool (..., H, W), of logits or probabilities (..., H, W), one by one."""
        name = "probs" if self.rankseg.settings.activation == "none" else "logits"
        _check(values, name)
        if self.is_plain:
            # No sigmoid: in float32 that of a logit below 6e-8 is 0.5, and 0.5 is not above 0.5.
            _refuse_nan(values, name)
            return values > self.number
        rows = self._readable(values).reshape(-1, 1, *values.shape[-2:])
        masks: Tensor = self.rankseg(rows)
        return masks.reshape(values.shape)

    @property
    def is_plain(self) -> bool:
        """Whether the masks are those that the number itself would make."""
        settings = self.rankseg.settings
        return settings.metric == "acc" and settings.solver != "TR"

    def _readable(self, values: Tensor) -> Tensor:
        """Turn values that are compared with `number` into what `rankseg` reads."""
        raise NotImplementedError

    def __lt__(self, values: Tensor) -> Tensor:
        """Answer ``values > threshold``, which the tensor leaves to its right operand."""
        return self.above(values)

    def __ge__(self, values: Tensor) -> Tensor:
        """Answer ``values <= threshold``: the opposite mask."""
        return ~self.above(values)

    def __float__(self) -> float:
        """Be the number."""
        return self.number

    def __add__(self, offset: float) -> float:
        """Give the number, raised."""
        return self.number + offset

    def __sub__(self, offset: float) -> float:
        """Give the number, lowered."""
        return self.number - offset


class RankSEGThreshold(MaskThreshold):
    """A ``mask_threshold`` that gives each mask the largest expected Dice or IoU.

    ``logits > RankSEGThreshold(metric="dice")`` is bool, in the shape of the logits (..., H, W):
    each mask gets its own cut. Pass it where a SAM library takes or keeps a ``mask_threshold``.
    Stability scores, which add an offset to the threshold, stay as they are.

    Parameters
    ----------
    metric : str, default 'dice'
        What to maximise, as in `rankseg.RankSEG`. ``'acc'`` makes the library's own masks, bit
        for bit.
    temperature : float > 0, default 1
        Logits are divided by it. Above 1 probabilities move towards 0.5: SAM is surer than it is
        right, so RankSEG gains by a temperature fitted on masks with ground truth. 1 changes
        nothing; accuracy does not depend on it.
    mask_threshold : float, default 0
        The number it takes the place of: the logit that means a probability of 0.5.
    **options
        Passed to `rankseg.RankSEG`: ``solver``, ``smooth``, ``pruning_prob`` and so on. With the
        default ``pruning_prob=0.5`` just those masks are empty that the library leaves empty.

    Raises
    ------
    TypeError, ValueError
        For a temperature or threshold that is no such number, what `rankseg.RankSEG` refuses, and
        ``output_mode`` and ``activation``: masks are decided one by one, by a sigmoid.
        A comparison raises them for logits that are NaN, not floating-point, or without pixels
        or values.

    Notes
    -----
    ``logits <= threshold`` gives the opposite masks. Tensors only, and operators only:
    ``torch.gt`` does not ask its right operand.

    Examples
    --------
    >>> logits = torch.tensor([[[4.0, -0.4, -3.0]]])
    >>> logits > RankSEGThreshold("dice")
    tensor([[[ True,  True, False]]])
    >>> logits > RankSEGThreshold("acc")
    tensor([[[ True, False, False]]])
    """

    def __init__(
        self,
        metric: str = "dice",
        *,
        temperature: float = 1.0,
        mask_threshold: float = 0.0,
        **options: Any,
    ) -> None:
        _refuse_fixed(options)
        rankseg = RankSEG(metric, "multilabel", activation="sigmoid", **options)
        super().__init__(rankseg, _finite("mask_threshold", mask_threshold))
        self.temperature = positive("temperature", temperature)

    def __repr__(self) -> str:
        """Configuration, that of `RankSEG` included."""
        return (
            f"RankSEGThreshold({self.rankseg.extra_repr()}, temperature={self.temperature}, "
            f"mask_threshold={self.number})"
        )

    def _readable(self, values: Tensor) -> Tensor:
        if self.number == 0.0 and self.temperature == 1.0:
            return values
        wide = values.to(torch.promote_types(values.dtype, torch.float32))
        return wide.sub(self.number).div_(self.temperature)


class ProbsThreshold(MaskThreshold):
    """The same for code that compares probabilities with 0.5, as that of SAM 3 does."""

    def __init__(self, metric: str = "dice", **options: Any) -> None:
        _refuse_fixed(options)
        super().__init__(RankSEG(metric, "multilabel", **options), 0.5)

    def _readable(self, values: Tensor) -> Tensor:
        if values.numel() and 1.0 < values.max() <= 1.0 + _ROUNDING:
            return values.clamp(max=1.0)
        return values


def _refuse_fixed(options: Mapping[str, object]) -> None:
    """Refuse the options of `RankSEG` that SAM's masks leave no choice about."""
    each_image_alone(options)
    for name in ("output_mode", "activation"):
        if name in options:
            raise ValueError(
                "masks are decided one by one from SAM's logits, so output_mode ('multilabel') "
                f"and activation ('sigmoid') are fixed here; leave {name}={options[name]!r} out"
            )


def positive(name: str, value: object) -> float:
    """Return a finite number above 0; raise, with what was got, for anything else."""
    number = _finite(name, value)
    if number <= 0.0:
        raise ValueError(f"{name} must be a finite number > 0, got {value!r}")
    return number


def _finite(name: str, value: object) -> float:
    if isinstance(value, MaskThreshold):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__} {value!r}")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError(f"{name} must be finite, got a number beyond float64") from error
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return number


def _check(values: object, name: str) -> None:
    if not isinstance(values, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(values).__name__}")
    check_tensor(name, values)
    if values.ndim < 2 or 0 in values.shape[-2:]:
        raise ValueError(
            f"{name} must have shape (..., H, W) with pixels, got {tuple(values.shape)}"
        )


def _refuse_nan(values: Tensor, name: str) -> None:
    """Refuse what the core would: a comparison with NaN is False, and tells nobody."""
    if values.numel() and values.amin().isnan():
        raise ValueError(
            f"{name} of shape {tuple(values.shape)} contain NaN; check the model's output"
        )
