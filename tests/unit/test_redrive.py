"""Redrive: what was rejected is stored, or comes back with one more attempt; nothing leaves before it is stored."""

from __future__ import annotations

import copy
from dataclasses import asdict, fields

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.batch import Batch
from processor.decode.advertisement import manufacturer_data, service_data
from processor.decode.formats import bthome, ruuvi
from processor.errors import InvalidWrite, SettingsError, SourceError, TransientError
from processor.quarantine import Quarantine, Rejection
from processor.redrive import Counts, Redrive
from processor.rules import Limits, Rules
from processor.selection import Selection
from processor.store.writer import Writer

NOW = 1_700_000_000_000
DEVICE, OTHER = "CB:B8:33:4C:88:4F", "AA:00:00:00:00:02"
KEY = bytes(range(16))
SHARD = "shardId-000000000000"


def rawv2(sequence=1, device=DEVICE):
    return manufacturer_data(0x0499, ruuvi.RAWV2.encode({"temperature": 20.5, "sequence": sequence}, address=device))


def sealed(counter=1, device=OTHER):
    """An advertisement that only its key opens: rejected as long as the device is registered without one."""
    return service_data(bthome.UUID, bthome.encode({"temperature": 21}, key=KEY, address=device, counter=counter))


def listed(*advertisements, at=NOW):
    entries = [{"address": device, "rssi": -60, "timestamp": at, "data": data.hex()} for device, data in advertisements]
    return orjson.dumps({"payloads": entries, "timestamp": at, "imsi": "295050000000001"})


class Everybody:
    """A registry in which all are registered, and nothing else is known."""

    def load(self, addresses):
        pass

    def ready(self, address, *, key=False):
        return True

    def registered(self, address):
        return True

    def lacking(self, address):
        return ""

    def heard(self, address):
        return None

    def learn(self, models):
        pass


class Bench:
    """A quarantine and a table in memory, with what fills one and empties it into the other."""

    def __init__(self, table, bucket, keys=(), limits=Limits(400 * 86400)):  # noqa: B008 - it is a tuple
        self.table, self.bucket = table, bucket
        self.writer = Writer(table, "processor-readings", threads=2)
        self.quarantine = Quarantine("bucket", lambda: bucket)
        self.rules = Rules(limits, dict.fromkeys(keys, KEY), devices=Everybody())
        self.now = NOW / 1000

    def redrive(self, selection=Selection(), **options):  # noqa: B008 - it is frozen
        job = Redrive(self.quarantine, self.writer, self.rules, clock=lambda: self.now)
        return job.redrive(selection, **options)

    def rejected(self):
        return {
            (int(entry["sequence_number"]), each["index"]): (each["reason"], entry["attempts"])
            for entry in self.quarantine.entries()
            for each in entry["rejected"]
        }

    def cells(self):
        return sorted(
            (device, slot, name)
            for (device, slot), item in self.table.items.items()
            for name, value in item.items()
            if "M" in value
        )


@pytest.fixture
def bench(table, bucket):
    made = []

    def make(**options):
        made.append(Bench(table, bucket, **options))
        return made[-1]

    yield make
    for each in made:
        each.writer.close()


def balanced(counts):
    parts = counts.stored + counts.duplicates + counts.failed_again + counts.ignored + counts.left + counts.ready
    assert counts.redriven == parts
    return {
        each.name: value
        for each in fields(counts)
        if (value := getattr(counts, each.name)) and each.name not in ("records", "reasons", "error")
    }


def fill(bench, kinesis_event, first=1, at=NOW):
    """Two records in one object: one with a sealed advertisement among others, one that will never decode."""
    records = kinesis_event(
        listed((DEVICE, rawv2()), (OTHER, sealed()), (DEVICE, rawv2(2)[:-1])), b"{broken", first=first, arrived_at=at
    )["Records"]
    bench.quarantine.put(
        [
            (records[0], [Rejection(1, "key_missing", "no key"), Rejection(2, "truncated", "cut")]),
            (records[1], [Rejection(None, "json", "broken")]),
        ]
    )


def test_what_decodes_now_is_stored_alone_and_what_fails_again_comes_back_with_one_more_attempt(bench, kinesis_event):
    run = bench(keys=[OTHER])
    fill(run, kinesis_event)
    counts = run.redrive()
    assert balanced(counts) == {"redriven": 3, "stored": 1, "failed_again": 2}
    assert counts.reasons == {"truncated": 2}  # `{broken` is JSON that ends too early
    assert [device for device, _, _ in run.cells()] == [OTHER]  # the advertisement beside it was never rejected
    assert run.rejected() == {(1, 2): ("truncated", 2), (2, None): ("truncated", 2)}
    assert balanced(run.redrive()) == {"redriven": 2, "failed_again": 2}
    assert {attempts for _, attempts in run.rejected().values()} == {3}


def test_the_object_is_removed_when_nothing_of_it_fails_any_more(bench, kinesis_event):
    run = bench(keys=[OTHER])
    (record,) = kinesis_event(listed((OTHER, sealed())))["Records"]
    run.quarantine.put([(record, [Rejection(0, "key_missing", "no key")])])
    assert balanced(run.redrive()) == {"redriven": 1, "stored": 1}
    assert run.bucket.objects == {}
    assert balanced(run.redrive()) == {}


def test_the_records_own_time_of_arrival_is_kept_not_the_time_of_the_redrive(bench, kinesis_event):
    """A payload without an envelope is measured when it arrived."""
    run = bench(keys=[OTHER])
    bare = orjson.dumps({"address": OTHER, "data": sealed().hex()})
    (record,) = kinesis_event(bare, arrived_at=NOW + 1)["Records"]
    run.quarantine.put([(record, [Rejection(0, "key_missing", "no key")])])
    run.now = NOW / 1000 + 86400
    assert balanced(run.redrive()) == {"redriven": 1, "stored": 1}
    ((_, slot),) = run.table.items
    (cell,) = (value["M"] for value in run.table.items[OTHER, slot].values() if "M" in value)
    assert slot * 1000 + int(cell["o"]["N"]) == NOW + 1


def test_a_dry_run_says_what_would_be_written_and_changes_nothing(bench, kinesis_event):
    run = bench(keys=[OTHER])
    fill(run, kinesis_event)
    before = dict(run.bucket.objects)
    assert balanced(run.redrive(dry_run=True)) == {"redriven": 3, "ready": 1, "failed_again": 2}
    assert run.bucket.objects == before
    assert run.table.items == {}


@pytest.mark.parametrize(
    ("selection", "meant"),
    [
        (Selection(), {(1, 1), (1, 2), (2, None), (11, 1), (11, 2), (12, None)}),
        (Selection(reasons=frozenset(["json"])), {(2, None), (12, None)}),
        (Selection(reasons=frozenset(["key_missing", "truncated"]), end=NOW + 1), {(1, 1), (1, 2)}),
        (Selection(start=NOW + 1), {(11, 1), (11, 2), (12, None)}),
        (Selection(start=NOW, end=NOW), set()),
        (Selection(device=OTHER), {(1, 1), (11, 1)}),
        (Selection.of_names([f"{SHARD}:12", f"{SHARD}:{1:056d}"]), {(1, 1), (1, 2), (12, None)}),
        (Selection.of_names([f"{SHARD}:3"]), set()),
        (Selection.of_names(["shardId-000000000001:1"]), set()),
    ],
    ids=["all", "reason", "reasons before", "from", "nothing", "device", "names", "no such number", "no such shard"],
)
def test_a_selection_means_some_and_leaves_the_others_as_they_were(bench, kinesis_event, selection, meant):
    run = bench()  # no key: everything fails again, and shows by its attempts that it was tried
    fill(run, kinesis_event)
    fill(run, kinesis_event, first=11, at=NOW + 86_400_000)
    chosen = {
        (int(entry["sequence_number"]), each["index"])
        for entry in run.quarantine.entries()
        for each in selection.rejections(entry)
    }
    assert chosen == meant
    assert run.redrive(selection).redriven == len(meant)
    tried = {number for (number, _), (_, attempts) in run.rejected().items() if attempts == 2}
    assert tried == {number for number, _ in meant}


@pytest.mark.parametrize("text", ["12", ":12", f"{SHARD}:", f"{SHARD}:x", f"{SHARD}:-1"])
def test_what_is_no_name_of_a_record_is_refused(text):
    with pytest.raises(SettingsError, match="SHARD:SEQUENCE"):
        Selection.of_names([text])


def test_what_the_table_does_not_take_now_stays_as_it_is(bench, kinesis_event, throttled):
    run = bench(keys=[OTHER])
    fill(run, kinesis_event)
    run.table.fail = throttled
    counts = run.redrive(Selection(reasons=frozenset(["key_missing"])))
    assert balanced(counts) == {"redriven": 1, "left": 1}
    assert "Throttling" in counts.error
    assert run.rejected()[1, 1] == ("key_missing", 1)


def test_a_whole_record_of_which_a_part_cannot_be_written_now_stays_whole(bench, kinesis_event):
    def fail(operation, body):
        if body["Key"]["device"]["S"] == DEVICE:
            raise TransientError("ThrottlingException", "slow down")

    run = bench(keys=[OTHER])
    data = listed((DEVICE, rawv2()), (OTHER, sealed()), (DEVICE, rawv2(2)[:-1]))
    run.quarantine.put([(kinesis_event(data)["Records"][0], [Rejection(None, "shape", "no gateway known")])])
    run.table.fail = fail
    assert balanced(run.redrive()) == {"redriven": 3, "stored": 1, "failed_again": 1, "left": 1}
    assert run.rejected() == {(1, None): ("shape", 1)}
    run.table.fail = lambda *_: None
    assert balanced(run.redrive()) == {"redriven": 3, "stored": 1, "duplicates": 1, "failed_again": 1}
    assert run.rejected() == {(1, 2): ("truncated", 2)}


def test_a_registry_that_cannot_be_asked_leaves_it_as_it_is(bench, kinesis_event):
    def refuse(address):
        raise TransientError("ThrottlingException", "slow down")

    run = bench()
    fill(run, kinesis_event)
    run.rules.devices.registered = refuse
    assert balanced(run.redrive(Selection(device=OTHER))) == {"redriven": 1, "left": 1}
    assert run.rejected()[1, 1] == ("key_missing", 1)


def test_what_dynamodb_calls_invalid_fails_again_with_that_reason(bench, kinesis_event):
    def fail(operation, body):
        raise InvalidWrite("ValidationException", "no", status=400)

    run = bench(keys=[OTHER])
    fill(run, kinesis_event)
    run.table.fail = fail
    assert balanced(run.redrive(Selection(device=OTHER))) == {"redriven": 1, "failed_again": 1}
    assert run.rejected()[1, 1] == ("invalid_write", 2)


def test_a_rejected_advertisement_that_todays_rules_ignore_stays(bench, kinesis_event):
    run = bench()
    fill(run, kinesis_event)
    run.rules.devices.registered = lambda address: False  # a neighbour's now
    assert balanced(run.redrive(Selection(device=OTHER))) == {"redriven": 1, "ignored": 1}
    assert run.rejected()[1, 1] == ("key_missing", 2)


def test_a_record_that_could_not_be_opened_and_now_can_is_handled_as_ingest_would(bench, kinesis_event):
    run = bench()
    data = listed((DEVICE, rawv2()), (DEVICE, manufacturer_data(0xFFFF, b"?")), (DEVICE, rawv2(2)[:-1]))
    run.quarantine.put([(kinesis_event(data)["Records"][0], [Rejection(None, "shape", "no gateway known")])])
    assert balanced(run.redrive()) == {"redriven": 3, "stored": 1, "ignored": 1, "failed_again": 1}
    assert run.rejected() == {(1, 2): ("truncated", 2)}


def test_a_record_that_is_taken_apart_otherwise_today_counts_whole(bench, kinesis_event):
    """Its indexes mean nothing any more: what was rejected may be any of its advertisements."""
    run = bench()
    (record,) = kinesis_event(listed((DEVICE, rawv2()), (DEVICE, rawv2(2))))["Records"]
    run.quarantine.put([(record, [Rejection(2, "truncated", "cut")])])
    assert balanced(run.redrive()) == {"redriven": 2, "stored": 2}
    assert run.bucket.objects == {}


def test_what_has_expired_is_not_written_and_stays(bench, kinesis_event):
    run = bench(keys=[OTHER])
    fill(run, kinesis_event)
    run.now += 400 * 86400 + 30
    assert balanced(run.redrive(Selection(device=OTHER))) == {"redriven": 1, "ignored": 1}
    assert run.table.items == {}
    assert (1, 1) in run.rejected()


def test_a_record_in_two_objects_is_stored_once_and_leaves_both(bench, kinesis_event):
    run = bench(keys=[OTHER])
    first, second = kinesis_event(listed((OTHER, sealed(1)), (OTHER, sealed(2))), b"{broken")["Records"]
    run.quarantine.put([(first, [Rejection(0, "key_missing", "no key")])])
    run.quarantine.put([(first, [Rejection(1, "key_missing", "no key")]), (second, [Rejection(None, "json", "no")])])
    assert balanced(run.redrive()) == {"redriven": 3, "stored": 2, "failed_again": 1}
    assert run.rejected() == {(2, None): ("truncated", 2)}


def test_format_6_is_still_ignored_beside_an_e1_that_was_stored_long_ago(bench, kinesis_event):
    values = {"temperature": 20, "sequence": 7}
    six = manufacturer_data(0x0499, ruuvi.DF6.encode(values))
    e1 = manufacturer_data(0x0499, ruuvi.E1.encode(values, address=DEVICE))
    run = bench()
    (record,) = kinesis_event(listed((DEVICE, six), (DEVICE, e1)))["Records"]
    run.quarantine.put([(record, [Rejection(0, "length", "unknown then")])])
    assert balanced(run.redrive()) == {"redriven": 1, "ignored": 1}
    assert run.table.items == {}


def test_what_others_write_meanwhile_is_not_overwritten(bench, kinesis_event):
    """Another redrive changes the object that is being redriven, and ingest adds one beside."""
    run = bench(keys=[OTHER])
    first, second, third = kinesis_event(*(listed((OTHER, sealed(n))) for n in (1, 2, 3)))["Records"]
    rejection = [Rejection(0, "key_missing", "no key")]
    run.quarantine.put([(first, rejection), (third, rejection)])
    ((name, _),) = run.quarantine.objects()

    def fail(operation, body):
        run.table.fail = lambda *_: None
        run.quarantine.put([(first, rejection), (second, rejection), (third, rejection)])
        kept = run.quarantine.read(name)
        assert run.quarantine.replace(kept, [line | {"attempts": 7} for line in kept.lines])

    run.table.fail = fail
    counts = run.redrive()
    assert (counts.stored, counts.changed) == (2, 1)
    assert run.rejected() == {(1, 0): ("key_missing", 7), (2, 0): ("key_missing", 1), (3, 0): ("key_missing", 7)}
    assert balanced(run.redrive()) == {"redriven": 3, "stored": 1, "duplicates": 2}
    assert run.bucket.objects == {}


def test_a_record_in_two_objects_comes_back_with_more_attempts_than_either_had(bench, kinesis_event):
    run = bench(keys=[OTHER])
    (record,) = kinesis_event(listed((OTHER, sealed()), (DEVICE, rawv2()[:-1])))["Records"]
    run.quarantine.put([(record, [Rejection(0, "key_missing", "no key")])], attempts=3)
    run.quarantine.put([(record, [Rejection(1, "truncated", "cut")])])
    assert balanced(run.redrive()) == {"redriven": 2, "stored": 1, "failed_again": 1}
    assert run.rejected() == {(1, 1): ("truncated", 4)}


@pytest.mark.parametrize("body", [b"not json\n", b'{"shard": "x"}\n', b"[]\n"])
def test_an_object_that_is_not_quarantines_is_named_and_left_alone(bench, body):
    run = bench()
    run.bucket.objects["quarantine/2023/x.jsonl"] = body
    with pytest.raises(SourceError, match=r"quarantine/2023/x\.jsonl, line 1"):
        run.redrive()
    assert run.bucket.objects == {"quarantine/2023/x.jsonl": body}


class Crash(BaseException):
    """The process dies here."""


def many(bench, kinesis_event, count=4):
    for n in range(count):
        fill(bench, kinesis_event, first=1 + 10 * n, at=NOW + n)


def settled(bench):
    """The table and the quarantine, but for the number of attempts."""
    return copy.deepcopy(bench.table.items), {place: reason for place, (reason, _) in bench.rejected().items()}


def calls_of(bench):
    """How many calls of S3 and DynamoDB a redrive makes."""
    count = [0]

    def counting(*_):
        count[0] += 1

    bench.bucket.before = bench.table.fail = counting
    bench.redrive()
    return count[0]


def crash_at(bench, number, when):
    """Let the process die at its nth call: before it is made, or after it was carried out."""
    left = [number]

    def strike(*_):
        left[0] -= 1
        if left[0] == 0:
            raise Crash

    if when == "before":
        bench.bucket.before = bench.table.fail = strike
        return
    bench.bucket.after = strike
    update = bench.table.UpdateItem

    def updated(body):
        answer = update(body)
        strike()
        return answer

    bench.table.UpdateItem = updated


@pytest.mark.parametrize("when", ["before", "after"])
def test_it_may_die_at_any_call_and_be_run_again(new_table, new_bucket, kinesis_event, monkeypatch, when):
    """The table and the quarantine end as they would have without the crash; nothing is in neither of them before."""
    monkeypatch.setattr("processor.redrive.CHUNK_OBJECTS", 2)  # so that it dies between chunks too

    def new():
        made = Bench(new_table(), new_bucket(), keys=[OTHER])
        many(made, kinesis_event)
        return made

    whole = new()
    number = calls_of(whole)
    whole.bucket.before = whole.table.fail = lambda *_: None
    expected = settled(whole)
    whole.writer.close()
    assert len(expected[0]) == 1
    assert number > 10
    for strike in range(1, number + 1):
        run = new()
        everything = set(run.rejected())
        crash_at(run, strike, when)
        with pytest.raises(Crash):
            run.redrive()
        run.bucket.before = run.bucket.after = run.table.fail = lambda *_: None
        run.table.__dict__.pop("UpdateItem", None)
        sealed_left = sum(index == 1 for _, index in run.rejected())
        assert sealed_left + len(run.cells()) >= len({index for _, index in everything if index == 1})
        assert set(run.rejected()) | {(n, 1) for n, _ in everything} >= everything
        run.redrive()
        assert settled(run) == expected, f"died {when} call {strike}"
        run.writer.close()


@given(st.lists(st.sampled_from(["open", "sealed", "cut", "unknown", "broken"]), min_size=1, max_size=8), st.booleans())
def test_a_redrive_of_everything_stores_what_ingest_would_have_and_the_second_changes_nothing(
    new_table, new_bucket, kinesis_event, kinds, one_record
):
    make = {
        "open": lambda n: (DEVICE, rawv2(n)),
        "sealed": lambda n: (OTHER, sealed(n + 1)),
        "cut": lambda n: (DEVICE, rawv2(n)[:-1]),
        "unknown": lambda n: (DEVICE, manufacturer_data(0xFFFF, b"?")),
    }
    advertisements = [make[kind](n) for n, kind in enumerate(kinds) if kind in make]
    data = [listed(*advertisements)] if one_record else [listed(each) for each in advertisements]
    data += [b"{broken"] * ("broken" in kinds)
    run = Bench(new_table(), new_bucket(), keys=[OTHER])
    try:
        records = kinesis_event(*data)["Records"]
        run.quarantine.put([(record, [Rejection(None, "shape", "once unknown")]) for record in records])
        balanced(run.redrive())
        direct = Bench(new_table(), new_bucket(), keys=[OTHER])
        Batch(records, direct.rules).store(direct.writer, now=NOW / 1000)
        direct.writer.close()
        assert run.table.items == direct.table.items
        before = settled(run)
        assert run.redrive().stored == 0
        assert settled(run) == before
    finally:
        run.writer.close()


def test_counts_add_up_keep_the_first_error_and_become_a_dict():
    counts = Counts(redriven=1, reasons={"key": 1}, error="first")
    counts.add(Counts(redriven=2, stored=1, reasons={"key": 1, "json": 1}, error="second"))
    expected = Counts(redriven=3, stored=1, reasons={"key": 2, "json": 1}, error="first")
    assert asdict(counts) == asdict(expected)
    assert orjson.loads(orjson.dumps(asdict(counts)))["reasons"] == {"key": 2, "json": 1}
