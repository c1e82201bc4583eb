"""BTHome v2, plain and encrypted: service data of UUID 0xFCD2.

Source: bthome.io, "Format" and "Encryption" (github.com/home-assistant/bthome.io, src/format.html and encryption.html).
Ids 0x3B and 0x60 to 0x65 and the factor of 0x5F are of 2025 and 2026: pull requests 58, 62, 68, 71 and 75 there and
github.com/Bluetooth-Devices/bthome-ble 3.25, with which every id was compared.

The device information byte: bit 0 encrypted, bit 1 the address follows (older senders; reserved by now), bit 2 the
device only sends when something happens, bits 5 to 7 the version. Bit 2 says nothing of a measurement: it is not used.

What identifies a measurement is the packet id, where there is one: the specification gives every change of data a new
one and every repeat the same. The encryption counter, taken where there is none, rises with every advertisement: a
repeat encrypted anew has another. So the reading's digest is that of the decrypted objects; a button's press that is
sent five times, encrypted five times, is one press.
"""

from __future__ import annotations

from collections.abc import Mapping

from processor.decode.encryption import MIC, decrypt, encrypt
from processor.decode.fields import Decoded, Format
from processor.decode.objects import Object, ObjectFormat
from processor.errors import DecodeError, KeyMissing
from processor.reading import Value, address_of

UUID = 0xFCD2
VERSION = 2
ENCRYPTED, ADDRESS, TRIGGERED = 1, 2, 4
COUNTER = 4
"""Bytes of the encryption counter."""

BUTTON = {
    0x00: "", 0x01: "press", 0x02: "double_press", 0x03: "triple_press", 0x04: "long_press",
    0x05: "long_double_press", 0x06: "long_triple_press", 0x80: "hold_press", 0x81: "hold_release",
    0xFE: "hold_press",  # Shelly BLU before firmware 1.0.20: shelly-api-docs.shelly.cloud/docs-ble
}  # fmt: skip
DIMMER = {0x00: "", 0x01: "rotate_left", 0x02: "rotate_right"}
COMMAND = {0x00: "off", 0x01: "on", 0x02: "toggle", 0x03: "step_up", 0x04: "step_down"}

BTHOME = ObjectFormat(
    name="bthome.2", source="bthome.io, format v2", counter="packet_id", encrypted=True,
    products="any of BTHome v2: Shelly BLU, pvvx firmware, ESPHome and home-made ones",
    objects=(
        Object(0x00, "packet_id", "u8"),
        Object(0x01, "battery", "u8"),
        Object(0x02, "temperature", "i16", "0.01"),
        Object(0x03, "humidity", "u16", "0.01"),
        Object(0x04, "pressure", "u24"),  # 0.01 hPa
        Object(0x05, "illuminance", "u24", "0.01"),
        Object(0x06, "mass", "u16", "0.01"),
        Object(0x07, "mass_lb", "u16", "0.01"),
        Object(0x08, "dew_point", "i16", "0.01"),
        Object(0x09, "count", "u8"),
        Object(0x0A, "energy", "u24", "0.001"),
        Object(0x0B, "power", "u24", "0.01"),
        Object(0x0C, "battery_voltage", "u16", "0.001"),
        Object(0x0D, "pm2_5", "u16"),
        Object(0x0E, "pm10", "u16"),
        Object(0x0F, "generic_boolean", "flag"),
        Object(0x10, "power_on", "flag"),
        Object(0x11, "opening", "flag"),
        Object(0x12, "co2", "u16"),
        Object(0x13, "tvoc", "u16"),
        Object(0x14, "moisture", "u16", "0.01"),
        Object(0x15, "battery_low", "flag"),
        Object(0x16, "battery_charging", "flag"),
        Object(0x17, "carbon_monoxide", "flag"),
        Object(0x18, "cold", "flag"),
        Object(0x19, "connectivity", "flag"),
        Object(0x1A, "door", "flag"),
        Object(0x1B, "garage_door", "flag"),
        Object(0x1C, "gas_detected", "flag"),
        Object(0x1D, "heat", "flag"),
        Object(0x1E, "light", "flag"),
        Object(0x1F, "unlocked", "flag"),  # "lock", where 1 is unlocked
        Object(0x20, "moisture_detected", "flag"),
        Object(0x21, "motion", "flag"),
        Object(0x22, "moving", "flag"),
        Object(0x23, "occupancy", "flag"),
        Object(0x24, "plug", "flag"),
        Object(0x25, "presence", "flag"),
        Object(0x26, "problem", "flag"),
        Object(0x27, "running", "flag"),
        Object(0x28, "safety", "flag"),  # 1 is safe
        Object(0x29, "smoke", "flag"),
        Object(0x2A, "sound", "flag"),
        Object(0x2B, "tamper", "flag"),
        Object(0x2C, "vibration", "flag"),
        Object(0x2D, "window", "flag"),
        Object(0x2E, "humidity", "u8"),
        Object(0x2F, "moisture", "u8"),
        Object(0x3A, "button", "event", events=BUTTON),
        Object(0x3B, "command", "command", events=COMMAND),
        Object(0x3C, "dimmer", "steps", events=DIMMER),
        Object(0x3D, "count", "u16"),
        Object(0x3E, "count", "u32"),
        Object(0x3F, "rotation", "i16", "0.1"),
        Object(0x40, "distance", "u16", "0.001"),  # mm
        Object(0x41, "distance", "u16", "0.1"),
        Object(0x42, "duration", "u24", "0.001"),
        Object(0x43, "current", "u16", "0.001"),
        Object(0x44, "speed", "u16", "0.01"),
        Object(0x45, "temperature", "i16", "0.1"),
        Object(0x46, "uv_index", "u8", "0.1"),
        Object(0x47, "volume", "u16", "0.1"),
        Object(0x48, "volume", "u16", "0.001"),  # mL
        Object(0x49, "volume_flow_rate", "u16", "0.001"),
        Object(0x4A, "battery_voltage", "u16", "0.1"),
        Object(0x4B, "gas", "u24", "0.001"),
        Object(0x4C, "gas", "u32", "0.001"),
        Object(0x4D, "energy", "u32", "0.001"),
        Object(0x4E, "volume", "u32", "0.001"),
        Object(0x4F, "water", "u32", "0.001"),
        Object(0x50, "timestamp", "u32"),
        Object(0x51, "acceleration", "u16", "0.001"),
        Object(0x52, "gyroscope", "u16", "0.001"),
        Object(0x53, "text", "text"),
        Object(0x54, "raw", "raw"),
        Object(0x55, "volume_storage", "u32", "0.001"),
        Object(0x56, "conductivity", "u16"),
        Object(0x57, "temperature", "i8"),
        Object(0x58, "temperature", "i8", "0.35"),
        Object(0x59, "count", "i8"),
        Object(0x5A, "count", "i16"),
        Object(0x5B, "count", "i32"),
        Object(0x5C, "power", "i32", "0.01"),
        Object(0x5D, "current", "i16", "0.001"),
        Object(0x5E, "direction", "u16", "0.01"),
        Object(0x5F, "precipitation", "u16", "0.1"),  # 1 until May 2025
        Object(0x60, "channel", "u8"),
        Object(0x61, "rotational_speed", "u16"),
        Object(0x62, "speed", "i32", "0.000001"),
        Object(0x63, "acceleration", "i32", "0.000001"),
        Object(0x64, "light_level", "u8"),  # 0 dark, 1 twilight, 2 bright
        Object(0x65, "settings_revision", "u8"),
        Object(0xF0, "device_type_id", "u16"),
        Object(0xF1, "firmware_version", "version", size=4),
        Object(0xF2, "firmware_version", "version", size=3),
    ),
)  # fmt: skip

FORMATS = (BTHOME,)
_NAME = BTHOME.name
_read = BTHOME.compile()
_new = tuple.__new__
_PLAIN = frozenset(byte for byte in range(256) if byte >> 5 == VERSION and not byte & (ENCRYPTED | ADDRESS))
"""Device information bytes after which the objects come."""


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode BTHome's service data, after the UUID. None for another version than 2.

    Raises KeyMissing for an encrypted payload of a device that has no key in `keys`, DecodeError (`key`) where its
    key does not fit and (`address`) where nobody gives its address, which decryption needs.
    """
    if data and data[0] in _PLAIN:
        values = _read(data, 1)
        return _new(Decoded, (_NAME, values, values.get("packet_id"), None, None))
    if not data:
        raise DecodeError("length", "no device information byte", where=_NAME, payload=data)
    if data[0] >> 5 != VERSION:
        return None
    own, start = None, 1
    if data[0] & ADDRESS:
        start = 7
        if len(data) < start:
            raise DecodeError("truncated", "the address is cut off", where=_NAME, offset=1, payload=data)
        own = address_of(data[6:0:-1])
    if not data[0] & ENCRYPTED:
        values = _read(data, start)
        return Decoded(_NAME, values, _packet_id(values), own)
    plain, counter = _decrypt(data, start, own or address, keys)
    values = _read(plain, 0)
    packet_id = _packet_id(values)
    return Decoded(_NAME, values, counter if packet_id is None else packet_id, own, plain)


def table_of(data: bytes) -> Format | None:
    """Return the layout of service data, after the UUID, that are like these, which `decode` has read in the clear."""
    start = 7 if data[0] & ADDRESS else 1
    return BTHOME.table_of(data, start, range(1, start))


def encode(
    values: Mapping[str, Value],
    *,
    address: str | None = None,
    key: bytes | None = None,
    counter: int = 0,
    triggered: bool = False,
) -> bytes:
    """Return the service data that says `values`, as ObjectFormat.write does; encrypted where there is a `key`.

    Encryption takes the device's `address` and a `counter` that must never come twice under one key.
    """
    information = VERSION << 5 | (TRIGGERED if triggered else 0)
    plain = BTHOME.write(values)
    if key is None:
        return bytes([information]) + plain
    if address is None:
        raise ValueError(f"{_NAME}: encryption takes the device's address")
    information |= ENCRYPTED
    count = counter.to_bytes(COUNTER, "little")
    encrypted = encrypt(key, _nonce(address, information, count), plain)
    return bytes([information]) + encrypted[:-MIC] + count + encrypted[-MIC:]


def _packet_id(values: Mapping[str, Value]) -> int | None:
    found = values.get("packet_id")
    return None if found is None else int(found)


def _decrypt(data: bytes, start: int, address: str | None, keys: Mapping[str, bytes]) -> tuple[bytes, int]:
    """Return the decrypted objects, and the encryption counter."""
    end = len(data) - COUNTER - MIC
    if end < start:
        raise DecodeError(
            "truncated", f"{COUNTER} bytes of counter and {MIC} of MIC end an encrypted payload",
            where=_NAME, offset=start, payload=data,
        )  # fmt: skip
    if address is None:
        raise DecodeError(
            "address", "decryption takes the sensor's address: let the gateway send it", where=_NAME, payload=data
        )
    key = keys.get(address)
    if key is None:
        raise KeyMissing(address, where=_NAME, payload=data)
    count = data[end : end + COUNTER]
    plain = decrypt(key, _nonce(address, data[0], count), data[start:end] + data[end + COUNTER :], _NAME)
    return plain, int.from_bytes(count, "little")


def _nonce(address: str, information: int, counter: bytes) -> bytes:
    return bytes.fromhex(address.replace(":", "")) + UUID.to_bytes(2, "little") + bytes([information]) + counter
