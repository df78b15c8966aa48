"""Weights out of a Core ML file: as much of the protocol buffer format as that takes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5
NETWORK, LAYERS, NAME, FLOATS = 500, 1, 1, 1
"""Numbers of the fields, as in Core ML's `Model.proto` and `NeuralNetwork.proto`."""


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of the fields of a message that have a length; the others are skipped."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            _, place = _varint(message, place)
        elif kind == BYTES:
            length, place = _varint(message, place)
            yield number, message[place : place + length]
            place += length
        elif kind in (FIXED_32, FIXED_64):
            place += 4 if kind == FIXED_32 else 8
        else:
            raise ValueError(f"not a protocol buffer: wire type {kind} at byte {place}")


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def every(message: bytes, number: int) -> list[bytes]:
    """The contents of a repeated field."""
    return [content for found, content in fields(message) if found == number]


def layers(model: bytes) -> dict[str, bytes]:
    """The layers of a neural network, by name."""
    (network,) = every(model, NETWORK)
    return {every(layer, NAME)[0].decode(): layer for layer in every(network, LAYERS)}


def weights(message: bytes, number: int) -> list[Tensor]:
    """The numbers of each `WeightParams` in a field, (n,)."""
    return [
        torch.frombuffer(bytearray(every(content, FLOATS)[0]), dtype=torch.float32)
        for content in every(message, number)
    ]
