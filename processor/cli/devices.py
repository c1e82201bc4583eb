"""`processor devices`: who has readings, and the registry of names, sites, models, calibrations and keys."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from processor.cli.show import FORMATS, show, warn_of
from processor.cli.times import iso
from processor.errors import DecodeError, SettingsError
from processor.reading import device_id, quantity
from processor.settings import Settings
from processor.store import client
from processor.store.reader import Reader
from processor.store.registry import Calibration, Device, Registry
from processor.store.unreadable import Unread
from processor.vault import Vault

COLUMNS = ("address", "name", "site", "model", "calibration", "key", "secret")
_DECIMAL = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"
_SECRET = re.compile(r"[A-Za-z0-9/_+=.@!:-]{1,2048}")  # GetSecretValue's SecretId: a name or an ARN
_FORMULA = re.compile(rf"(?P<name>\w+)=(?:(?P<scale>-?{_DECIMAL})\*)?x(?P<offset>[+-]{_DECIMAL})?")


@contextmanager
def registry(settings: Settings) -> Iterator[Registry]:
    """Give the registry that the environment names."""
    with closing(client(settings)) as dynamodb:
        yield Registry(dynamodb, settings.devices_table)


def vault(settings: Settings) -> Vault:
    """Return the vault of the environment's account."""
    import boto3

    region = settings.region or None
    return Vault(
        lambda: boto3.client("kms", region_name=region), lambda: boto3.client("secretsmanager", region_name=region)
    )


@click.group(invoke_without_command=True)
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
@click.pass_context
def devices(context: click.Context, form: str) -> None:
    """List the devices that have readings, and since when. Reads the keys of the whole table."""
    if context.invoked_subcommand is not None:
        return
    settings, unread = Settings.read(), Unread()
    with closing(client(settings)) as dynamodb:
        found = Reader(dynamodb, settings.readings_table, note=unread.add).devices()
        known = Registry(dynamodb, settings.devices_table).many(seen.device for seen in found)
    rows = []
    for seen in found:
        device = known.get(seen.device, Device(seen.device))
        rows.append(
            {
                "device": seen.device,
                "name": device.name,
                "site": device.site,
                "first": iso(seen.first * 1000),
                "last": iso(seen.last * 1000),
                "slots": seen.slots,
            }
        )
    show(rows, form, "devices")
    warn_of([*unread, *(each for device in known.values() for each in device.unreadable)])


@devices.command("import")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@click.option("--kms-key", help="KMS key that encrypts the bindkeys: id, ARN or alias. Default: KEYS_KMS_KEY.")
def import_devices(source: Path, kms_key: str | None) -> None:
    """Register the devices of a CSV file with a header, or a JSON list of objects.

    Columns: address, name, site, model, calibration (temperature=1.02*x-0.5; several apart by semicolons), key (a
    bindkey of 32 hexadecimal digits, kept encrypted) or secret (the name of a Secrets Manager secret that holds it).
    Only address is required; what a row leaves empty stays as it is. What is no Bluetooth device is named as its
    readings name it (imsi:295050000000001).
    """
    settings = Settings.read()
    keys = vault(settings)
    kms = kms_key or settings.keys_kms_key
    read = _each_once((place, _device(row, place, keys, kms)) for place, row in _rows(source))
    if not read:
        raise click.ClickException(f"{source} has no devices")
    with registry(settings) as table:
        for device in read:
            table.put(device)
    click.echo(f"{len(read)} devices registered")
    _warn_of_secrets(read, settings)


@devices.command("set")
@click.argument("address")
@click.option("--name")
@click.option("--site")
@click.option("--model")
@click.option("--calibration", help="temperature=1.02*x-0.5; several apart by semicolons.")
@click.option("--key", help="Bindkey, 32 hexadecimal digits; - asks for it without showing it.")
@click.option("--secret", help="Name of the Secrets Manager secret that holds the bindkey.")
@click.option("--kms-key", help="KMS key that encrypts the bindkey: id, ARN or alias. Default: KEYS_KMS_KEY.")
def set_device(address: str, kms_key: str | None, **columns: str | None) -> None:
    """Register a device, or change what is registered of it."""
    if columns["key"] == "-":
        columns["key"] = click.prompt("bindkey", hide_input=True)
    settings = Settings.read()
    row = {"address": address} | {name: text for name, text in columns.items() if text}
    if len(row) == 1:
        raise click.UsageError(
            "there is nothing to set: give --name, --site, --model, --calibration, --key or --secret"
        )
    device = _device(row, "the command line", vault(settings), kms_key or settings.keys_kms_key)
    with registry(settings) as table:
        table.put(device)
    click.echo(f"{device.address} registered")
    _warn_of_secrets([device], settings)


@devices.command("show")
@click.argument("addresses", nargs=-1)
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
def show_devices(addresses: tuple[str, ...], form: str) -> None:
    """Show what is registered, of all devices or of some. Keys are never shown."""
    with registry(Settings.read()) as table:
        found = table.many(map(device_id, addresses)).values() if addresses else table.all()
        known = sorted(found, key=lambda device: device.address)
    show(map(_shown, known), form, "registry")
    warn_of([each for device in known for each in device.unreadable])


def _shown(device: Device) -> dict[str, Any]:
    has_key = "encrypted here" if device.key else f"in the secret {device.secret}" if device.secret else None
    corrections = (f"{name}={each.scale}*x{each.offset:+}" for name, each in sorted(device.calibration.items()))
    return {
        "device": device.address,
        "name": device.name,
        "site": device.site,
        "model": device.model or device.heard,
        "calibration": "; ".join(corrections) or None,
        "key": has_key,
    }


def _rows(source: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a file's rows, each with its place in words. Raises SettingsError for what is neither CSV nor JSON."""
    try:
        text = source.read_text(encoding="utf-8-sig")
        if text.lstrip().startswith(("[", "{")):
            found = json.loads(text)
            for number, row in enumerate(found if isinstance(found, list) else [found], 1):
                if not isinstance(row, dict):
                    raise SettingsError(f"{source}, entry {number}: a device is an object, not {str(row)[:40]!r}")
                yield f"{source}, entry {number}", row
        else:
            lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
            for each in lines:
                if None in each:
                    raise SettingsError(f"{source}, line {lines.line_num}: more cells than the header has columns")
                yield f"{source}, line {lines.line_num}", each
    except UnicodeDecodeError as error:
        raise SettingsError(f"{source} is not UTF-8 text: {error}") from None
    except RecursionError:
        raise SettingsError(f"{source} is no list of devices: it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise SettingsError(f"{source}, line {error.lineno}: not JSON: {error.msg}") from None
    except csv.Error as error:
        raise SettingsError(f"{source}, line {lines.line_num}: not CSV: {error}") from None


def _warn_of_secrets(devices: Iterable[Device], settings: Settings) -> None:
    """Say on stderr which secrets ingest may not read, by what Terraform grants (infra/terraform/functions.tf).

    Its tables are called PROJECT-ENVIRONMENT-…, its secrets PROJECT-ENVIRONMENT/…. Where TABLE_PREFIX names no
    deployment, nothing is known of the grant.
    """
    if settings.table_prefix == Settings.table_prefix:
        return
    granted = f"{settings.table_prefix.removesuffix('-')}/"
    for device in devices:
        if device.secret and not device.secret.rpartition(":secret:")[2].startswith(granted):
            click.echo(
                f"{device.address}: ingest may read secrets called {granted}… only (infra/terraform), not "
                f"{device.secret}: while access is denied, what the device encrypts waits in quarantine (key_missing)",
                err=True,
            )


def _each_once(rows: Iterable[tuple[str, Device]]) -> list[Device]:
    """Return the devices of a file. Raises SettingsError where one comes twice: which row counts, nobody says."""
    found: dict[str, Device] = {}
    for place, device in rows:
        if device.address in found:
            raise SettingsError(f"{place}: {device.address} comes twice")
        found[device.address] = device
    return list(found.values())


def _device(row: Mapping[str, Any], place: str, keys: Vault, kms_key: str) -> Device:
    """Return what a row says of a device. Raises SettingsError, naming the place; never with a key in the text."""
    unknown = set(map(str, row)) - set(COLUMNS)
    if unknown:
        raise SettingsError(f"{place}: no column is called {', '.join(sorted(unknown))}: they are {', '.join(COLUMNS)}")
    try:
        address = device_id(str(row.get("address") or "").strip())
    except DecodeError as error:
        raise SettingsError(f"{place}: {error}") from None
    name, site, model, secret = (
        str(row.get(column) or "").strip() or None for column in ("name", "site", "model", "secret")
    )
    if secret and not _SECRET.fullmatch(secret):
        raise SettingsError(
            f"{place}: {secret!r} is no secret's name: it takes letters, digits and /_+=.@!-, or an ARN"
        )
    calibration = _calibrations(str(row.get("calibration") or ""), place)
    device = Device(address, name, site, model, calibration=calibration, secret=secret)
    text = str(row.get("key") or "").strip()
    if text:
        device = replace(device, key=_sealed(address, text, place, keys, kms_key))
    if device.key and device.secret:
        raise SettingsError(f"{place}: give key or secret, not both")
    if not device.registered:
        raise SettingsError(f"{place}: there is nothing but an address")
    return device


def _sealed(address: str, text: str, place: str, keys: Vault, kms_key: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 16:
        raise SettingsError(f"{place}: the key of {address} is not 32 hexadecimal digits")
    if not kms_key:
        raise SettingsError(f"{place}: a key is kept encrypted: give --kms-key, or set KEYS_KMS_KEY (or use a secret)")
    return keys.seal(address, key, kms_key)


def _calibrations(text: str, place: str) -> dict[str, Calibration]:
    """Read `temperature=1.02*x-0.5; humidity=x+3`."""
    found = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        formula = _FORMULA.fullmatch(part.replace(" ", ""))
        if formula is None or not _is_number(formula["name"]):
            raise SettingsError(
                f"{place}: {part!r} is no calibration: it takes quantity=scale*x+offset, such as temperature=1.02*x-0.5"
            )
        found[formula["name"]] = Calibration(Decimal(formula["scale"] or 1), Decimal(formula["offset"] or 0))
    return found


def _is_number(name: str) -> bool:
    """Tell whether a quantity is there and can be corrected: flags, texts and counters cannot."""
    try:
        return quantity(name).kind == "number"
    except KeyError:
        return False
