"""One row of a format's table: where a value is in the payload, and how its bytes read and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from processor.decode.linear import NUMBERS, Linear
from processor.reading import Value

FieldType = Literal[
    "u8", "i8", "u16", "i16", "u24", "i24", "u32", "i32", "sign.int.cents", "tenths.sign.int",
    "mac", "mac.le", "bytes", "rest",
]  # fmt: skip
"""`sign.int.cents` is two bytes: a sign bit and 7 bits of whole units, then hundredths. `tenths.sign.int` is two bytes:
tenths in the low 4 bits, then a bit that is set for zero and above, and 7 bits of whole units. `mac` is the sensor's
address, most significant byte first, `mac.le` least significant first. `bytes` and `rest` (all up to the end) are read
by a `Codec`, which gets those bytes, for `rest` the whole payload, so that it can say where it is at fault."""

NO_ADDRESS = b"\xff" * 6
ADDRESSES = ("mac", "mac.le")


@lru_cache(maxsize=4096)
def sent(address: str) -> bytes:
    """Return an address as a `mac` field has it."""
    return bytes.fromhex(address.replace(":", ""))


@lru_cache(maxsize=4096)
def sent_reversed(address: str) -> bytes:
    """Return an address as a `mac.le` field has it."""
    return sent(address)[::-1]


SPLIT = ("sign.int.cents", "tenths.sign.int")
"""Numbers of two bytes whose sign and parts stand apart; in big-endian formats."""


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
    blank: the raw value, signed where the type is, that means the same where other fields' values are blank too, which
    the format's `unmeasured` names.
    bits: (shift, width) of the part of an integer that counts.
    low_bit: (byte, bit) of one more, lowest bit, kept elsewhere.
    scale, offset: decimals as text; value = raw × scale + offset.
    invalid: the raw value that means "not available", unsigned as specifications write it.
    invalid_from: the first of the raw values that all mean it too, up to the highest; for unsigned types.
    lookup: the value of each raw value, where scale and offset cannot give it (logarithms); None is not available.
    """

    name: str
    at: int
    type: FieldType
    scale: str = "1"
    offset: str = "0"
    invalid: int | None = None
    invalid_from: int | None = None
    blank: int = 0
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
        return 2 if self.type in SPLIT else 6 if self.type in ADDRESSES else self.size

    @property
    def sentinel(self) -> int | None:
        """The raw value that means "not available", signed where the type is; the first one, where several do."""
        if self.invalid is None:
            return self.invalid_from
        if not self.type.startswith("i"):
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
        return None if self.lookup is not None or self.type in (*ADDRESSES, "bytes", "rest") else self.scale

    def raw_of(self, value: Value | None) -> int:
        """Return the raw integer nearest to `value`; for None that of "not available", or zero. Raises ValueError."""
        if value is None:
            if self.lookup is not None and None in self.lookup:
                return self.lookup.index(None)
            return self.blank if self.sentinel is None else self.sentinel
        if self.lookup is not None:
            known = [(abs(v - float(value)), raw) for raw, v in enumerate(self.lookup) if v is not None]
            return min(known)[1]
        raw = self.linear.raw(value)
        if raw == self.sentinel or (self.invalid_from is not None and raw >= self.invalid_from):
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
