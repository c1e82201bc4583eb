"""The interpreter of object-id tables: payloads that are a row of objects, each an id and its value, little-endian.

Beside fields.py, which is for fixed layouts. Every id has one row in a table. `compile` turns the table, once, at
import, into a list by id and a loop over whatever objects come. `table_of` gives the fixed layout of one row of
objects, for sensors that send the same one each time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

from processor.decode.fields import Field, Format
from processor.decode.linear import NUMBERS, Linear
from processor.decode.object import READERS, Object, ObjectType, Read, error_of, read_number
from processor.errors import DecodeError
from processor.reading import Value

__all__ = ["MOST", "Object", "ObjectFormat", "ObjectType"]

MOST = 127
"""No AD structure holds more objects of two bytes."""


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
    products: str = ""
    """Which devices send it."""

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

    def table_of(self, payload: bytes, at: int, passing: range) -> Format | None:
        """Return the fixed layout of payloads that are as long as this one and have the same row of objects.

        at: where the first one is. passing: the bytes before it that may differ. None where one is no number and no
        flag, or not known, or a quantity comes twice.
        """
        rows = {each.id: each for each in self.objects}
        mask = bytearray(0 if place in passing else 0xFF for place in range(at)).ljust(len(payload), b"\0")
        fields: dict[str, Field] = {}
        while at < len(payload):
            each = rows.get(payload[at])
            if each is None or each.name in fields or not (each.type in NUMBERS or each.type == "flag"):
                return None
            mask[at] = 0xFF
            found = fields[each.name] = each.field(at + 1)
            at += 1 + found.width
        if not fields:
            return None
        return Format(
            name=self.name, source=self.source, endian="little", length=len(payload), magic=payload, mask=bytes(mask),
            fields=tuple(fields.values()), counter=self.counter if self.counter in fields else None,
        )  # fmt: skip

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
                    found.append((error_of(each, value), each.encode(value)))
                except (ValueError, OverflowError):
                    continue
        if not found:
            raise ValueError(f"{self.name}: {name} cannot be {value!r}: no object of it says that")
        return min(found)[1]


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
    read = READERS.get(each.type, read_number)(each)
    linear, code = Linear.of(each.scale), NUMBERS.get(each.type)
    if not code or linear.p != 1:
        return _Row(each.name, 0, None, 1, read)
    fixed = struct.Struct("<x" + code)
    return _Row(each.name, fixed.size, fixed.unpack_from, linear.q, read)
