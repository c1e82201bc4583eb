"""Xiaomi MiBeacon, versions 2 to 5: service data of UUID 0xFE95. Versions 4 and 5 may be encrypted.

Source: Xiaomi, github.com/MiEcosystem/miio_open, ble/03 (MiBeacon protocol) for the frame;
github.com/Bluetooth-Devices/xiaomi-ble 1.21, parser.py for the encryption. The objects are in mibeacon_objects.py.

A frame: 2 bytes of frame control, the product, the frame counter; then, as the control says, the address (least
significant byte first), the capability (and 2 bytes of input and output capability where it says so), and objects.
Encrypted objects are followed by 3 bytes of a longer counter and the MIC. The frame counter is for telling repetitions,
five at least, from the next event or measurement.

Left out: version 1; frames of mesh devices; encryption as of versions 2 and 3, which nothing authenticates, so that a
wrong key would give wrong values.
"""

from __future__ import annotations

from collections.abc import Mapping

from processor.decode.encryption import MIC, decrypt, encrypt
from processor.decode.fields import Decoded, Field, Format
from processor.decode.formats.mibeacon_objects import OBJECTS
from processor.decode.tlv import TlvFormat
from processor.errors import DecodeError, KeyMissing
from processor.reading import Value, address_of

UUID = 0xFE95
ENCRYPTED, ADDRESS, CAPABILITY, OBJECT, MESH = 0x08, 0x10, 0x20, 0x40, 0x80
"""Bits of the frame control's low byte."""
IO_CAPABILITY = 0x20
COUNTER = 3
"""Bytes of the longer counter."""
ASSOCIATED = b"\x11"

MIBEACON = TlvFormat(
    name="mibeacon", source="github.com/MiEcosystem/miio_open, ble/03 and 04", objects=OBJECTS, id_size=2,
    counter="packet_id", encrypted=True, extra={"packet_id": "1"},
    products="LYWSDCGQ, LYWSD03MMC, MCCGQ02HL, MUE4094RT, RTCGQ02LM, SJWS02LM and others that xiaomi-ble 1.21 knows",
)  # fmt: skip

FORMATS = (MIBEACON,)
_NAME = MIBEACON.name
_read = MIBEACON.compile()
_new = tuple.__new__


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode MiBeacon's service data, after the UUID. None for what the module leaves out, or without objects.

    Raises KeyMissing for an encrypted frame of a device that has no key in `keys`, DecodeError (`key`) where its key
    does not fit and (`address`) where nobody gives its address, which decryption needs.
    """
    size = len(data)
    if size < 5:
        raise DecodeError("length", f"expected 5 bytes or more, got {size}", where=_NAME, payload=data)
    control, version = data[0], data[1] >> 4
    if not 2 <= version <= 5 or control & MESH or not control & OBJECT or (control & ENCRYPTED and version < 4):
        return None
    start, own = 5, None
    if control & ADDRESS:
        start = 11
        if size < start:
            raise DecodeError("truncated", "the address is cut off", where=_NAME, offset=5, payload=data)
        if address is None or control & ENCRYPTED:
            own = address_of(data[10:4:-1])
    if control & CAPABILITY:
        start += 1
        if size < start:
            raise DecodeError("truncated", "the capability is cut off", where=_NAME, offset=start - 1, payload=data)
        if data[start - 1] & IO_CAPABILITY:
            start += 2
            if size < start:
                raise DecodeError("truncated", "the capability is cut off", where=_NAME, offset=start, payload=data)
    product, counter = data[2] | data[3] << 8, data[4]
    plain = None
    if control & ENCRYPTED:
        plain = _decrypt(data, start, own or address, keys)
        values = _read(plain, 0, product)
    else:
        values = _read(data, start, product)
    values["packet_id"] = counter
    return _new(Decoded, (_NAME, values, counter, own, plain))


def table_of(data: bytes) -> Format | None:
    """Return the layout of service data, after the UUID, that are like these, which `decode` has read in the clear."""
    start = 11 if data[0] & ADDRESS else 5
    if data[0] & CAPABILITY:
        start += 3 if data[start] & IO_CAPABILITY else 1
    counter = Field("packet_id", at=4, type="u8")
    return MIBEACON.table_of(data, start, data[2] | data[3] << 8, range(4, 11 if data[0] & ADDRESS else 5), counter)


def encode(
    values: Mapping[str, Value],
    *,
    product: int,
    address: str | None = None,
    key: bytes | None = None,
    counter: int = 0,
    version: int = 5,
) -> bytes:
    """Return the service data in which a device of `product` says `values`; encrypted where there is a `key`.

    `packet_id` among the values is the frame counter; `counter` is the longer one. An `address` is put into the frame,
    and encryption takes it. Raises ValueError where no object of the product says a value.
    """
    said = dict(values)
    frame = int(said.pop("packet_id", 0))
    plain = MIBEACON.write(said, product)
    control = OBJECT | (ADDRESS if address else 0) | (ENCRYPTED if key else 0)
    head = bytes([control, version << 4]) + product.to_bytes(2, "little") + bytes([frame])
    mac = b"" if address is None else bytes.fromhex(address.replace(":", ""))[::-1]
    if key is None:
        return head + mac + plain
    if address is None or version < 4:
        raise ValueError(f"{_NAME}: encryption takes the device's address, and version 4 or 5")
    count = counter.to_bytes(COUNTER, "little")
    sealed = encrypt(key, mac + head[2:] + count, plain, ASSOCIATED)
    return head + mac + sealed[:-MIC] + count + sealed[-MIC:]


def _decrypt(data: bytes, start: int, address: str | None, keys: Mapping[str, bytes]) -> bytes:
    """Return the decrypted objects."""
    end = len(data) - COUNTER - MIC
    if end < start:
        raise DecodeError(
            "truncated", f"{COUNTER} bytes of counter and {MIC} of MIC end an encrypted frame",
            where=_NAME, offset=start, payload=data,
        )  # fmt: skip
    if address is None:
        raise DecodeError(
            "address", "decryption takes the sensor's address: let the gateway send it", where=_NAME, payload=data
        )
    key = keys.get(address)
    if key is None:
        raise KeyMissing(address, where=_NAME, payload=data)
    count, mic = data[end : end + COUNTER], data[end + COUNTER :]
    nonce = bytes.fromhex(address.replace(":", ""))[::-1] + data[2:5] + count
    return decrypt(key, nonce, data[start:end] + mic, _NAME, ASSOCIATED)
