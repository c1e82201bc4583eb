"""What a gateway heard: `Advertisement`, when it was measured, and the fields that gateways share."""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import orjson

from processor.decode.envelope import MAX_BROKEN, kept, too_many
from processor.errors import DecodeError
from processor.reading import Reading
from processor.reading import address as canonical

MAX_AHEAD = 60_000
"""How far ahead of the envelope, in ms, a time without a send time may lie before it is disbelieved."""

RSSI_UNKNOWN = 127
"""Bluetooth's own "not available" (Core Specification, Vol 4, Part E, 7.7.65)."""

_SECONDS_BELOW = 10**11  # as seconds the year 5138, as milliseconds 1973: what is below counts seconds
_MILLISECONDS_BELOW = 10**14
_SET = 10**12  # ms: September 2001; a clock that says less was never set
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?")
_MAX_NAME = 64  # a gateway's name becomes a key in the table

Item = TypeVar("Item")


class Advertisement(NamedTuple):
    """One advertisement as a gateway heard it.

    address: the sensor's, in its one spelling; None where the gateway does not say and the payload must.
    rssi: dBm, None where unknown. at: when it was measured, in ms since 1970.
    data: its AD structures. gateway: the gateway's own address or name, else the IMSI of its SIM.
    """

    address: str | None
    rssi: int | None
    at: int
    data: bytes
    gateway: str | None = None


Heard = list[Advertisement | Reading | DecodeError]
"""What a record holds, in order: advertisements, Readings where the gateway decoded them itself, and in the place of
what cannot be read its DecodeError."""


def measured_at(envelope_at: int, sent_at: int | None, advertised_at: int | None) -> int:
    """Return when an advertisement was measured, in ms since 1970.

    envelope_at is Funnel's clock; sent_at and advertised_at are the gateway's, which may be wrong by years: of
    both together only the difference counts. Without a send time a past time is taken as it is, and one more
    than a minute ahead of the envelope is replaced by the envelope's.
    """
    if advertised_at is None:
        return envelope_at
    if sent_at is not None:
        return envelope_at - (sent_at - advertised_at)
    return envelope_at if advertised_at > envelope_at + MAX_AHEAD else advertised_at


def kept_at(envelope_at: int, reported_at: int | None, advertised_at: int | None) -> int:
    """Return when an advertisement was measured, told by a gateway that may send it much later, in ms since 1970.

    Such a gateway's own time is kept, however old; one ahead of the envelope is replaced by it. Before 2001 the
    clock was never set and counts from the gateway's start: then only the age against `reported_at`, the same
    clock's time of the report, means anything, and without that the envelope's time is taken.
    """
    if advertised_at is None or advertised_at >= _SET:
        return measured_at(envelope_at, None, advertised_at)
    if reported_at is None or not 0 <= reported_at - advertised_at < _SET:
        return envelope_at
    return envelope_at - (reported_at - advertised_at)


def with_error(found: Heard, error: DecodeError) -> Heard:
    """Return what was read before a fault, and the fault; raise it where there was nothing."""
    if not found:
        raise error
    found.append(kept(error))
    return found


_READ = frozenset((Advertisement, Reading))
"""The types of what can be read: entries of no other need not be looked at one by one."""


class Gathered(Heard):
    """A Heard that grows while a payload is read, and that counts what could not be read: it ends after MAX_BROKEN."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = 0

    def refuse(self, error: DecodeError) -> None:
        """Leave an error in the place of what cannot be read.

        Raises the DecodeError that stands for the rest where so many were left that it is not to be read.
        """
        self.append(kept(error))
        self.broken += 1
        if self.broken == MAX_BROKEN:
            raise too_many("gateway")

    def take(self, entries: Heard) -> None:
        """Add what an item says. Raises as `refuse` does: the errors that an item's own entries left count too."""
        if _READ.issuperset(map(type, entries)):
            self += entries
            return
        for entry in entries:
            if isinstance(entry, DecodeError):
                self.refuse(entry)
            else:
                self.append(entry)


def collect(items: Iterable[Item], read: Callable[[Item], Heard]) -> Heard:
    """Read each item; one that cannot be read leaves its DecodeError in its place.

    Those that an item's own entries left count too: after MAX_BROKEN of them the rest is refused as one.
    """
    found = Gathered()
    try:
        for item in items:
            try:
                entries = read(item)
            except DecodeError as error:
                found.refuse(error)
            else:
                if len(entries) == 1 and type(entries[0]) is Advertisement:  # as of nearly every gateway
                    found += entries
                else:
                    found.take(entries)
    except DecodeError as error:
        found.append(kept(error))
    return found


def refusal(reason: str, message: str, where: str, value: Any) -> DecodeError:
    """Return a DecodeError about a piece of JSON."""
    try:
        payload = orjson.dumps(value)
    except orjson.JSONEncodeError:  # nothing that JSON can hold
        payload = b""
    return DecodeError(reason, message, where=where, payload=payload)


def address_in(value: Any, where: str) -> str | None:
    """Return a sensor's address in its one spelling; None where the gateway says none."""
    if value is None or value == "":
        return None
    found = address_if(value)
    if found is None:
        raise refusal("address", "not a Bluetooth address of 12 hexadecimal digits", where, value)
    return found


def address_if(value: Any) -> str | None:
    """Return an address in its one spelling; None for what is not an address."""
    return _address(value) if type(value) is str and len(value) <= _MAX_NAME else None


def gateway_in(value: Any, imsi: str | None, where: str) -> str | None:
    """Return a gateway's address, or its name if that is no address; the IMSI where it says neither."""
    if value is None or value == "":
        return imsi
    if type(value) is str and len(value) <= _MAX_NAME:
        return _address(value) or value
    raise refusal("gateway", f"a gateway's address or name is text of at most {_MAX_NAME} characters", where, value)


@lru_cache(4096)  # a fleet's addresses come again and again
def _address(text: str) -> str | None:
    try:
        return canonical(text)
    except DecodeError:
        return None


def mac_of(address: str | None) -> bytes:
    """Return an address's six bytes, most significant first; zeros for None. For encoders."""
    return bytes(6) if address is None else bytes.fromhex(address.replace(":", ""))


def digits_of(address: str | None) -> str | None:
    """Return an address as twelve hexadecimal digits. For encoders."""
    return None if address is None else address.replace(":", "")


def iso_of(at: int) -> str:
    """Return a time in ms since 1970 as ISO 8601 text in UTC, to the millisecond. For encoders."""
    moment = _EPOCH + timedelta(milliseconds=at)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def rssi_in(value: Any, where: str) -> int | None:
    """Return an RSSI in dBm; None where there is none or it says 127, "not available"."""
    if type(value) is int and -128 <= value < RSSI_UNKNOWN:  # as nearly every gateway says it
        return value
    if value is None:
        return None
    if type(value) is str and _DECIMAL.fullmatch(value):
        value = float(value)
    if (type(value) is int or type(value) is float) and -128 <= value <= RSSI_UNKNOWN:
        return None if value == RSSI_UNKNOWN else round(value)
    raise refusal("rssi", "an RSSI is a number from -128 to 127", where, value)


def data_in(value: Any, where: str) -> bytes:
    """Return AD structures from hexadecimal text."""
    if type(value) is str:
        try:
            return bytes.fromhex(value)
        except ValueError:
            pass
    raise refusal("data", "the advertisement's data is hexadecimal text", where, value)


def data_or_base64_in(value: Any, where: str) -> bytes:
    """Return AD structures from hexadecimal text, or from Base64 text that could not be hexadecimal."""
    if type(value) is str:
        try:
            return bytes.fromhex(value)
        except ValueError:
            pass
        try:
            return bytes.fromhex(value[2:]) if value.startswith("0x") else a2b_base64(value, strict_mode=True)
        except ValueError:
            pass
    raise refusal("data", "the advertisement's data is hexadecimal or Base64 text", where, value)


def time_in(value: Any, where: str) -> int | None:
    """Return a gateway's time in ms since 1970; None where it says none.

    Takes seconds or milliseconds (a number or its text) or ISO 8601 text with its zone. A clock that was never
    set counts from the gateway's start: that is a time too, and its difference from the send time is right.
    """
    if type(value) is int and _SECONDS_BELOW <= value < _MILLISECONDS_BELOW:  # as nearly every gateway says it
        return value
    if value is None:
        return None
    number = value
    if type(value) is str:
        if not _DECIMAL.fullmatch(value):
            return _iso(value, where)
        number = float(value) if "." in value else int(value)
    if type(number) is int or type(number) is float:
        if -_SECONDS_BELOW < number < _SECONDS_BELOW:
            return round(number * 1000)
        if -_MILLISECONDS_BELOW < number < _MILLISECONDS_BELOW:
            return round(number)
    raise refusal("timestamp", "not a time in seconds, in milliseconds or in ISO 8601", where, value)


def _iso(text: str, where: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return (moment - _EPOCH) // timedelta(milliseconds=1)
    except ValueError:
        pass
    raise refusal("timestamp", "neither a number nor ISO 8601 with its zone (2026-11-01T00:00:00Z)", where, text)
