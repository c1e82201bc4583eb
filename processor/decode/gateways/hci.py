"""Raw HCI events, for gateways that pass on what their Bluetooth controller says.

Source: Bluetooth Core Specification 5.4, Vol 4, Part E: 5.4.4 (events), 7.7.65.2 (LE Advertising Report), 7.7.65.13
(LE Extended Advertising Report); Part A, 2 (the packet type 04 that a serial line puts before each event). Arrayed
parameters come report by report (5.2). Integers are little-endian. Events other than the two are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from processor.decode.advertisement import MAX_LENGTH
from processor.decode.gateways.heard import RSSI_UNKNOWN, Advertisement, Gathered, Heard, mac_of, with_error
from processor.errors import DecodeError

HCI = "hci"
EVENT_PACKET = 0x04
LE_META = 0x3E
ADVERTISING_REPORT, EXTENDED_ADVERTISING_REPORT = 0x02, 0x0D
ANONYMOUS = 0xFF
_MORE, _CUT = 1, 2  # Event_Type, bits 5 and 6: more data will come, or would have

_LEGACY = Struct("<BB6sB")  # Event_Type, Address_Type, Address, Data_Length; after the data, RSSI
_EXTENDED = Struct("<HB6sBBBbbHB6sB")  # … SID (5), TX_Power, RSSI (7), Periodic_…, Direct_…, Data_Length (11)
_MOST = 229  # bytes of data in one extended report


def events(data: bytes, at: int, imsi: str | None) -> Heard:
    """Return the advertisements of one or several events, each with its packet type or without.

    They carry no times: `at` is when they arrived, in ms since 1970. An advertisement reported in parts is put
    together again. Raises DecodeError where the first event is broken; what was whole before a fault is kept.
    """
    found = Gathered()
    parts: dict[tuple[str | None, int], bytes] = {}
    place, end = 0, len(data)
    while place < end:
        start = place
        if data[place] == EVENT_PACKET:
            place += 1
        if place + 2 > end or place + 2 + data[place + 1] > end:
            return with_error(found, _error("truncated", "the event ends before it is complete", start, data))
        code, length = data[place], data[place + 1]
        place += 2
        try:
            if code == LE_META and length > 1:
                if data[place] == ADVERTISING_REPORT:
                    _legacy(data, place, place + length, at, imsi, found)
                elif data[place] == EXTENDED_ADVERTISING_REPORT:
                    _extended(data, place, place + length, at, imsi, found, parts)
        except DecodeError as error:
            return with_error(found, error)
        place += length
    if parts:
        return with_error(found, _error("truncated", "an advertisement's last part is missing", end, data))
    return found


def _legacy(data: bytes, start: int, end: int, at: int, imsi: str | None, found: Heard) -> None:
    place = start + 2
    for index in range(data[start + 1]):
        first = place + _LEGACY.size
        if first > end:
            raise _error("truncated", f"the event ends within report {index + 1}", place, data)
        _, _, mac, length = _LEGACY.unpack_from(data, place)
        after = first + length
        if after >= end:
            raise _error("truncated", f"the event ends within report {index + 1}", place, data)
        found.append(Advertisement(_address(mac), _rssi(data[after]), at, data[first:after], imsi))
        place = after + 1


def _extended(
    data: bytes,
    start: int,
    end: int,
    at: int,
    imsi: str | None,
    found: Gathered,
    parts: dict[tuple[str | None, int], bytes],
) -> None:
    place = start + 2
    for index in range(data[start + 1]):
        first = place + _EXTENDED.size
        if first > end or first + data[first - 1] > end:
            raise _error("truncated", f"the event ends within report {index + 1}", place, data)
        event_type, kind, mac, _, _, sid, _, rssi, _, _, _, length = _EXTENDED.unpack_from(data, place)
        address = None if kind == ANONYMOUS else _address(mac)
        piece = data[first : first + length]
        if parts:
            piece = parts.pop((address, sid), b"") + piece
        status = event_type >> 5 & 3
        if status == _MORE:
            if len(piece) > MAX_LENGTH:
                raise _error("length", f"an advertisement has at most {MAX_LENGTH} bytes", place, data)
            parts[address, sid] = piece
        elif status == _CUT:
            found.refuse(_error("truncated", "the controller lost the rest of an advertisement", place, data))
        else:
            found.append(Advertisement(address, None if rssi == RSSI_UNKNOWN else rssi, at, piece, imsi))
        place = first + length


def _address(mac: bytes) -> str:
    return mac[::-1].hex(":").upper()


def _rssi(byte: int) -> int | None:
    return None if byte == RSSI_UNKNOWN else byte - 256 if byte > RSSI_UNKNOWN else byte


def _error(reason: str, message: str, offset: int, data: bytes) -> DecodeError:
    return DecodeError(reason, message, where=HCI, offset=offset, payload=data)


def encode(heard: Iterable[Advertisement]) -> bytes:
    """Return an LE Advertising Report with its packet type for each advertisement; an extended one where it has to be.

    That is where there are more than 31 bytes of data, or no address.
    """
    return b"".join(_encoded(each) for each in heard)


def _encoded(heard: Advertisement) -> bytes:
    address, rssi, _, data, _ = heard
    mac, strength = mac_of(address)[::-1], RSSI_UNKNOWN if rssi is None else rssi
    if len(data) <= 31 and address is not None:
        report = _LEGACY.pack(3, 1, mac, len(data)) + data + bytes((strength & 0xFF,))
        return _event(ADVERTISING_REPORT, report)
    pieces = [data[start : start + _MOST] for start in range(0, len(data), _MOST)] or [b""]
    kind = ANONYMOUS if address is None else 1
    reports = [
        _EXTENDED.pack(status << 5, kind, mac, 1, 0, 0, 127, strength, 0, 0, bytes(6), len(piece)) + piece
        for piece, status in zip(pieces, [_MORE] * (len(pieces) - 1) + [0], strict=True)
    ]
    return b"".join(_event(EXTENDED_ADVERTISING_REPORT, report) for report in reports)


def _event(subevent: int, report: bytes) -> bytes:
    return bytes((EVENT_PACKET, LE_META, len(report) + 2, subevent, 1)) + report
