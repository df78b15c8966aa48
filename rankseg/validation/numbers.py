"""Numbers, sequences of them, and flags."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real

from torch import Tensor

from rankseg.validation.tensors import plain_tensor


def real(argument: str, value: object, expected: str) -> float:
    """Return a float out of any real number; bools are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{argument} must be {expected}; got {type(value).__name__} {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{argument} must be {expected}; got a number beyond float64") from error


def number_in_unit_interval(argument: str, value: object) -> float:
    """Return a finite number in [0, 1]."""
    number = real(argument, value, "a number in [0, 1]")
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{argument} must lie in [0, 1]; got {value!r}")
    return number


def in_unit_interval(argument: str, value: object) -> float | tuple[float, ...]:
    """Return a number in [0, 1], or one for each class."""
    if isinstance(value, Real):
        return number_in_unit_interval(argument, value)
    numbers = sequence(argument, value, "a number in [0, 1] or a sequence of them")
    return tuple(number_in_unit_interval(f"{argument} of every class", n) for n in numbers)


def number_in_open_interval(argument: str, value: object) -> float:
    """Return a number strictly between 0 and 1."""
    number = real(argument, value, "a number between 0 and 1")
    if not 1e-300 <= number < 1.0:
        raise ValueError(f"{argument} must lie strictly between 0 and 1; got {value!r}")
    return number


def number_at_least_zero(argument: str, value: object) -> float:
    """Return a finite number that is not negative."""
    number = real(argument, value, "a finite number >= 0")
    if not (number >= 0.0 and math.isfinite(number)):
        raise ValueError(f"{argument} must be a finite number >= 0; got {value!r}")
    return number


def integer(argument: str, value: object) -> int:
    """Return a plain int; bools are refused."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{argument} must be an integer; got {type(value).__name__} {value!r}")
    if not -(2**63) <= int(value) < 2**63:
        raise ValueError(f"{argument} must fit into 64 bits; got {value!r}")
    return int(value)


def at_least_one(argument: str, value: object) -> int:
    """Return a plain int, 1 or more."""
    number = integer(argument, value)
    if number < 1:
        raise ValueError(f"{argument} must be at least 1; got {value!r}")
    return number


def floats(argument: str, values: object) -> tuple[float, ...]:
    """Return plain floats: NumPy's and fractions are numbers, too, which JSON does not know."""
    plain_numbers(argument, values)
    numbers: Iterable[object] = values  # type: ignore[assignment]
    return tuple(real(argument, number, "a number") for number in numbers)


def plain_numbers(argument: str, values: object, kind: type = Real) -> None:
    """Refuse what is no tuple or list of numbers, or of bools."""
    mixed = not isinstance(values, (tuple, list)) or not all(
        isinstance(value, kind) and isinstance(value, bool) == (kind is bool) for value in values
    )
    if mixed:
        what = "bools" if kind is bool else "numbers"
        raise TypeError(f"{argument} must be a tuple of {what}; got {values!r}")


def sequence(argument: str, value: object, expected: str) -> list[object]:
    """Return what a sequence holds, arrays and tensors of one axis included; it is not empty."""
    given = plain_tensor(argument, value) if isinstance(value, Tensor) else value
    plain = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(plain, Sequence) or isinstance(plain, (str, bytes)):
        raise TypeError(f"{argument} must be {expected}; got {type(value).__name__} {value!r}")
    if not plain:
        raise ValueError(f"{argument} must have a number for each class; got none")
    return list(plain)


def yes_or_no(argument: str, value: object) -> bool:
    """Return a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be True or False; got {type(value).__name__} {value!r}")
    return value


def count(number: int, one: str, more: str = "") -> str:
    """Number and noun, for a message."""
    return f"{number} {one if number == 1 else more or one + 's'}"
