"""The tables' specifications and keys, and a Reading as an item's cell and back.

One item of `readings` holds what one device measured in one time slot. Each reading is one attribute, a *cell*:

    device (S)   the sensor's address                       partition key
    slot (N)     the slot's start, epoch seconds            sort key
    expires (N)  when DynamoDB may delete it, epoch seconds
    g<gateway>   the first RSSI at which that gateway heard the device in this slot (NULL: it did not say)
    c<counter>.<digest>   a cell named by the sensor's own counter …
    t<offset>.<digest>    … or, where it has none, by the offset in the slot, in ms, quantised to the resolution

    cell (M)     o: offset of the measurement in the slot, ms; f: format; the others: quantities by short key

Names and values depend on the reading alone, so writing one twice, from anywhere, writes the same.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from processor.errors import SettingsError
from processor.reading import KEYS, Reading, Value, identity, key_of, name_of

SPECIFICATIONS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "tables.json").read_text())
"""Every table, as Terraform reads it too."""

SLOT_SECONDS: int = SPECIFICATIONS["readings"]["slot_seconds"]
SLOT_MS = SLOT_SECONDS * 1000
RESOLUTION_MS: int = SPECIFICATIONS["readings"]["resolution_ms"]
SKEW_MS: int = SPECIFICATIONS["readings"]["skew_seconds"] * 1000

OFFSET, FORMAT = "o", "f"  # keys of a cell that are not quantities

if 300 % SLOT_SECONDS or SLOT_MS % RESOLUTION_MS:
    raise SettingsError(
        f"tables.json: slot_seconds ({SLOT_SECONDS}) must divide 300, and be a multiple of "
        f"resolution_ms ({RESOLUTION_MS})"
    )

AttributeValue = dict[str, Any]
"""One value in DynamoDB's JSON, `{"N": "24.3"}`."""


class Slot(NamedTuple):
    """One item of `readings`: what `device` measured in the SLOT_SECONDS from `start` (epoch seconds)."""

    device: str
    start: int
    expires: int
    gateways: dict[str, int | None]
    cells: dict[str, Reading]


def slot_of(at: int) -> int:
    """Return the slot of a time in ms: its start, in epoch seconds."""
    return at // SLOT_MS * SLOT_SECONDS


def cell_name(reading: Reading, offset: int) -> str:
    """Return the cell's name of a reading `offset` ms into its slot."""
    if reading.counter is None:
        return f"t{offset - offset % RESOLUTION_MS}.{identity(None, reading.digest)}"
    return f"c{identity(reading.counter, reading.digest)}"


def cell_value(reading: Reading, offset: int) -> AttributeValue:
    """Return the cell of a reading `offset` ms into its slot."""
    cell: dict[str, AttributeValue] = {OFFSET: {"N": str(offset)}, FORMAT: {"S": reading.format}}
    for name, value in reading.values.items():
        kind = type(value)
        key = KEYS.get(name) or key_of(name)
        if kind is float or kind is int:
            cell[key] = {"N": repr(value)}
        elif kind is str:
            cell[key] = {"S": value}
        else:
            cell[key] = {"BOOL": value}
    return {"M": cell}


def slot(item: Mapping[str, AttributeValue]) -> Slot:
    """Return an item of `readings` as a Slot. Attributes that are neither key, gateway nor cell are passed over."""
    device = item["device"]["S"]
    start = int(item["slot"]["N"])
    found = Slot(device, start, int(item.get("expires", {}).get("N", 0)), {}, {})
    for name, value in item.items():
        if name[0] == "g" and ("N" in value or "NULL" in value):
            found.gateways[name[1:]] = int(value["N"]) if "N" in value else None
        elif "M" in value and name[0] in "ct" and "." in name:
            found.cells[name] = _reading(device, start, name, value["M"])
    if found.gateways:
        nearest = max(found.gateways, key=lambda gateway: (found.gateways[gateway] or -128, gateway))
        for name, reading in found.cells.items():
            found.cells[name] = reading._replace(gateway=nearest, rssi=found.gateways[nearest])
    return found


def _reading(device: str, start: int, name: str, cell: Mapping[str, AttributeValue]) -> Reading:
    counter, _, letters = name[1:].partition(".")
    return Reading(
        device,
        start * 1000 + int(cell[OFFSET]["N"]),
        cell[FORMAT]["S"],
        {known: value_of(value) for key, value in cell.items() if (known := _quantity(key)) is not None},
        int(counter) if name[0] == "c" else None,
        digest_of(letters),
    )


def digest_of(letters: str) -> int:
    """Return the 24 bits of an identity's four letters."""
    return int.from_bytes(urlsafe_b64decode(letters), "big")


def _quantity(key: str) -> str | None:
    """Return the quantity of a cell's key; None where there is none: a newer version may know more than this one."""
    try:
        return None if key in (OFFSET, FORMAT) else name_of(key)
    except KeyError:
        return None


def attribute_value(value: Value) -> AttributeValue:
    """Return a reading's value in DynamoDB's JSON."""
    if isinstance(value, bool):
        return {"BOOL": value}
    return {"S": value} if isinstance(value, str) else {"N": repr(value)}


def value_of(value: AttributeValue) -> Value:
    """Return a value in DynamoDB's JSON as a reading's."""
    if "N" in value:
        number: str = value["N"]
        return int(number) if number.lstrip("-").isdigit() else float(number)
    found: Value = value["S"] if "S" in value else value["BOOL"]
    return found


def create(dynamodb: Any, prefix: str) -> list[str]:
    """Create the tables that are not there yet, on demand capacity; return the names of those created.

    dynamodb: a boto3 client. prefix: what the names start with (`processor-` gives `processor-readings`).
    """
    return [prefix + noun for noun in SPECIFICATIONS if create_table(dynamodb, prefix + noun, noun)]


def create_table(dynamodb: Any, name: str, noun: str) -> bool:
    """Create one table, as `noun` is specified, and tell whether it was not there yet.

    Expiry is switched on where a table lacks it, for whoever made it may have been interrupted before that.
    """
    specification = SPECIFICATIONS[noun]
    keys = [(specification["hash_key"], "HASH")]
    if "range_key" in specification:
        keys.append((specification["range_key"], "RANGE"))
    request: dict[str, Any] = {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": key["name"], "KeyType": kind} for key, kind in keys],
        "AttributeDefinitions": [{"AttributeName": key["name"], "AttributeType": key["type"]} for key, _ in keys],
    }
    if "stream" in specification:
        request["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": specification["stream"]}
    try:
        dynamodb.create_table(**request)
        created = True
    except dynamodb.exceptions.ResourceInUseException:
        created = False
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    if "ttl" in specification and (created or not _expires(dynamodb, name)):
        ttl = {"AttributeName": specification["ttl"], "Enabled": True}
        dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)
    return created


def _expires(dynamodb: Any, name: str) -> bool:
    status = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"].get("TimeToLiveStatus")
    return status in ("ENABLED", "ENABLING")
