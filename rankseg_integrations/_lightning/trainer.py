"""What callbacks ask of the trainer and of its other processes."""

from __future__ import annotations

from types import ModuleType
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")

_NAMESPACES = ("lightning", "pytorch_lightning")


def check_framework(callback: object, framework: ModuleType, trainer: Any) -> None:
    """Refuse a trainer of the other class tree, which would leave parts out in silence.

    Raises
    ------
    TypeError
        The message names the module whose class fits.
    """
    if isinstance(trainer, framework.Trainer):
        return
    own, name = framework.__name__.partition(".")[0], type(callback).__name__
    roots = {kind.__module__.partition(".")[0] for kind in type(trainer).__mro__}
    fits = next((root for root in _NAMESPACES if root in roots and root != own), None)
    advice = f": take rankseg_integrations.{fits}.{name}" if fits else ""
    raise TypeError(
        f"this {name} is for trainers of {own}; got {type(trainer).__module__}."
        f"{type(trainer).__name__}{advice}"
    )


def gathered(value: T) -> list[T]:
    """What every process gives, in their order; all have to call this."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, value)
    return everyone
