"""Codecs of zarr that unpack no more than a chunk has, whatever a file says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from rankseg.files.unpacking import ANNOUNCING, STREAMS, announced, refuse_more, unpacked


def bounded(array: Any, most: int) -> Any:
    """The array, whose chunks are refused when they would unpack to more bytes than this."""
    described = getattr(array, "metadata", array)  # of zarr 2 the array itself
    if not hasattr(described, "codecs"):
        for codec in (*(described.filters or ()), described.compressor):
            if codec is not None:
                codec.decode = _Decode(codec, most)
        return array
    import zarr

    inside = replace(described, codecs=_bounded_codecs(described.codecs, most))
    return zarr.Array(zarr.AsyncArray(inside, array.store_path))


class _Decode:
    """``decode`` of a codec of numcodecs."""

    def __init__(self, codec: Any, most: int) -> None:
        self.codec, self.most, self.decode = codec, most, codec.decode

    def __call__(self, buf: Any, out: Any = None) -> Any:
        from numcodecs.compat import (  # type: ignore[import-untyped,unused-ignore]
            ensure_bytes,
            ndarray_copy,
        )

        packed, name = ensure_bytes(buf), self.codec.codec_id
        refuse_more(len(packed), self.most)
        if name in STREAMS:
            found = unpacked(name, packed, self.most, self.codec.get_config())
            return ndarray_copy(found, out)
        if name in ANNOUNCING:
            refuse_more(announced(name, packed), self.most)
        return self.decode(packed, out)


def _bounded_codecs(codecs: Iterable[Any], most: int) -> tuple[Any, ...]:
    """Codecs of the third format, of which those that shard hold others."""
    from zarr.codecs import ShardingCodec

    found: list[Any] = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            found.append(replace(codec, codecs=_bounded_codecs(codec.codecs, most)))
        else:
            found.append(_bounded_codec(codec, most))
    return tuple(found)


def _bounded_codec(codec: Any, most: int) -> Any:
    described = codec.to_dict()
    name = described["name"].removeprefix("numcodecs.")
    if name not in (*STREAMS, *ANNOUNCING):
        return codec
    from zarr.abc.codec import BytesBytesCodec

    class Bounded(BytesBytesCodec):  # type: ignore[misc,unused-ignore]
        """A codec of the third format that unpacks bytes."""

        is_fixed_size = False

        def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
            return int(codec.compute_encoded_size(input_byte_length, chunk_spec))

        def evolve_from_array_spec(self, array_spec: Any) -> Any:
            return _bounded_codec(codec.evolve_from_array_spec(array_spec), most)

        def to_dict(self) -> Any:
            return described

        async def decode(self, chunks_and_specs: Any) -> Any:
            chunks = list(chunks_and_specs)
            if name in ANNOUNCING:
                for chunk, _ in chunks:
                    if chunk is not None:
                        refuse_more(announced(name, chunk.to_bytes()), most)
                return await codec.decode(chunks)
            config = described.get("configuration", {})
            found: list[Any] = [None] * len(chunks)
            for at, (chunk, spec) in enumerate(chunks):
                if chunk is not None:
                    whole = unpacked(name, chunk.to_bytes(), most, config)
                    found[at] = spec.prototype.buffer.from_bytes(whole)
            return found

    return Bounded()
