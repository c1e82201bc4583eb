"""KPL aggregation: many user records inside one Kinesis record.

Source: awslabs/amazon-kinesis-producer, "aggregation-format.md": four magic bytes, a protobuf message
`AggregatedRecord`, and the MD5 of that message. What does not add up is read as AWS's own KCL reads it
(`AggregatorUtil.deaggregate`): a record with the magic but a wrong MD5 is not aggregated, it only looks so.
Where the MD5 is right and the message is broken, the KCL hands on the raw bytes; here that is a DecodeError.

The format needs a few lines; the package aws-kinesis-agg would bring protobuf along and was last released in 2022.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import md5

from processor.errors import DecodeError

MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST_SIZE = 16
_RECORDS = 3  # AggregatedRecord.records
_DATA = 3  # Record.data

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types; groups (3 and 4) are not used here


def records(data: bytes) -> list[bytes]:
    """Return the user records of one Kinesis record: `[data]` itself where it is not aggregated.

    Raises DecodeError where the MD5 is right and the protobuf message is not.
    """
    if not data.startswith(MAGIC):
        return [data]
    message = data[len(MAGIC) : -_DIGEST_SIZE]
    if not message or _md5(message) != data[-_DIGEST_SIZE:]:
        return [data]
    return [_data(record) for number, record in _fields(message) if number == _RECORDS]


def aggregate(records: Iterable[bytes], *, partition_key: str = "0") -> bytes:
    """Return one aggregated Kinesis record that holds all `records`: `records()` backwards."""
    message = bytearray(_field(1, partition_key.encode()))
    for data in records:
        message += _field(_RECORDS, b"\x08\x00" + _field(_DATA, data))  # partition_key_index = 0
    return MAGIC + bytes(message) + _md5(message)


def _md5(data: bytes | bytearray) -> bytes:
    # A checksum, not a signature: without the flag, a machine in FIPS mode refuses MD5.
    return md5(data, usedforsecurity=False).digest()


def _data(record: bytes) -> bytes:
    found = None
    for number, value in _fields(record):
        if number == _DATA:
            found = value  # the last one counts, as protobuf has it
    if found is None:
        raise DecodeError("kpl", "a user record without its data, which is required", where="kpl", payload=record)
    return found


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (field number, bytes) of each length-delimited field; the others are checked and skipped."""
    at, end = 0, len(message)
    while at < end:
        start = at
        tag, at = _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _BYTES:
            length, at = _varint(message, at)
            if length > end - at:
                raise DecodeError(
                    "kpl", f"field {number} of {length} bytes, but {end - at} are left",
                    where="kpl", offset=start, payload=message,
                )  # fmt: skip
            yield number, message[at : at + length]
            at += length
        elif wire_type == _VARINT:
            _, at = _varint(message, at)
        elif wire_type in (_FIXED64, _FIXED32):
            at += 8 if wire_type == _FIXED64 else 4
        else:
            raise DecodeError(
                "kpl", f"wire type {wire_type} in a field's tag", where="kpl", offset=start, payload=message
            )
        if at > end or number == 0:
            raise DecodeError("kpl", f"field {number} is broken", where="kpl", offset=start, payload=message)


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the varint at `at`, and where the next thing starts."""
    value = 0
    for shift, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, at + shift + 1
    raise DecodeError("kpl", "a varint without an end", where="kpl", offset=at, payload=message)


def _field(number: int, data: bytes) -> bytes:
    return bytes((number << 3 | _BYTES,)) + _written(len(data)) + data


def _written(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
