"""A property that is computed once for each object, without a lock.

Before Python 3.12 ``functools.cached_property`` holds one lock for all objects while it computes.
A process that is forked while another thread computes inherits the lock locked, and waits for ever;
and forked workers of data loaders decide masks. Here two threads that share an object may compute
twice, to the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value")


class cached_property(Generic[Value]):
    """Stores what the function returns under its own name in the object's ``__dict__``."""

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self.compute = compute
        self.name = compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> cached_property[Value]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> cached_property[Value] | Value:
        """Compute; from then on the object's ``__dict__`` answers."""
        if instance is None:
            return self
        value = instance.__dict__[self.name] = self.compute(instance)
        return value
