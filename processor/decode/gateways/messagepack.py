"""MessagePack to Python, within bounds: as much of it as a gateway's message needs.

Source: github.com/msgpack/msgpack, spec.md. Ours rather than a library's: theirs would add half a megabyte and more
to each function's package for a few kinds of values, of which a record has a few hundred. Text stays bytes: writers
older than the specification's `bin` send binary data as `str`. Extension types are refused.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from processor.errors import DecodeError

WHERE = "messagepack"
MAX_DEPTH = 8
MAX_ITEMS = 100_000
"""In the whole message, maps' keys counted: a list of a million nulls is one megabyte, and eight of objects."""

_SCALARS = {
    0xCA: Struct(">f"), 0xCB: Struct(">d"),
    0xCC: Struct(">B"), 0xCD: Struct(">H"), 0xCE: Struct(">I"), 0xCF: Struct(">Q"),
    0xD0: Struct(">b"), 0xD1: Struct(">h"), 0xD2: Struct(">i"), 0xD3: Struct(">q"),
}  # fmt: skip
_RAW = {0xC4: Struct(">B"), 0xC5: Struct(">H"), 0xC6: Struct(">I"),
        0xD9: Struct(">B"), 0xDA: Struct(">H"), 0xDB: Struct(">I")}  # fmt: skip
_LISTS = {0xDC: Struct(">H"), 0xDD: Struct(">I")}
_MAPS = {0xDE: Struct(">H"), 0xDF: Struct(">I")}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def unpack(data: bytes, start: int = 0) -> tuple[Any, int]:
    """Return the value that starts at a byte, and the first byte after it.

    Text and binary data are bytes, a map is a dict with keys of bytes or numbers. Raises DecodeError where it ends
    early (`truncated`), is nested or long beyond reason (`nesting`, `many`), has a key twice (`keys`) or is of no type
    known here (`type`).
    """
    reader = _Reader(data, start)
    try:
        value = reader.value(0)
    except (IndexError, _Short):
        message = "the value ends before it is complete: TCP may have split it"
        raise DecodeError("truncated", message, where=WHERE, offset=start, payload=data) from None
    return value, reader.place


class _Short(Exception):
    """Fewer bytes than a value claims."""


class _Reader:
    def __init__(self, data: bytes, start: int) -> None:
        self.data = data
        self.place = start
        self.left = MAX_ITEMS

    def value(self, depth: int) -> Any:
        data, place = self.data, self.place
        first = data[place]
        self.place = place + 1
        if first < 0x80:
            return first
        if first >= 0xE0:
            return first - 256
        if 0xA0 <= first < 0xC0:
            return self._raw(first & 0x1F)
        if first < 0x90:
            return self._map(first & 0x0F, depth)
        if first < 0xA0:
            return self._list(first & 0x0F, depth)
        if first in _RAW:
            return self._raw(self._number(_RAW[first]))
        if first in _SCALARS:
            return self._number(_SCALARS[first])
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        if first in _LISTS:
            return self._list(self._number(_LISTS[first]), depth)
        if first in _MAPS:
            return self._map(self._number(_MAPS[first]), depth)
        raise self._error("type", f"no value of type {first:#04x} is known here", place)

    def _number(self, kind: Struct) -> Any:
        after = self.place + kind.size
        if after > len(self.data):
            raise _Short
        (number,) = kind.unpack_from(self.data, self.place)
        self.place = after
        return number

    def _raw(self, length: int) -> bytes:
        start = self.place
        after = start + length
        if after > len(self.data):
            raise _Short
        self.place = after
        return self.data[start:after]

    def _list(self, count: int, depth: int) -> list[Any]:
        self._enter(count, depth)
        value = self.value
        return [value(depth + 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict[Any, Any]:
        self._enter(2 * count, depth)
        found: dict[Any, Any] = {}
        for _ in range(count):
            place = self.place
            key = self.value(depth + 1)
            if type(key) is not bytes and type(key) is not int:
                raise self._error("keys", "a key is text or a number", place)
            if key in found:
                raise self._error("keys", f"the key {key!r:.60} comes twice in one map", place)
            found[key] = self.value(depth + 1)
        return found

    def _enter(self, items: int, depth: int) -> None:
        if items > len(self.data) - self.place:  # each takes a byte at least
            raise _Short
        self.left -= items
        if self.left < 0:
            raise self._error("many", f"more than {MAX_ITEMS} values", self.place)
        if depth >= MAX_DEPTH:
            raise self._error("nesting", f"more than {MAX_DEPTH} levels deep", self.place)

    def _error(self, reason: str, message: str, offset: int) -> DecodeError:
        return DecodeError(reason, message, where=WHERE, offset=offset, payload=self.data)


def pack(value: Any) -> bytes:
    """Return None, a boolean, a number of 64 bits, text, bytes, a list or a dict of them as MessagePack."""
    if isinstance(value, bytes):
        return _sized(0xC4, 256, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return (bytes((0xA0 | len(text),)) if len(text) < 32 else _sized(0xD9, 256, len(text))) + text
    if isinstance(value, list):
        head = bytes((0x90 | len(value),)) if len(value) < 16 else _sized(0xDC, 65536, len(value))
        return head + b"".join(map(pack, value))
    if isinstance(value, dict):
        head = bytes((0x80 | len(value),)) if len(value) < 16 else _sized(0xDE, 65536, len(value))
        return head + b"".join(pack(key) + pack(item) for key, item in value.items())
    if value is None or isinstance(value, bool):
        return bytes((next(code for code, constant in _CONSTANTS.items() if constant is value),))
    if isinstance(value, float):
        return bytes((0xCB,)) + _SCALARS[0xCB].pack(value)
    if -32 <= value < 128:
        return bytes((value & 0xFF,))
    return bytes((0xD3,)) + _SCALARS[0xD3].pack(value) if value < 0 else bytes((0xCF,)) + _SCALARS[0xCF].pack(value)


def _sized(code: int, least: int, length: int) -> bytes:
    """Return the smallest head for a length; `code` is that of the first size, which holds lengths below `least`."""
    size = 1 if least == 256 else 2
    while length >= 256**size:
        code, size = code + 1, size * 2
    return bytes((code,)) + length.to_bytes(size, "big")
