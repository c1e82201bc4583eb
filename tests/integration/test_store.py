"""Writer and reader over real sockets, through both clients."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from processor.local.aws import EmbeddedAws
from processor.reading import Reading
from processor.settings import Settings
from processor.store import client, tables
from processor.store.reader import Reader
from processor.store.rollups import Rollup, Rollups
from processor.store.tables import SLOT_MS, cell_name
from processor.store.writer import MAX_CLAUSES, Group, Writer

START = round(time.time() * 1000) // SLOT_MS * SLOT_MS


@pytest.fixture(scope="module")
def aws():
    with EmbeddedAws() as found:
        yield found


@pytest.fixture(params=["wire", "boto3"])
def store(aws, request):
    aws.reset()
    settings = Settings.read(aws.environment() | {"DYNAMODB_CLIENT": request.param})
    every = [settings.table_prefix + noun for noun in tables.SPECIFICATIONS]
    assert tables.create(aws.client("dynamodb"), settings.table_prefix) == every
    with closing(client(settings)) as dynamodb:
        writer = Writer(dynamodb, settings.readings_table, threads=4)
        yield writer, Reader(dynamodb, settings.readings_table, threads=3), aws
        writer.close()


def group(device, count, start=START):
    found = Group(device, start // 1000, START // 1000 + 86_400, gateways={"C8:25:2D:8E:9C:2C": -60})
    for n in range(count):
        reading = Reading(device, start + n, "ruuvi.5", {"temperature": n / 1000, "text": "é", "door": True}, n, 77)
        found.cells[cell_name(reading, n)] = reading
    return found


def test_what_is_written_is_read_back_and_a_second_write_changes_nothing(store):
    writer, reader, _ = store
    groups = [group(f"AA:00:00:00:00:{n:02X}", 5) for n in range(20)]
    first = writer.write(groups, deadline=time.monotonic() + 30)
    assert all(len(written.stored) == 5 for written in first.written)
    assert first.calls == 20
    before = sorted(map(str, reader.scan()))
    again = writer.write(groups, deadline=time.monotonic() + 30)
    assert all(len(written.duplicates) == 5 and not written.stored for written in again.written)
    assert sorted(map(str, reader.scan())) == before
    found = reader.readings("AA:00:00:00:00:03", START, START + SLOT_MS)
    assert [reading.values["temperature"] for reading in found] == [0, 0.001, 0.002, 0.003, 0.004]
    assert found[0].values["text"] == "é"
    assert found[0].values["door"] is True
    assert (found[0].gateway, found[0].rssi) == ("C8:25:2D:8E:9C:2C", -60)
    assert reader.latest("AA:00:00:00:00:03", 2) == found[-2:]
    assert [seen.device for seen in reader.devices()] == sorted(each.device for each in groups)


def test_the_longest_expression_is_within_the_servers_limits(store):
    """The embedded server enforces the 4 KB of an expression, as DynamoDB does."""
    writer, reader, _ = store
    outcome = writer.write([group("AA:00:00:00:00:01", 3 * MAX_CLAUSES)], deadline=time.monotonic() + 30)
    assert len(outcome.written[0].stored) == 3 * MAX_CLAUSES, outcome
    assert len(reader.readings("AA:00:00:00:00:01", START, START + SLOT_MS)) == 3 * MAX_CLAUSES


def test_a_missing_table_makes_everything_fail_and_nothing_invalid(store):
    writer, _, aws = store
    aws.client("dynamodb").delete_table(TableName="processor-readings")
    outcome = writer.write([group("AA:00:00:00:00:01", 2)], deadline=time.monotonic() + 30)
    assert len(outcome.written[0].failed) == 2
    assert "ResourceNotFoundException" in outcome.error


def test_a_roll_up_is_guarded_by_its_cells_until_it_is_rebuilt(store):
    """As tests/unit/test_rollups.py says of tables in memory."""
    rollups = Rollups(store[1]._client, "processor-rollups")

    def state(cells):
        return Rollup("AA:00:00:00:00:01", 1_700_000_100, cells, cells, {})

    assert rollups.put(state(3))
    assert not rollups.put(state(2))
    assert not rollups.rebuild(state(1), marked=True)
    assert rollups.rebuild(state(2))
    assert not rollups.put(state(3))
    assert not rollups.put(state(1), worn=True)
    assert rollups.rebuild(state(1), marked=True)
    assert rollups.put(state(3), worn=True)
    assert not rollups.put(state(4))
    assert list(rollups.all()) == [state(3)]


def test_tables_are_created_once_with_stream_and_ttl(store):
    _, _, aws = store
    dynamodb = aws.client("dynamodb")
    assert tables.create(dynamodb, "processor-") == []
    described = dynamodb.describe_table(TableName="processor-readings")["Table"]
    assert described["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    for name in ("processor-readings", "processor-cache"):
        ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}
