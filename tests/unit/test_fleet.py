"""The simulated fleet: the same seed gives the same bytes, and what it says of itself is what decodes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from processor.decode.formats import model_of
from processor.decode.record import heard
from processor.local.expected import Expected
from processor.local.fleet import Fleet
from processor.local.gateways import Gateway
from processor.local.sensors import IGNORED, MIX, MODELS
from processor.rules import Limits
from processor.store.reader import once

START = 1_790_000_000_000


def fleet(**changes):
    options = {"devices": 40, "gateways": 5, "rate": 40, "seed": 3, "start": START, "malformed": 0.05} | changes
    return Fleet(**options)


def expected(which, sent):
    """What the records must become, had each arrived when it was sent."""
    records = [
        {
            "Data": record.data,
            "SequenceNumber": str(n),
            "ShardId": "shardId-000000000000",
            "ApproximateArrivalTimestamp": datetime.fromtimestamp((START + record.at) / 1000, UTC),
        }
        for n, record in enumerate(sent)
    ]
    return Expected.of(records, Limits(86_400), which.keys)


def test_the_same_seed_and_start_give_the_same_bytes_and_another_seed_others():
    one, same, other = (list(fleet(seed=seed).records(duration_ms=25_000)) for seed in (3, 3, 4))
    assert one == same != other


@pytest.mark.parametrize("seed", range(5))
def test_what_the_fleet_counts_is_what_decodes(seed):
    which = fleet(seed=seed)
    found = expected(which, list(which.records(duration_ms=30_000)))
    assert found.records == which.truth.records
    assert found.advertisements == which.truth.advertisements
    assert found.rejected.total() == which.truth.malformed > 0
    assert found.ignored.total() - found.ignored["superseded"] == which.truth.ignored > 0
    assert {device for device, _, _ in found.cells} == {device for device, _ in which.truth.measured}
    assert found.copies > 0


def stored(found):
    """The readings as they would be read back from the expected cells."""
    devices = {}
    for copies in found.cells.values():
        devices.setdefault(copies[0].device, []).append(copies[0])
    return {device: list(once(each)) for device, each in devices.items()}


def test_the_fleets_own_truth_sees_a_value_a_time_or_a_reading_that_is_wrong():
    which = fleet(malformed=0)
    found = stored(expected(which, list(which.records(duration_ms=30_000))))
    assert which.compare(found) == []
    device = next(sensor.address for sensor in which.sensors if sensor.model == "ruuvi.5")

    def differs(change):
        return which.compare(found | {device: change(list(found[device]))})

    assert differs(lambda each: each[1:])[0].startswith(f"{device} (ruuvi.5): ")
    assert differs(lambda each: each[10:])[0].endswith("not stored, 0 never made")
    assert differs(lambda each: [*each, each[-1]])  # doubled
    assert differs(lambda each: [each[0]._replace(values={"temperature": 99.0}), *each[1:]])
    assert differs(lambda each: [each[0]._replace(at=each[0].at + 60_000), *each[1:]])
    assert which.compare(found | {"AA:AA:AA:AA:AA:AA": found[device][:1]})


def test_a_post_holds_no_more_than_a_gateway_sends_at_once():
    which = fleet(devices=3000, gateways=1, rate=3000, malformed=0)
    sent = list(which.records(measurements=6000))
    assert len(sent) > 5
    assert max(len(record.data) for record in sent) < 200_000


def test_every_model_and_every_gateway_family_takes_part():
    which = fleet(gateways=len(Gateway.FAMILIES))
    list(which.records(duration_ms=30_000))
    assert set(MIX) == set(MODELS)
    assert {sensor.model for sensor in which.sensors} == set(MODELS)
    assert set(which.truth.families) == set(Gateway.FAMILIES)


def test_sensors_of_ten_makers_and_more_give_readings():
    which = fleet(malformed=0)
    found = expected(which, list(which.records(duration_ms=30_000)))
    formats = {copies[0].format.partition(".")[0] for copies in found.cells.values()}
    assert formats >= {
        *("ruuvi", "mibeacon", "qingping", "govee", "omron", "minew", "switchbot", "inkbird", "thermopro", "aranet"),
        *("ela", "bthome", "ibeacon", "eddystone", "pvvx"),
    }
    assert len(set(MODELS) - IGNORED) == 18  # the README says so


def test_a_scan_response_is_an_advertisement_of_its_own_and_explains_others_of_its_record_alone():
    which = fleet(malformed=0)
    sent = list(which.records(duration_ms=30_000))
    found = expected(which, sent)
    bots = {sensor.address for sensor in which.sensors if sensor.model == "switchbot"}
    alone = [
        entry
        for record in sent
        for entry in heard(record.data, START)
        if entry.address in bots and model_of(entry.data) is None
    ]
    assert alone  # what a record's other advertisements have to explain
    assert not found.optional  # nothing is explained by other records only
    assert {device for device, _, _ in found.cells} >= bots


def test_a_neighbours_encrypted_sensor_is_ignored_for_want_of_its_key():
    which = fleet(malformed=0)
    locked = {sensor.address for sensor in which.sensors if sensor.model == "neighbour.locked"}
    assert locked
    assert not locked & which.keys.keys()
    found = expected(which, list(which.records(duration_ms=30_000)))
    assert found.ignored["no_key"] > 0


def test_every_copy_of_a_counted_measurement_is_within_the_skew():
    """The gateways' clocks are 20 s apart either way, but they tell their send time: the difference cancels out."""
    which = fleet(malformed=0)
    times = {}
    for device, slot, name in expected(which, list(which.records(duration_ms=30_000))).cells:
        if name.startswith("c"):
            times.setdefault((device, name), []).append(slot)
    assert len(times) > 100
    assert max(max(slots) - min(slots) for slots in times.values()) <= 15


def test_so_many_measurements_are_taken_and_what_gateways_hold_is_sent_at_the_end():
    which = fleet(malformed=0)
    sent = list(which.records(measurements=100))
    assert 60 <= len(which.truth.measured) <= 100  # a tenth of the advertisements is heard by nobody, some are ignored
    assert sent[-1].at == max(record.at for record in sent)
    assert all(not gateway.heard for gateway in which.gateways)


def test_records_come_in_the_order_of_their_times():
    times = [record.at for record in fleet().records(duration_ms=25_000)]
    assert times == sorted(times)
