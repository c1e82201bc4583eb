"""Bindkeys that cannot be had: who suffers, how often they are asked for, and that somebody is told why."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

import processor.batch
from processor.batch import Batch
from processor.decode.advertisement import manufacturer_data, service_data
from processor.decode.formats import bthome, ruuvi
from processor.devices import Devices
from processor.errors import TransientError
from processor.rules import Limits, Rules
from processor.store.registry import Device
from processor.vault import REMEMBERED_SECONDS, Vault
from tests.unit.test_provisioned import address, record

KEY = bytes(range(16))
PLAIN = address(99)


class Table:
    """A registry that answers."""

    def __init__(self, *devices):
        self.devices = {device.address: device for device in devices}

    def answers(self, addresses, *, deadline=None):
        yield {each: self.devices.get(each) for each in addresses}


class Service:
    """KMS and Secrets Manager, which refuse with a code, after some seconds, or without one give the key."""

    def __init__(self, clock, code, seconds=0.0):
        self.clock, self.code, self.seconds = clock, code, seconds
        self.asked = []

    def answer(self, what):
        self.asked.append(what)
        self.clock.sleep(self.seconds)
        if self.code:
            raise ClientError({"Error": {"Code": self.code, "Message": "not you"}}, "Decrypt")

    def decrypt(self, CiphertextBlob, EncryptionContext):  # noqa: N803 - AWS's names
        self.answer(EncryptionContext["device"])
        return {"Plaintext": CiphertextBlob}

    def get_secret_value(self, SecretId):  # noqa: N803
        self.answer(SecretId)
        return {"SecretString": KEY.hex()}


@pytest.fixture
def clock(stopwatch, monkeypatch):
    time = SimpleNamespace(monotonic=stopwatch)
    for module in ("batch", "devices"):
        monkeypatch.setattr(f"processor.{module}.time", time)
    return stopwatch


def world(clock, service, *devices):
    keys = Devices(Table(*devices), Vault(lambda: service, lambda: service, clock=clock), clock=clock)
    return Rules(Limits(400 * 86400), keys, devices=keys)


def decoded(rules, *heard, deadline=None):
    """Decode a batch with what these devices encrypted, a record each, and one that needs no key at its end."""
    records = [record(n, each, encrypted(each)) for n, each in enumerate(heard, 1)]
    data = ruuvi.RAWV2.encode({"temperature": 20.5, "sequence": 1}, address=PLAIN)
    records.append(record(len(heard) + 1, PLAIN, manufacturer_data(ruuvi.COMPANY, data)))
    batch = Batch(records, rules)
    batch.decode(deadline)
    assert any(device == PLAIN for device, _ in batch.groups)
    return batch


def encrypted(device):
    data = bthome.encode({"packet_id": 1, "temperature": 21.5}, key=KEY, address=device, counter=7)
    return service_data(bthome.UUID, data)


KEPT = [{"key": KEY}, {"secret": "fleet/keys"}]


@pytest.mark.parametrize("kept", KEPT, ids=["sealed", "secret"])
def test_a_key_that_is_denied_stops_its_own_device_and_no_shard(clock, kept):
    """And whoever looks into quarantine is told why."""
    service = Service(clock, "AccessDeniedException")
    rules = world(clock, service, Device(address(1), name="x", **kept))
    batch = decoded(rules, *[address(1)] * 40)
    assert batch.response() == {"batchItemFailures": []}
    assert len(batch.rejections) == 40
    (rejection,) = batch.rejections[0]
    assert rejection.reason == "key_missing"
    assert "AccessDeniedException" in rejection.message
    assert "not you" in rejection.message
    assert len(service.asked) == 1
    assert decoded(rules, address(1)).rejections == {0: [rejection]}  # remembered: the same, byte by byte


@pytest.mark.parametrize("kept", KEPT, ids=["sealed", "secret"])
def test_a_right_that_was_mended_is_noticed_within_five_minutes(clock, kept):
    service = Service(clock, "AccessDeniedException")
    rules = world(clock, service, Device(address(1), **kept), Device(address(2), secret="fleet/keys"))
    assert decoded(rules, address(2)).rejected == 1
    asked = 0.0 if "secret" in kept else 200.0
    clock.now = 200.0
    assert decoded(rules, address(1)).rejected == 1
    service.code = ""
    clock.now = asked + REMEMBERED_SECONDS + 1
    assert decoded(rules, address(1)).rejected == 0


@pytest.mark.parametrize("kept", KEPT, ids=["sealed", "secret"])
def test_a_key_that_cannot_be_had_now_is_asked_for_once_in_a_batch(clock, kept):
    """A secret that many devices share, too: once for all of them. The next batch asks again."""
    fleet = [address(n) for n in range(1, 4)] if "secret" in kept else [address(1)]
    service = Service(clock, "DisabledException")
    rules = world(clock, service, *(Device(each, **kept) for each in fleet))
    batch = decoded(rules, *fleet * 40)
    assert batch.failed == dict.fromkeys(range(40 * len(fleet)), 1)
    assert len(service.asked) == 1
    decoded(rules, *fleet)
    assert len(service.asked) == 2
    service.code = ""
    assert not decoded(rules, *fleet).failed


def test_keys_that_nobody_answers_for_take_half_of_the_time_and_all_else_is_written(clock):
    """Two tries of three seconds each: nine of them took the whole invocation with them."""
    fleet = [address(n) for n in range(1, 31)]
    service = Service(clock, "InternalFailure", seconds=6.0)
    rules = world(clock, service, *(Device(each, key=KEY) for each in fleet))
    batch = decoded(rules, *fleet, deadline=clock.now + 50)
    assert len(service.asked) == 5
    assert batch.failed == dict.fromkeys(range(30), 1)
    assert clock.now < 50


def test_time_spent_in_decoding_is_none_that_was_waited_for_answers(clock, monkeypatch):
    """Where decoding takes more than half of the time, what waits for the registry is asked for all the same."""
    decode = processor.batch.heard

    def slowly(*given):
        clock.sleep(0.3)
        return decode(*given)

    monkeypatch.setattr(processor.batch, "heard", slowly)
    service = Service(clock, "")
    rules = world(clock, service, Device(address(1), key=KEY))
    batch = decoded(rules, *[address(1)] * 100, deadline=clock.now + 50)
    assert batch.response() == {"batchItemFailures": []}
    assert clock.now > 25


def test_a_secret_that_was_read_is_told_after_the_time_for_asking(clock):
    service = Service(clock, "")
    rules = world(
        clock, service, *(Device(address(n), secret="fleet/keys") for n in (1, 2)), Device(address(3), key=KEY)
    )
    rules.devices.load([address(n) for n in (1, 2, 3)])
    lookups = rules.devices.within(clock.now + 10, 0.5)
    assert lookups[address(1)] == KEY
    clock.sleep(10)
    assert lookups[address(2)] == KEY
    with pytest.raises(TransientError, match=f"no time was left to ask for the sealed bindkey of {address(3)}"):
        lookups[address(3)]
    assert service.asked == ["fleet/keys"]
