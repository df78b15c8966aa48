"""Arguments of the official methods, which ours take in the same places."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def by_name(
    method: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments by their names, ``outputs`` among them.

    Raises
    ------
    TypeError
        For more arguments than the method has, one given twice, or missing outputs; the message
        names the method, and what it takes.
    """
    names = list(inspect.signature(method).parameters)
    own = f"{method.__name__}({', '.join(names)})"
    if len(args) > len(names):
        raise TypeError(f"{own} takes {len(names)} arguments; got {len(args)} of them by position")
    placed = dict(zip(names, args, strict=False))
    for name in placed.keys() & given.keys():
        raise TypeError(f"{own} got {name!r} twice, by position and by name")
    found = {**placed, **given}
    if "outputs" not in found:
        raise TypeError(f"{own} needs outputs, what the model returned")
    return found


def with_defaults(method: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a method as it sees them: those given, and its own defaults."""
    parameters = inspect.signature(method).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters} | dict(given)
