"""Gateways: what they send to the advertisements in it. One module for each family, told apart by shape.

README.md in this folder lists the families and specifies our own two. Which family sent a message is told by one byte
or a few keys, never by trying; a setting can say it instead (`Known`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from processor.decode.envelope import Envelope, Joined
from processor.decode.gateways import (
    aprilbrother,
    binary,
    cassia,
    hci,
    ingics,
    minew,
    moko,
    openblocks,
    plain,
    readings,
    ruuvi,
    teltonika,
    theengs,
)
from processor.decode.gateways.heard import Advertisement, Heard, collect, measured_at, refusal
from processor.decode.gateways.readings import Table
from processor.errors import DecodeError, SettingsError

__all__ = ["ALL", "FAMILIES", "Advertisement", "Heard", "Known", "advertisements", "measured_at"]

Document = Callable[[dict[str, Any], int, str | None], Heard]
"""Reads one JSON object: it, when it arrived (ms since 1970), the SIM's IMSI."""

Bytes = Callable[[bytes, int, str | None], Heard]
"""Reads a payload that is not JSON."""


def _plain(document: dict[str, Any], at: int, imsi: str | None) -> Heard:
    if "advertisements" in document:
        return plain.advertisements(document, at, imsi)
    return [plain.advertisement(document, at, imsi)]


def _ruuvi(document: dict[str, Any], at: int, imsi: str | None) -> Heard:
    data = document.get("data")
    if type(data) is dict:
        return ruuvi.posted(data, at, imsi)
    return [ruuvi.message(document, at, imsi)]


FAMILIES: dict[str, tuple[Document | None, Bytes | None]] = {
    "ruuvi": (_ruuvi, None),
    "plain": (_plain, None),
    "binary": (None, binary.advertisements),
    "minew": (None, minew.frames),  # and lists, which only it sends as one message
    "aprilbrother": (aprilbrother.posted, aprilbrother.packed),
    "theengs": (theengs.message, None),
    "moko": (moko.message, None),
    "cassia": (cassia.message, None),
    "ingics": (ingics.posted, ingics.lines),
    "openblocks": (openblocks.message, None),
    "teltonika": (None, teltonika.packets),
    "hci": (None, hci.events),
    "readings": (None, None),  # the table's own
}
"""How each family's JSON and its bytes are read."""

_FIRST_BYTES: dict[int, Bytes] = {
    0x00: teltonika.packets,
    hci.EVENT_PACKET: hci.events,
    hci.LE_META: hci.events,
    ord("$"): ingics.lines,
    minew.HEADER[0]: minew.frames,
    **dict.fromkeys((*range(0x80, 0x90), 0xDE, 0xDF), aprilbrother.packed),
}

_MARKS: tuple[tuple[str, Document], ...] = (
    ("gw_mac", _ruuvi),
    ("gwts", _ruuvi),
    ("advertisements", _plain),
    ("device_info", moko.message),
    ("devices", aprilbrother.posted),
    ("bdaddrs", cassia.message),
    ("action", cassia.message),
    ("servicedata", theengs.message),
    ("manufacturerdata", theengs.message),
)
"""Keys that only one family's messages have."""
_MARK_KEYS = frozenset(key for key, _ in _MARKS)

_DECODING: dict[str, tuple[str, tuple[str, ...]]] = {
    "theengs": ("id", ("servicedata", "manufacturerdata")),
    "openblocks": ("deviceId", ("data",)),
}
"""Families that send values instead of an advertisement too: the key of their sensors' ids, and the keys of raw data,
which count more than what our table knows."""


class Known(NamedTuple):
    """What is known of the gateways beforehand.

    table: what JSON that came decoded means. families: which family a SIM or an account has, by `imsi:295050000000001`,
    `imsi:29505*` or `operator:OP0012345678`; the longest that fits counts, an IMSI before an operator.
    """

    table: Table = readings.SHIPPED
    families: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, families: Mapping[str, str], table: bytes | None = None) -> Known:
        """Return what settings say: families by pattern, and the JSON of a table of readings to go before ours.

        Raises SettingsError for a family or a table that makes no sense.
        """
        for pattern, family in families.items():
            if family not in FAMILIES:
                raise SettingsError(f"GATEWAY_FAMILIES: {pattern} is one of {', '.join(FAMILIES)}, not {family!r}")
        longest_first = sorted(families.items(), key=lambda each: (not each[0].startswith("imsi:"), -len(each[0])))
        return cls(readings.SHIPPED if table is None else readings.table(table), tuple(longest_first))

    def family(self, envelope: Envelope) -> str | None:
        """Return the family that an envelope's payload is said to be of."""
        return _family(self.families, envelope.imsi, envelope.operator_id)


ALL = Known()
"""Nothing but what ships: every family told by its shape."""


@lru_cache(4096)  # a fleet's SIMs come again and again
def _family(families: tuple[tuple[str, str], ...], imsi: str | None, operator: str | None) -> str | None:
    for pattern, family in families:
        kind, _, rest = pattern.partition(":")
        value = imsi if kind == "imsi" else operator
        if value is not None and (value.startswith(rest[:-1]) if rest.endswith("*") else value == rest):
            return family
    return None


def advertisements(envelope: Envelope, known: Known = ALL) -> Heard:
    """Return what an envelope's payload says was heard, in order; a gateway that heard nothing gives an empty list.

    What the gateway decoded itself comes as Readings. An entry that cannot be read leaves a DecodeError in its place,
    so that the others are not lost with it. Raises DecodeError where the payload as a whole is of no family known here.
    """
    payload, at, imsi, _ = envelope
    if type(payload) is Joined:
        return collect(payload, lambda part: _part(part, envelope, known))
    if known.families:
        family = known.family(envelope)
        if family is not None:
            return _pinned(family, payload, at, imsi, known.table)
    if type(payload) is bytes:
        reader = _FIRST_BYTES.get(payload[0]) if payload else None
        if reader is None:
            reader = teltonika.packets if teltonika.is_datagram(payload) else binary.advertisements
        elif payload[0] == 0 and payload[:4] != bytes(4) and not teltonika.is_datagram(payload):
            reader = binary.advertisements
        return reader(payload, at, imsi)
    if type(payload) is list and (not payload or type(payload[0]) is dict):
        if payload and payload[0].get("type") == "Gateway":
            return minew.posted(payload, at, imsi, known.table)
        return collect(payload, lambda document: _document(document, at, imsi, known.table))
    return _document(payload, at, imsi, known.table)


def _document(document: Any, at: int, imsi: str | None, table: Table) -> Heard:
    """Read one JSON object: a whole message, or one advertisement of a plain list."""
    if type(document) is list and document and type(document[0]) is dict and document[0].get("type") == "Gateway":
        return minew.posted(document, at, imsi, table)
    if type(document) is not dict:
        raise refusal("shape", "no gateway known here sends this: see decode/gateways/README.md", "gateway", document)
    if table.own is not None:
        reading = table.own.reading(document, at, imsi)
        if reading is not None:
            return [reading]
    if not document.keys().isdisjoint(_MARK_KEYS):
        for key, reader in _MARKS:
            if key in document:
                return reader(document, at, imsi)
    if "data" in document:
        if "deviceId" in document:
            return openblocks.message(document, at, imsi)
        data = document["data"]
        if type(data) is dict:
            return ruuvi.posted(data, at, imsi)
        if type(data) is list and data and type(data[0]) is str:
            return ingics.posted(document, at, imsi)
        return [plain.advertisement(document, at, imsi)]
    reading = table.reading(document, at, imsi)
    if reading is not None:
        return [reading]
    if "mesh" in document:
        return _plain(document, at, imsi)
    if "id" in document and "mac_type" in document:  # who is near, and nothing else
        return theengs.message(document, at, imsi)
    raise refusal("shape", "no gateway known here sends this: see decode/gateways/README.md", "gateway", document)


def _pinned(family: str, payload: Any, at: int, imsi: str | None, table: Table) -> Heard:
    """Read a payload of a family that was said beforehand: what is of another one is refused."""
    _, read_bytes = FAMILIES[family]
    if type(payload) is bytes:
        if read_bytes is None:
            raise DecodeError("shape", f"{family} sends JSON, and this is not", where="gateway", payload=payload)
        return read_bytes(payload, at, imsi)
    if family == "minew" and type(payload) is list:
        return minew.posted(payload, at, imsi, table)
    if family == "readings":
        found: Iterable[Any] = payload if type(payload) is list else [payload]
        return collect(found, lambda document: [*table.readings(document, at, imsi)])
    if type(payload) is list:
        return collect(payload, lambda document: _of_family(family, document, at, imsi, table))
    return _of_family(family, payload, at, imsi, table)


def _of_family(family: str, document: Any, at: int, imsi: str | None, table: Table) -> Heard:
    reader, _ = FAMILIES[family]
    if reader is None or type(document) is not dict:
        raise refusal("shape", f"not what {family} sends, and this SIM was said to be of it", "gateway", document)
    if family in _DECODING:
        device, raw = _DECODING[family]
        asked = table if document.keys().isdisjoint(raw) else table.own
        reading = None if asked is None or device not in document else asked.reading(document, at, imsi)
        if reading is not None:
            return [reading]
    return reader(document, at, imsi)


def _part(part: Any, envelope: Envelope, known: Known) -> Heard:
    """Read one of several messages that came in one record."""
    if isinstance(part, DecodeError):
        raise part
    return advertisements(part if type(part) is Envelope else envelope._replace(payload=part), known)
