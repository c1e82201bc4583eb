"""What a batch asks of the registry of devices, and tells it: no more than it must, and at once."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections import Counter
from types import SimpleNamespace

import orjson
import pytest
from botocore.exceptions import ClientError

from processor.batch import MOST_WAITING, Batch
from processor.decode.advertisement import manufacturer_data, service_data, structure
from processor.decode.formats import bthome, ruuvi
from processor.devices import REMEMBERED_DEVICES, Devices
from processor.errors import TransientError
from processor.rules import Limits, Rules
from processor.store.registry import Registry
from processor.vault import Vault

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
    """The table `devices` in memory, behind the client's interface, its calls counted."""

    def __init__(self):
        self.items = {}
        self.calls = Counter()
        self.refuses = False

    def call(self, operation, body, *, deadline=None):
        self.calls[operation] += 1
        if self.refuses:
            raise TransientError("ThrottlingException", "slow down")
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
    """KMS and Secrets Manager, each call noted. What is sealed is the key with a byte before it."""

    def __init__(self):
        self.opened = []
        self.read = []
        self.secrets = {}

    def decrypt(self, CiphertextBlob, EncryptionContext):  # noqa: N803 - AWS's names
        self.opened.append(EncryptionContext["device"])
        return {"Plaintext": CiphertextBlob[1:]}

    def get_secret_value(self, SecretId):  # noqa: N803
        self.read.append(SecretId)
        if SecretId not in self.secrets:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "no"}}, "GetSecretValue")
        return {"SecretString": self.secrets[SecretId]}


@pytest.fixture
def world():
    """A registry, its services and a clock, with what makes batches of them."""
    found = SimpleNamespace(table=Table(), services=Services(), now=0.0)
    found.devices = Devices(
        Registry(found.table, "processor-devices"),
        Vault(lambda: found.services, lambda: found.services, clock=lambda: found.now),
        clock=lambda: found.now,
    )

    def handle(*heard, **options):
        """Decode a batch with a record for each (device, advertisement), or for a list of them."""
        records = [record(*(each if isinstance(each, list) else [each])) for each in heard]
        batch = Batch(records, Rules(LIMITS, found.devices, devices=found.devices, **options))
        batch.decode()
        return batch

    found.handle = handle
    return found


def record(*heard):
    """Return a record of (device, data), or (device, data, ms since 1970, RSSI), each."""
    entries = [
        dict(zip(("address", "data", "timestamp", "rssi"), (device, data.hex(), *(more or [NOW])), strict=False))
        for device, data, *more in heard
    ]
    sent = orjson.dumps({"payloads": entries, "timestamp": NOW, "imsi": "295050000000001"})
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


def test_five_hundred_unknown_devices_are_looked_up_at_once(world):
    """Phones advertise under a new address every quarter of an hour."""
    strangers = [(address(n), UNKNOWN) for n in range(500)]
    assert world.handle(*strangers).ignored == {"unknown_format": 500}
    assert world.table.calls == {"BatchGetItem": 5}
    world.handle(*strangers)
    assert world.table.calls == {"BatchGetItem": 5}


def test_fifty_encrypted_neighbours_are_looked_up_at_once(world):
    world.table.register(MINE)
    batch = world.handle(*((address(n), encrypted(address(n))) for n in range(50)))
    assert batch.ignored == {"no_key": 49}
    assert batch.rejected == 1  # mine, whose key may come
    assert world.table.calls == {"BatchGetItem": 1}


def test_where_registered_devices_alone_count_a_batch_s_devices_are_looked_up_at_once(world):
    world.table.register(MINE)
    cut = [(address(n), plain(address(n))[:-1]) for n in range(100)]
    batch = world.handle(*((address(n), plain(address(n))) for n in range(500)), *cut, registered_only=True)
    assert stored(batch) == [MINE]
    assert (batch.ignored, batch.rejected) == ({"unregistered": 598}, 1)
    assert world.table.calls == {"BatchGetItem": 5}


def test_a_setting_s_keys_need_no_registry(world):
    devices = Devices(Registry(world.table, "processor-devices"), Vault(None, None), fixed={MINE: KEY})
    batch = Batch([record((MINE, encrypted(MINE)))], Rules(LIMITS, devices, devices=devices))
    batch.decode()
    assert stored(batch) == [MINE]
    assert not world.table.calls


def test_a_flood_of_addresses_is_looked_up_by_the_hundred_all_the_same(world):
    """More than are remembered, and more in one record than may wait."""
    flood = [(address(n), UNKNOWN) for n in range(3 * MOST_WAITING)]
    assert len(flood) > REMEMBERED_DEVICES
    batch = world.handle(*flood[: 2 * MOST_WAITING - 50], flood[2 * MOST_WAITING - 50 :])
    assert batch.ignored == {"unknown_format": len(flood)}
    assert world.table.calls == {"BatchGetItem": len(flood) // 100}


def test_what_a_batch_asks_for_is_not_driven_out_by_what_it_asks_for_too(world):
    world.devices.load([address(n) for n in range(REMEMBERED_DEVICES)])
    asked = world.table.calls["BatchGetItem"]
    world.handle([(address(n), UNKNOWN) for n in (*range(1000), *range(REMEMBERED_DEVICES, REMEMBERED_DEVICES + 1000))])
    assert world.table.calls["BatchGetItem"] - asked == 10


def test_what_is_about_to_be_forgotten_is_asked_for_with_the_rest(world):
    everybody = [address(n) for n in range(100)]
    world.devices.load(everybody)
    world.now = 299.0
    world.devices.load(everybody)
    world.now = 301.0
    assert not any(map(world.devices.registered, everybody))
    assert world.table.calls == {"BatchGetItem": 2}


def test_where_the_registry_cannot_be_asked_it_is_asked_once_and_what_needs_it_comes_again(world):
    world.table.register(MINE, key={"B": b64encode(b"x" + KEY).decode()})
    world.devices.load([MINE])
    world.table.refuses = True
    strangers = [(address(n), encrypted(address(n))) for n in range(2, 50)]
    batch = world.handle((MINE, encrypted(MINE)), (MINE, UNKNOWN), (HERS, VALUES), *strangers, (HERS, SAID))
    assert stored(batch) == [MINE, HERS]  # one is remembered, the other's model is in the batch
    assert batch.ignored == {"unknown_format": 1}
    assert batch.failed == dict.fromkeys(range(3, 51), 1)
    assert world.table.calls["BatchGetItem"] == 3  # before, now, and for what a sensor said of its model


def test_two_hundred_devices_share_one_secret_and_it_is_read_once_in_five_minutes(world):
    fleet = [address(n) for n in range(200)]
    for device in fleet:
        world.table.register(device, secret={"S": "fleet/keys"})
    world.services.secrets["fleet/keys"] = json.dumps(dict.fromkeys(fleet, KEY.hex()))
    for now, read in ((0.0, 1), (200.0, 1), (301.0, 2)):
        world.now = now
        assert len(stored(world.handle(*((device, encrypted(device)) for device in fleet)))) == 200
        assert len(world.services.read) == read


def test_a_secret_that_is_lost_is_asked_for_once_in_five_minutes(world):
    fleet = [address(n) for n in range(200)]
    for device in fleet:
        world.table.register(device, secret={"S": "nowhere"})
    for now, read in ((0.0, 1), (200.0, 1), (301.0, 2)):
        world.now = now
        assert world.handle(*((device, encrypted(device)) for device in fleet)).rejected == 200
        assert len(world.services.read) == read


@pytest.mark.parametrize("heard_at", [0.0, 299.0])
def test_a_rotated_secret_is_noticed_within_five_minutes(world, heard_at):
    """Whenever the device was heard, or looked up: what counts is when its secret was read."""
    for device in (MINE, HERS):
        world.table.register(device, secret={"S": "fleet/keys"})
    world.services.secrets["fleet/keys"] = json.dumps({MINE: KEY.hex(), HERS: KEY.hex()})
    assert world.devices[MINE] == KEY
    world.now = heard_at
    assert world.devices[HERS] == KEY
    other = bytes(16)
    world.services.secrets["fleet/keys"] = json.dumps({MINE: other.hex(), HERS: other.hex()})
    world.now = 301.0
    assert (world.devices[MINE], world.devices[HERS]) == (other, other)


def test_a_hundred_sealed_keys_are_opened_once_in_the_life_of_a_container(world):
    fleet = [address(n) for n in range(100)]
    for device in fleet:
        world.table.register(device, key={"B": b64encode(b"x" + KEY).decode()})
    for minute in range(0, 60, 5):
        world.now = minute * 60 + 1.0
        assert len(stored(world.handle(*((device, encrypted(device)) for device in fleet)))) == 100
    assert len(world.services.opened) == 100
    assert world.table.calls == {"BatchGetItem": 12}


def test_a_key_that_was_sealed_anew_is_opened_anew(world):
    world.table.register(MINE, key={"B": b64encode(b"x" + KEY).decode()})
    assert world.devices[MINE] == KEY
    world.table.register(MINE, key={"B": b64encode(b"x" + bytes(16)).decode()})
    world.now = 301.0
    assert world.devices[MINE] == bytes(16)
    world.table.register(MINE)
    world.now = 602.0
    assert MINE not in world.devices


@pytest.mark.parametrize("registry", [True, False])
def test_a_scan_response_explains_what_came_before_it_in_the_batch(world, registry):
    heard = (MINE, VALUES), (MINE, SAID), (HERS, VALUES)
    if registry:
        batch = world.handle(*heard)
    else:
        batch = Batch([record(each) for each in heard], Rules(LIMITS))
        batch.decode()
    assert batch.ignored == {"unknown_format": 1}
    assert stored(batch) == [MINE]
    (group,) = batch.groups.values()
    assert len(group.cells) == 2  # what it said beside its model, and the values
    assert any("temperature" in reading.values for reading in group.cells.values())
    assert batch.ledger()["received"] == 3


EVERYTHING = [
    [(MINE, plain(MINE)), (MINE, encrypted(MINE)), (MINE, encrypted(MINE, bytes(16), 8)), (MINE, plain(MINE)[:-1])],
    [(HERS, plain(HERS)), (HERS, encrypted(HERS)), (HERS, plain(HERS)[:-1]), (HERS, UNKNOWN)],
    [(address(3), encrypted(address(3))), (address(3), VALUES), (address(3), b"\xff")],
    [(address(4), VALUES), (address(4), UNKNOWN), (address(3), UNKNOWN)],
    [(address(3), SAID), (address(4), NAMED)],
    [(MINE, manufacturer_data(0x0499, ruuvi.E1.encode({"temperature": 20, "sequence": 7}, address=MINE))),
     (MINE, manufacturer_data(0x0499, ruuvi.DF6.encode({"temperature": 20, "sequence": 7})))],
]  # fmt: skip


@pytest.mark.parametrize("registered_only", [True, False])
def test_what_becomes_of_a_batch_does_not_depend_on_what_was_remembered(world, registered_only):
    """A batch that comes again writes the same to quarantine, byte by byte, and the same cells."""
    world.table.register(MINE, key={"B": b64encode(b"x" + KEY).decode()})
    world.table.register(address(3))
    cold, warm = (world.handle(*EVERYTHING, registered_only=registered_only) for _ in range(2))
    assert all((cold.rejected, cold.ignored, cold.groups))
    for name in ("received", "ignored", "rejections"):
        assert getattr(cold, name) == getattr(warm, name)
    assert [*cold.groups.items()] == [*warm.groups.items()]
    for key, cells in cold.sources.items():
        assert [*cells.items()] == [*warm.sources[key].items()]
    counts = cold.ledger()
    written = sum(len(found) for sources in cold.sources.values() for found in sources.values())
    assert counts["received"] == written + counts["rejected"] + counts["ignored"]


def test_a_better_format_that_does_not_count_of_a_record_counts_for_what_waits(world):
    """In a redrive: what was rejected alone is decoded, beside what was stored long ago."""
    world.table.register(MINE)
    e1, six = EVERYTHING[-1]
    rules = Rules(LIMITS, world.devices, devices=world.devices, registered_only=True)
    batch = Batch([record(six, e1)], rules, {0: {0}})
    batch.decode()
    assert (batch.ignored, batch.groups) == ({"superseded": 1}, {})


@pytest.mark.parametrize("apart", [True, False], ids=["a record each", "in one record"])
def test_what_waits_is_not_overtaken_by_what_comes_later(world, apart):
    """The first copy is the first that came, whatever beside it nobody knows."""
    world.table.register(MINE, key={"B": b64encode(b"x" + KEY).decode()})
    first, second = ((MINE, plain(MINE), NOW, -50), (MINE, plain(MINE), NOW + 200, -60))
    beside, hidden = (HERS, UNKNOWN, NOW, -90), (MINE, encrypted(MINE), NOW, -40)
    found = []
    for heard in ([first], [second]), ([hidden, beside, first], [second]), ([beside, first], [hidden, second]):
        records = [record(*each) for each in (heard if apart else [heard[0] + heard[1]])]
        batch = Batch(records, Rules(LIMITS, world.devices, devices=world.devices))
        batch.decode()
        (group,) = batch.groups.values()
        measured = [reading.at for reading in group.cells.values() if reading.format == "ruuvi.5"]
        found.append((measured, *group.gateways.values()))
    assert found == [([NOW], -50), ([NOW], -40), ([NOW], -50)]


def test_many_rejections_are_folded_in_the_same_order_whatever_was_remembered(world):
    world.table.register(MINE)
    bad = [(HERS, b"\xff")] * 900
    records = [[(MINE, encrypted(MINE)), *bad], *[bad] * 11]
    cold, warm = (world.handle(*records) for _ in range(2))
    assert cold.rejections == warm.rejections
    assert cold.received == warm.received
    assert any(each.reason == "many" for found in cold.rejections.values() for each in found)


def test_who_says_a_name_that_explains_nothing_is_asked_for_nothing(world):
    """So that a scan response alone does not hold its shard where the registry cannot be asked."""
    world.table.refuses = True
    batch = world.handle((MINE, NAMED), (MINE, SAID), (MINE, UNKNOWN))
    assert (batch.failed, batch.ignored["unknown_format"]) == ({}, 2)


BU = manufacturer_data(0x02D5, bytes([1]) + bytes.fromhex("07c40abc0f1100b8430f00100e0000900100"))
H5101 = structure(0x03, b"\x88\xec") + manufacturer_data(0x0001, bytes.fromhex("010103c1f164"))
"""Without a name beside them both are read; an OMRON 2JCIE-BL and a Govee H5106 send the like, and say their names."""


@pytest.mark.parametrize("registered_only", [True, False])
@pytest.mark.parametrize(
    ("data", "name", "taken", "instead"),
    [(BU, b"EnvSensor-BL01", "omron.bu.1", None), (H5101, b"GVH5106_1234", "govee.h5101", "govee.h5106")],
    ids=["OMRON", "Govee"],
)
def test_a_format_that_a_name_contradicts_is_not_taken_for_granted(world, registered_only, data, name, taken, instead):
    """Whether the name comes before, after, or in an earlier batch; and what is registered changes nothing of it."""
    for device in (MINE, HERS):
        world.table.register(device)
    said = structure(0x09, name)

    def formats(*heard):
        batch = world.handle(*heard, registered_only=registered_only)
        return [reading.format for group in batch.groups.values() for reading in group.cells.values()]

    expected = [instead] if instead else []
    assert formats((HERS, data)) == [taken]
    assert formats((MINE, data), (MINE, said)) == expected
    assert formats((MINE, said), (MINE, data)) == expected
    assert formats((MINE, data)) == expected
    world.now += 301
    assert formats((MINE, data)) == expected


def test_what_a_name_may_contradict_comes_again_where_the_registry_cannot_be_asked(world):
    """Unless the batch itself says the name; nothing else suffers."""
    world.table.refuses = True
    batch = world.handle(
        (MINE, BU), (HERS, plain(HERS)), (address(3), H5101), (address(3), structure(0x09, b"GVH5101_1"))
    )
    assert batch.failed == {0: 1}
    assert stored(batch) == [HERS, address(3)]
