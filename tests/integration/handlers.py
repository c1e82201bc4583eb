"""The functions as they are deployed, before an embedded AWS that has everything they could call."""

from __future__ import annotations

import base64
import contextlib
import json
import time

import orjson

from processor.decode.advertisement import manufacturer_data, service_data
from processor.decode.formats import bthome, ruuvi
from processor.local.function import Function
from processor.local.system import FUNCTIONS
from processor.settings import Settings
from processor.store import client, tables
from processor.store.registry import Device, Registry
from processor.vault import Vault

PREFIX = "processor-local"
BUCKET = f"{PREFIX}-bucket"
SECRET = f"{PREFIX}/keys"
PLAIN, BY_SETTING, BY_KMS, BY_SECRET, BY_BAD_SECRET, MODEL = (f"AA:00:00:00:00:{n:02}" for n in range(6))
KEYS = {
    BY_SETTING: bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932"),
    BY_KMS: bytes.fromhex("8f3ad5a2c1b0947e6f5d4c3b2a190817"),
    BY_SECRET: bytes.fromhex("5e61c7d90b1f4a2e8c33f0a9d7b6e504"),
}
TRUNCATED = bytes.fromhex("1bff9904051234567890abcdeffedcba98765432")
"""A Ruuvi advertisement cut off, which quarantine takes."""


def furnish(aws):
    """Make tables, bucket, keys and the registry's entries. Return the variables of a function there."""
    aws.reset()
    variables = aws.environment() | {
        "TABLE_PREFIX": f"{PREFIX}-",
        "QUARANTINE_BUCKET": BUCKET,
        "BINDKEYS": f"{BY_SETTING}={KEYS[BY_SETTING].hex()}",
    }
    tables.create(aws.client("dynamodb"), variables["TABLE_PREFIX"])
    aws.client("s3").create_bucket(Bucket=BUCKET)
    key = aws.client("kms").create_key()["KeyMetadata"]["KeyId"]
    secrets = aws.client("secretsmanager")
    secrets.create_secret(Name=SECRET, SecretString=json.dumps({BY_SECRET: KEYS[BY_SECRET].hex()}))
    secrets.create_secret(Name=f"{SECRET}-bad", SecretString=KEYS[BY_SECRET].hex()[:-2])
    vault = Vault(lambda: aws.client("kms"), lambda: secrets)
    with contextlib.closing(client(Settings.read(variables))) as dynamodb:
        registry = Registry(dynamodb, f"{PREFIX}-devices")
        registry.put(Device(BY_KMS, name="Cellar", key=vault.seal(BY_KMS, KEYS[BY_KMS], key)))
        registry.put(Device(BY_SECRET, name="Attic", secret=SECRET))
        registry.put(Device(BY_BAD_SECRET, name="Shed", secret=f"{SECRET}-bad"))
        registry.put(Device(MODEL, name="Barn"))
    return variables


def function(name, variables, sink):
    """One of apex/functions, in a worker process under the runtime client."""
    return Function(FUNCTIONS / name, environment=variables, sink=sink, concurrency=1)


def everything():
    """What makes ingest go every way: plain, three kinds of keys, a bad one, a model said, one cut off, one unknown."""

    def encrypted(device, key):
        data = bthome.encode({"packet_id": 1, "temperature": 21.5}, key=key, address=device, counter=7)
        return device, service_data(bthome.UUID, data)

    plain = ruuvi.RAWV2.encode({"temperature": 20.5, "sequence": 1}, address=PLAIN)
    return [
        (PLAIN, manufacturer_data(ruuvi.COMPANY, plain)),
        *(encrypted(device, key) for device, key in KEYS.items()),
        encrypted(BY_BAD_SECRET, KEYS[BY_SECRET]),
        (MODEL, service_data(0xFD3D, bytes.fromhex("5400e4"))),  # a SwitchBot Meter says its model and its battery
        (PLAIN, TRUNCATED),
        (PLAIN, manufacturer_data(0x1234, bytes(range(100, 120)))),
    ]


def kinesis(*records):
    """Lambda's event of records, each of (address, advertisement) pairs or bytes as they are."""
    now = round(time.time() * 1000)

    def data(record):
        if isinstance(record, bytes):
            return record
        posts = [{"address": device, "timestamp": now, "data": each.hex()} for device, each in record]
        return orjson.dumps({"payloads": posts, "timestamp": now, "imsi": "295050000000001"})

    return {
        "Records": [
            {
                "kinesis": {
                    "partitionKey": f"key-{number}",
                    "sequenceNumber": f"{number:056d}",
                    "data": base64.b64encode(data(record)).decode(),
                    "approximateArrivalTimestamp": now / 1000,
                },
                "eventID": f"shardId-000000000000:{number:056d}",
                "eventSourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/processor",
            }
            for number, record in enumerate(records, 1)
        ]
    }


def changed(*items):
    """Lambda's event of a table's stream: (event name, device, slot) each."""
    return {
        "Records": [
            {
                "eventID": str(number),
                "eventName": name,
                "dynamodb": {
                    "Keys": {"device": {"S": device}, "slot": {"N": str(slot)}},
                    "SequenceNumber": str(number),
                    "ApproximateCreationDateTime": time.time(),
                },
            }
            for number, (name, device, slot) in enumerate(items, 1)
        ]
    }
