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
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from processor.errors import SettingsError
from processor.reading import KEYS, Reading, Value, identity, key_of, name_of, quantity
from processor.store.unreadable import Note, Unreadable, passed_over
from processor.times import END_MS

SPECIFICATIONS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "tables.json").read_text())
"""Every table, as Terraform reads it too."""

SLOT_SECONDS: int = SPECIFICATIONS["readings"]["slot_seconds"]
SLOT_MS = SLOT_SECONDS * 1000
RESOLUTION_MS: int = SPECIFICATIONS["readings"]["resolution_ms"]
SKEW_MS: int = SPECIFICATIONS["readings"]["skew_seconds"] * 1000

OFFSET, FORMAT = "o", "f"  # keys of a cell that are not quantities
CELL = re.compile(r"(?:c([0-9]+)|t[0-9]+)\.([A-Za-z0-9_-]{4})")

WHOLE_DIGITS = 18
"""A whole number of more than these, its sign included, may be none of 64 bits, which JSON writers refuse."""

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


def slot(item: Mapping[str, AttributeValue], note: Note = passed_over) -> Slot:
    """Return an item of `readings` as a Slot. Attributes that are neither key, gateway nor cell are passed over.

    So are cells and gateways that cannot be read, and all of an item whose slot is none; `note` is told of them.
    """
    device = item["device"]["S"]
    start = start_of(item, "readings", "slot", SLOT_SECONDS, note)
    if start is None:  # an empty one, at its place in the order
        return Slot(device, int(float(item["slot"]["N"])) // SLOT_SECONDS * SLOT_SECONDS, 0, {}, {})
    found = Slot(device, start, expires_of(item) or 0, {}, {})
    for name, value in item.items():
        try:
            if name[0] == "g" and ("N" in value or "NULL" in value):
                found.gateways[name[1:]] = rssi_of(value)
            elif name[0] in "ct" and (("M" in value and "." in name) or CELL.fullmatch(name)):
                found.cells[name] = _reading(device, start, name, value)
        except ValueError as error:
            note(Unreadable("readings", device, start, name, str(error), "correct that attribute, or remove it"))
    if found.gateways:
        nearest = max(found.gateways, key=lambda gateway: (found.gateways[gateway] or -128, gateway))
        for name, reading in found.cells.items():
            found.cells[name] = reading._replace(gateway=nearest, rssi=found.gateways[nearest])
    return found


def rssi_of(value: AttributeValue) -> int | None:
    """Return an RSSI in dBm; None where the gateway did not say. Raises ValueError for what is none."""
    number = value.get("N")
    if number is not None and len(number) > WHOLE_DIGITS:
        raise ValueError(f"{number} is no RSSI")
    return None if number is None else int(number)


def start_of(item: Mapping[str, AttributeValue], table: str, key: str, seconds: int, note: Note) -> int | None:
    """Return an item's sort key, epoch seconds; None, and a note, where it is no multiple of `seconds`."""
    number: str = item[key]["N"]
    start = int(number) if number.isdigit() else -1
    if start % seconds == 0 and 0 <= start < END_MS // 1000:
        return start
    why = f"{key} is epoch seconds, a multiple of {seconds}"
    note(Unreadable(table, item["device"]["S"], None, f"the item of {key} {number}", why, "delete that item"))
    return None


def expires_of(item: Mapping[str, AttributeValue]) -> int | None:
    """Return when DynamoDB may delete an item, epoch seconds; None where it never does, for it has no such number."""
    number = item.get("expires", {}).get("N")
    return None if number is None else int(float(number))


def _reading(device: str, start: int, name: str, value: AttributeValue) -> Reading:
    """Return a cell as a Reading. Raises ValueError where it is none."""
    named = CELL.fullmatch(name)
    if named is None:
        raise ValueError("a cell is called c<counter>.<digest> or t<offset>.<digest>")
    cell = value.get("M", {})
    offset, form = cell.get(OFFSET, {}).get("N", ""), cell.get(FORMAT, {}).get("S")
    if not offset.isdigit() or int(offset) >= SLOT_MS:
        raise ValueError(f"its offset, {OFFSET}, is a number from 0 to {SLOT_MS - 1}, in ms")
    if not form:
        raise ValueError(f"its format, {FORMAT}, is a text")
    counter, letters = named.groups()
    count = int(counter) if counter else None
    return Reading(device, start * 1000 + int(offset), form, measured(cell), count, digest_of(letters))


def digest_of(letters: str) -> int:
    """Return the 24 bits of an identity's four letters."""
    return int.from_bytes(urlsafe_b64decode(letters), "big")


def measured(values: Mapping[str, AttributeValue]) -> dict[str, Value]:
    """Return values by short key as a reading's, by quantity. Raises ValueError for one that is none.

    Keys of no quantity are passed over: a newer version may know more than this one.
    """
    found: dict[str, Value] = {}
    for key, stored in values.items():
        name = known_quantity(key)
        if name is not None:
            found[name] = value = value_of(stored)
            if type(value) is str and quantity(name).kind not in ("text", "event"):
                raise ValueError(f"{name}, {key}, is no text")
    return found


@lru_cache(maxsize=1024)
def known_quantity(key: str) -> str | None:
    """Return the name of a short key's quantity; None where there is none."""
    try:
        return quantity(name_of(key)).name
    except KeyError:
        return None


def attribute_value(value: Value) -> AttributeValue:
    """Return a reading's value in DynamoDB's JSON."""
    if isinstance(value, bool):
        return {"BOOL": value}
    return {"S": value} if isinstance(value, str) else {"N": repr(value)}


def value_of(value: AttributeValue) -> Value:
    """Return a value in DynamoDB's JSON as a reading's. Raises ValueError for what is no number, text or flag."""
    if "N" in value:
        number: str = value["N"]
        return int(number) if len(number) <= WHOLE_DIGITS and number.lstrip("-").isdigit() else float(number)
    found: Value | None = value["S"] if "S" in value else value.get("BOOL")
    if found is None:
        raise ValueError(f"a value is a number, a text or a flag, not {', '.join(value)}")
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
