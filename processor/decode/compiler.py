"""What tables of fields compile to: functions, written out once, at import.

From the rows comes one `struct.Struct` and one function: no interpretation per message. A function of closures over the
rows would cost a call for each field, three times as much altogether; that is why source is written and run here, made
of nothing but our own tables.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from processor.decode.field import ADDRESSES, NO_ADDRESS, SPLIT, Field
from processor.decode.linear import NUMBERS
from processor.errors import DecodeError
from processor.reading import Value

if TYPE_CHECKING:
    from processor.decode.fields import Format


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


Addition = Callable[[bytes, int, dict[str, Value]], None]
"""(payload, where a piece starts, values found before) → nothing: the piece's values are added to them."""


class Compiler:
    """Writes a decoder's source: one unpack, then one dict literal where nothing is missing, which is nearly always."""

    def __init__(self, format: Format, *, own_address: bool = True) -> None:  # noqa: A002 - the noun
        """own_address: whether what is compiled reads the payload's own address."""
        self.format = format
        self.fields = tuple(field for field in format.fields if own_address or field.type not in ADDRESSES)
        self.names: dict[str, Any] = {
            "DecodeError": DecodeError, "Decoded": Decoded, "check": format.check,
            "new": tuple.__new__,  # a NamedTuple's own constructor costs three times as much
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

    def piece(self) -> Callable[[bytes, int], dict[str, Value]]:
        """Return the reader of a piece of a payload."""
        function: Callable[[bytes, int], dict[str, Value]] = self._run(
            "def decode(data, at):",
            f" {', '.join(self.targets)}, = unpack(data, at)",
            *self._value_lines(),
            " return values",
        )
        return function

    def addition(self, numbered: Callable[..., str]) -> Addition:
        """Return the reader of a piece that adds its values to others; `numbered` names what comes again."""
        self.names["numbered"] = numbered
        lines = []
        for i in self._measured:
            name, guard = self.fields[i].name, f"if {self._present(i)}: " if self._may_miss(i) else ""
            lines.append(
                f' {guard}found["{name}" if "{name}" not in found else numbered("{name}", found)] = {self._value(i)}'
            )
        function: Addition = self._run(
            "def decode(data, at, found):", f" {', '.join(self.targets)}, = unpack(data, at)", *self._prepared(), *lines
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
        elif field.type in SPLIT:
            self.codes.append("BB")
            self.targets += [f"h{at}", f"l{at}"]
        else:
            self.codes.append(NUMBERS.get(field.type, f"{field.width}s"))
            self.targets.append(f"w{at}")

    def _prepare_raw(self, index: int, field: Field) -> None:
        raw = f"w{field.at}"
        if _flag(field):
            return
        high, low = f"h{field.at}", f"l{field.at}"
        if field.type == "sign.int.cents":
            self._refuse(field, f"{low} > 99", low, "hundredths", field.at + 1)
            self.prepare += [f"{raw} = ({high} & 127) * 100 + {low}", f"if {high} & 128: {raw} = -{raw}"]
        elif field.type == "tenths.sign.int":
            self._refuse(field, f"{high} & 15 > 9", f"{high} & 15", "tenths", field.at)
            self.prepare += [f"{raw} = ({low} & 127) * 10 + ({high} & 15)", f"if not {low} & 128: {raw} = -{raw}"]
        if field.bits is not None:
            shift, width = field.bits
            raw = f"({raw} >> {shift} & {(1 << width) - 1})" if shift else f"({raw} & {(1 << width) - 1})"
        if field.low_bit is not None:
            byte, bit = field.low_bit
            raw = f"({raw} << 1 | w{byte} >> {bit} & 1)"
        if raw != f"w{field.at}":
            self.prepare.append(f"r{index} = {raw}")

    def _refuse(self, field: Field, condition: str, number: str, what: str, at: int) -> None:
        self.refuse.append((
            condition,
            f'DecodeError("range", f"{field.name} has {{{number}}} {what}", where="{self.format.name}", offset={at},'
            " payload=data)",
        ))  # fmt: skip

    def _raw(self, index: int) -> str:
        field = self.fields[index]
        if field.type == "rest":
            return "data"
        return f"r{index}" if field.bits or field.low_bit else f"w{field.at}"

    def _value(self, index: int) -> str:
        field = self.fields[index]
        if field.lookup is not None:
            bits = _flag(field)
            if bits:
                return f"w{field.at} & {bits} != 0"
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

    def _prepared(self, otherwise: str = "") -> list[str]:
        """Return the source that does what the values' own takes."""
        refused = [f" if {condition}: {otherwise or f'raise {error}'}" for condition, error in self.refuse]
        return refused + [f" {line}" for line in self.prepare]

    def _value_lines(self, otherwise: str = "") -> list[str]:
        """Return the source that gives `values`, and does `otherwise`, where that is not to raise, for what is none."""
        fields = self.fields
        literal = ", ".join(f'"{fields[i].name}": {self._value(i)}' for i in self._measured)
        present = " and ".join(dict.fromkeys(self._present(i) for i in self._measured if self._may_miss(i)))
        lines = self._prepared(otherwise)
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
        unmeasured = any(field.name in group for group in self.format.unmeasured)
        return unmeasured or field.sentinel is not None or (field.lookup is not None and None in field.lookup)

    def _present(self, index: int) -> str:
        field = self.fields[index]
        if field.lookup is not None:
            return f"{self._value(index)} is not None"
        found = []
        if field.invalid is not None:
            found.append(f"{self._raw(index)} != {field.sentinel}")
        if field.invalid_from is not None:
            found.append(f"{self._raw(index)} < {field.invalid_from}")
        for group in self.format.unmeasured:
            if field.name in group:
                some = [
                    f"{self._raw(i)} != {each.blank}" if each.blank else self._raw(i)
                    for i, each in enumerate(self.fields)
                    if each.name in group
                ]
                found.append(f"({' or '.join(some)})")
        return " and ".join(found)


def _flag(field: Field) -> int:
    """Return the bits of its byte of which a field says no more than whether one is set; 0 where it says more."""
    if field.type != "u8" or field.low_bit is not None or field.lookup is None or field.lookup[0] is not False:
        return 0
    shift, width = field.bits or (0, 8)
    for bits in ((1 << width) - 1, 1 << width - 1):  # any, or the highest
        if all(value is (raw & bits != 0) for raw, value in enumerate(field.lookup)):
            return bits << shift
    return 0
