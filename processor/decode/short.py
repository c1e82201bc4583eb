"""The short ways from an advertisement to its Reading, for formats that their first bytes tell.

Compiled from the same tables as the decoders, and the same values: nothing is made on the way, not even the payload.
What a short way does not take, for which it says None, its maker's decoder does, and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from zlib import crc32

from processor.decode.compiler import Compiler, Decoded
from processor.decode.field import ADDRESSES, sent, sent_reversed
from processor.reading import Reading, Value

if TYPE_CHECKING:
    from processor.decode.fields import Format

HEAD = 4
"""The bytes of an AD structure before the payload: length, type, company identifier or UUID."""

BORROWED_HEAD = 2
"""The same where the payload has taken the place of the company identifier."""

DIGEST = 0xFFFFFF
"""The bits of a payload's CRC-32 that a reading's digest has."""

FLAGS = 3
"""The bytes of the AD structure of flags, most advertisements' first, which says nothing here."""

Whole = Callable[[bytes, int, int, str, "int | None", "str | None", "int | None"], "Reading | None"]
"""(advertisement, where the AD structure starts and ends, the sensor's address, the time, the gateway, the RSSI) → the
Reading; None where the payload says what is not allowed: the decoder of its maker's module knows more. What it raises,
that decoder would."""

Alone = Callable[
    [bytes, str, "int | None", Mapping[str, bytes], "str | None", "int | None"], "list[Reading] | None"
]  # fmt: skip
"""The same of an advertisement of nothing but flags and one AD structure: (advertisement, address, time, bindkeys by
address, gateway, RSSI) → its Readings. Its first eight bytes are known, and are not looked at again."""

_FEW = 3
"""So many bytes are read one by one sooner than unpacked."""


class Shortener(Compiler):
    """Writes a short way's source."""

    def __init__(self, format: Format) -> None:  # noqa: A002 - the noun
        super().__init__(format, own_address=format.sender)
        self.names |= {"Reading": Reading, "crc32": crc32, "sent": sent, "sent_reversed": sent_reversed}

    def whole(self, head: int) -> Whole:
        """Return the short way for a payload, `head` bytes into its AD structure, whose length and first byte fit."""
        found: Whole = self._run(
            "def decode(data, start, after, device, at, gateway, rssi):",
            *self._lines("start", head),
            f" return {self._reading('start', 'after', head)}",
        )
        return found

    def alone(self, size: int) -> Alone:
        """Return the same for an advertisement of `size` bytes in all, whose every byte has its place."""
        found: Alone = self._run(
            "def decode(data, device, at, keys, gateway, rssi):",
            f" if len(data) != {size}: return None",
            *self._lines(str(FLAGS), HEAD),
            f" return [{self._reading(str(FLAGS), str(size), HEAD)}]",
        )
        return found

    def _lines(self, start: str, head: int) -> list[str]:
        """Return the source that gives `values`, or returns None. start: a place, or its name."""
        payload = f"{start} + {head}"
        return [
            *(f" if {condition}: return None" for condition in self._unlike(start, head)),
            *([f" check(data, {payload})"] if self.format.check else []),
            *self._read(payload, known=start.isdecimal()),
            *(f" if {condition}: return None" for condition in self._strange()),
            *self._value_lines("return None"),
        ]

    def _read(self, payload: str, *, known: bool) -> list[str]:
        """Return the source that names the payload's pieces. known: whether their places are numbers."""
        if known and len(self.targets) <= _FEW and all(code == "B" or code[-1] == "x" for code in self.codes):
            return [f" {target} = data[{payload} + {target[1:]}]" for target in self.targets]
        return [f" {', '.join(self.targets)}, = unpack(data, {payload})"]

    def _unlike(self, start: str, head: int) -> list[str]:
        """Return the conditions under which the payload does not start as the format's does."""
        fmt = self.format
        first = 1 if head == HEAD else 0  # the first byte was looked up, unless it has a company identifier's place
        at, magic = f"{start} + {head + first}", fmt.magic[first:]
        if not fmt.mask:
            return [f"data[{at} : {start} + {head + len(fmt.magic)}] != {magic!r}"] if magic else []
        found = []
        for n, mask in enumerate(fmt.mask[first:]):
            before = fmt.mask[first + n - 1] if n else 0
            if mask == 0xFF and before != 0xFF:  # a run of bytes that count altogether
                size = len(fmt.mask[first + n :]) - len(fmt.mask[first + n :].lstrip(b"\xff"))
                found.append(f"{self._piece(f'{at} + {n}', f'{at} + {n + size}')} != {magic[n : n + size]!r}")
            elif mask not in (0, 0xFF):
                found.append(f"data[{at} + {n}] & {mask} != {magic[n] & mask}")
        return found

    def _strange(self) -> list[str]:
        """Return the condition under which the payload's own address is not the sender's, which it has to be."""
        if not self.format.sender:
            return []
        field = next(field for field in self.fields if field.type in ADDRESSES)
        return [f"w{field.at} != {'sent' if field.type == 'mac' else 'sent_reversed'}(device)"]

    def _reading(self, start: str, after: str, head: int) -> str:
        return (
            f'new(Reading, (device, at, "{self.format.name}", values, {self._counter()},'
            f" {self._digest(start, after, head)} & {DIGEST}, gateway, rssi))"
        )

    def _digest(self, start: str, after: str, head: int) -> str:
        """Return the source of the CRC of what identifies the measurement: the payload, without what passes."""
        begin, end = self.format.passes
        if begin == end:
            return f"crc32({self._piece(f'{start} + 2', after)})"
        payload = f"{start} + {head}"
        before = self._piece(payload, f"{payload} + {begin}")
        return f"crc32({self._piece(f'{payload} + {end}', after)}, crc32({before}))"

    def _piece(self, start: str, after: str) -> str:
        """Return the source of a piece of the advertisement; a slice that is known is made beforehand."""
        if not start[0].isdecimal():
            return f"data[{start} : {after}]"
        first, last = (sum(map(int, place.split(" + "))) for place in (start, after))
        self.names[f"bytes{first}_{last}"] = slice(first, last)
        return f"data[bytes{first}_{last}]"


Say = Callable[[bytes, int], "dict[str, Value] | None"]
"""(data, where the payload starts) → its values, or None."""

_new = tuple.__new__  # a NamedTuple's own constructor costs three times as much


def whole_of(name: str, say: Say, head: int) -> Whole:
    """Return the short way of a format read by hand."""
    crc, new = crc32, _new

    def decode(
        data: bytes, start: int, after: int, device: str, at: int | None, gateway: str | None, rssi: int | None
    ) -> Reading | None:
        values = say(data, start + head)
        if values is None:
            return None
        return new(Reading, (device, at, name, values, None, crc(data[start + 2 : after]) & DIGEST, gateway, rssi))

    return decode


def alone_of(name: str, say: Say, size: int) -> Alone:
    """Return the same for an advertisement of `size` bytes in all."""
    crc, new, first, measured = crc32, _new, FLAGS + HEAD, slice(FLAGS + 2, size)

    def decode(
        data: bytes,
        device: str,
        at: int | None,
        keys: Mapping[str, bytes],  # noqa: ARG001 - only what is encrypted needs them
        gateway: str | None,
        rssi: int | None,
    ) -> list[Reading] | None:
        if len(data) != size:
            return None
        values = say(data, first)
        if values is None:
            return None
        return [new(Reading, (device, at, name, values, None, crc(data[measured]) & DIGEST, gateway, rssi))]

    return decode


def nothing(
    data: bytes,
    device: str,  # noqa: ARG001
    at: int | None,  # noqa: ARG001
    keys: Mapping[str, bytes],  # noqa: ARG001
    gateway: str | None,  # noqa: ARG001
    rssi: int | None,  # noqa: ARG001
) -> list[Reading] | None:
    """Return that an advertisement of this start says nothing."""
    return [] if len(data) == data[FLAGS] + FLAGS + 1 else None


_ROWS = 4
"""So many rows of objects are told apart among advertisements that start alike."""
_left = iter(range(512))
"""So many rows are compiled at all: strangers send as many as they like."""


def row_by_row(decoder: Callable[..., Decoded | None], table_of: Callable[[bytes], Format | None]) -> Alone:
    """Return the shorter way of advertisements that start alike and hold objects: each row of them gets a table."""
    first, measured = slice(FLAGS + HEAD, None), slice(FLAGS + 2, None)
    ways: list[Alone] = []

    def read(
        data: bytes, device: str, at: int | None, keys: Mapping[str, bytes], gateway: str | None, rssi: int | None
    ) -> list[Reading] | None:
        for way in ways:
            found = way(data, device, at, keys, gateway, rssi)
            if found is not None:
                return found
        if len(data) != data[FLAGS] + FLAGS + 1:
            return None
        payload = data[first]
        decoded = decoder(payload, device, keys)
        if decoded is None:
            return None
        name, values, counter, _, plain = decoded
        if plain is None and len(ways) < _ROWS and next(_left, None) is not None:
            table = table_of(payload)
            ways.append(_no_way if table is None else table.compile_alone(len(data)))
        digest = crc32(data[measured] if plain is None else plain) & DIGEST
        return [_new(Reading, (device, at, name, values, counter, digest, gateway, rssi))]

    return read


def _no_way(*_: object) -> None:
    """Stand for a row of objects that has no table."""
