"""Tables of provisioned capacity: what they leave unread is asked for again, in time, and no answer is thrown away."""

from __future__ import annotations

import io
from base64 import b64encode
from types import SimpleNamespace

import orjson
import pytest

from processor.decode.advertisement import manufacturer_data
from processor.decode.formats import ruuvi
from processor.devices import Devices
from processor.errors import TransientError
from processor.ingest import Ingest
from processor.local.inline import Inline
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.quarantine import Quarantine
from processor.reading import Reading
from processor.rollup import Aggregator
from processor.rules import Limits, Rules
from processor.store import items
from processor.store.items import ROUNDS, answers, get_items
from processor.store.reader import Reader
from processor.store.registry import Registry
from processor.store.retries import Retries
from processor.store.rollups import Rollups
from processor.store.states import States
from processor.store.tables import cell_name, cell_value, slot_of
from processor.store.writer import Writer
from processor.telemetry import Telemetry
from processor.vault import REMEMBERED_SECONDS

NOW = 1_700_000_000_000
MINE = "CB:B8:33:4C:88:4F"


class Provisioned:
    """Tables under a virtual clock; reads of `devices` are paid for from a token bucket, as DynamoDB does.

    rate: read units a second, saved for 300 s at most. Of a BatchGetItem as many keys are read as there are units for;
    where there are none for any it is throttled. `read` counts the keys that were.
    """

    def __init__(self, clock, rate, client=None):
        self.clock, self.rate, self.client = clock, rate, client
        self.units, self.at = 0.0, clock.now
        self.asked = self.read = 0

    def call(self, operation, body, *, deadline=None):
        if operation != "BatchGetItem":
            return self.client.call(operation, body, deadline=deadline)
        retries = Retries(sleep=self.clock.sleep, monotonic=self.clock)
        return retries.run(lambda: self.attempt(operation, body), deadline)

    def attempt(self, operation, body):
        self.clock.now += 0.005
        self.units = min(self.rate * 300, self.units + (self.clock.now - self.at) * self.rate)
        self.at = self.clock.now
        ((table, wanted),) = body["RequestItems"].items()
        cost = 1.0 if wanted["ConsistentRead"] else 0.5
        keys = wanted["Keys"]
        self.asked += len(keys)
        count = min(len(keys), int(self.units / cost))
        if not count:
            raise TransientError("ProvisionedThroughputExceededException", "slow down", status=400)
        self.units -= count * cost
        self.read += count
        read, left = keys[:count], keys[count:]
        found = []
        if self.client is not None:
            asked = {"RequestItems": {table: {**wanted, "Keys": read}}}
            found = self.client.call(operation, asked)["Responses"].get(table, [])
        return {"Responses": {table: found}, "UnprocessedKeys": {table: {"Keys": left}} if left else {}}


@pytest.fixture
def virtual(stopwatch, monkeypatch):
    """A clock that pauses move."""
    stopwatch.now = 1000.0
    time = SimpleNamespace(
        monotonic=stopwatch, sleep=stopwatch.sleep, time=lambda: NOW / 1000 + stopwatch.now, perf_counter=stopwatch
    )
    for module in ("batch", "devices", "ingest", "rollup", "store.items", "store.writer", "store.states"):
        monkeypatch.setattr(f"processor.{module}.time", time)
    return stopwatch


@pytest.fixture
def memory():
    return MemoryDynamoDB()


def address(n):
    return f"AA:00:00:00:{n >> 8:02X}:{n & 255:02X}"


@pytest.mark.parametrize(("rate", "count"), [(100, 3_000), (10, 400), (1, 100)])
def test_what_the_registry_answered_is_kept_though_it_did_not_answer_all(virtual, rate, count):
    """However often it has to be asked again, nobody is asked for twice: 20 s each, as ingest has."""
    table = Provisioned(virtual, rate)
    devices = Devices(Registry(table, "devices"), None, clock=virtual)
    names = [address(n) for n in range(count)]
    begun = virtual.now
    for _ in range(20):
        try:
            devices.load(names, deadline=virtual.now + 20)
            break
        except TransientError:
            virtual.sleep(1.0)
    assert all(map(devices.ready, names))
    assert table.read == count
    assert virtual.now - begun < 2.5 * count * 0.5 / rate  # of what the capacity itself takes


def test_nobody_is_asked_for_twice_where_no_deadline_is_set(virtual):
    table = Provisioned(virtual, 10)
    assert list(get_items(table, "devices", [{"device": {"S": address(n)}} for n in range(400)])) == []
    assert table.read == 400


class Unread:
    """Leaves all unread, always."""

    def __init__(self):
        self.calls = 0

    def call(self, operation, body, *, deadline=None):
        self.calls += 1
        assert self.calls < 500, "it is asked without a pause"
        return {"Responses": {}, "UnprocessedKeys": body["RequestItems"]}


def test_between_answers_that_leave_keys_unread_is_a_pause_that_grows(virtual, monkeypatch):
    monkeypatch.setattr(items.random, "random", lambda: 1.0)
    table, begun = Unread(), virtual.now
    with pytest.raises(TransientError, match=f"1 keys left unread after {ROUNDS} tries"):
        list(answers(table, "devices", [{"device": {"S": MINE}}]))
    assert table.calls == ROUNDS
    assert virtual.now - begun == pytest.approx(0.025 * (1 + 2 + 4 + 8 + 16 + 32) + 1.0)


def test_with_a_deadline_keys_are_asked_for_until_it_and_not_after(virtual, monkeypatch):
    monkeypatch.setattr(items.random, "random", lambda: 1.0)
    table = Unread()
    with pytest.raises(TransientError, match="DeadlineExceeded: devices: 1 keys left unread"):
        list(answers(table, "devices", [{"device": {"S": MINE}}], deadline=virtual.now + 30))
    assert 1029 <= virtual.now < 1030
    assert table.calls > 30


def record(number, device, data):
    heard = [{"address": device, "data": data.hex(), "rssi": -60, "timestamp": NOW}]
    sent = orjson.dumps({"payloads": heard, "timestamp": NOW, "imsi": "295050000000001"})
    return {
        "eventID": f"shardId-000000000000:{number}",
        "kinesis": {
            "data": b64encode(sent).decode(), "sequenceNumber": str(number), "approximateArrivalTimestamp": NOW / 1000,
        },
    }  # fmt: skip


def plain():
    data = ruuvi.RAWV2.encode({"temperature": 20.5, "sequence": 1}, address=MINE)
    return manufacturer_data(ruuvi.COMPANY, data)


LEFT = {"batchItemFailures": [{}]}
"""What an invocation answers that did not do all."""


def invoked(handler, records, clock):
    """Invoke a handler that has 60 s, and tell what it answers."""
    end = clock.now + 60
    context = SimpleNamespace(
        aws_request_id="r",
        memory_limit_in_mb=256,
        get_remaining_time_in_millis=lambda: (end - clock.now) * 1000,
    )
    answer = handler.handle({"Records": records}, context)
    assert clock.now < end
    return answer


def ingest_of(table, clock, name):
    """Return the handler, with its registry in the table, too. name: its logger's own."""
    devices = Devices(Registry(table, "processor-devices"), None, clock=clock)
    return Ingest(
        Writer(table, "processor-readings", threads=1),
        Quarantine("bucket", lambda: None),
        Telemetry(name, stream=io.StringIO()),
        Rules(Limits(400 * 86400), devices, devices=devices),
    )


def test_neighbours_noise_does_not_hold_a_shard_where_the_registry_is_slow(virtual, memory):
    """Each invocation gets further, ends in its time, and stores what needs no registry."""
    table = Provisioned(virtual, 5, memory)
    ingest = ingest_of(table, virtual, "test-provisioned")
    noise = manufacturer_data(0xFFFF, b"?")
    records = [record(n, address(n), noise) for n in range(1, 501)]
    records.append(record(501, MINE, plain()))
    made, answer = 0, LEFT
    while answer["batchItemFailures"] and made < 20:
        made += 1
        answer = invoked(ingest, records, virtual)
        assert memory.tables["readings"]  # from the first invocation on
    assert not answer["batchItemFailures"]
    assert made > 1  # or it would show nothing
    assert table.read == 500


def test_more_noise_than_is_remembered_for_long_enough_is_worked_off_in_the_streams_order(virtual, memory):
    """What was answered for later records is of no use when they come: it is forgotten by then."""
    table = Provisioned(virtual, 5, memory)
    ingest = ingest_of(table, virtual, "test-provisioned-order")
    noise = manufacturer_data(0xFFFF, b"?")
    count = 2 * 2 * 5 * round(REMEMBERED_SECONDS)  # half a unit each: twice what is read until the first is forgotten
    records = [record(n, address(n), noise) for n in range(1, count + 1)]
    made = 0
    while records:
        (failed,) = invoked(ingest, records, virtual)["batchItemFailures"] or [{"itemIdentifier": str(count + 1)}]
        left = count + 1 - int(failed["itemIdentifier"])
        assert left < len(records)  # the checkpoint moves, each time
        records = records[len(records) - left :]
        made += 1
    assert made > 10
    assert table.read < 1.1 * count


def test_what_is_forgotten_while_the_rest_is_asked_for_is_asked_for_with_it(virtual):
    class Slow:
        asked = 0

        def answers(self, addresses, *, deadline=None):
            virtual.sleep(20.0)
            self.asked += len(addresses)
            yield dict.fromkeys(addresses)

    registry = Slow()
    devices = Devices(registry, None, clock=virtual)
    names = [address(n) for n in range(500)]
    devices.load(names)
    virtual.sleep(REMEMBERED_SECONDS - 15)
    devices.load([*names, address(500)], deadline=virtual.now + 25)
    assert all(map(devices.ready, names))
    assert registry.asked == 1001


def test_the_roll_up_gets_further_with_each_invocation_where_devices_states_are_read_slowly(virtual, memory):
    table = Provisioned(virtual, 5, memory)
    handler = Aggregator(
        Reader(table, "processor-readings"),
        Rollups(table, "processor-rollups"),
        States(table, "processor-devices"),
        Telemetry("test-provisioned-rollup", stream=io.StringIO()),
        Inline(),
        retention=10**9,
        clock=lambda: NOW / 1000,
        monotonic=virtual,
    )
    start = slot_of(NOW)
    records = []
    for n in range(1, 401):
        reading = Reading(address(400 - n), NOW, "ruuvi.5", {"temperature": 20.5}, n, 7)
        keys = {"device": {"S": reading.device}, "slot": {"N": str(start)}}
        offset = NOW - start * 1000
        memory.tables["readings"][reading.device, str(start)] = keys | {
            cell_name(reading, offset): cell_value(reading, offset)
        }
        change = {"Keys": keys, "SequenceNumber": str(n), "ApproximateCreationDateTime": NOW / 1000}
        records.append({"eventID": str(n), "eventName": "INSERT", "dynamodb": change})
    made, answer = 0, LEFT
    while answer["batchItemFailures"] and made < 20:
        made += 1
        answer = invoked(handler, records, virtual)
        for failed in answer["batchItemFailures"]:
            records = [each for each in records if int(each["eventID"]) >= int(failed["itemIdentifier"])]
    assert not answer["batchItemFailures"]
    assert made > 1  # or it would show nothing
    assert len(memory.tables["devices"]) == 400
    assert table.read < 400 + 100 * made  # what was read beyond the checkpoint is within one request
