"""The interpreter of object-id tables: payloads that are a row of objects, each an id and its value, little-endian.

Beside fields.py, which is for fixed layouts. Every id has one row in a table. `compile` turns the table, once, at
import, into a list by id and a loop over whatever objects come. (A decoder generated for each sequence of ids was
tried: it saves 0.1 µs of 1.3 for two objects, and needs a cache that strangers' payloads can fill.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal, NamedTuple

from processor.decode.linear import NUMBERS, Linear
from processor.errors import DecodeError
from processor.reading import Value

ObjectType = Literal[
    "u8", "i8", "u16", "i16", "u24", "u32", "i32", "flag", "event", "steps", "command", "text", "raw", "version"
]  # fmt: skip
"""`flag` is a byte, 0 for false. `event` is a byte that the row's `events` name; `steps` is one followed by a number.
`command` is a length (its low 5 bits), a byte that `events` name and so many bytes of arguments. `text` (UTF-8) and
`raw` start with their length. `version` is the row's `size` of bytes, the least significant part first."""

MOST = 127
"""No AD structure holds more objects of two bytes."""


@dataclass(frozen=True)
class Object:
    """One row of a table of objects.

    scale: a decimal as text; value = raw × scale. events: the name of each event's code, `""` for nothing happened.
    size: the bytes of a version.
    """

    id: int
    name: str
    type: ObjectType
    scale: str = "1"
    events: Mapping[int, str] = field(default_factory=dict)
    size: int = 0

    @property
    def resolution(self) -> str | None:
        """The step between two values, as decimal text; None for what is no number."""
        return self.scale if self.type in NUMBERS else None

    def event(self, code: int) -> str | None:
        """Return an event's name: its code in hexadecimal where the table has none, None where nothing happened."""
        return self.events.get(code, f"0x{code:02x}") or None

    def code(self, name: str) -> int:
        """Return an event's code: `event` backwards. Raises ValueError."""
        for code, known in self.events.items():
            if known == name:
                return code
        if not name.startswith("0x"):
            raise ValueError(f"it is one of {', '.join(self.events.values())}")
        return int(name, 16)

    def encode(self, value: Value | None) -> bytes:
        """Return the object, its id included, that says `value`; None is an event that did not happen.

        A number is rounded to the nearest that the object can say. Raises ValueError or OverflowError where it cannot.
        """
        return bytes([self.id]) + _WRITERS.get(self.type, _write_number)(self, value)


@dataclass(frozen=True)
class ObjectFormat:
    """A format whose payload is a row of objects.

    `counter` names the object that identifies a measurement; `encrypted` says whether it may come encrypted.
    """

    name: str
    source: str
    objects: tuple[Object, ...]
    counter: str | None = None
    encrypted: bool = False

    @cached_property
    def by_name(self) -> dict[str, list[Object]]:
        """Its objects by quantity, ids ascending."""
        found: dict[str, list[Object]] = {}
        for each in sorted(self.objects, key=lambda each: each.id):
            found.setdefault(each.name, []).append(each)
        return found

    @property
    def resolutions(self) -> dict[str, str | None]:
        """Its quantities and the finest step of each; None for what is no number."""
        return {
            name: min((each.resolution for each in objects if each.resolution), key=Fraction, default=None)
            for name, objects in self.by_name.items()
        }

    def compile(self) -> Callable[[bytes, int], dict[str, Value]]:
        """Return the reader: (payload, where its first object is) → values by quantity.

        A quantity's second object is `<name>_2`, and so on; an event that did not happen takes its number but gives no
        value. An unknown id ends it, as its length is unknown: what came before is kept. Raises DecodeError.
        """
        rows: list[_Row | None] = [None] * 256
        for each in self.objects:
            rows[each.id] = _row(each)
        return _reader(rows, self.name)

    def write(self, values: Mapping[str, Value]) -> bytes:
        """Return the objects that say `values`, ids ascending: `compile` backwards.

        Of several objects for a quantity it takes the lowest id that says the value exactly, else the nearest.
        Raises ValueError for a quantity that no object has, or a value that none can say.
        """
        numbered: dict[str, dict[int, Value]] = {}
        for name, value in values.items():
            base, number = self._instance(name)
            numbered.setdefault(base, {})[number] = value
        written: list[bytes] = []
        for base, wanted in numbered.items():
            lowest = 0
            for number in range(1, max(wanted) + 1):
                written.append(self._nearest(base, wanted.get(number), lowest))
                lowest = written[-1][0]
        written.sort(key=lambda piece: piece[0])  # a stable sort: instances keep their order
        return b"".join(written)

    def _instance(self, name: str) -> tuple[str, int]:
        if name in self.by_name:
            return name, 1
        base, _, digits = name.rpartition("_")
        number = int(digits) if digits.isdecimal() else 0
        if base not in self.by_name or str(number) != digits or not 2 <= number <= MOST:
            raise ValueError(f"{self.name} has no object for {name!r}")
        return base, number

    def _nearest(self, name: str, value: Value | None, lowest: int) -> bytes:
        """Return the object of `name` that says `value` best; its id is at least `lowest`, so that they ascend."""
        found = []
        for each in self.by_name[name]:
            if each.id >= lowest:
                try:
                    found.append((_error(each, value), each.encode(value)))
                except (ValueError, OverflowError):
                    continue
        if not found:
            raise ValueError(f"{self.name}: {name} cannot be {value!r}: no object of it says that")
        return min(found)[1]


Read = Callable[[bytes, int], "tuple[Value | None, int]"]
"""(payload, where the object's id is) → its value, None for nothing, and its size. Raises IndexError past the end."""


class _Row(NamedTuple):
    """An object, ready to be read: a number by `unpack`, from its id on, and `divisor`; anything else by `read`."""

    name: str
    size: int
    unpack: Callable[[bytes, int], tuple[Any, ...]] | None
    divisor: int
    read: Read


def _reader(rows: list[_Row | None], where: str) -> Callable[[bytes, int], dict[str, Value]]:
    def read_all(data: bytes, at: int) -> dict[str, Value]:
        values: dict[str, Any] = {}
        repeats: dict[str, int] = {}
        nothing = False
        end = len(data)
        try:
            while at < end:
                row = rows[data[at]]
                if row is None:
                    break
                name, size, unpack, divisor, read = row
                if unpack is not None:
                    (value,) = unpack(data, at)
                    if divisor != 1:
                        value /= divisor
                else:
                    value, size = read(data, at)
                    if value is None:
                        nothing = True
                if name in values:
                    repeats[name] = number = repeats.get(name, 1) + 1
                    name = f"{name}_{number}"
                values[name] = value
                at += size
        except (struct.error, IndexError):
            raise DecodeError(
                "truncated", f"object 0x{data[at]:02X} ({name}) is cut off: {end - at} bytes are left of it",
                where=where, offset=at, payload=data,
            ) from None  # fmt: skip
        except UnicodeDecodeError as error:
            raise DecodeError("utf-8", f"{name}: {error}", where=where, offset=at, payload=data) from None
        return {name: value for name, value in values.items() if value is not None} if nothing else values

    return read_all


def _row(each: Object) -> _Row:
    read = _READERS.get(each.type, _read_number)(each)
    linear, code = Linear.of(each.scale), NUMBERS.get(each.type)
    if not code or linear.p != 1:
        return _Row(each.name, 0, None, 1, read)
    fixed = struct.Struct("<x" + code)
    return _Row(each.name, fixed.size, fixed.unpack_from, linear.q, read)


def _piece(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise IndexError
    return data[at : at + size]


def _read_number(each: Object) -> Read:
    """Read a number of any width and scale. Three bytes are read as four, from the id on, which is then shifted out."""
    p, _, q = Linear.of(each.scale)
    code = NUMBERS[each.type]
    fixed, shift = (struct.Struct("<x" + code), 0) if code else (struct.Struct("<I"), 8)
    unpack, size = fixed.unpack_from, fixed.size

    def read(data: bytes, at: int) -> tuple[int | float, int]:
        raw: int = unpack(data, at)[0] >> shift
        return raw if q == 1 else raw * p / q, size

    return read


def _read_flag(each: Object) -> Read:  # noqa: ARG001
    return lambda data, at: (data[at + 1] != 0, 2)


def _read_event(each: Object) -> Read:
    names = tuple(map(each.event, range(256)))
    return lambda data, at: (names[data[at + 1]], 2)


def _read_steps(each: Object) -> Read:
    def read(data: bytes, at: int) -> tuple[str | None, int]:
        event, steps = each.event(data[at + 1]), data[at + 2]
        return event and f"{event} {steps}", 3

    return read


def _read_command(each: Object) -> Read:
    """Read `on`, `step_up 5`, or `on 0x0102` where only the maker knows what the arguments mean."""

    def read(data: bytes, at: int) -> tuple[str | None, int]:
        length = data[at + 1] & 31
        event, arguments = each.event(data[at + 2]), _piece(data, at + 3, length)
        if event is not None and arguments:
            steps = length == 1 and event.startswith("step_")
            event += f" {arguments[0]}" if steps else f" 0x{arguments.hex()}"
        return event, 3 + length

    return read


def _read_text(each: Object) -> Read:
    def read(data: bytes, at: int) -> tuple[str, int]:
        piece = _piece(data, at + 2, data[at + 1])
        return piece.hex() if each.type == "raw" else piece.decode(), 2 + len(piece)

    return read


def _read_version(each: Object) -> Read:
    return lambda data, at: (".".join(map(str, reversed(_piece(data, at + 1, each.size)))), 1 + each.size)


_READERS: dict[str, Callable[[Object], Read]] = {
    "flag": _read_flag, "event": _read_event, "steps": _read_steps, "command": _read_command,
    "text": _read_text, "raw": _read_text, "version": _read_version,
}  # fmt: skip


def _error(each: Object, value: Value | None) -> Fraction:
    """Return how far from `value` the object's nearest number is; 0 for what is no number."""
    if value is None or each.type not in NUMBERS:
        return Fraction(0)
    linear = Linear.of(each.scale)
    return abs(Fraction(linear.raw(value) * linear.p, linear.q) - Fraction(str(value)))


def _write_number(each: Object, value: Value | None) -> bytes:
    if value is None:
        raise ValueError("only an event can be nothing")
    return Linear.of(each.scale).raw(value).to_bytes(int(each.type[1:]) // 8, "little", signed=each.type[0] == "i")


def _write_flag(each: Object, value: Value | None) -> bytes:  # noqa: ARG001
    if value not in (True, False):
        raise ValueError("a flag is true or false")
    return bytes([bool(value)])


def _write_event(each: Object, value: Value | None) -> bytes:
    return bytes([each.code("" if value is None else str(value))])


def _write_steps(each: Object, value: Value | None) -> bytes:
    event, _, steps = ("" if value is None else str(value)).partition(" ")
    return bytes([each.code(event), int(steps or 0)])


def _write_command(each: Object, value: Value | None) -> bytes:
    event, _, text = str(value).partition(" ")
    arguments = bytes.fromhex(text[2:]) if text.startswith("0x") else bytes([int(text)] if text else [])
    if len(arguments) > 31:
        raise ValueError("a command has at most 31 bytes of arguments")
    return bytes([len(arguments), each.code(event)]) + arguments


def _write_text(each: Object, value: Value | None) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"{each.name} is text")  # noqa: TRY004 - what cannot be encoded is a ValueError everywhere
    text = bytes.fromhex(value) if each.type == "raw" else value.encode()
    return bytes([len(text)]) + text


def _write_version(each: Object, value: Value | None) -> bytes:
    parts = bytes(map(int, str(value).split(".")))
    if len(parts) != each.size:
        raise ValueError(f"this version has {each.size} parts")
    return parts[::-1]


_WRITERS: dict[str, Callable[[Object, Value | None], bytes]] = {
    "flag": _write_flag, "event": _write_event, "steps": _write_steps, "command": _write_command,
    "text": _write_text, "raw": _write_text, "version": _write_version,
}  # fmt: skip
