"""What steps return and loaders give: tensors, mappings, tuples; an entry is found by its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rankseg_integrations._common import describe


def place(step: str, batch_idx: int, dataloader_idx: int) -> str:
    """Where something went wrong, for messages."""
    loader = f" of dataloader {dataloader_idx}" if dataloader_idx else ""
    return f"{step}, batch {batch_idx}{loader}"


def check_key(argument: str, key: object) -> str | int:
    """Return a key: the name of an entry, or its place in a tuple."""
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise TypeError(
            f"{argument} must be a str (entry of a dict) or an int (place in a tuple); got "
            f"{type(key).__name__} {key!r}"
        )
    return key


def check_text(argument: str, value: object) -> str:
    """Return a str."""
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a str; got {type(value).__name__} {value!r}")
    return value


def has(values: Any, key: str | int) -> bool:
    """Whether there is such an entry."""
    if isinstance(values, Mapping):
        return key in values
    if not isinstance(values, (tuple, list)):
        return False
    if isinstance(key, str):
        return key in getattr(values, "_fields", ())
    return -len(values) <= key < len(values)


def entry(values: Any, key: str | int) -> Any:
    """The entry, which is there."""
    if isinstance(key, str) and not isinstance(values, Mapping):
        return getattr(values, key)  # of a named tuple
    return values[key]


def scores_in(outputs: Any, key: str | int, argument: str, where: str) -> Tensor:
    """Return the tensor of a step's outputs: they are one, or hold one under the key.

    Parameters
    ----------
    outputs : Tensor, mapping, tuple or list
        What the step returned.
    key : str or int
        Name or place of the tensor, where the outputs are not it.
    argument, where : str
        What the key is called, and where this is, for messages.

    Raises
    ------
    TypeError, ValueError
        If there is none; the message names what the outputs hold.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if not has(outputs, key):
        known = isinstance(outputs, (Mapping, tuple, list))
        problem = f"there is no entry {key!r} in" if known else "expected a tensor, dict or tuple,"
        advice = f": say which entry to take with {argument}=..." if known else ""
        raise (ValueError if known else TypeError)(
            f"{where}: {problem}{'' if known else ' got'} {describe(outputs)}{advice}"
        )
    found = entry(outputs, key)
    if not isinstance(found, Tensor):
        raise TypeError(
            f"{where}: entry {key!r} must be a tensor; got {type(found).__name__} in "
            f"{describe(outputs)}"
        )
    return found


def exchanged(outputs: Any, key: str | int, new: Tensor) -> Any:
    """Outputs of the same kind, the tensor exchanged; the given ones stay as they are."""
    if isinstance(outputs, Tensor):
        return new
    fields = getattr(outputs, "_fields", ())
    at = fields.index(key) if isinstance(key, str) else key
    items = list(outputs)
    items[at] = new
    if fields:
        return type(outputs)(*items)
    return items if isinstance(outputs, list) else tuple(items)


def beside(key: str | int, outputs: Any, batch: Any, argument: str, where: str) -> Any:
    """Entry that comes with the batch, or that the step returned; names are looked for in both."""
    holders = [outputs, batch] if isinstance(key, str) else [batch]
    for holder in holders:
        if has(holder, key):
            return entry(holder, key)
    there = " nor in ".join(
        f"{what} {describe(holder)}"
        for what, holder in zip(("outputs", "the batch")[-len(holders) :], holders, strict=True)
    )
    raise ValueError(
        f"{where}: there is no entry {key!r} in {there}: say which to take with {argument}=..."
    )
