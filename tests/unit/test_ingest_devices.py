"""What a batch asks of the registry of devices, and tells it: no more than it must, and at once."""

from __future__ import annotations

import re
from base64 import b64encode
from types import SimpleNamespace

import orjson
import pytest

from processor.batch import Batch
from processor.decode.advertisement import manufacturer_data, service_data, structure
from processor.decode.formats import bthome, ruuvi
from processor.devices import Devices, Vault
from processor.rules import Limits, Rules
from processor.store.registry import Registry

NOW = 1_700_000_000_000
KEY = bytes(range(16))
LIMITS = Limits(400 * 86400)


def address(n):
    return f"AA:00:00:00:{n >> 8:02X}:{n & 255:02X}"


MINE, HERS = address(1), address(2)
UNKNOWN = manufacturer_data(0xFFFF, b"?")
NAMED = structure(0x09, b"TP357 (2142)")
SAID = service_data(0xFD3D, bytes.fromhex("5400e4"))
"""A SwitchBot Meter's scan response: its model and battery, no values …"""
VALUES = manufacturer_data(0x0969, bytes.fromhex("d7c17d5deb43de03069835"))
"""… and what it advertises, which its model alone explains."""


class Table:
    """The table `devices` in memory, behind the client's interface."""

    def __init__(self):
        self.items = {}
        self.calls = []

    def call(self, operation, body, *, deadline=None):
        self.calls.append(operation)
        if operation == "BatchGetItem":
            ((name, wanted),) = body["RequestItems"].items()
            keys = [key["device"]["S"] for key in wanted["Keys"]]
            assert len(keys) <= 100
            return {"Responses": {name: [self.items[key] for key in keys if key in self.items]}}
        names, values = body["ExpressionAttributeNames"], body["ExpressionAttributeValues"]
        pairs = re.findall(r"(#\d)=(:\d)", body["UpdateExpression"])
        self.items.setdefault(body["Key"]["device"]["S"], dict(body["Key"])).update(
            {names[name]: values[value] for name, value in pairs}
        )
        return {}

    def register(self, device, **columns):
        self.items[device] = {"device": {"S": device}, "name": {"S": "x"}, **columns}


class Services:
    """KMS and Secrets Manager, each call counted. What is sealed is the key with a letter before it."""

    def __init__(self, **secrets):
        self.opened = []
        self.read = []
        self.secrets = secrets

    def decrypt(self, CiphertextBlob, EncryptionContext):  # noqa: N803 - AWS's names
        self.opened.append(EncryptionContext["device"])
        return {"Plaintext": CiphertextBlob[1:]}

    def get_secret_value(self, SecretId):  # noqa: N803
        self.read.append(SecretId)
        return {"SecretString": self.secrets[SecretId]}


@pytest.fixture
def world():
    """A registry, its services and a clock, with what makes batches of them."""
    found = SimpleNamespace(table=Table(), services=Services(), now=0.0)
    found.devices = Devices(
        Registry(found.table, "processor-devices"),
        Vault(lambda: found.services, lambda: found.services),
        clock=lambda: found.now,
    )

    def handle(*heard, **options):
        """Decode a batch with a record for each (device, advertisement)."""
        batch = Batch([record(*each) for each in heard], Rules(LIMITS, found.devices, devices=found.devices, **options))
        batch.decode()
        return batch

    found.handle = handle
    return found


def record(device, data):
    entry = {"address": device, "timestamp": NOW, "data": data.hex()}
    sent = orjson.dumps({"payloads": [entry], "timestamp": NOW, "imsi": "295050000000001"})
    return {"kinesis": {"data": b64encode(sent).decode(), "approximateArrivalTimestamp": NOW / 1000}}


def plain(device):
    return manufacturer_data(ruuvi.COMPANY, ruuvi.RAWV2.encode({"temperature": 20.5, "sequence": 1}, address=device))


def encrypted(device, key=KEY, counter=7):
    data = bthome.encode({"packet_id": 1, "temperature": 21.5}, key=key, address=device, counter=counter)
    return service_data(bthome.UUID, data)


def stored(batch):
    return sorted(device for device, _ in batch.groups)


def test_where_registered_devices_alone_count_strangers_models_are_not_written_down(world):
    world.table.register(MINE)
    batch = world.handle((MINE, NAMED), (HERS, NAMED), (HERS, SAID), registered_only=True)
    assert world.table.items.keys() == {MINE}
    assert world.table.items[MINE]["heard"] == {"S": "TP357 (2142)"}
    assert batch.ignored.total() == 3
    world.handle((HERS, NAMED))
    assert world.table.items[HERS]["heard"] == {"S": "TP357 (2142)"}
