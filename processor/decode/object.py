"""One row of a table of objects: its id, what it says, and how a value of its type reads and back."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, cast

from processor.decode.field import Field, FieldType
from processor.decode.linear import NUMBERS, Linear
from processor.reading import Value

ObjectType = Literal[
    "u8", "i8", "u16", "i16", "u24", "u32", "i32", "flag", "event", "steps", "command", "text", "raw", "version"
]  # fmt: skip
"""`flag` is a byte, 0 for false. `event` is a byte that the row's `events` name; `steps` is one followed by a number.
`command` is a length (its low 5 bits), a byte that `events` name and so many bytes of arguments. `text` (UTF-8) and
`raw` start with their length. `version` is the row's `size` of bytes, the least significant part first."""

Read = Callable[[bytes, int], "tuple[Value | None, int]"]
"""(payload, where the object's id is) → its value, None for nothing, and its size. Raises IndexError past the end."""


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

    def field(self, at: int) -> Field:
        """Return the field that reads its value, a number's or a flag's, from a place on."""
        if self.type == "flag":
            return Field(self.name, at=at, type="u8", lookup=(False, *[True] * 255))
        return Field(self.name, at=at, type=cast(FieldType, self.type), scale=self.scale)

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


def _piece(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise IndexError
    return data[at : at + size]


def read_number(each: Object) -> Read:
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


READERS: dict[str, Callable[[Object], Read]] = {
    "flag": _read_flag, "event": _read_event, "steps": _read_steps, "command": _read_command,
    "text": _read_text, "raw": _read_text, "version": _read_version,
}  # fmt: skip


def error_of(each: Object, value: Value | None) -> Fraction:
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
