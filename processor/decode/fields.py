"""Fixed-layout formats: a `Format` is written as its specification is, a row per field, and compiled at import.

The table gives the decoder (compiler.py writes it), the encoder, and the row in the list of formats. Values are exact:
integers until the end, then one correctly rounded division, whose result prints as the exact decimal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from processor.decode.compiler import Compiler, Decoded, Whole
from processor.decode.field import ADDRESSES, HEX, NO_ADDRESS, Codec, Field, FieldType
from processor.reading import Value

__all__ = ["HEX", "Codec", "Decoded", "Field", "FieldType", "Format"]


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
        return {field.name: field.resolution for field in self.fields if field.type not in ADDRESSES}

    def compile(self) -> Callable[[bytes, str | None], Decoded]:
        """Return the decoder, of the payload and the address that the gateway gave.

        It raises DecodeError for a wrong length or a value out of its range. It does not look at the magic.
        """
        return Compiler(self).function()

    def compile_whole(self) -> Whole:
        """Return the short way from an advertisement to its Reading, for payloads that say every value."""
        return Compiler(self).whole()

    def compile_piece(self) -> Callable[[bytes, int], dict[str, Value]]:
        """Return the reader of a piece of a payload, which lies whole in it: (payload, where it starts) → values."""
        return Compiler(self).piece()

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
