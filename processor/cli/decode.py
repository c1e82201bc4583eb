"""`processor decode`: what an advertisement says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import click
import orjson

from processor.decode import decode as decode_advertisement
from processor.decode.advertisement import manufacturer_data, service_data
from processor.decode.formats.mesh import decode as sensor_status
from processor.decode.short import DIGEST
from processor.errors import DecodeError, KeyMissing
from processor.reading import Reading, address_of, quantity
from processor.reading import address as canonical

ANY_ADDRESS = address_of(bytes(6))
"""Stands in where neither the user nor the payload gives an address, so that the values can be shown all the same."""


def _hexadecimal(text: str, what: str) -> int:
    try:
        number = int(text.removeprefix("0x").removeprefix("0X"), 16)
    except ValueError:
        number = -1
    if not 0 <= number <= 0xFFFF:
        raise click.BadParameter(f"{text!r} is not four hexadecimal digits", param_hint=what)
    return number


@click.command()
@click.argument("advertisements", nargs=-1, metavar="[HEX]...")
@click.option("--service", metavar="UUID", help="HEX is bare service data of this 16-bit UUID (FCD2).")
@click.option("--company", metavar="ID", help="HEX is bare manufacturer data of this company identifier (0499).")
@click.option("--mesh", is_flag=True, help="HEX is a Bluetooth Mesh access message, decrypted, its opcode first (52…).")
@click.option("--address", help="The sensor's Bluetooth address.")
@click.option("--key", metavar="HEX", help="The sensor's bindkey, 32 hexadecimal digits; needs --address.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def decode(
    advertisements: tuple[str, ...],
    service: str | None,
    company: str | None,
    mesh: bool,
    address: str | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Decode advertisements given as hexadecimal text (AD structures), or one per line on standard input.

    \b
    processor decode 0201061BFF99040512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F
    processor decode --service FCD2 4002C40903BF13
    """  # noqa: D301 - \b is click's
    if [service is not None, company is not None, mesh].count(True) > 1:
        raise click.UsageError("--service, --company and --mesh exclude each other")
    uuid = None if service is None else _hexadecimal(service, "--service")
    company_id = None if company is None else _hexadecimal(company, "--company")
    device = None if address is None else canonical(address)
    keys: dict[str, bytes] = {}
    if key is not None:
        if device is None:
            raise click.UsageError("--key needs --address: the address is part of the encryption")
        try:
            keys[device] = bytes.fromhex(key)
        except ValueError:
            keys[device] = b""
        if len(keys[device]) != 16:
            raise click.BadParameter("a bindkey has 32 hexadecimal digits", param_hint="--key")
    failed = False
    for text in advertisements or _lines():
        try:
            found = _mesh(text, device) if mesh else _decode(text, uuid, company_id, device, keys)
        except DecodeError as error:
            failed = True
            click.echo(orjson.dumps({"error": str(error), "reason": error.reason}) if as_json else f"error: {error}")
            continue
        if not found:
            click.echo('{"format":null}' if as_json else "no known format")
        for reading in found:
            click.echo(orjson.dumps(_object(reading)) if as_json else _text(reading))
    if failed:
        raise SystemExit(1)


def _lines() -> Iterator[str]:
    """Yield standard input's lines that hold something."""
    if sys.stdin.isatty():
        raise click.UsageError("give advertisements as hexadecimal text, or one per line on standard input")
    return filter(None, (line.decode(errors="replace").strip() for line in sys.stdin.buffer))


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x").removeprefix("0X"))
    except ValueError as error:
        raise DecodeError("hex", f"{error}: {text[:40]!r}", where="command line") from None


def _mesh(text: str, device: str | None) -> list[Reading]:
    """Decode an access message, which no advertisement carries in the clear: a gateway has decrypted it."""
    message = _bytes(text)
    decoded = sensor_status(message)
    if decoded is None:
        return []
    digest = crc32(message) & DIGEST
    return [Reading(device or ANY_ADDRESS, None, decoded.format, decoded.values, decoded.counter, digest)]


def _decode(
    text: str, service: int | None, company: int | None, device: str | None, keys: dict[str, bytes]
) -> list[Reading]:
    data = _bytes(text)
    try:
        if service is not None:
            data = service_data(service, data)
        elif company is not None:
            data = manufacturer_data(company, data)
    except ValueError as error:
        raise DecodeError("length", str(error), where="command line", payload=data) from None
    try:
        return decode_advertisement(data, device, keys=keys)
    except KeyMissing:
        raise
    except DecodeError as error:
        if error.reason != "address" or device is not None:
            raise
        try:
            return decode_advertisement(data, ANY_ADDRESS, keys=keys)
        except KeyMissing:
            raise DecodeError(
                "key_missing", "encrypted: give --key and --address", where="command line", payload=data
            ) from None


def _object(reading: Reading) -> dict[str, Any]:
    return {
        "format": reading.format,
        "address": _address(reading),
        "values": reading.values,
        "identity": reading.identity,
    }


def _address(reading: Reading) -> str | None:
    return None if reading.device == ANY_ADDRESS else reading.device


def _text(reading: Reading) -> str:
    lines = [f"{reading.format}  {_address(reading) or 'address unknown'}  identity {reading.identity}"]
    width = max(map(len, reading.values), default=0)
    for name, value in reading.values.items():
        lines.append(f"  {name:<{width}}  {value} {quantity(name).unit}".rstrip())
    return "\n".join(lines)
