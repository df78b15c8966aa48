"""The one-off form: a function instead of a configured object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from rankseg.api import RankSEG
from rankseg.calibrator import Calibrator


def rankseg(
    probs: Tensor,
    metric: str = "dice",
    output_mode: str = "multiclass",
    solver: str = "RMA",
    smooth: float = 0.0,
    pruning_prob: float | Sequence[float] = 0.5,
    *,
    class_weights: Sequence[float] | None = None,
    include_background: bool = True,
    empty: float | str = 0,
    activation: str = "none",
    backend: str = "auto",
    aggregation: str = "image",
    calibrator: Calibrator | None = None,
    valid_mask: Tensor | None = None,
    **solver_params: Any,
) -> Tensor:
    """Labels or masks whose expected metric is largest; ``RankSEG(...)(probs)`` in one call.

    Parameters and errors are those of :class:`rankseg.RankSEG` and its ``predict``.

    Examples
    --------
    >>> import torch
    >>> rankseg(torch.tensor([[[0.9, 0.4, 0.3, 0.1]]]), output_mode="multilabel")
    tensor([[[ True,  True,  True, False]]])
    """
    decide = RankSEG(
        metric=metric,
        output_mode=output_mode,
        solver=solver,
        smooth=smooth,
        pruning_prob=pruning_prob,
        class_weights=class_weights,
        include_background=include_background,
        empty=empty,
        activation=activation,
        backend=backend,
        aggregation=aggregation,
        calibrator=calibrator,
        **solver_params,
    )
    return decide.predict(probs, valid_mask)
