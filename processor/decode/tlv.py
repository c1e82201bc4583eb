"""The interpreter of type-length-value tables: payloads whose every object says its own length.

Beside objects.py, where the type alone tells the length. An object is known by its type and its length together: one of
another length is another object, and passed over like an unknown type. What it holds is a row of fields, as in
fields.py, compiled when the first of its kind arrives (at import, sixty of them would cost a cold start), or a choice
among a few byte strings, each with what it means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

from processor.decode.fields import Field, Format
from processor.errors import DecodeError
from processor.reading import Value

Values = Mapping[str, Value]


@dataclass(frozen=True)
class Tlv:
    """One row of a table: an object's type, its length and what is in it.

    fields: where it holds numbers, little-endian. choices: where it holds one of a few byte strings; any other says
    nothing. products: the devices in which it means this; None where the maker defines it for all.
    """

    id: int
    length: int
    fields: tuple[Field, ...] = ()
    choices: Mapping[bytes, Values] = field(default_factory=dict)
    products: frozenset[int] | None = None

    @property
    def resolutions(self) -> dict[str, str | None]:
        """Its quantities and the step of each; None for what is no number."""
        chosen = {name: None for values in self.choices.values() for name in values}
        return {each.name: each.resolution for each in self.fields} | chosen

    @property
    def says(self) -> list[frozenset[str]]:
        """Which quantities it can say at once, the most first."""
        if self.fields:
            return [frozenset(each.name for each in self.fields)]
        return sorted({frozenset(values) for values in self.choices.values() if values}, key=len, reverse=True)

    @cached_property
    def _table(self) -> Format:
        return Format(
            name=f"object 0x{self.id:02X}",
            source="",
            endian="little",
            length=self.length,
            magic=b"",
            fields=self.fields,
        )

    @cached_property
    def read_at(self) -> Callable[[bytes, int], dict[str, Value]]:
        """The reader of its bytes: (payload, where they start) → values by quantity, a dictionary of their own."""
        if self.fields:
            return self._table.compile_piece()
        choices, length = self.choices, self.length
        return lambda data, at: dict(choices.get(data[at : at + length], _NOTHING))

    @cached_property
    def add_at(self) -> Callable[[bytes, int, dict[str, Value]], None]:
        """The same, but its values go to those that were found before, numbered where they come again."""
        if self.fields:
            return self._table.compile_addition(numbered)
        read_at = self.read_at

        def add(data: bytes, at: int, found: dict[str, Value]) -> None:
            for name, value in read_at(data, at).items():
                found[numbered(name, found)] = value

        return add

    def read(self, data: bytes) -> dict[str, Value]:
        """Return what its bytes say, which are of its length."""
        return self.read_at(data, 0)

    def encode(self, values: Values) -> bytes:
        """Return the bytes that say `values`, numbers as near as they can. Raises ValueError where none do."""
        if self.fields:
            data = self._table.encode(values)
            read = self.read(data)
            if all(value == values.get(name) for name, value in read.items() if isinstance(value, bool | str)):
                return data
        for data, meaning in self.choices.items():
            if meaning == values:
                return data
        raise ValueError(f"object 0x{self.id:02X} cannot say {dict(values)}")


_NOTHING: Values = {}


@dataclass(frozen=True)
class TlvFormat:
    """A format whose payload is a row of objects: a type of `id_size` bytes, little-endian, a byte of length, a value.

    Of two objects that can say the same, `write` takes the earlier row. `counter` names the quantity that identifies a
    measurement; `extra` are quantities that stand outside the objects.
    """

    name: str
    source: str
    objects: tuple[Tlv, ...]
    id_size: int
    counter: str | None = None
    encrypted: bool = False
    extra: Mapping[str, str | None] = field(default_factory=dict)
    products: str = ""
    """Which devices send it."""

    @property
    def resolutions(self) -> dict[str, str | None]:
        """Its quantities and the finest step of each; None for what is no number."""
        found: dict[str, str | None] = dict(self.extra)
        for each in self.objects:
            for name, step in each.resolutions.items():
                known = found.get(name)
                found[name] = step if known is None else known if step is None else min(known, step, key=Fraction)
        return found

    def compile(self) -> Callable[[bytes, int, int], dict[str, Value]]:
        """Return the reader: (payload, where its first object is, the product) → values by quantity.

        A quantity's second object is `<name>_2`, and so on. Raises DecodeError where an object is cut off; what is too
        short to be one is passed over, as some devices end with a byte of anything.
        """
        head, where = self.id_size + 1, self.name
        general, by_product = self._tables()

        def read(data: bytes, at: int, product: int = 0) -> dict[str, Value]:
            found: dict[str, Value] = {}
            rows = by_product.get(product, general)
            last = len(data) - head
            while at <= last:
                start = at + head
                after = start + data[start - 1]
                if after > last + head:
                    raise DecodeError(
                        "truncated", f"an object of {after - at} bytes, but {len(data) - at} are left",
                        where=where, offset=at, payload=data,
                    )  # fmt: skip
                each = rows.get(data[at:start])
                if each is not None:
                    if found:
                        each.add_at(data, start, found)
                    else:
                        found = each.read_at(data, start)
                at = after
            return found

        return read

    def table_of(self, payload: bytes, at: int, product: int, passing: range, *before: Field) -> Format | None:
        """Return the fixed layout of payloads that are as long as this one and have the same row of objects.

        at: where the first one is. passing: the bytes before it that may differ; `before`: what they say, after all
        else. None where an object is a choice, or a quantity comes twice: only reading it tells how that is called.
        """
        general, by_product = self._tables()
        rows, fields = by_product.get(product, general), []
        mask = bytearray(0 if place in passing else 0xFF for place in range(at)).ljust(len(payload), b"\0")
        while at + self.id_size < len(payload):
            start = at + self.id_size + 1
            mask[at:start] = bytes([0xFF]) * (start - at)
            each = rows.get(payload[at:start])
            if each is not None:
                if each.choices or any(field.low_bit is not None for field in each.fields):
                    return None
                fields += [replace(field, at=start + field.at) for field in each.fields]
            at = start + payload[start - 1]
        fields += before
        if len({field.name for field in fields}) < len(fields) or not fields:
            return None
        return Format(
            name=self.name, source=self.source, endian="little", length=len(payload), magic=payload, mask=bytes(mask),
            fields=tuple(fields), counter=self.counter,
        )  # fmt: skip

    def _tables(self) -> tuple[dict[bytes, Tlv], dict[int, dict[bytes, Tlv]]]:
        """Return the objects by how they start, those of any product and those of some, who share what is the same."""
        general = {self._head(each): each for each in self.objects if each.products is None}
        own: dict[int, list[int]] = {}
        for place, each in enumerate(self.objects):
            for product in each.products or ():
                own.setdefault(product, []).append(place)
        shared: dict[tuple[int, ...], dict[bytes, Tlv]] = {}
        for places in set(map(tuple, own.values())):
            rows = [self.objects[place] for place in places]
            shared[places] = general | {self._head(each): each for each in rows}
        return general, {product: shared[tuple(places)] for product, places in own.items()}

    def _head(self, each: Tlv) -> bytes:
        return each.id.to_bytes(self.id_size, "little") + bytes([each.length])

    def write(self, values: Values, product: int = 0) -> bytes:
        """Return the objects that say `values`: `compile` backwards.

        An object is taken where all it can say is wanted, one that says it exactly before one that rounds. Raises
        ValueError for what is left over.
        """
        wanted = dict(values)
        written = b""
        for exact in (True, False):
            for each in self._of(product):
                for names in each.says:
                    if not names <= wanted.keys():
                        continue
                    asked = {name: wanted[name] for name in names}
                    try:
                        data = each.encode(asked)
                    except ValueError:
                        continue
                    if exact and each.read(data) != asked:
                        continue
                    written += self._head(each) + data
                    for name in names:
                        del wanted[name]
        if wanted:
            raise ValueError(f"{self.name} has no object for {', '.join(wanted)} as it is")
        return written

    def _of(self, product: int) -> list[Tlv]:
        """Return the objects that a product sends."""
        own = {(each.id, each.length) for each in self.objects if product in (each.products or ())}
        return [
            each
            for each in self.objects
            if (product in each.products if each.products is not None else (each.id, each.length) not in own)
        ]


def numbered(name: str, found: Values) -> str:
    """Return a quantity's name beside those that were found: `<name>_2`, and so on, where it comes again."""
    unused, number = name, 1
    while unused in found:
        number += 1
        unused = f"{name}_{number}"
    return unused
