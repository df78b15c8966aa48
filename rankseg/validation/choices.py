"""Names to choose from, and objects and lists of a kind."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from torch import Tensor

from rankseg.validation.tensors import plain_tensor

Kind = TypeVar("Kind")


def listed(names: Iterable[str]) -> str:
    """Names as they are written, for a message."""
    return ", ".join(repr(name) for name in names)


def choice(argument: str, value: object, names: Collection[str]) -> str:
    """Return the name as it is spelled in ``names``, matched case-insensitively."""
    if not isinstance(value, str):
        raise TypeError(
            f"{argument} must be a string, one of {listed(names)}; got {type(value).__name__}"
        )
    for name in names:
        if name.lower() == value.lower():
            return name
    raise ValueError(f"{argument} must be one of {listed(names)}; got {value!r}")


def known_name(argument: str, value: object, names: Collection[str]) -> None:
    """Refuse a name that is not spelled as one of ``names``."""
    if not isinstance(value, str) or value not in names:  # arrays compare element by element
        raise ValueError(f"{argument} must be one of {listed(names)}; got {value!r}")


def combination(
    argument: str, value: str, other: str, other_value: str, possible: Collection[str]
) -> None:
    """Refuse a choice that cannot go with another."""
    if value not in possible:
        raise ValueError(
            f"{argument}={value!r} makes no sense with {other}={other_value!r}; "
            f"possible there: {listed(possible)}"
        )


def known_parameters(
    where: str, given: Mapping[str, Any], known: Collection[str], general: Collection[str] = ()
) -> None:
    """Refuse parameters that the solver does not take, naming those it does.

    ``general`` are those that every solver takes: not listed, but one may be what was meant.
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        takes = listed(known) if known else "none"
        meant = get_close_matches(unknown[0], [*known, *general], 1)
        hint = f"; did you mean {meant[0]!r}?" if meant else ""
        raise ValueError(f"{where} takes no parameter {listed(unknown)}; parameters: {takes}{hint}")


def optional(argument: str, value: Any, kind: type[Kind]) -> Kind | None:
    """Return an object of a class, or None."""
    if value is not None and not isinstance(value, kind):
        raise TypeError(
            f"{argument} must be None or a {kind.__name__}; got {type(value).__name__} {value!r}"
        )
    return value


def several(argument: str, values: Any, what: str) -> list[Any]:
    """Return what a list, array, tensor of one axis or another iterable holds."""
    if isinstance(values, Tensor):
        values = plain_tensor(argument, values)
    no_list = (str, bytes, bytearray, memoryview, type)
    array = hasattr(values, "tolist") and not isinstance(values, no_list)
    plain = values.tolist() if array else values
    if isinstance(plain, no_list) or not isinstance(plain, Iterable):
        raise TypeError(f"{argument} must be a list of {what}; got {type(values).__name__}")
    return list(plain)
