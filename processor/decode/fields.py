"""The one interpreter of format tables: a `Format` compiles at import into a decoder and an encoder.

A fixed-layout format is written as its specification is, a row per field. From the rows comes one
`struct.Struct` and one generated function: no interpretation per message. Values are exact: integers until
the end, then one correctly rounded division, whose result prints as the exact decimal.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from processor.decode.linear import NUMBERS, Linear
from processor.errors import DecodeError
from processor.reading import Value

FieldType = Literal[
    "u8", "i8", "u16", "i16", "u24", "i24", "u32", "i32", "sign.int.cents", "tenths.sign.int",
    "mac", "mac.le", "bytes", "rest",
]  # fmt: skip
"""`sign.int.cents` is two bytes: a sign bit and 7 bits of whole units, then hundredths. `tenths.sign.int` is two bytes:
tenths in the low 4 bits, then a bit that is set for zero and above, and 7 bits of whole units. `mac` is the sensor's
address, most significant byte first, `mac.le` least significant first. `bytes` and `rest` (all up to the end) are read
by a `Codec`, which gets those bytes, for `rest` the whole payload, so that it can say where it is at fault."""

_NO_ADDRESS = b"\xff" * 6
_ADDRESSES = ("mac", "mac.le")
_SPLIT = ("sign.int.cents", "tenths.sign.int")
"""Numbers of two bytes whose sign and parts stand apart; in big-endian formats."""


class Decoded(NamedTuple):
    """What one payload says.

    format: its name. values: by quantity. counter: the sensor's own count, where it identifies a measurement.
    address: the one in the payload, read only where the gateway gave none. plain: what an encrypted payload
    decrypts to, which is then what identifies the measurement: a repeat may be encrypted anew.
    """

    format: str
    values: dict[str, Value]
    counter: int | None = None
    address: str | None = None
    plain: bytes | None = None


class Codec(NamedTuple):
    """How bytes that are no number read as a value and back. `decode` raises DecodeError, `encode` ValueError."""

    decode: Callable[[bytes], Value]
    encode: Callable[[Value], bytes]


HEX = Codec(bytes.hex, lambda value: bytes.fromhex(str(value)))


@dataclass(frozen=True)
class Field:
    """One row of a format's table.

    name: the quantity, or `address` for the sensor's own.
    at: the first byte. size: the bytes of a `bytes` field. codec: how `bytes` or `rest` are read.
    bits: (shift, width) of the part of an integer that counts.
    low_bit: (byte, bit) of one more, lowest bit, kept elsewhere.
    scale, offset: decimals as text; value = raw × scale + offset.
    invalid: the raw value that means "not available", unsigned as specifications write it.
    invalid_from: the first of the raw values that all mean it, up to the highest; for unsigned types.
    lookup: the value of each raw value, where scale and offset cannot give it (logarithms); None is not available.
    """

    name: str
    at: int
    type: FieldType
    scale: str = "1"
    offset: str = "0"
    invalid: int | None = None
    invalid_from: int | None = None
    bits: tuple[int, int] | None = None
    low_bit: tuple[int, int] | None = None
    lookup: tuple[float | None, ...] | None = None
    size: int = 0
    codec: Codec = HEX

    @property
    def width(self) -> int:
        """The bytes it takes; none for `rest`, which is not of the fixed part."""
        if self.type in NUMBERS:
            return int(self.type[1:]) // 8
        return 2 if self.type in _SPLIT else 6 if self.type in _ADDRESSES else self.size

    @property
    def sentinel(self) -> int | None:
        """The raw value that means "not available", signed where the type is."""
        if self.invalid_from is not None:
            return self.invalid_from
        if self.invalid is None or not self.type.startswith("i"):
            return self.invalid
        bits = 8 * self.width
        return self.invalid - (1 << bits) if self.invalid >> (bits - 1) else self.invalid

    @property
    def linear(self) -> Linear:
        """Its scale and offset."""
        return Linear.of(self.scale, self.offset)

    @property
    def resolution(self) -> str | None:
        """The step between two values, as decimal text; None where there is no constant one."""
        return None if self.lookup is not None or self.type in (*_ADDRESSES, "bytes", "rest") else self.scale

    def raw_of(self, value: Value | None) -> int:
        """Return the raw integer nearest to `value`; for None that of "not available", or zero. Raises ValueError."""
        if value is None:
            if self.lookup is not None and None in self.lookup:
                return self.lookup.index(None)
            return self.sentinel or 0
        if self.lookup is not None:
            known = [(abs(v - float(value)), raw) for raw, v in enumerate(self.lookup) if v is not None]
            return min(known)[1]
        raw = self.linear.raw(value)
        if raw == self.sentinel or (self.invalid_from is not None and raw > self.invalid_from):
            raise ValueError("its code means not available")
        return raw

    def write(self, data: bytearray, value: Value | None, endian: Literal["big", "little"]) -> None:
        """Put `value` in its place in `data`, zeros so far. Raises ValueError or OverflowError if it does not fit."""
        if self.type in ("bytes", "rest"):
            piece = bytes(self.size) if value is None else self.codec.encode(value)
            if self.type == "bytes" and len(piece) != self.size:
                raise ValueError(f"it has {self.size} bytes")
            data[self.at : self.at + len(piece)] = piece
            return
        raw = self.raw_of(value)
        if self.type == "sign.int.cents":
            whole, cents = divmod(abs(raw), 100)
            if whole > 127:
                raise OverflowError
            raw = whole << 8 | cents | (0x8000 if raw < 0 else 0)
        elif self.type == "tenths.sign.int" and value is not None:
            whole, tenths = divmod(abs(raw), 10)
            if whole > 127:
                raise OverflowError
            raw = tenths << 8 | whole | (0x80 if raw >= 0 else 0)
        if self.low_bit is not None:
            byte, bit = self.low_bit
            data[byte] |= (raw & 1) << bit
            raw >>= 1
        place = slice(self.at, self.at + self.width)
        if self.bits is not None:
            shift, width = self.bits
            if not 0 <= raw < 1 << width:
                raise OverflowError
            raw = int.from_bytes(data[place], endian) | raw << shift
        data[place] = raw.to_bytes(self.width, endian, signed=self.type.startswith("i"))


@dataclass(frozen=True)
class Format:
    """A fixed-layout format.

    `magic` is what it starts with; `length` its length, magic included (the least one, where a `rest` field follows);
    `counter` names the field that identifies a measurement. `source` cites the specification.
    """

    name: str
    source: str
    endian: Literal["big", "little"]
    length: int
    magic: bytes
    fields: tuple[Field, ...]
    counter: str | None = None

    encrypted = False
    """Whether it may come encrypted."""

    @property
    def resolutions(self) -> dict[str, str | None]:
        """Its quantities and the step of each; None for what has no constant one (texts, logarithms)."""
        return {field.name: field.resolution for field in self.fields if field.type not in _ADDRESSES}

    def compile(self) -> Callable[[bytes, str | None], Decoded]:
        """Return the decoder, of the payload and the address that the gateway gave.

        It raises DecodeError for a wrong length or a value out of its range. It does not look at the magic.
        """
        return _Compiler(self).function()

    def compile_piece(self) -> Callable[[bytes, int], dict[str, Value]]:
        """Return the reader of a piece of a payload, which lies whole in it: (payload, where it starts) → values."""
        return _Compiler(self).piece()

    def encode(self, values: Mapping[str, Value], *, address: str | None = None) -> bytes:
        """Return the payload that says `values`; what is missing is encoded as not available, else as zero.

        What the format has no field for is left out. Raises ValueError for a value that does not fit its field.
        """
        data = bytearray(self.length)
        data[: len(self.magic)] = self.magic
        for field in self.fields:
            if field.type in _ADDRESSES:
                mac = bytes.fromhex(address.replace(":", "")) if address else _NO_ADDRESS
                data[field.at : field.at + 6] = mac if field.type == "mac" else mac[::-1]
                continue
            value = values.get(field.name)
            try:
                field.write(data, value, self.endian)
            except (ValueError, OverflowError) as error:
                why = str(error) if isinstance(error, ValueError) else f"it does not fit {field.type}"
                raise ValueError(f"{self.name}: {field.name} cannot be {value!r}: {why}") from None
        return bytes(data)


class _Compiler:
    """Writes a decoder's source: one unpack, then one dict literal where nothing is missing, which is nearly always."""

    def __init__(self, format: Format) -> None:  # noqa: A002 - the noun
        self.format = format
        self.names: dict[str, Any] = {"DecodeError": DecodeError, "Decoded": Decoded, "new": tuple.__new__}
        self.codes: list[str] = []
        self.targets: list[str] = []
        self.prepare: list[str] = []
        self.at = 0

    def function(self) -> Callable[[bytes, str | None], Decoded]:
        self.unpacking()
        function: Callable[[bytes, str | None], Decoded] = self.run(self.lines())
        return function

    def piece(self) -> Callable[[bytes, int], dict[str, Value]]:
        self.unpacking()
        unpack = f" {', '.join(self.targets)}, = unpack(data, at)"
        function: Callable[[bytes, int], dict[str, Value]] = self.run(
            ["def decode(data, at):", unpack, *self.value_lines(), " return values"]
        )
        return function

    def unpacking(self) -> None:
        fmt = self.format
        self.skip_to(len(fmt.magic))
        self.load()
        self.skip_to(fmt.length)
        fixed = struct.Struct((">" if fmt.endian == "big" else "<") + "".join(self.codes))
        self.names["unpack"] = fixed.unpack_from

    def run(self, lines: list[str]) -> Any:
        exec(compile("\n".join(lines), f"<format {self.format.name}>", "exec"), self.names)  # noqa: S102 - our own table
        return self.names["decode"]

    def skip_to(self, at: int) -> None:
        if at > self.at:
            self.codes.append(f"{at - self.at}x")
            self.at = at

    def load(self) -> None:
        """Name a variable for each stored piece, and say how each field's raw value comes from it."""
        starts = {field.at: field for field in self.format.fields if field.type != "rest"}
        for field in self.format.fields:
            if field.low_bit is not None:
                starts.setdefault(field.low_bit[0], Field("", field.low_bit[0], "u8"))
        for at in sorted(starts):
            self.skip_to(at)
            self.load_piece(starts[at])
        for index, field in enumerate(self.format.fields):
            self.prepare_raw(index, field)

    def load_piece(self, field: Field) -> None:
        at = field.at
        self.at += field.width
        if field.type in ("u24", "i24"):
            high = "b" if field.type == "i24" else "B"
            big = self.format.endian == "big"
            self.codes.append(f"{high}H" if big else f"H{high}")
            self.targets += [f"h{at}", f"l{at}"] if big else [f"l{at}", f"h{at}"]
            self.prepare.append(f"w{at} = h{at} << 16 | l{at}")
        else:
            self.codes.append("H" if field.type in _SPLIT else NUMBERS.get(field.type, f"{field.width}s"))
            self.targets.append(f"w{at}")

    def prepare_raw(self, index: int, field: Field) -> None:
        raw = f"w{field.at}"
        if field.type == "sign.int.cents":
            self.prepare += [
                f'if {raw} & 255 > 99: raise DecodeError("range", f"{field.name} has {{{raw} & 255}} hundredths",'
                f' where="{self.format.name}", offset={field.at + 1}, payload=data)',
                f"{raw} = (({raw} >> 8 & 127) * 100 + ({raw} & 255)) * (-1 if {raw} & 32768 else 1)",
            ]
        elif field.type == "tenths.sign.int":
            self.prepare += [
                f'if {raw} >> 8 & 15 > 9: raise DecodeError("range", f"{field.name} has {{{raw} >> 8 & 15}} tenths",'
                f' where="{self.format.name}", offset={field.at}, payload=data)',
                f"{raw} = (({raw} & 127) * 10 + ({raw} >> 8 & 15)) * (1 if {raw} & 128 else -1)",
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
        if field.type == "rest":
            return "data"
        return f"r{index}" if field.bits or field.low_bit else f"w{field.at}"

    def value(self, index: int) -> str:
        field = self.format.fields[index]
        if field.lookup is not None:
            self.names[f"lookup{index}"] = field.lookup
            return f"lookup{index}[{self.raw(index)}]"
        if field.type in ("bytes", "rest"):
            self.names[f"codec{index}"] = field.codec.decode
            return f"codec{index}({self.raw(index)})"
        return field.linear.source(self.raw(index))

    def lines(self) -> list[str]:
        fmt = self.format
        variable = any(field.type == "rest" for field in fmt.fields)
        return [
            "def decode(data, address=None):",
            f" if len(data) {'<' if variable else '!='} {fmt.length}:",
            f'  raise DecodeError("length", f"expected {fmt.length} bytes{" or more" if variable else ""}, got'
            f' {{len(data)}}", where="{fmt.name}", payload=data)',
            f" {', '.join(self.targets)}, = unpack(data)",
            *self.value_lines(),
            f' return new(Decoded, ("{fmt.name}", values, {self.counter()}, {self.own()}, None))',
        ]

    def value_lines(self) -> list[str]:
        fmt = self.format
        measured = [i for i, field in enumerate(fmt.fields) if field.type not in _ADDRESSES]
        literal = ", ".join(f'"{fmt.fields[i].name}": {self.value(i)}' for i in measured)
        present = " and ".join(self.present(i) for i in measured if self.may_miss(i))
        lines = [f" {line}" for line in self.prepare]
        if present:
            lines += [f" if {present}:", f"  values = {{{literal}}}", " else:", "  values = {}"]
            for i in measured:
                guard = f"if {self.present(i)}: " if self.may_miss(i) else ""
                lines.append(f'  {guard}values["{fmt.fields[i].name}"] = {self.value(i)}')
        else:
            lines.append(f" values = {{{literal}}}")
        return lines

    def counter(self) -> str:
        """Return the source of the sensor's own count."""
        for i, field in enumerate(self.format.fields):
            if field.name == self.format.counter:
                return self.raw(i) if field.sentinel is None else f"{self.raw(i)} if {self.present(i)} else None"
        return "None"

    def own(self) -> str:
        """Return the source of the payload's own address: six FF are none."""
        for i, field in enumerate(self.format.fields):
            if field.type in _ADDRESSES:
                raw = self.raw(i)
                mac = raw if field.type == "mac" else f"{raw}[::-1]"
                return f'None if address is not None or {raw} == {_NO_ADDRESS!r} else {mac}.hex(":").upper()'
        return "None"

    def may_miss(self, index: int) -> bool:
        field = self.format.fields[index]
        return field.sentinel is not None or (field.lookup is not None and None in field.lookup)

    def present(self, index: int) -> str:
        field = self.format.fields[index]
        if field.lookup is not None:
            return f"{self.value(index)} is not None"
        compare = "!=" if field.invalid_from is None else "<"
        return f"{self.raw(index)} {compare} {field.sentinel}"
