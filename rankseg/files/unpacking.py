"""What packs the chunks of a zarr, and how to unpack no more of them than a chunk has."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from rankseg.files.errors import FileError

ANNOUNCING = ("blosc", "lz4", "zstd")
STREAMS = ("bz2", "gzip", "lzma", "zlib")
FRAME, SKIPPED = 0xFD2FB528, range(0x184D2A50, 0x184D2A60)
BLOCK = 128 * 1024
"""Zstandard (RFC 8878): the first bytes of its frames, and the most that a packed block holds."""


def refuse_more(size: int, most: int) -> None:
    """Refuse what is larger than a chunk."""
    if size > most:
        raise FileError(f"truncated or corrupt: a chunk holds more than {most:,} bytes")


def unpacked(name: str, packed: bytes, most: int, config: Mapping[str, Any]) -> bytes:
    """What a stream holds, which says only at its end how much it is."""
    if name == "zlib":
        stream = zlib.decompressobj()
        found = stream.decompress(packed, most + 1)
        if len(found) <= most and not stream.eof:
            raise EOFError("the stream is cut off")
    else:
        with _opened(name, io.BytesIO(packed), config) as file:
            found = file.read(most + 1)
    refuse_more(len(found), most)
    return found


def _opened(name: str, packed: io.BytesIO, config: Mapping[str, Any]) -> io.BufferedIOBase:
    if name == "gzip":
        return gzip.GzipFile(fileobj=packed)
    if name == "bz2":
        return bz2.BZ2File(packed)
    form, filters = config.get("format", lzma.FORMAT_XZ), config.get("filters")
    return lzma.LZMAFile(packed, format=form, filters=filters)


def announced(name: str, packed: bytes) -> int:
    """Bytes that a library takes before, or while, it unpacks."""
    if name == "zstd":
        frames = list(_frames(packed))
        sizes = [size for size, _ in frames if size is not None]
        # Of one without a size, libraries unpack all as a stream, and look at no size before.
        return sum(sizes) if len(sizes) == len(frames) else sum(block for _, block in frames)
    return _number(packed, 4 if name == "blosc" else 0, 4)


def _number(packed: bytes, at: int, length: int) -> int:
    if len(packed) < at + length:
        raise EOFError("the chunk is cut off")
    return int.from_bytes(packed[at : at + length], "little")


def _frames(packed: bytes) -> Iterator[tuple[int | None, int]]:
    """Of each frame the size it announces, if it does, and the most that its blocks hold."""
    at = 0
    while at < len(packed):
        mark = _number(packed, at, 4)
        if mark in SKIPPED:
            at += 8 + _number(packed, at + 4, 4)
            continue
        if mark != FRAME:
            raise ValueError("the chunk is no Zstandard frame")
        flags = _number(packed, at + 4, 1)
        single = flags >> 5 & 1
        at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
        length = (single, 2, 4, 8)[flags >> 6]
        size = _number(packed, at, length) + 256 * (length == 2) if length else None
        at, blocks = _blocks(packed, at + length)
        at += 4 * (flags >> 2 & 1)
        yield size, blocks


def _blocks(packed: bytes, at: int) -> tuple[int, int]:
    """Where the blocks of a frame end, and the most they hold."""
    most = last = 0
    while not last:
        head = _number(packed, at, 3)
        last, kind, size = head & 1, head >> 1 & 3, head >> 3
        most += BLOCK if kind == 2 else size  # 0: as it is; 1: one byte, repeated
        at += 3 + (1 if kind == 1 else size)
    return at, most
