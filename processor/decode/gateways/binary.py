"""Our own compact binary frame, for home-made gateways.

The byte table is in README.md beside this file. The frame carries ages, not times, so that a gateway needs no clock.
It has no checksum: TCP, UDP and every Bluetooth packet have one already.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from processor.decode.gateways.heard import RSSI_UNKNOWN, Advertisement, Heard, mac_of, with_error
from processor.errors import DecodeError

VERSION = 1
"""The first byte. Whatever follows must not look like JSON or Base64 either: below 32, and not 9, 10 or 13."""

AGE_UNKNOWN = 0xFFFF
NO_ADDRESS = bytes(6)
MAX_COUNT = 255

_HEAD = Struct(">6sbHB")  # address, RSSI, age, length of the data
_unpack = _HEAD.unpack_from


def advertisements(data: bytes, at: int, imsi: str | None) -> Heard:
    """Return the advertisements of one or several frames; `at` is when they were sent, in ms since 1970.

    A frame that is cut off (TCP splits and joins) gives the advertisements before the cut and one DecodeError for
    the rest: what arrived whole is stored now, and the error sends the record to quarantine, so nothing is
    lost in silence. Raises DecodeError where not even one advertisement comes before the fault.
    """
    found: Heard = []
    place, end = 0, len(data)
    while place < end:
        start = place
        if data[place] != VERSION:
            message = f"neither JSON nor a frame of version {VERSION}: it starts with {data[place]}"
            return with_error(found, DecodeError("version", message, where="binary", offset=start, payload=data))
        count = data[place + 1] if place + 1 < end else 1
        place += 2
        for index in range(count):
            after = place + _HEAD.size
            if after <= end:
                mac, rssi, age, length = _unpack(data, place)
                after += length
            if after > end:
                message = f"the frame ends within advertisement {index + 1} of {count}"
                return with_error(found, DecodeError("truncated", message, where="binary", offset=place, payload=data))
            found.append(
                Advertisement(
                    None if mac == NO_ADDRESS else mac.hex(":").upper(),
                    None if rssi == RSSI_UNKNOWN else rssi,
                    at if age == AGE_UNKNOWN else at - age,
                    data[after - length : after],
                    imsi,
                )
            )
            place = after
    return found


def encode(heard: Iterable[Advertisement], sent_at: int) -> bytes:
    """Return the frames, of up to 255 advertisements each, that a gateway sends at `sent_at` (ms since 1970).

    An advertisement older than 65,534 ms goes with its age unknown. Raises ValueError for data beyond 255 bytes.
    """
    heard = list(heard)
    frames = bytearray()
    for start in range(0, len(heard), MAX_COUNT):
        frame = heard[start : start + MAX_COUNT]
        frames += bytes((VERSION, len(frame)))
        for address, rssi, at, data, _ in frame:
            if len(data) > 255:
                raise ValueError(f"a frame holds at most 255 bytes of advertisement data, not {len(data)}")
            age = min(max(sent_at - at, 0), AGE_UNKNOWN)
            frames += _HEAD.pack(mac_of(address), RSSI_UNKNOWN if rssi is None else rssi, age, len(data)) + data
    return bytes(frames)
