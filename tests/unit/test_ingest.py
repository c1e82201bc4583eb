"""The handler: every advertisement ends in the ledger, every failure in the right place, nothing blocks anything."""

from __future__ import annotations

import base64
import io
import json
from itertools import count as count_up
from types import SimpleNamespace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.decode.advertisement import manufacturer_data, service_data
from processor.decode.aggregation import aggregate
from processor.decode.formats import bthome, mibeacon, ruuvi
from processor.errors import InvalidWrite, TransientError
from processor.ingest import Ingest
from processor.quarantine import Quarantine
from processor.rules import Limits, Rules
from processor.store.units import item_size
from processor.store.writer import Writer
from processor.telemetry import Telemetry, ages

NOW = 1_700_000_000_000
DEVICE = "CB:B8:33:4C:88:4F"
GATEWAY = "C8:25:2D:8E:9C:2C"
LIMITS = Limits(400 * 86400)


def rawv2(sequence=205, temperature=24.3, device=DEVICE):
    values = {"temperature": temperature, "humidity": 53.5, "sequence": sequence}
    return manufacturer_data(0x0499, ruuvi.RAWV2.encode(values, address=device))


def funnel(payloads, at=NOW):
    return orjson.dumps({"payloads": payloads, "timestamp": at, "imsi": "295050000000001"})


def listed(*data, at=NOW, device=DEVICE, **changes):
    entries = [{"address": device, "rssi": -60, "timestamp": at, "data": each.hex()} | changes for each in data]
    return funnel(entries, max(at, NOW))


SERVICES = count_up()
"""Each handler logs under a name of its own: Powertools keeps a logger's stream."""


def no_route(operation, key):
    raise ConnectionError("no route to S3")


class Handler:
    """The handler with its clients in memory, and what it printed."""

    def __init__(self, table, bucket, limits=LIMITS, **options):
        self.table = table
        self.bucket = bucket
        self.output = io.StringIO()
        self.quarantine = Quarantine("bucket", lambda: self.bucket)
        self.writer = Writer(table, "processor-readings", threads=2)
        telemetry = Telemetry(f"test-{next(SERVICES)}", stream=self.output)
        self.ingest = Ingest(self.writer, self.quarantine, telemetry, Rules(limits, **options))

    def lines(self):
        return [json.loads(line) for line in self.output.getvalue().splitlines()]

    @property
    def blob(self):
        return [line for line in self.lines() if "_aws" in line][-1]

    @property
    def ledger(self):
        return self.blob["Ledger"]

    def rejected(self):
        return [
            (e["sequence_number"], r["index"], r["reason"]) for e in self.quarantine.entries() for r in e["rejected"]
        ]


@pytest.fixture
def handler(table, new_bucket):
    made = []

    def make(**options):
        made.append(Handler(table, new_bucket(), **options))
        return made[-1]

    yield make
    for each in made:
        each.writer.close()


def count(ledger, **expected):
    assert ledger == {"received": 0, "stored": 0, "duplicates": 0, "rejected": 0, "ignored": 0, "failed": 0} | expected


def test_one_reading_from_a_funnel_envelope_is_stored(handler, context, kinesis_event, table):
    run = handler()
    assert run.ingest.handle(kinesis_event(listed(rawv2())), context) == {"batchItemFailures": []}
    count(run.ledger, received=1, stored=1)
    ((key, item),) = table.items.items()
    assert key == (DEVICE, NOW // 15000 * 15)
    assert item["g295050000000001"] == {"N": "-60"}
    (cell,) = (value["M"] for name, value in item.items() if name.startswith("c205."))
    assert cell["t"] == {"N": "24.3"}
    assert int(item["expires"]["N"]) == key[1] + 15 + 400 * 86400


def test_every_record_of_the_batch_is_handled_and_copies_are_counted(handler, context, kinesis_event):
    run = handler()
    event = kinesis_event(*(listed(rawv2(n)) for n in range(50)), listed(rawv2(0), rawv2(1)))
    run.ingest.handle(event, context)
    count(run.ledger, received=52, stored=50, duplicates=2)
    run.ingest.handle(event, context)
    count(run.ledger, received=52, duplicates=52)


def test_a_replay_changes_no_stored_byte(handler, context, kinesis_event, table):
    run = handler()
    run.ingest.handle(kinesis_event(*(listed(rawv2(n)) for n in range(9))), context)
    before = orjson.dumps(sorted((k, sorted(v.items())) for k, v in table.items.items()))
    run.ingest.handle(kinesis_event(*(listed(rawv2(n)) for n in reversed(range(9))), first=100), context)
    assert orjson.dumps(sorted((k, sorted(v.items())) for k, v in table.items.items())) == before


def test_an_aggregated_record_is_taken_apart(handler, context, kinesis_event):
    run = handler()
    run.ingest.handle(kinesis_event(aggregate([listed(rawv2(n)) for n in range(3)])), context)
    count(run.ledger, received=3, stored=3)


BAD = {
    "not json": (b"{not json", None),
    "wrong utf-8": (b'{"payloads":"\xff\xfe"}', None),
    "empty": (b"", None),
    "nan": (b'{"payloads":[{"address":"CBB8334C884F","rssi":NaN,"data":"00"}]}', None),
    "keys twice": (b'{"payloads":[{"address":"CBB8334C884F","data":"00","data":"01"}]}', None),
    "neither base64 nor json": (funnel("AAA*"), None),
    "base64 of nothing known": (funnel("qqqqqqqq"), None),
    "nested too deeply": (b'{"payloads":' + b"[" * 3000 + b"]" * 3000 + b"}", None),
    "truncated record": (listed(rawv2())[:-20], None),
    "truncated advertisement": (listed(rawv2()[:-1]), 0),
    "not hexadecimal": (listed(b"", data="zz"), 0),
    "no gateway known": (funnel({"temperature": 20}), None),
    "measured in 1969": (listed(rawv2(), at=-5_000), 0),
    "wrong length of format": (listed(manufacturer_data(0x0499, b"\x05\x00")), 0),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_quarantined_whole_and_blocks_nothing(handler, context, kinesis_event, name):
    data, _ = BAD[name]
    run = handler()
    event = kinesis_event(listed(rawv2(1)), data, listed(rawv2(2)))
    assert run.ingest.handle(event, context) == {"batchItemFailures": []}
    count(run.ledger, received=3, stored=2, rejected=1)
    (entry,) = run.quarantine.entries()
    assert base64.b64decode(entry["data"]) == data
    assert entry["sequence_number"] == event["Records"][1]["kinesis"]["sequenceNumber"]
    assert entry["rejected"][0]["message"]
    assert run.blob["Reasons"] == {entry["rejected"][0]["reason"]: 1}


def test_invalid_base64_in_the_event_itself_is_rejected(handler, context, kinesis_event):
    run = handler()
    run.ingest.handle(kinesis_event("A", listed(rawv2())), context)
    count(run.ledger, received=2, stored=1, rejected=1)
    assert [(index, reason) for _, index, reason in run.rejected()] == [(None, "base64")]


def test_one_bad_advertisement_among_good_ones_is_the_only_one_rejected(handler, context, kinesis_event):
    run = handler()
    run.ingest.handle(kinesis_event(listed(rawv2(1), rawv2(2)[:-1], rawv2(3))), context)
    count(run.ledger, received=3, stored=2, rejected=1)
    assert [(index, reason) for _, index, reason in run.rejected()] == [(1, "truncated")]


def test_unknown_formats_and_sentinels_are_ignored_by_kind_and_shown_on_request(handler, context, kinesis_event):
    run = handler(samples=1)
    nothing = manufacturer_data(0x0499, bytes.fromhex("058000FFFFFFFF800080008000FFFFFFFFFFFFFFFFFFFFFF"))
    run.ingest.handle(kinesis_event(listed(nothing, manufacturer_data(0xFFFF, b"?"), b"")), context)
    count(run.ledger, received=3, ignored=3)
    assert run.blob["Ignored"] == {"no_value": 1, "unknown_format": 2}
    (log,) = (line for line in run.lines() if line.get("message") == "batch")
    assert log["samples"] == [f"{DEVICE} {nothing.hex()}"]


def test_an_encrypted_sensor_without_a_key_is_ignored_and_one_with_a_wrong_key_is_rejected(
    handler, context, kinesis_event
):
    key = bytes(range(16))
    values = {"packet_id": 1, "temperature": 21.5}
    sent = [
        listed(service_data(bthome.UUID, bthome.encode(values, key=key, address=each, counter=1)), device=each)
        for each in ("AA:00:00:00:00:01", "AA:00:00:00:00:02", "AA:00:00:00:00:03")
    ]
    run = handler(keys={"AA:00:00:00:00:01": key, "AA:00:00:00:00:02": bytes(16)})
    run.ingest.handle(kinesis_event(*sent), context)
    count(run.ledger, received=3, stored=1, rejected=1, ignored=1)
    assert run.blob["Ignored"] == {"no_key": 1}
    assert run.blob["Reasons"] == {"key": 1}


class Known:
    """A registry of some devices."""

    def __init__(self, *addresses):
        self.addresses = addresses

    def load(self, addresses):
        pass

    def ready(self, address, *, key=False):
        return True

    def registered(self, address):
        return address in self.addresses

    def lacking(self, address):
        return ""

    def heard(self, address):
        return None


def test_an_encrypted_frame_is_its_own_address_s_where_the_gateway_gives_none(handler, context, kinesis_event):
    values = {"temperature": 21.5}
    data = service_data(mibeacon.UUID, mibeacon.encode(values, product=0x055B, address=DEVICE, key=bytes(16)))
    run = handler(devices=Known(DEVICE))
    run.ingest.handle(kinesis_event(listed(data, device=None)), context)
    count(run.ledger, received=1, rejected=1)
    assert run.blob["Reasons"] == {"key_missing": 1}


@pytest.mark.parametrize(("only", "rejected"), [(True, 1), (False, 2)])
def test_where_registered_devices_alone_count_a_neighbour_s_broken_advertisement_is_ignored(
    handler, context, kinesis_event, only, rejected
):
    broken = manufacturer_data(0x0499, b"\5\0")
    run = handler(devices=Known(DEVICE), registered_only=only)
    run.ingest.handle(kinesis_event(listed(broken), listed(broken, device="AA:00:00:00:00:01")), context)
    count(run.ledger, received=2, rejected=rejected, ignored=2 - rejected)
    assert run.blob["Ignored"] == ({"unregistered": 1} if only else {})


class Unreachable:
    """A registry that cannot be asked, and says so for each device."""

    def load(self, addresses):
        raise TransientError("ThrottlingException", "slow down")

    def ready(self, address, *, key=False):
        return False

    def registered(self, address):
        raise TransientError("ThrottlingException", "slow down")

    heard = registered


@pytest.mark.parametrize(
    ("data", "registered_only"),
    [(rawv2(), True), (manufacturer_data(0x0499, b"\5\0"), True), (manufacturer_data(0xFFFF, b"?"), False),
     (service_data(bthome.UUID, bthome.encode({"temperature": 20}, key=bytes(16), address=DEVICE, counter=1)), False)],
    ids=["registered only", "broken", "unknown model", "no key here"],
)  # fmt: skip
def test_where_the_registry_cannot_be_asked_the_record_comes_again(
    handler, context, kinesis_event, data, registered_only
):
    run = handler(devices=Unreachable(), registered_only=registered_only)
    event = kinesis_event(listed(data))
    answer = run.ingest.handle(event, context)
    assert answer["batchItemFailures"] == [{"itemIdentifier": event["Records"][0]["kinesis"]["sequenceNumber"]}]
    count(run.ledger, received=1, failed=1)


def test_format_6_is_ignored_where_the_same_sensor_sent_e1(handler, context, kinesis_event):
    values = {"temperature": 20, "sequence": 7}
    six, e1 = ruuvi.DF6.encode(values), ruuvi.E1.encode(values, address=DEVICE)
    run = handler()
    run.ingest.handle(kinesis_event(listed(manufacturer_data(0x0499, six), manufacturer_data(0x0499, e1))), context)
    count(run.ledger, received=2, stored=1, ignored=1)
    next_six = ruuvi.DF6.encode(values | {"sequence": 8})  # a sample of which no E1 was heard
    run.ingest.handle(
        kinesis_event(listed(manufacturer_data(0x0499, next_six), manufacturer_data(0x0499, e1))), context
    )
    count(run.ledger, received=2, stored=1, duplicates=1)
    run.ingest.handle(kinesis_event(listed(manufacturer_data(0x0499, six), device="AA:AA:AA:AA:AA:AA")), context)
    count(run.ledger, received=1, stored=1)


def test_times_outside_the_window_are_rejected_and_those_at_its_edge_are_not(handler, context, kinesis_event):
    def at(measured, sequence):
        return funnel({"timestamp": NOW, "advertisements": [
            {"address": DEVICE, "timestamp": measured, "data": rawv2(sequence).hex()}]})  # fmt: skip

    run = handler(limits=Limits(3600, 60))
    edge = [NOW - 3_600_000, NOW + 60_000]
    run.ingest.handle(kinesis_event(*(at(t, n) for n, t in enumerate([*edge, edge[0] - 1, edge[1] + 1])),
                                    arrived_at=NOW), context)  # fmt: skip
    count(run.ledger, received=4, stored=2, rejected=2)
    assert {reason for _, _, reason in run.rejected()} == {"timestamp"}


def test_old_captures_are_taken_when_expiry_counts_from_arrival(handler, context, kinesis_event, table):
    run = handler(limits=Limits(3600, 60, expires_from_arrival=True))
    run.ingest.handle(kinesis_event(listed(rawv2(), at=NOW - 10**11), arrived_at=NOW), context)
    count(run.ledger, received=1, stored=1)
    ((_, item),) = table.items.items()
    assert int(item["expires"]["N"]) >= NOW // 1000 + 3600 - 15


def test_throttling_returns_the_lowest_sequence_number_and_a_retry_finishes(handler, context, kinesis_event, table):
    def fail(operation, body):
        if body["Key"]["device"]["S"].startswith("BB"):
            raise TransientError("ThrottlingException", "slow down", status=400)

    table.fail = fail
    run = handler()
    event = kinesis_event(
        *(listed(rawv2(1), device=f"{pair}:00:00:00:00:01") for pair in ("AA", "BB", "CC", "BB")), first=98
    )
    answer = run.ingest.handle(event, context)
    assert answer == {"batchItemFailures": [{"itemIdentifier": event["Records"][1]["kinesis"]["sequenceNumber"]}]}
    count(run.ledger, received=4, stored=2, failed=2)
    table.fail = lambda operation, body: None
    assert run.ingest.handle({"Records": event["Records"][1:]}, context) == {"batchItemFailures": []}
    count(run.ledger, received=3, stored=1, duplicates=2)


def test_the_lowest_number_is_found_as_a_number_and_given_as_it_came(handler, context, kinesis_event, table, throttled):
    table.fail = throttled
    run = handler()
    event = kinesis_event(listed(rawv2(1)), listed(rawv2(2)))
    event["Records"][0]["kinesis"]["sequenceNumber"] = "0100"
    event["Records"][1]["kinesis"]["sequenceNumber"] = "99"
    assert run.ingest.handle(event, context) == {"batchItemFailures": [{"itemIdentifier": "99"}]}


def test_with_its_time_up_the_handler_writes_nothing_and_asks_for_the_batch_again(
    handler, context, kinesis_event, table
):
    context.get_remaining_time_in_millis = lambda: 0
    run = handler()
    event = kinesis_event(listed(rawv2(1)), listed(rawv2(2)))
    answer = run.ingest.handle(event, context)
    assert answer["batchItemFailures"][0]["itemIdentifier"] == event["Records"][0]["kinesis"]["sequenceNumber"]
    count(run.ledger, received=2, failed=2)
    assert not table.calls


def test_a_function_of_a_few_seconds_writes_too(handler, context, kinesis_event):
    context.get_remaining_time_in_millis = lambda: 8_000
    run = handler()
    run.ingest.handle(kinesis_event(listed(rawv2(1))), context)
    count(run.ledger, received=1, stored=1)


def test_a_write_that_dynamodb_calls_invalid_is_quarantined_alone(handler, context, kinesis_event, table):
    def fail(operation, body):
        if any(name.startswith("c2.") for name in body["ExpressionAttributeNames"].values()):
            raise InvalidWrite("ValidationException", "no", status=400)

    table.fail = fail
    run = handler()
    run.ingest.handle(kinesis_event(*(listed(rawv2(n)) for n in range(1, 4)), listed(rawv2(2))), context)
    count(run.ledger, received=4, stored=2, rejected=2)
    assert [reason for _, _, reason in run.rejected()] == ["invalid_write", "invalid_write"]


def test_where_quarantine_cannot_be_written_the_record_comes_again(handler, context, kinesis_event):
    run = handler()
    run.bucket.before = no_route
    event = kinesis_event(listed(rawv2(1)), b"{bad", listed(rawv2(2)))
    answer = run.ingest.handle(event, context)
    assert answer["batchItemFailures"][0]["itemIdentifier"] == event["Records"][1]["kinesis"]["sequenceNumber"]
    count(run.ledger, received=3, stored=2, failed=1)
    run.bucket.before = lambda operation, key: None
    run.ingest.handle({"Records": event["Records"][1:]}, context)
    count(run.ledger, received=2, duplicates=1, rejected=1)


def test_a_batch_rejected_twice_is_listed_once(handler, context, kinesis_event):
    run = handler()
    event = kinesis_event(b"{bad", listed(rawv2()[:-1]))
    run.ingest.handle(event, context)
    run.ingest.handle(event, context)
    run.ingest.handle({"Records": event["Records"][1:]}, context)
    assert len(list(run.quarantine.entries())) == 2
    assert len(run.bucket.objects) == 2


def test_an_empty_batch_is_handled(handler, context):
    run = handler()
    assert run.ingest.handle({"Records": []}, context) == {"batchItemFailures": []}
    count(run.ledger)


def test_ten_thousand_tiny_records_in_one_batch(handler, context, kinesis_event):
    run = handler()
    run.ingest.handle(kinesis_event(*[b"{}"] * 9_990, *(listed(rawv2(n)) for n in range(10))), context)
    count(run.ledger, received=10_000, stored=10, rejected=9_990)
    assert len(list(run.quarantine.entries())) == 9_990


@pytest.mark.parametrize("megabytes", [1, 10])
def test_a_record_of_megabytes_is_read_to_its_end(handler, context, kinesis_event, megabytes):
    one = [{"address": DEVICE, "timestamp": NOW - 10**7, "data": rawv2(1).hex()}]
    n = megabytes * 1024 * 1024 // len(orjson.dumps(one)) - 4
    sent = [rawv2(sequence).hex() for sequence in range(500)]
    data = funnel([one[0] | {"timestamp": NOW - 100 * each, "data": sent[each % 500]} for each in range(n)])
    assert megabytes * 1024 * 1024 * 0.97 < len(data) <= megabytes * 1024 * 1024
    run = handler()
    run.ingest.handle(kinesis_event(data), context)
    count(run.ledger, received=n, stored=n)


def test_what_would_pass_400_kilobytes_in_one_slot_is_quarantined(handler, context, kinesis_event, table):
    run = handler()
    run.ingest.handle(kinesis_event(listed(*(rawv2(n) for n in range(14_000)))), context)
    ledger = run.ledger
    assert ledger["received"] == 14_000 == ledger["stored"] + ledger["rejected"]
    assert ledger["rejected"] > 0
    ((_, item),) = table.items.items()
    assert 390 * 1024 < item_size(item) <= 400 * 1024
    assert {reason for _, _, reason in run.rejected()} == {"invalid_write"}


def test_a_thousand_cells_of_one_slot_are_all_stored(handler, context, kinesis_event):
    run = handler()
    run.ingest.handle(kinesis_event(listed(*(rawv2(n) for n in range(1000)))), context)
    count(run.ledger, received=1000, stored=1000)


def test_one_log_line_and_one_emf_blob_for_each_batch(handler, context, kinesis_event):
    run = handler()
    for first in (0, 100):
        run.ingest.handle(kinesis_event(*(listed(rawv2(n)) for n in range(20)), first=first), context)
    blobs = [line for line in run.lines() if "_aws" in line]
    logs = [line for line in run.lines() if "_aws" not in line]
    assert len(blobs) == len(logs) == 2
    assert [blob["ColdStart"] for blob in blobs] == [True, False]
    names = {metric["Name"] for metric in blobs[0]["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert names == {"ReadingsStored", "Duplicates", "RecordsRejected", "RecordsFailed", "BatchDuration", "RecordAge",
                     "MemoryUsed", "MemoryUtilization"}  # fmt: skip
    assert blobs[0]["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]
    assert 0 < blobs[0]["MemoryUsed"][0] <= blobs[0]["MemoryPeakMB"]
    assert blobs[0]["MemoryUtilization"][0] == pytest.approx(100 * blobs[0]["MemoryPeakMB"] / 256, abs=0.1)
    assert blobs[0]["WriteUnits"] == blobs[0]["WriteCalls"] == 1
    assert {"DecodeMs", "WriteMs", "QuarantineMs"} <= set(blobs[0])
    assert blobs[0]["DecodeMs"] > 0
    assert logs[0]["level"] == "INFO"


def test_a_failed_batch_is_a_warning_that_says_why(handler, context, kinesis_event, table, throttled):
    table.fail = throttled
    run = handler()
    run.ingest.handle(kinesis_event(listed(rawv2())), context)
    (log,) = (line for line in run.lines() if "_aws" not in line)
    assert log["level"] == "WARNING"
    assert "ThrottlingException" in log["error"]
    assert (log["received"], log["failed"], log["request_id"]) == (1, 1, "request-1")


def test_the_first_rssi_of_a_gateway_stays(handler, context, kinesis_event, table):
    run = handler()
    run.ingest.handle(kinesis_event(listed(rawv2(1), rssi=-70), listed(rawv2(2), rssi=-50)), context)
    ((_, item),) = table.items.items()
    assert item["g295050000000001"] == {"N": "-70"}


def test_an_advertisement_with_two_readings_has_two_outcomes(handler, context, kinesis_event):
    both = rawv2() + service_data(bthome.UUID, bthome.encode({"packet_id": 1, "temperature": 21.5}))
    run = handler()
    run.ingest.handle(kinesis_event(listed(both)), context)
    count(run.ledger, received=2, stored=2)


def test_a_reading_of_its_count_alone_is_ignored(handler, context, kinesis_event):
    only = service_data(bthome.UUID, bthome.encode({"packet_id": 1}))
    run = handler()
    run.ingest.handle(kinesis_event(listed(only)), context)
    count(run.ledger, received=1, ignored=1)


def test_ages_sample_a_large_batch_evenly_with_its_oldest():
    found = ages((1000 - n for n in range(1000)), 1000)
    assert len(found) == 50
    assert found[0] == 999_000
    assert ages([], 1000) == [0.0]


kinds = st.lists(st.sampled_from(["good", "copy", "bad", "half", "unknown", "throttled", "invalid"]), max_size=12)


@given(kinds, st.booleans())
def test_the_ledger_balances_and_only_what_failed_comes_again(new_table, new_bucket, kinds, quarantine_works):
    """received = stored + duplicates + rejected + ignored + failed, and the lowest number is the first that failed."""
    make = {
        "good": lambda n: listed(rawv2(n)),
        "copy": lambda n: listed(rawv2(60_000), rawv2(60_000)),
        "bad": lambda n: b"{bad",
        "half": lambda n: listed(rawv2(n), rawv2(n)[:-1]),
        "unknown": lambda n: listed(manufacturer_data(0xFFFF, b"?")),
        "throttled": lambda n: listed(rawv2(n), device="BB:00:00:00:00:01"),
        "invalid": lambda n: listed(rawv2(n), device="DD:00:00:00:00:01"),
    }

    def fail(operation, body):
        device = body["Key"]["device"]["S"]
        if device.startswith("BB"):
            raise TransientError("ThrottlingException", "slow down", status=400)
        if device.startswith("DD"):
            raise InvalidWrite("ValidationException", "no", status=400)

    table = new_table()
    table.fail = fail
    run = Handler(table, new_bucket())
    if not quarantine_works:
        run.bucket.before = no_route
    records = [
        {
            "kinesis": {
                "sequenceNumber": str(n),
                "data": base64.b64encode(make[kind](n)).decode(),
                "approximateArrivalTimestamp": NOW / 1000,
            },
            "eventID": f"shardId-000000000000:{n}",
        }
        for n, kind in enumerate(kinds)
    ]
    remaining = SimpleNamespace(aws_request_id="r", memory_limit_in_mb=256, get_remaining_time_in_millis=lambda: 60_000)
    answer = run.ingest.handle({"Records": records}, remaining)
    run.writer.close()
    ledger = run.ledger
    assert ledger.pop("received") == sum(ledger.values()) == sum(2 if kind in ("copy", "half") else 1 for kind in kinds)
    again = {"throttled"} if quarantine_works else {"throttled", "bad", "half", "invalid"}
    failed = [str(n) for n, kind in enumerate(kinds) if kind in again]
    assert answer["batchItemFailures"] == [{"itemIdentifier": number} for number in failed[:1]]
    assert ledger["ignored"] == kinds.count("unknown")
    assert ledger["stored"] == kinds.count("good") + kinds.count("half") + ("copy" in kinds)
