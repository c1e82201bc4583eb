"""The one interpreter of format tables: a `Format` compiles at import into a decoder and an encoder.

A fixed-layout format is written as its specification is, a row per field. From the rows comes one
`struct.Struct` and one generated function: no interpretation per message. Values are exact: integers until
the end, then one correctly rounded division, whose result prints as the exact decimal.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from processor.errors import DecodeError
from processor.reading import Value, address_of

FieldType = Literal["u8", "i8", "u16", "i16", "u24", "i24", "u32", "i32", "sign.int.cents", "mac"]
"""`sign.int.cents` is two bytes: a sign bit and 7 bits of whole units, then hundredths."""

_CODES = {
    "u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "sign.int.cents": "H", "mac": "6s",
}  # fmt: skip
_SIZES = {
    "u8": 1, "i8": 1, "u16": 2, "i16": 2, "u24": 3, "i24": 3, "u32": 4, "i32": 4, "sign.int.cents": 2, "mac": 6,
}  # fmt: skip


class Decoded(NamedTuple):
    """What one payload says: its format's name, the values by quantity, the sensor's counter, its own address."""

    format: str
    values: dict[str, Value]
    counter: int | None = None
    address: str | None = None


@dataclass(frozen=True)
class Field:
    """One row of a format's table.

    name: the quantity, or `address` for the sensor's own.
    at: the first byte. bits: (shift, width) of the part of an integer that counts.
    low_bit: (byte, bit) of one more, lowest bit, kept elsewhere.
    scale, offset: decimals as text; value = raw × scale + offset.
    invalid: the raw value that means "not available", unsigned as specifications write it.
    lookup: the value of each raw value, where scale and offset cannot give it (logarithms); None is not available.
    """

    name: str
    at: int
    type: FieldType
    scale: str = "1"
    offset: str = "0"
    invalid: int | None = None
    bits: tuple[int, int] | None = None
    low_bit: tuple[int, int] | None = None
    lookup: tuple[float | None, ...] | None = None

    @property
    def sentinel(self) -> int | None:
        """The raw value that means "not available", signed where the type is."""
        if self.invalid is None or not self.type.startswith("i"):
            return self.invalid
        bits = 8 * _SIZES[self.type]
        return self.invalid - (1 << bits) if self.invalid >> (bits - 1) else self.invalid

    def linear(self) -> tuple[int, int, int]:
        """Return integers (p, o, q) with value = (raw × p + o) / q."""
        scale, offset = Fraction(self.scale), Fraction(self.offset)
        q = _lcm(scale.denominator, offset.denominator)
        return int(scale * q), int(offset * q), q

    def raw_of(self, value: Value) -> int:
        """Return the raw integer nearest to `value`."""
        if self.lookup is not None:
            known = [(abs(v - float(value)), raw) for raw, v in enumerate(self.lookup) if v is not None]
            return min(known)[1]
        p, o, q = self.linear()
        return round((Fraction(str(value)) * q - o) / p)


@dataclass(frozen=True)
class Format:
    """A fixed-layout format.

    `magic` is what it starts with; `length` its length, magic included; `counter` names the field that identifies
    a measurement. `source` cites the specification.
    """

    name: str
    source: str
    endian: Literal["big", "little"]
    length: int
    magic: bytes
    fields: tuple[Field, ...]
    counter: str | None = None

    def compile(self) -> Callable[[bytes], Decoded]:
        """Return the decoder. It raises DecodeError for a wrong length or a value out of its range."""
        return _Compiler(self).function()

    def encode(self, values: Mapping[str, Value], *, address: str | None = None) -> bytes:
        """Return the payload that says `values`; what is missing is encoded as not available, else as zero."""
        data = bytearray(self.length)
        data[: len(self.magic)] = self.magic
        for field in self.fields:
            if field.type == "mac":
                data[field.at : field.at + 6] = bytes.fromhex((address or "FF" * 6).replace(":", ""))
                continue
            value = values.get(field.name)
            raw = (field.sentinel or 0) if value is None else field.raw_of(value)
            if field.type == "sign.int.cents":
                whole, cents = divmod(abs(raw), 100)
                raw = whole << 8 | cents | (0x8000 if raw < 0 else 0)
            if field.low_bit is not None:
                byte, bit = field.low_bit
                data[byte] = data[byte] & ~(1 << bit) | (raw & 1) << bit
                raw >>= 1
            size = _SIZES[field.type]
            place = slice(field.at, field.at + size)
            signed = field.type.startswith("i")
            if field.bits is not None:
                shift, width = field.bits
                if not 0 <= raw < 1 << width:
                    raise _unencodable(self, field, value)
                raw = int.from_bytes(data[place], self.endian) & ~(((1 << width) - 1) << shift) | raw << shift
            try:
                data[place] = raw.to_bytes(size, self.endian, signed=signed)
            except OverflowError:
                raise _unencodable(self, field, value) from None
        return bytes(data)


def _unencodable(format: Format, field: Field, value: Value | None) -> ValueError:  # noqa: A002 - the noun
    return ValueError(f"{format.name}: {field.name} cannot be {value!r}: it does not fit {field.type}")


def _lcm(a: int, b: int) -> int:
    return (Fraction(a, b).numerator) * b


def linear(raw: str, p: int, o: int, q: int) -> str:
    """Return the source text of (raw × p + o) / q, without the steps that do nothing."""
    text = raw if p == 1 else f"{raw} * {p}"
    text = text if o == 0 else f"({text} + {o})"
    return text if q == 1 else f"{text} / {q}"


class _Compiler:
    """Writes the decoder's source: one unpack, then one dict literal where nothing is missing, which is nearly always."""

    def __init__(self, format: Format) -> None:  # noqa: A002 - the noun
        self.format = format
        self.names: dict[str, Any] = {
            "DecodeError": DecodeError,
            "Decoded": Decoded,
            "address_of": address_of,
            "new": tuple.__new__,
        }
        self.codes: list[str] = []
        self.targets: list[str] = []
        self.prepare: list[str] = []
        self.at = 0

    def function(self) -> Callable[[bytes], Decoded]:
        fmt = self.format
        self.skip_to(len(fmt.magic))
        self.load_fields()
        self.skip_to(fmt.length)
        self.names["unpack"] = struct.Struct((">" if fmt.endian == "big" else "<") + "".join(self.codes)).unpack
        source = "\n".join(self.lines())
        exec(compile(source, f"<format {fmt.name}>", "exec"), self.names)  # noqa: S102 - our own table
        function: Callable[[bytes], Decoded] = self.names["decode"]
        return function

    def skip_to(self, at: int) -> None:
        if at > self.at:
            self.codes.append(f"{at - self.at}x")
            self.at = at

    def load_fields(self) -> None:
        """Name a variable for each stored integer, and say how each field's raw value comes from it."""
        starts = {field.at: field for field in self.format.fields}
        extra = {byte for field in self.format.fields if field.low_bit for byte in (field.low_bit[0],)}
        for byte in extra - set(starts):
            starts[byte] = Field("", byte, "u8")
        for at in sorted(starts):
            self.skip_to(at)
            kind = starts[at].type
            self.at += _SIZES[kind]
            if kind in ("u24", "i24"):
                high = "b" if kind == "i24" else "B"
                big = self.format.endian == "big"
                self.codes.append(f"{high}H" if big else f"H{high}")
                self.targets += [f"h{at}", f"l{at}"] if big else [f"l{at}", f"h{at}"]
                self.prepare.append(f"w{at} = h{at} << 16 | l{at}")
            else:
                self.codes.append(_CODES[kind])
                self.targets.append(f"w{at}")
        for index, field in enumerate(self.format.fields):
            raw = f"w{field.at}"
            if field.type == "sign.int.cents":
                self.prepare += [
                    f'if {raw} & 255 > 99: raise DecodeError("range", f"{field.name} has {{{raw} & 255}} hundredths",'
                    f' where="{self.format.name}", offset={field.at + 1}, payload=data)',
                    f"{raw} = (({raw} >> 8 & 127) * 100 + ({raw} & 255)) * (-1 if {raw} & 32768 else 1)",
                ]
            if field.bits is not None:
                shift, width = field.bits
                raw = f"({raw} >> {shift} & {(1 << width) - 1})" if shift else f"({raw} & {(1 << width) - 1})"
            if field.low_bit is not None:
                byte, bit = field.low_bit
                raw = f"({raw} << 1 | w{byte} >> {bit} & 1)"
            if raw != f"w{field.at}":
                self.prepare.append(f"r{index} = {raw}")

    def raw(self, index: int) -> str:
        field = self.format.fields[index]
        return f"r{index}" if field.bits or field.low_bit else f"w{field.at}"

    def value(self, index: int) -> str:
        field = self.format.fields[index]
        if field.lookup is not None:
            self.names[f"lookup{index}"] = field.lookup
            return f"lookup{index}[{self.raw(index)}]"
        return linear(self.raw(index), *field.linear())

    def lines(self) -> list[str]:
        fmt = self.format
        measured = [i for i, field in enumerate(fmt.fields) if field.type != "mac"]
        literal = ", ".join(f'"{fmt.fields[i].name}": {self.value(i)}' for i in measured)
        present = " and ".join(self.present(i) for i in measured if self.may_miss(i)) or "True"
        counter = next((i for i in measured if fmt.fields[i].name == fmt.counter), None)
        mac = next((i for i, field in enumerate(fmt.fields) if field.type == "mac"), None)
        own = "None"
        if mac is not None:
            own = f'None if {self.raw(mac)} == b"\\xff\\xff\\xff\\xff\\xff\\xff" else {self.raw(mac)}.hex(":").upper()'
        count = "None"
        if counter is not None:
            count = self.raw(counter)
            if fmt.fields[counter].invalid is not None:
                count = f"{count} if {self.present(counter)} else None"
        lines = [
            "def decode(data):",
            f" if len(data) != {fmt.length}:",
            f'  raise DecodeError("length", f"expected {fmt.length} bytes, got {{len(data)}}",'
            f' where="{fmt.name}", payload=data)',
            f" {', '.join(self.targets)}, = unpack(data)",
            *(f" {line}" for line in self.prepare),
            f" if {present}:",
            f"  values = {{{literal}}}",
            " else:",
            "  values = {}",
        ]
        for i in measured:
            guard = f"if {self.present(i)}: " if self.may_miss(i) else ""
            lines.append(f'  {guard}values["{fmt.fields[i].name}"] = {self.value(i)}')
        lines.append(f' return new(Decoded, ("{fmt.name}", values, {count}, {own}))')
        return lines

    def may_miss(self, index: int) -> bool:
        field = self.format.fields[index]
        return field.invalid is not None or (field.lookup is not None and None in field.lookup)

    def present(self, index: int) -> str:
        field = self.format.fields[index]
        if field.lookup is not None:
            return f"{self.value(index)} is not None"
        return f"{self.raw(index)} != {field.sentinel}"
