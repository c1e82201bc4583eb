"""Values as bytes and back: JSON by default, bytes as they are, or a codec of the caller's; compressed above a size."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, NamedTuple, Protocol

import orjson

COMPRESS_ABOVE = 1024
"""Bytes from which compression can pay: a write unit buys 1 KB, and a read unit more."""
ZLIB_LEVEL = 6
"""On 48 KB of JSON it leaves 12 % of the bytes after 280 µs, level 1 16 % after 80 µs, and zstd 12 % after 45 µs.
The write units saved cost more than the time."""

INT, BYTES, JSON, REFUSAL = "int", "bytes", "json", "refusal"
"""What an item's data can be. A refusal is an exception that `cached` keeps: its name and arguments, as JSON."""
BUILT_IN = frozenset({INT, BYTES, JSON, REFUSAL})
_AS_JSON = frozenset({JSON, REFUSAL})

MOST = 10**38
"""DynamoDB's numbers have 38 digits; a whole number within them is stored as a number, so that it can be counted on."""

MAX_VALUE = 64 * 1024 * 1024
"""Bytes of one value: more are not taken, and not made of what came compressed, whoever wrote it."""

Compression = Literal["zlib", "zstd"]


class Codec(Protocol):
    """Turns values into bytes and back. `name` is stored with each value: another name's values are not read.

    Only a caller that trusts everyone who may write to the table should bring one that runs what it reads (pickle).
    """

    name: str

    def encode(self, value: Any) -> bytes:
        """Return the value as bytes. Raises TypeError or ValueError for a value that it cannot take."""

    def decode(self, data: bytes) -> Any:
        """Return the value of `encode`'s bytes."""


class Encoded(NamedTuple):
    """A value as it is stored, before compression; `form` is one of the constants above, or a codec's name."""

    form: str
    data: bytes


class Undecodable(Exception):
    """Bytes that this process cannot read: another codec's, a compression that it lacks, or damaged."""


class Values:
    """Encodes and decodes values."""

    def __init__(self, codec: Codec | None = None, compression: Compression = "zlib") -> None:
        if codec is not None and (codec.name in BUILT_IN or "+" in codec.name):
            raise ValueError(f"a codec's name is none of {', '.join(sorted(BUILT_IN))} and has no '+': {codec.name!r}")
        self._codec = codec
        self._compression = compression
        self._compress: Callable[[bytes], bytes] = _zlib_compress if compression == "zlib" else _zstd().compress

    def encode(self, value: Any) -> Encoded:
        """Return the value as it is stored.

        Raises TypeError for one that is neither bytes nor JSON, ValueError for one of more than MAX_VALUE bytes.
        """
        encoded = self._encoded(value)
        if len(encoded.data) > MAX_VALUE:
            raise ValueError(
                f"a cached value has at most {MAX_VALUE:,} bytes, not {len(encoded.data):,}: keep it in S3, and its "
                "name here"
            )
        return encoded

    def _encoded(self, value: Any) -> Encoded:
        if self._codec is not None:
            return Encoded(self._codec.name, self._codec.encode(value))
        if type(value) is bytes:
            return Encoded(BYTES, value)
        if type(value) is int and -MOST < value < MOST:
            return Encoded(INT, b"%d" % value)
        try:
            # Copied, for orjson's own bytes keep the 4 KB buffer that they were made in.
            return Encoded(JSON, bytes(memoryview(orjson.dumps(value))))
        except TypeError as error:
            raise TypeError(
                f"a cached value is bytes or what JSON can say, not {type(value).__name__} ({error}): "
                "convert it, or give the cache a codec"
            ) from None

    def decode(self, form: str, data: bytes) -> Any:
        """Return the value. Raises Undecodable."""
        try:
            if form in _AS_JSON:
                return orjson.loads(data)
            if form == INT:
                return int(data)
            if form == BYTES:
                return data
            if self._codec is not None and form == self._codec.name:
                return self._codec.decode(data)
        except Exception as error:  # a codec may raise anything for bytes that are not its own
            raise Undecodable(f"{form}: {error}") from error
        raise Undecodable(f"this cache has no codec called {form!r}")

    def pack(self, form: str, data: bytes) -> tuple[str, bytes]:
        """Return form and data as they go into the table: `json+zlib` and fewer bytes, where that saves a tenth."""
        if len(data) > COMPRESS_ABOVE:
            smaller = self._compress(data)
            if len(smaller) < len(data) * 0.9:
                return f"{form}+{self._compression}", smaller
        return form, data

    def unpack(self, packed: str, data: bytes) -> Encoded:
        """Return what `pack` was given. Raises Undecodable."""
        form, _, compression = packed.partition("+")
        if not compression:
            return Encoded(form, data)
        if compression not in ("zlib", "zstd"):
            raise Undecodable(f"no compression is called {compression!r}")
        try:
            return Encoded(form, (_zlib_decompress if compression == "zlib" else _zstd_decompress)(data))
        except Exception as error:  # zlib's and zstd's own exceptions, and ValueError where there is no zstd
            raise Undecodable(f"{packed}: {error}") from error


def _zlib_compress(data: bytes) -> bytes:
    return zlib.compress(data, ZLIB_LEVEL)


def _zlib_decompress(data: bytes) -> bytes:
    """Return what was compressed, and make no more than MAX_VALUE bytes of it. Raises ValueError, zlib.error."""
    return _bounded(zlib.decompressobj(), data)


def _zstd_decompress(data: bytes) -> bytes:
    """Return the same of zstd. Raises ValueError, and its own exceptions."""
    module = _zstd()
    if not hasattr(module, "frame_content_size"):  # Python's own
        return _bounded(module.ZstdDecompressor(), data)
    size = module.frame_content_size(data)  # which is then the most that is made of it, however the frame goes on
    if not 0 <= size <= MAX_VALUE:
        raise ValueError(f"it does not say that it has at most {MAX_VALUE} bytes")
    found: bytes = module.ZstdDecompressor().decompress(data)
    return found


def _bounded(decompressor: Any, data: bytes) -> bytes:
    found: bytes = decompressor.decompress(data, MAX_VALUE + 1)
    if not decompressor.eof or len(found) > MAX_VALUE:
        raise ValueError(f"cut off, or more than {MAX_VALUE} bytes")
    return found


def _zstd() -> Any:
    """Return the module that has zstd: Python's own from 3.14 on, else the package `zstandard`."""
    for name in ("compression.zstd", "zstandard"):
        try:
            return import_module(name)
        except ImportError:
            continue
    raise ValueError("compression='zstd' needs Python 3.14 or the package zstandard")
