"""Fixed-layout formats: a `Format` is written as its specification is, a row per field, and compiled at import.

The table gives the decoder (compiler.py writes it), the encoder, and the row in the list of formats. Values are exact:
integers until the end, then one correctly rounded division, whose result prints as the exact decimal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from processor.decode.compiler import Addition, Compiler, Decoded
from processor.decode.field import ADDRESSES, HEX, NO_ADDRESS, Codec, Field, FieldType
from processor.decode.short import HEAD, Alone, Shortener, Whole
from processor.reading import Value

__all__ = ["HEX", "Codec", "Decoded", "Field", "FieldType", "Format"]

_BYTES = [bytes([byte]) for byte in range(256)]


@dataclass(frozen=True)
class Format:
    """A fixed-layout format.

    `magic` is what it starts with; `length` its length, magic included (the least one, where a `rest` field follows);
    `counter` names the field that identifies a measurement. `source` cites the specification.

    mask: the bits of `magic` that count, where not all do. sender: its address must be the sender's, or it is not of
    this format. models: what may be remembered of the sensors that send it, where nothing in it tells them.
    unmeasured: groups of quantities; none of a group is available where all its raw values are blank. essential: the
    quantity without which there is none, and no counter. passing: the field that changes although nothing was measured.
    check: looks at (payload, where it starts) and raises DecodeError, for a checksum. products: which devices send it.
    """

    name: str
    source: str
    endian: Literal["big", "little"]
    length: int
    magic: bytes
    fields: tuple[Field, ...]
    counter: str | None = None
    mask: bytes = b""
    sender: bool = False
    models: frozenset[str] = frozenset()
    unmeasured: tuple[tuple[str, ...], ...] = ()
    essential: str | None = None
    passing: str | None = None
    check: Callable[[bytes, int], object] | None = None
    products: str = ""

    encrypted = False
    """Whether it may come encrypted."""

    @property
    def resolutions(self) -> dict[str, str | None]:
        """Its quantities and the step of each; None for what has no constant one (texts, logarithms)."""
        return {field.name: field.resolution for field in self.fields if field.type not in ADDRESSES}

    @cached_property
    def passes(self) -> tuple[int, int]:
        """Where its `passing` field starts and ends; the end twice where it has none."""
        places = [(field.at, field.at + field.width) for field in self.fields if field.name == self.passing]
        return (*places, (self.length, self.length))[0]

    def compile(self) -> Callable[[bytes, str | None], Decoded]:
        """Return the decoder, of the payload and the address that the gateway gave.

        It raises DecodeError for a wrong length or a value out of its range. It does not look at the magic.
        """
        return Compiler(self).function()

    @property
    def starts(self) -> list[bytes]:
        """What its first byte can be."""
        if not self.magic:
            return _BYTES
        mask = self.mask[0] if self.mask else 0xFF
        return [byte for byte in _BYTES if byte[0] & mask == self.magic[0] & mask]

    def compile_whole(self, head: int = HEAD) -> Whole:
        """Return the short way from an advertisement to its Reading, or to None, as `Whole` says.

        head: the bytes of the AD structure before the payload.
        """
        return Shortener(self).whole(head)

    def compile_alone(self, size: int) -> Alone:
        """Return the short way from an advertisement of flags and one AD structure, `size` bytes, as `Alone` says."""
        return Shortener(self).alone(size)

    def compile_piece(self) -> Callable[[bytes, int], dict[str, Value]]:
        """Return the reader of a piece of a payload, which lies whole in it: (payload, where it starts) → values."""
        return Compiler(self).piece()

    def compile_addition(self, numbered: Callable[[str, Mapping[str, Value]], str]) -> Addition:
        """Return the same, but (payload, where it starts, values found before), to which it adds its own.

        numbered: (quantity, values found before) → its name where they have one of its name.
        """
        return Compiler(self).addition(numbered)

    def encode(self, values: Mapping[str, Value], *, address: str | None = None) -> bytes:
        """Return the payload that says `values`; what is missing is encoded as not available, else as zero.

        What the format has no field for is left out. Raises ValueError for a value that does not fit its field.
        """
        data = bytearray(self.length)
        data[: len(self.magic)] = self.magic
        for field in self.fields:
            if field.type in ADDRESSES:
                mac = bytes.fromhex(address.replace(":", "")) if address else NO_ADDRESS
                data[field.at : field.at + 6] = mac if field.type == "mac" else mac[::-1]
                continue
            value = values.get(field.name)
            try:
                field.write(data, value, self.endian)
            except (ValueError, OverflowError) as error:
                why = str(error) if isinstance(error, ValueError) else f"it does not fit {field.type}"
                raise ValueError(f"{self.name}: {field.name} cannot be {value!r}: {why}") from None
        return bytes(data)
