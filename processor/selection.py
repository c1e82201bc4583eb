"""Which of the rejected records are meant: by reason, time of arrival, device, or their own names."""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from processor.decode import readings
from processor.decode.gateways import ALL, Known
from processor.decode.record import heard
from processor.errors import DecodeError, SettingsError
from processor.reading import Reading

Entry = Mapping[str, Any]
"""A line of quarantine, or one of `Quarantine.entries`."""


@dataclass(frozen=True)
class Selection:
    """Rejected records that fit everything that is said; nothing said, all of them.

    reasons: of the rejections (`timestamp`, `key`, …). start, end: when the record arrived in the stream, ms since
    1970, the end not included. device: an address in its one spelling; a record that cannot be opened is of no device.
    records: (shard, sequence number as an integer).
    """

    reasons: frozenset[str] = frozenset()
    start: int | None = None
    end: int | None = None
    device: str | None = None
    records: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def of_names(cls, names: Iterable[str], **others: Any) -> Self:
        """Return the selection of records named SHARD:SEQUENCE. Raises SettingsError for what is no such name."""
        return cls(records=frozenset(map(_name, names)), **others)

    def rejections(self, entry: Entry, known: Known = ALL) -> list[dict[str, Any]]:
        """Return those of a record's rejections that are meant. known: what is known of the gateways."""
        if not self.around(entry["arrived_at"]):
            return []
        if self.records and (entry["shard"], int(entry["sequence_number"])) not in self.records:
            return []
        found = [each for each in entry["rejected"] if not self.reasons or each["reason"] in self.reasons]
        if not found or self.device is None:
            return found
        devices = devices_of(entry["data"], entry["arrived_at"], known)
        everybody = frozenset().union(*devices)
        return [each for each in found if self.device in _at(devices, each["index"], everybody)]

    def around(self, arrived: int) -> bool:
        """Tell whether the time of arrival is meant."""
        return (self.start is None or self.start <= arrived) and (self.end is None or arrived < self.end)


def devices_of(data: str, arrived: int, known: Known = ALL) -> list[frozenset[str]]:
    """Return, for each advertisement of a record (Base64), the devices it can be of; none where it cannot be opened."""
    try:
        return [_devices(each) for each in heard(a2b_base64(data), arrived, known)]
    except (DecodeError, Base64Error):
        return []


def _devices(each: Any) -> frozenset[str]:
    if isinstance(each, DecodeError):
        return frozenset()
    if isinstance(each, Reading):
        return frozenset((each.device,))
    if each.address is not None:
        return frozenset((each.address,))
    with suppress(DecodeError):  # the payload itself may say whose it is
        return frozenset(reading.device for reading in readings(each.data, None, each.at))
    return frozenset()


def _at(devices: list[frozenset[str]], index: int | None, everybody: frozenset[str]) -> frozenset[str]:
    return devices[index] if index is not None and index < len(devices) else everybody


def _name(text: str) -> tuple[str, int]:
    shard, _, number = text.rpartition(":")
    if not shard or not number.isdecimal():
        raise SettingsError(f"{text!r} names no record: it takes SHARD:SEQUENCE, as `processor quarantine` lists them")
    return shard, int(number)
