"""What tables of fields compile to: functions, written out once, at import.

From the rows comes one `struct.Struct` and one function: no interpretation per message. A function of closures over the
rows would cost a call for each field, three times as much altogether; that is why source is written and run here, made
of nothing but our own tables.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from processor.decode.field import ADDRESSES, NO_ADDRESS, SPLIT, Field, sent, sent_reversed
from processor.decode.linear import NUMBERS
from processor.errors import DecodeError
from processor.reading import Reading, Value

if TYPE_CHECKING:
    from processor.decode.fields import Format

HEAD = 4
"""The bytes of an AD structure before the payload: length, type, company identifier or UUID."""

BORROWED_HEAD = 2
"""The same where the payload has taken the place of the company identifier."""

DIGEST = 0xFFFFFF
"""The bits of a payload's CRC-32 that a reading's digest has."""

Whole = Callable[[bytes, int, int, str, "int | None", "str | None", "int | None"], "Reading | None"]
"""(advertisement, where the AD structure starts and ends, the sensor's address, the time, the gateway, the RSSI) → the
Reading; None where the payload says what is not allowed: the decoder of its maker's module knows more. What it raises,
that decoder would."""


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


class Compiler:
    """Writes a decoder's source: one unpack, then one dict literal where nothing is missing, which is nearly always."""

    def __init__(self, format: Format, *, own_address: bool = True) -> None:  # noqa: A002 - the noun
        """own_address: whether what is compiled reads the payload's own address."""
        self.format = format
        self.fields = tuple(field for field in format.fields if own_address or field.type not in ADDRESSES)
        self.names: dict[str, Any] = {
            "DecodeError": DecodeError, "Decoded": Decoded, "Reading": Reading, "crc32": crc32,
            "new": tuple.__new__,  # a NamedTuple's own constructor costs three times as much
            "check": format.check, "sent": sent, "sent_reversed": sent_reversed,
        }  # fmt: skip
        self.codes: list[str] = []
        self.targets: list[str] = []
        self.refuse: list[tuple[str, str]] = []
        """Conditions of what no value can be, each with the source of its error."""
        self.prepare: list[str] = []
        self.at = 0
        self._unpacking()

    def function(self) -> Callable[[bytes, str | None], Decoded]:
        """Return the decoder of a payload."""
        fmt = self.format
        variable = any(field.type == "rest" for field in self.fields)
        function: Callable[[bytes, str | None], Decoded] = self._run(
            "def decode(data, address=None):",
            f" if len(data) {'<' if variable else '!='} {fmt.length}:",
            f'  raise DecodeError("length", f"expected {fmt.length} bytes{" or more" if variable else ""}, got'
            f' {{len(data)}}", where="{fmt.name}", payload=data)',
            *([" check(data, 0)"] if fmt.check else []),
            f" {', '.join(self.targets)}, = unpack(data)",
            *self._value_lines(),
            f' return new(Decoded, ("{fmt.name}", values, {self._counter()}, {self._own()}, None))',
        )
        return function

    def whole(self, head: int) -> Whole:
        """Return the short way for a payload, `head` bytes into its AD structure, whose length and first byte fit."""
        fmt, payload = self.format, f"start + {head}"
        function: Whole = self._run(
            "def decode(data, start, after, device, at, gateway, rssi):",
            *(f" if {condition}: return None" for condition in self._unlike(head)),
            *([f" check(data, {payload})"] if fmt.check else []),
            f" {', '.join(self.targets)}, = unpack(data, {payload})",
            *(f" if {condition}: return None" for condition in self._strange()),
            *self._value_lines("return None"),
            f' return new(Reading, (device, at, "{fmt.name}", values, {self._counter()},'
            f" {self._digest(payload)} & {DIGEST}, gateway, rssi))",
        )
        return function

    def piece(self) -> Callable[[bytes, int], dict[str, Value]]:
        """Return the reader of a piece of a payload."""
        function: Callable[[bytes, int], dict[str, Value]] = self._run(
            "def decode(data, at):",
            f" {', '.join(self.targets)}, = unpack(data, at)",
            *self._value_lines(),
            " return values",
        )
        return function

    def _unpacking(self) -> None:
        fmt = self.format
        self._load()
        self._skip_to(fmt.length)
        fixed = struct.Struct((">" if fmt.endian == "big" else "<") + "".join(self.codes))
        self.names["unpack"] = fixed.unpack_from

    def _run(self, *lines: str) -> Any:
        exec(compile("\n".join(lines), f"<format {self.format.name}>", "exec"), self.names)  # noqa: S102 - our own table
        return self.names["decode"]

    def _skip_to(self, at: int) -> None:
        if at > self.at:
            self.codes.append(f"{at - self.at}x")
            self.at = at

    def _unlike(self, head: int) -> list[str]:
        """Return the conditions under which the payload does not start as the format's does."""
        fmt = self.format
        first = 1 if head == HEAD else 0  # the first byte was looked up, unless it has a company identifier's place
        at, magic = f"start + {head + first}", fmt.magic[first:]
        if not fmt.mask:
            return [f"data[{at} : start + {head + len(fmt.magic)}] != {magic!r}"] if magic else []
        return [
            f"data[{at} + {n}] & {mask} != {byte & mask}"
            for n, (byte, mask) in enumerate(zip(magic, fmt.mask[first:], strict=True))
        ]

    def _strange(self) -> list[str]:
        """Return the condition under which the payload's own address is not the sender's, which it has to be."""
        if not self.format.sender:
            return []
        field = next(field for field in self.fields if field.type in ADDRESSES)
        return [f"w{field.at} != {'sent' if field.type == 'mac' else 'sent_reversed'}(device)"]

    def _digest(self, payload: str) -> str:
        """Return the source of the CRC of what identifies the measurement: the payload, without what passes."""
        begin, end = self.format.passes
        if begin == end:
            return "crc32(data[start + 2 : after])"
        return f"crc32(data[{payload} + {end} : after], crc32(data[{payload} : {payload} + {begin}]))"

    def _load(self) -> None:
        """Name a variable for each stored piece, and say how each field's raw value comes from it."""
        starts = {field.at: field for field in self.fields if field.type != "rest"}
        for field in self.fields:
            if field.low_bit is not None:
                starts.setdefault(field.low_bit[0], Field("", field.low_bit[0], "u8"))
        for at in sorted(starts):
            self._skip_to(at)
            self._load_piece(starts[at])
        for index, field in enumerate(self.fields):
            self._prepare_raw(index, field)

    def _load_piece(self, field: Field) -> None:
        at = field.at
        self.at += field.width
        if field.type in ("u24", "i24"):
            high = "b" if field.type == "i24" else "B"
            big = self.format.endian == "big"
            self.codes.append(f"{high}H" if big else f"H{high}")
            self.targets += [f"h{at}", f"l{at}"] if big else [f"l{at}", f"h{at}"]
            self.prepare.append(f"w{at} = h{at} << 16 | l{at}")
        else:
            self.codes.append("H" if field.type in SPLIT else NUMBERS.get(field.type, f"{field.width}s"))
            self.targets.append(f"w{at}")

    def _prepare_raw(self, index: int, field: Field) -> None:
        raw = f"w{field.at}"
        if field.type == "sign.int.cents":
            self.refuse.append((
                f"{raw} & 255 > 99",
                f'DecodeError("range", f"{field.name} has {{{raw} & 255}} hundredths",'
                f' where="{self.format.name}", offset={field.at + 1}, payload=data)',
            ))  # fmt: skip
            self.prepare.append(f"{raw} = (({raw} >> 8 & 127) * 100 + ({raw} & 255)) * (-1 if {raw} & 32768 else 1)")
        elif field.type == "tenths.sign.int":
            self.refuse.append((
                f"{raw} >> 8 & 15 > 9",
                f'DecodeError("range", f"{field.name} has {{{raw} >> 8 & 15}} tenths",'
                f' where="{self.format.name}", offset={field.at}, payload=data)',
            ))  # fmt: skip
            self.prepare.append(f"{raw} = (({raw} & 127) * 10 + ({raw} >> 8 & 15)) * (1 if {raw} & 128 else -1)")
        if field.bits is not None:
            shift, width = field.bits
            raw = f"({raw} >> {shift} & {(1 << width) - 1})" if shift else f"({raw} & {(1 << width) - 1})"
        if field.low_bit is not None:
            byte, bit = field.low_bit
            raw = f"({raw} << 1 | w{byte} >> {bit} & 1)"
        if raw != f"w{field.at}":
            self.prepare.append(f"r{index} = {raw}")

    def _raw(self, index: int) -> str:
        field = self.fields[index]
        if field.type == "rest":
            return "data"
        return f"r{index}" if field.bits or field.low_bit else f"w{field.at}"

    def _value(self, index: int) -> str:
        field = self.fields[index]
        if field.lookup is not None:
            self.names[f"lookup{index}"] = field.lookup
            return f"lookup{index}[{self._raw(index)}]"
        if field.type in ("bytes", "rest"):
            self.names[f"codec{index}"] = field.codec.decode
            return f"codec{index}({self._raw(index)})"
        return field.linear.source(self._raw(index))

    @property
    def _measured(self) -> list[int]:
        """The places of the fields that are values."""
        return [index for index, field in enumerate(self.fields) if field.type not in ADDRESSES]

    def _value_lines(self, otherwise: str = "") -> list[str]:
        """Return the source that gives `values`, and does `otherwise`, where that is not to raise, for what is none."""
        fields = self.fields
        literal = ", ".join(f'"{fields[i].name}": {self._value(i)}' for i in self._measured)
        present = " and ".join(self._present(i) for i in self._measured if self._may_miss(i))
        lines = [f" if {condition}: {otherwise or f'raise {error}'}" for condition, error in self.refuse]
        lines += [f" {line}" for line in self.prepare]
        for i in self._measured:
            if fields[i].name == self.format.essential:
                nothing = f'return new(Decoded, ("{self.format.name}", {{}}, None, {self._own()}, None))'
                lines.append(f" if not ({self._present(i)}): {otherwise or nothing}")
        if present:
            lines += [f" if {present}:", f"  values = {{{literal}}}", " else:", "  values = {}"]
            for i in self._measured:
                guard = f"if {self._present(i)}: " if self._may_miss(i) else ""
                lines.append(f'  {guard}values["{fields[i].name}"] = {self._value(i)}')
        else:
            lines.append(f" values = {{{literal}}}")
        return lines

    def _counter(self) -> str:
        """Return the source of the sensor's own count, which may be missing."""
        for i, field in enumerate(self.fields):
            if field.name == self.format.counter:
                raw = self._raw(i)
                return raw if field.sentinel is None else f"{raw} if {self._present(i)} else None"
        return "None"

    def _own(self) -> str:
        """Return the source of the payload's own address: six FF are none."""
        for i, field in enumerate(self.fields):
            if field.type in ADDRESSES:
                raw = self._raw(i)
                mac = raw if field.type == "mac" else f"{raw}[::-1]"
                return f'None if address is not None or {raw} == {NO_ADDRESS!r} else {mac}.hex(":").upper()'
        return "None"

    def _may_miss(self, index: int) -> bool:
        field = self.fields[index]
        unmeasured = field.name in self.format.unmeasured
        return unmeasured or field.sentinel is not None or (field.lookup is not None and None in field.lookup)

    def _present(self, index: int) -> str:
        field = self.fields[index]
        if field.lookup is not None:
            return f"{self._value(index)} is not None"
        found = []
        if field.sentinel is not None:
            found.append(f"{self._raw(index)} {'!=' if field.invalid_from is None else '<'} {field.sentinel}")
        if field.name in self.format.unmeasured:
            some = [
                f"{self._raw(i)} != {each.blank}"
                for i, each in enumerate(self.fields)
                if each.name in self.format.unmeasured
            ]
            found.append(f"({' or '.join(some)})")
        return " and ".join(found)


def whole_of(name: str, say: Callable[[bytes, int], dict[str, Value] | None], head: int) -> Whole:
    """Return the short way of a format read by hand: `say` takes where its payload starts, None is for its decoder."""
    crc, new = crc32, tuple.__new__

    def decode(
        data: bytes, start: int, after: int, device: str, at: int | None, gateway: str | None, rssi: int | None
    ) -> Reading | None:
        values = say(data, start + head)
        if values is None:
            return None
        return new(Reading, (device, at, name, values, None, crc(data[start + 2 : after]) & DIGEST, gateway, rssi))

    return decode
