"""What can be wrong with a file, in words for the person who named it."""

from __future__ import annotations


class FileError(Exception):
    """A file that cannot be used; the message says why and what to do, without its path."""


def describe(error: BaseException) -> str:
    """One line for any exception: the system's reason for an OSError, else its own message."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, MemoryError):
        text = text or "not enough memory"
    return " ".join(text.split()) or type(error).__name__
