"""Formats that no table of fields can hold: several values in one number, or fields that come and go.

Their modules read and write them by hand; what `processor formats` lists of them is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from processor.decode.fields import Decoded
from processor.decode.short import HEAD, Alone, Say, Whole, alone_of, whole_of
from processor.reading import Value


@dataclass(frozen=True)
class Custom:
    """A format read and written by hand.

    `decode` takes the payload; it raises DecodeError. `write` gives the payload that says some values; it raises
    ValueError where one does not fit. `resolutions` has the step of each quantity, None for what has no constant one.

    Of a format that has a short way, `length` and its first byte are what tell it, as of a `Format`, and `say` takes
    (data, where the payload starts) to the values; None leaves it to `decode`.
    """

    name: str
    source: str
    resolutions: Mapping[str, str | None]
    decode: Callable[[bytes], Decoded]
    write: Callable[[Mapping[str, Value]], bytes]
    counter: str | None = None
    encrypted: bool = False
    length: int = 0
    magic: bytes = b""
    say: Say | None = None
    products: str = ""
    """Which devices send it."""

    fields: ClassVar[tuple[()]] = ()
    """No rows."""

    def compile_whole(self, head: int = HEAD) -> Whole:
        """Return the short way from an advertisement to its Reading, as `Format.compile_whole` does."""
        if self.say is None:
            raise ValueError(f"{self.name} has no short way")
        return whole_of(self.name, self.say, head)

    def compile_alone(self, size: int) -> Alone:
        """Return the short way from an advertisement of nothing else, as `Format.compile_alone` does."""
        if self.say is None:
            raise ValueError(f"{self.name} has no short way")
        return alone_of(self.name, self.say, size)

    @property
    def starts(self) -> list[bytes]:
        """What its first byte can be."""
        return [self.magic[:1]]

    def encode(self, values: Mapping[str, Value], *, address: str | None = None) -> bytes:  # noqa: ARG002
        """Return the payload that says `values`; what is missing is encoded as not available. Raises ValueError."""
        try:
            return self.write(values)
        except OverflowError as error:
            raise ValueError(f"{self.name}: a value does not fit: {error}") from None
