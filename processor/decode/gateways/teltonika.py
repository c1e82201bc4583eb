"""Teltonika trackers: the beacons in their AVL data (codec 8 extended, element 385).

Source: wiki.teltonika-gps.com, "Teltonika data sending protocols" (framing, records, CRC-16/IBM); element 385 as
traccar reads it (TeltonikaProtocolDecoder.java): a part number, then per beacon its flags, an iBeacon's or Eddystone's
identity, RSSI and, as flagged, two times two bytes whose units firmware versions disagree about, which are passed over.

The tracker sends neither addresses nor AD structures: a beacon is a Reading, its device named by what the
beacon says, `ibeacon:UUID.MAJOR.MINOR` or `eddystone:NAMESPACE.INSTANCE`. Trackers wait for a server's answer of
their own kind, which Funnel does not give: what comes here was relayed.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from uuid import UUID
from zlib import crc32

from processor.decode.gateways.heard import Gathered, Heard, kept_at, with_error
from processor.errors import DecodeError
from processor.reading import Reading, Value

TELTONIKA = "teltonika"
CODEC_8_EXTENDED = 0x8E
BEACONS = 385
IBEACON, EDDYSTONE = 0x21, 0x01  # flags; bit 0 says that the RSSI is there
_BATTERY, _TEMPERATURE = 0x02, 0x04

_TCP = Struct(">II")  # zeros, length
_UDP = Struct(">HHBBH")  # length, packet id, -, AVL packet id, length of the IMEI
_RECORD = Struct(">QB15xHH")  # timestamp, priority, (GPS), event, number of elements
_COUNT = Struct(">H")
_ELEMENT = Struct(">HH")  # id, length
_WIDTHS = (1, 2, 4, 8)


def is_datagram(data: bytes) -> bool:
    """Tell whether bytes are the tracker's own UDP framing: length, `01`, an IMEI's 15 digits, the codec."""
    return (
        len(data) > 24
        and data[0] << 8 | data[1] == len(data) - 2
        and data[4] == 1
        and data[6:8] == b"\0\x0f"
        and data[8:23].isdigit()
        and data[23] == CODEC_8_EXTENDED
    )


def packets(data: bytes, at: int, imsi: str | None) -> Heard:
    """Return the beacons, as Readings, of a UDP datagram or of one or several TCP packets.

    at: when they arrived, in ms since 1970. The gateway is the datagram's IMEI, else the SIM. Raises
    DecodeError where the first packet is cut off, is of another codec or fails its checksum.
    """
    found = Gathered()
    if is_datagram(data):
        try:
            _records(data, 23, len(data), at, data[8:23].decode("ascii"), found)
        except DecodeError as error:
            return with_error(found, error)
        return found
    place, end = 0, len(data)
    while place < end:
        try:
            first = place + _TCP.size
            zeros, length = _TCP.unpack_from(data, place) if first <= end else (0, 0)
            after = first + length
            if zeros:
                raise _error("header", "neither a datagram nor a packet: that starts with four zeros", place, data)
            if length < 3 or after + 4 > end:
                raise _error("truncated", "the packet ends before it is complete", place, data)
            if int.from_bytes(data[after : after + 4], "big") != crc16(data[first:after]):
                raise _error("checksum", "the packet's CRC-16 is another", place, data)
            _records(data, first, after, at, imsi, found)
        except DecodeError as error:
            return with_error(found, error)
        place = after + 4
    return found


def _records(data: bytes, start: int, end: int, at: int, gateway: str | None, found: Gathered) -> None:
    """Add the beacons of a packet's records, and an error for what follows them and makes no sense.

    Raises DecodeError where nothing comes before it, or too much could not be read.
    """
    codec, count = data[start], data[start + 1]
    if codec != CODEC_8_EXTENDED:
        raise _error("version", f"codec {codec:#x}: beacons come with codec 8 extended (0x8e)", start, data)
    before = len(found)
    place = start + 2
    fault = None
    for index in range(count):
        try:
            place = _record(data, place, end - 1, at, gateway, found)
        except IndexError:
            fault = _error("truncated", f"the packet ends within record {index + 1} of {count}", place, data)
            break
    else:
        if data[place] != count or place + 1 != end:
            fault = _error("length", "the records do not fill the packet", place, data)
    if fault is not None:
        if len(found) == before:
            raise fault
        found.refuse(fault)


def _record(data: bytes, place: int, end: int, at: int, gateway: str | None, found: Gathered) -> int:
    """Add a record's beacons; return where the next record starts. Raises IndexError where it reaches past the end."""
    first = place + _RECORD.size
    if first > end:
        raise IndexError
    timestamp = _RECORD.unpack_from(data, place)[0]
    place = first
    for width in _WIDTHS:
        if place + 2 > end:
            raise IndexError
        place += 2 + _COUNT.unpack_from(data, place)[0] * (2 + width)
    if place + 2 > end:
        raise IndexError
    (elements,) = _COUNT.unpack_from(data, place)
    place += 2
    for _ in range(elements):
        if place + 4 > end:
            raise IndexError
        element, length = _ELEMENT.unpack_from(data, place)
        start, place = place + 4, place + 4 + length
        if place > end:
            raise IndexError
        if element == BEACONS:
            _beacons(data[start:place], kept_at(at, None, timestamp), gateway, found)
    return place


def _beacons(element: bytes, at: int, gateway: str | None, found: Gathered) -> None:
    place = 1  # after the part's number
    while place < len(element):
        flags = element[place]
        known = 20 if flags >> 4 else 16
        after = place + 1 + known
        if after >= len(element):
            found.refuse(_error("truncated", "the element ends within a beacon", place, element))
            return
        identity = element[place + 1 : after]
        rssi = element[after]
        place = after + 1 + 2 * bool(flags & _BATTERY) + 2 * bool(flags & _TEMPERATURE)
        found.append(_reading(identity, at, gateway, rssi - 256 if rssi > 127 else rssi))


def _reading(identity: bytes, at: int, gateway: str | None, rssi: int) -> Reading:
    values: dict[str, Value]
    if len(identity) == 20:
        major, minor = int.from_bytes(identity[16:18], "big"), int.from_bytes(identity[18:], "big")
        values = {"uuid": str(UUID(bytes=identity[:16])), "major": major, "minor": minor}
        device, kind = f"ibeacon:{values['uuid']}.{major}.{minor}", "ibeacon"
    else:
        values = {"namespace": identity[:10].hex(), "instance": identity[10:].hex()}
        device, kind = f"eddystone:{values['namespace']}.{values['instance']}", "eddystone"
    digest = crc32(identity) & 0xFFFFFF
    return Reading(device, at, f"{TELTONIKA}.{kind}", values, None, digest, gateway, None if rssi == 127 else rssi)


def _error(reason: str, message: str, offset: int, data: bytes) -> DecodeError:
    return DecodeError(reason, message, where=TELTONIKA, offset=offset, payload=data)


def crc16(data: bytes) -> int:
    """Return CRC-16/IBM (ARC): polynomial A001, reflected, starting from zero."""
    crc = 0
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0xA001 if byte & 1 else 0)
    return byte


_CRC = tuple(map(_crc_of, range(256)))


def encode(beacons: Iterable[Reading], imei: str | None = None) -> bytes:
    """Return beacons, each in a record of its own, as TCP packets; as a UDP datagram where an IMEI is given.

    A packet holds at most 255 records. Raises ValueError for more in a datagram, or an IMEI of other than 15 digits.
    """
    records = [_encoded(beacon) for beacon in beacons]
    if imei is not None:
        if len(imei) != 15 or not imei.isdigit() or len(records) > 255:
            raise ValueError("a datagram has an IMEI of 15 digits and at most 255 records")
        body = _packet(records)
        return _UDP.pack(_UDP.size - 2 + 15 + len(body), 1, 1, 1, 15) + imei.encode() + body
    found = b""
    for start in range(0, len(records), 255):
        body = _packet(records[start : start + 255])
        found += _TCP.pack(0, len(body)) + body + crc16(body).to_bytes(4, "big")
    return found


def _packet(records: list[bytes]) -> bytes:
    return bytes((CODEC_8_EXTENDED, len(records))) + b"".join(records) + bytes((len(records),))


def _encoded(beacon: Reading) -> bytes:
    values = beacon.values
    if "uuid" in values:
        identity = UUID(str(values["uuid"])).bytes
        identity += int(values["major"]).to_bytes(2, "big") + int(values["minor"]).to_bytes(2, "big")
        flags = IBEACON
    else:
        identity = bytes.fromhex(f"{values['namespace']}{values['instance']}")
        flags = EDDYSTONE
    rssi = 127 if beacon.rssi is None else beacon.rssi
    element = bytes((0x11, flags)) + identity + bytes((rssi & 0xFF,))
    return (
        _RECORD.pack(beacon.at or 0, 0, BEACONS, 1)
        + bytes(8)
        + _COUNT.pack(1)
        + _ELEMENT.pack(BEACONS, len(element))
        + element
    )
