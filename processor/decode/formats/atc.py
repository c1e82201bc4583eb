"""Custom firmware of Xiaomi's thermometers, ATC1441's and pvvx's formats, plain and encrypted: service data of 0x181A.

Source: github.com/pvvx/ATC_MiThermometer, README ("Bluetooth Advertising Formats") and src/custom_beacon.h and .c;
github.com/atc1441/ATC_MiThermometer for the first. The same firmware sends Xiaomi's and BTHome's formats too.

0x181A is the Environmental Sensing service, which others may use as they like, so a plain payload is taken only where
its address is the sender's, or nobody knows the sender's. Sensors that advertise what that service measures do it by
its characteristics' own UUIDs: gatt.py.

The byte counter counts measurements (sent for some seconds each). An encrypted payload holds no address: that of the
sender goes into the nonce, with the AD structure's own first bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from processor.decode.encryption import MIC, decrypt, encrypt
from processor.decode.field import sent, sent_reversed
from processor.decode.fields import Decoded, Field, Format
from processor.errors import DecodeError, KeyMissing
from processor.reading import Value

UUID = 0x181A
ASSOCIATED = b"\x11"
_SOURCE = "github.com/pvvx/ATC_MiThermometer, src/custom_beacon.h"
_BIT = (False, True)
_ATC = "LYWSD03MMC with ATC1441's firmware or pvvx's"
_PVVX = "LYWSD03MMC, MHO-C401, CGG1, CGDK2, MJWSD05MMC and others with pvvx's firmware"


class EncryptedFormat(Format):
    """The table of what an encrypted payload decrypts to; its counter is sent in front of it, in the clear."""

    encrypted = True


def _flags(at: int) -> tuple[Field, Field]:
    """Return the reed switch's or button's input, high or low, and the trigger's output."""
    return (
        Field("digital_input", at=at, type="u8", bits=(0, 1), lookup=_BIT),
        Field("digital_output", at=at, type="u8", bits=(1, 1), lookup=_BIT),
    )


ATC1441 = Format(
    name="atc1441", source="github.com/atc1441/ATC_MiThermometer, README", endian="big", length=13, magic=b"",
    products=_ATC,
    fields=(
        Field("address", at=0, type="mac"),
        Field("temperature", at=6, type="i16", scale="0.1"),
        Field("humidity", at=8, type="u8"),
        Field("battery", at=9, type="u8"),
        Field("battery_voltage", at=10, type="u16", scale="0.001"),
        Field("packet_id", at=12, type="u8"),
    ),
    counter="packet_id", sender=True,
)  # fmt: skip

_PVVX_FIELDS = (
    Field("address", at=0, type="mac.le"),
    Field("temperature", at=6, type="i16", scale="0.01"),
    Field("humidity", at=8, type="u16", scale="0.01"),
    Field("battery_voltage", at=10, type="u16", scale="0.001"),
    Field("battery", at=12, type="u8"),
    Field("packet_id", at=13, type="u8"),
)
PVVX = Format(
    name="pvvx", source=_SOURCE, endian="little", length=15, magic=b"", products=_PVVX,
    fields=(*_PVVX_FIELDS, *_flags(14)), counter="packet_id", sender=True,
)  # fmt: skip
PVVX_SHORT = Format(
    name="pvvx.short", source="github.com/pvvx/ATC_MiThermometer, src/custom_beacon.c (devices without a trigger)",
    endian="little", length=14, magic=b"", fields=_PVVX_FIELDS, counter="packet_id", sender=True,
    products="devices without a trigger, with pvvx's firmware",
)  # fmt: skip

PVVX_ENCRYPTED = EncryptedFormat(
    name="pvvx.encrypted", source=_SOURCE, endian="little", length=6, magic=b"", products=_PVVX,
    fields=(
        Field("temperature", at=0, type="i16", scale="0.01"),
        Field("humidity", at=2, type="u16", scale="0.01"),
        Field("battery", at=4, type="u8"),
        *_flags(5),
    ),
    counter="packet_id",
)  # fmt: skip
ATC1441_ENCRYPTED = EncryptedFormat(
    name="atc1441.encrypted", source=_SOURCE, endian="little", length=3, magic=b"", products=_PVVX,
    fields=(
        Field("temperature", at=0, type="u8", scale="0.5", offset="-40"),
        Field("humidity", at=1, type="u8", scale="0.5"),
        Field("battery", at=2, type="u8", bits=(0, 7)),
        Field("digital_output", at=2, type="u8", bits=(7, 1), lookup=_BIT),
    ),
    counter="packet_id",
)  # fmt: skip

PLAIN = (ATC1441, PVVX, PVVX_SHORT)
FORMATS = (*PLAIN, PVVX_ENCRYPTED, ATC1441_ENCRYPTED)

Read = Callable[[bytes, str | None], Decoded]


_PLAIN: dict[int, tuple[Read, Callable[[str], bytes]]] = {
    ATC1441.length: (ATC1441.compile(), sent),
    PVVX.length: (PVVX.compile(), sent_reversed),
    PVVX_SHORT.length: (PVVX_SHORT.compile(), sent_reversed),
}
"""By length: the decoder, and how the address is sent."""
_ENCRYPTED: dict[int, tuple[Format, Read]] = {
    1 + table.length + MIC: (table, table.compile()) for table in (PVVX_ENCRYPTED, ATC1441_ENCRYPTED)
}


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode service data of 0x181A, after the UUID. None for another length, or the address of another device.

    Raises KeyMissing for an encrypted payload of a device that has no key in `keys`, DecodeError (`key`) where its key
    does not fit and (`address`) where nobody gives its address, which decryption needs.
    """
    size = len(data)
    plain = _PLAIN.get(size)
    if plain is not None:
        read, mac = plain
        if address is not None and data[:6] != mac(address):
            return None
        return read(data, address)
    encrypted = _ENCRYPTED.get(size)
    if encrypted is None:
        return None
    table, read = encrypted
    if address is None:
        raise DecodeError(
            "address", "decryption takes the sensor's address: let the gateway send it", where=table.name, payload=data
        )
    key = keys.get(address)
    if key is None:
        raise KeyMissing(address, where=table.name, payload=data)
    opened = decrypt(key, _nonce(address, size, data[:1]), data[1:], table.name, ASSOCIATED)
    values = read(opened, address).values
    values["packet_id"] = counter = data[0]
    return Decoded(table.name, values, counter, None, opened)


def encode(table: Format, values: Mapping[str, Value], *, address: str, key: bytes | None = None) -> bytes:
    """Return the service data of one of FORMATS that says `values`; the encrypted ones take the device's `key`.

    Raises ValueError for a value that does not fit its field, or without a key where one is needed.
    """
    plain = table.encode(values, address=address)
    if not table.encrypted:
        return plain
    if key is None:
        raise ValueError(f"{table.name}: encryption takes the device's key")
    counter = bytes([int(values.get("packet_id", 0))])
    nonce = _nonce(address, 1 + len(plain) + MIC, counter)
    return counter + encrypt(key, nonce, plain, ASSOCIATED)


def _nonce(address: str, size: int, counter: bytes) -> bytes:
    """Return the address, least significant byte first, and the AD structure up to its counter."""
    return sent_reversed(address) + bytes([size + 3, 0x16]) + UUID.to_bytes(2, "little") + counter
