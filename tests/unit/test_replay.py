"""Replay: records come back with the times they had, at a rate, and go on where they stopped."""

from __future__ import annotations

import errno
import gzip
import io
import os
from contextlib import closing, nullcontext

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.archive import MAXIMUM_RECORD, Piece, archived, capture, records
from processor.checkpoint import Checkpoint, Done
from processor.decode.advertisement import manufacturer_data
from processor.decode.aggregation import aggregate
from processor.decode.formats import ruuvi
from processor.decode.record import sent_at
from processor.errors import DecodeError, SourceError, TransientError
from processor.replay import Dated, Replay, Table
from processor.rules import Limits, Rules
from processor.store.writer import Writer

NOW = 1_700_000_000_000
DEVICE = "CB:B8:33:4C:88:4F"


def envelope(n=0, at=NOW):
    data = manufacturer_data(0x0499, ruuvi.RAWV2.encode({"temperature": 20, "sequence": n}, address=DEVICE))
    entries = [{"address": DEVICE, "rssi": -60, "data": data.hex()}]
    return orjson.dumps({"payloads": entries, "imsi": "295050000000001"} | ({"timestamp": at} if at else {}))


def piece(body, name="piece", size=None):
    return Piece(name, len(body) if size is None else size, lambda: io.BufferedReader(io.BytesIO(body)))


class Kept:
    """A sink that keeps what it is given, and may fail."""

    def __init__(self, fails_at=None):
        self.taken = []
        self.calls = 0
        self.fails_at = fails_at

    def take(self, found):
        self.calls += 1
        if self.calls == self.fails_at:
            raise TransientError("Unavailable", "no")
        self.taken += found
        return {"received": len(found), "stored": len(found)}


@pytest.mark.parametrize("pack", [lambda body: body, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=["lines", "DOS", "no end"])
def test_a_record_a_line_gzipped_or_not(pack, end):
    body = b"{1}\n\n \n{2}" + end
    read = []
    assert list(records(piece(pack(body)), read.append)) == [b"{1}", b"{2}"]
    assert read[-1] == len(pack(body))


def test_firehoses_two_gzip_members_in_one_object_are_both_read():
    assert list(records(piece(gzip.compress(b"1\n") + gzip.compress(b"2\n")))) == [b"1", b"2"]


class Trickle(io.FileIO):
    """A pipe's end for reading: the rest is put into the pipe when the first byte was read."""

    def __init__(self, body):
        end, self.other = os.pipe()
        super().__init__(end)
        os.write(self.other, body[:1])
        self.rest = body[1:]

    def readinto(self, buffer):
        count = super().readinto(buffer)
        if self.other is not None:
            os.write(self.other, self.rest)
            os.close(self.other)
            self.other = None
        return count


@pytest.mark.parametrize("body", [b"1\n2\n", b"1", gzip.compress(b"1\n2")], ids=["plain", "a byte", "gzipped"])
def test_a_pipe_whose_first_read_gives_a_single_byte_is_taken_for_what_it_is(body):
    stored = io.BufferedReader(Trickle(body))
    assert list(records(Piece("standard input", 0, lambda: stored))) == [b"1", b"2"][: len(body)]


@pytest.mark.parametrize("cut", [5, 15, -9, -1])
def test_a_cut_gzip_file_is_named_with_the_line(cut):
    body = gzip.compress(b"".join(b"%d\n" % n for n in range(1000)))
    with pytest.raises(SourceError, match=r"piece, after line \d+: the gzip file is broken"):
        list(records(piece(body[:cut])))


class Counted(io.BytesIO):
    """Counts what is taken from it."""

    taken = 0

    def readinto(self, buffer):
        count = super().readinto(buffer)
        self.taken += count
        return count


def test_a_line_longer_than_any_record_is_refused_and_read_no_further_than_that():
    body = Counted(b"1\n" + bytes(50 * 1024 * 1024))
    with pytest.raises(SourceError, match="piece, line 2: longer than"):
        list(records(Piece("piece", 1, lambda: io.BufferedReader(body))))
    assert body.taken < MAXIMUM_RECORD + 1024 * 1024
    with pytest.raises(SourceError, match="piece, line 1: longer than"):
        list(records(piece(gzip.compress(bytes(50 * 1024 * 1024)))))
    assert [len(record) for record in records(piece(b"x" * MAXIMUM_RECORD + b"\n"))] == [MAXIMUM_RECORD]


class Listing:
    """S3 as far as a listing goes."""

    def __init__(self, *keys):
        self.keys = keys

    def get_paginator(self, name):
        return self

    def paginate(self, *, Bucket, Prefix):  # noqa: N803 - AWS's names
        keys = sorted(key for key in self.keys if key.startswith(Prefix))
        return [{"Contents": [{"Key": key, "Size": not key.endswith("/"), "ETag": ""}]} for key in keys] + [{}]


def test_only_the_archives_hours_around_the_times_asked_for_are_read():
    keys = [f"archive/2023/11/{day}/{hour:02d}/x.gz" for day in (14, 15) for hour in range(24)]
    s3 = Listing("archive/", "quarantine/x", *keys)

    def named(start, end, prefix="archive/"):
        return [
            found.name.removeprefix("s3://b/archive/2023/11/")[:5] for found in archived(s3, "b", prefix, start, end)
        ]

    assert len(named(None, None)) == 48
    at = NOW  # 2023-11-14T22:13:20Z
    assert named(at, at + 60_000) == ["14/21", "14/22", "14/23"]
    assert named(at, None)[0] == "14/21"
    assert named(None, at)[-1] == "14/23"
    assert named(at, None, "archive/2023/11/15/")[0] == "15/00"


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (envelope(), NOW),
        (envelope(at=NOW // 1000), NOW),
        (envelope(at=None), None),
        (b'{"address": "CBB8334C884F", "data": "00"}', None),
        (b"\x01binary", None),
        (envelope(at=NOW) + envelope(at=NOW + 5), NOW + 5),  # TCP joined two
        (envelope(at=NOW) + envelope(at=None), None),
        (envelope(at=NOW) + b"{broken", NOW),
        (aggregate([envelope(at=NOW + 7), envelope(at=NOW)]), NOW + 7),
        (aggregate([envelope(), envelope(at=None)]), None),
        (aggregate([envelope(), b"{broken"]), NOW),
        (envelope(at=12), None),
    ],
    ids=["envelope", "seconds", "no time", "payload", "binary", "joined", "joined, one without", "joined, one broken",
         "aggregated", "aggregated, one without", "aggregated, one broken", "no time of this age"],
)  # fmt: skip
def test_a_record_is_dated_by_funnel_or_not_at_all(data, at):
    assert sent_at(data) == at


def test_what_cannot_be_opened_has_no_time():
    with pytest.raises(DecodeError):
        sent_at(b"{broken")


def test_records_without_a_time_are_left_out_unless_somebody_says_when_they_arrived():
    body = b"\n".join([envelope(1), envelope(2, at=None), b"{broken", envelope(3, at=NOW + 1000)])
    sink = Kept()
    done = Replay(sink).run([piece(body)])
    assert [each.arrived for each in sink.taken] == [NOW, 0, NOW + 1000]
    assert (done.records, done.sent, done.undated) == (4, 3, 1)
    sink = Kept()
    done = Replay(sink, arrived=7).run([piece(body)])
    assert [each.arrived for each in sink.taken] == [7] * 4
    assert done.undated == 0


def test_what_the_sink_did_not_take_is_not_counted():
    body = b"\n".join([envelope(1), envelope(2), envelope(3), envelope(4, at=None), envelope(5), envelope(6)])
    job = Replay(Kept(fails_at=2), rate=6, sleep=lambda _: None)  # chunks of three
    with pytest.raises(TransientError):
        job.run([piece(body)])
    assert (job.progress.records, job.progress.sent, job.progress.undated) == (3, 3, 0)


def test_records_of_other_times_are_left_out():
    body = b"\n".join(envelope(n, at=NOW + n) for n in range(10))
    sink = Kept()
    done = Replay(sink, start=NOW + 2, end=NOW + 5).run([piece(body)])
    assert [each.arrived - NOW for each in sink.taken] == [2, 3, 4]
    assert (done.records, done.outside) == (10, 7)


@pytest.mark.parametrize(
    ("arrived", "sent", "left_out"),
    [
        (None, [2], {"outside": 1, "undated": 1, "unreadable": 1}),
        (NOW, [2, 3, 4], {"outside": 1, "undated": 0, "unreadable": 0}),
        (NOW + 5, [2], {"outside": 3, "undated": 0, "unreadable": 0}),
        (NOW - 1, [2], {"outside": 3, "undated": 0, "unreadable": 0}),
    ],
    ids=["unsaid", "within", "the end is not", "before"],
)
def test_a_record_without_a_time_of_its_own_is_of_the_time_that_is_given_or_of_none(arrived, sent, left_out):
    """Asked for by time, it is sent where that is within, and else counted: nothing is lost silently."""
    lines = {1: envelope(1, at=NOW - 1), 2: envelope(2), 3: envelope(3, at=None), 4: b"{broken"}
    sink = Kept()
    done = Replay(sink, start=NOW, end=NOW + 5, arrived=arrived).run([piece(b"\n".join(lines.values()))])
    assert [each.data for each in sink.taken] == [lines[n] for n in sent]
    found = {"outside": done.outside, "undated": done.undated, "unreadable": getattr(done, "unreadable", 0)}
    assert found == left_out
    assert done.records == 4 == done.sent + sum(found.values())


@pytest.mark.parametrize("window", [{"start": NOW}, {"end": NOW + 1}], ids=["from", "to"])
def test_half_a_window_is_one_and_what_cannot_be_read_is_not_known_to_be_in_it(window):
    sink = Kept()
    done = Replay(sink, **window).run([piece(b"{broken\n" + envelope())])
    assert [each.data for each in sink.taken] == [envelope()]
    assert done.unreadable == 1


@pytest.mark.parametrize("rate", [1, 3, 700, 5000])
def test_a_rate_is_kept_over_pieces_and_no_chunk_runs_ahead_of_it(rate, stopwatch):
    sink, times = Kept(), []

    def note(progress):
        times.append((stopwatch.now, progress.sent))

    body = b"\n".join(envelope(n) for n in range(40))
    Replay(sink, rate=rate, clock=stopwatch, sleep=stopwatch.sleep, progress=note).run(
        [piece(body, "a"), piece(body, "b")]
    )
    assert len(sink.taken) == 80
    assert stopwatch.now == pytest.approx(80 / rate)
    assert all(sent <= now * rate + max(1, rate / 2) + 0.01 for now, sent in times)


def test_a_rate_slower_than_the_table_takes_no_time_of_its_own(stopwatch):

    class Slow(Kept):
        def take(self, found):
            stopwatch.now += 10
            return super().take(found)

    Replay(Slow(), rate=1000, clock=stopwatch, sleep=stopwatch.sleep).run([piece(envelope())])
    assert stopwatch.now == 10


class Stalls(Kept):
    """A sink that is held up once, and notes when it had how many."""

    def __init__(self, stopwatch, at):
        super().__init__()
        self.stopwatch, self.at = stopwatch, at
        self.had = []

    def take(self, found):
        answer = super().take(found)
        if self.calls == self.at:
            self.stopwatch.now += 60
        self.had.append((self.stopwatch.now, len(found)))
        return answer


@pytest.mark.parametrize("where", ["the table", "reading", "records left out"])
def test_what_a_stall_held_up_comes_no_faster_afterwards(where, stopwatch):
    """The table backs off; or nothing is sent for a minute, while an object comes, or records of other times go by."""

    def slow():
        stopwatch.now += 60
        return io.BufferedReader(io.BytesIO(body))

    class Tells(io.BytesIO):
        def readinto(self, buffer):
            stopwatch.now += 60
            return super().readinto(buffer)

    body = b"\n".join(envelope(n) for n in range(100))
    others = b"\n".join(envelope(n, at=NOW - 1) for n in range(100))
    between = {
        "the table": [],
        "reading": [Piece("slow", 1, slow)],
        "records left out": [Piece("others", 1, lambda: io.BufferedReader(Tells(others)))],
    }[where]
    sink = Stalls(stopwatch, at=3 if where == "the table" else None)
    job = Replay(sink, start=NOW, rate=10, clock=stopwatch, sleep=stopwatch.sleep)
    job.run([piece(body, "a"), *between, piece(body, "b")])
    for number, (since, _) in enumerate(sink.had):
        within = sum(count for now, count in sink.had[number:] if now < since + 1)
        assert within <= 10 + 5, f"{within} records in the second from {since} s on"  # and the chunk held up
    assert stopwatch.now > 60


ABOUT = {"source": "x", "from": None, "to": None}


def names(sink):
    return [orjson.loads(each.data)["timestamp"] - NOW for each in sink.taken]


@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), st.integers(1, 12), st.booleans())
def test_a_replay_that_stops_anywhere_goes_on_with_what_is_left(tmp_path_factory, lengths, fails_at, cut):
    """Every record is taken; again only those of the chunk that failed. A checkpoint's last line may be cut."""
    state = tmp_path_factory.mktemp("replay") / "state"
    pieces = [
        piece(b"\n".join(envelope(n, NOW + 100 * p + n) for n in range(length)) or b"\n", f"piece {p}")
        for p, length in enumerate(lengths)
    ]
    expected = [100 * p + n for p, length in enumerate(lengths) for n in range(length)]
    sink = Kept(fails_at)

    def go():
        checkpoint = Checkpoint(state, ABOUT)
        try:
            return Replay(sink, rate=6, checkpoint=checkpoint, sleep=lambda _: None).run(pieces)
        finally:
            checkpoint.close()

    try:
        go()
    except TransientError:
        if cut:
            state.write_bytes(state.read_bytes()[:-3])
        go()
    found = names(sink)
    assert sorted(set(found)) == expected
    assert len(found) - len(expected) <= 3 * cut  # a chunk is three records here
    done = go()
    assert names(sink) == found
    assert (done.records, done.resumed) == (0, len(expected))


def test_a_checkpoint_of_another_replay_is_refused(tmp_path):
    state = tmp_path / "state"
    Checkpoint(state, ABOUT).close()
    Checkpoint(state, ABOUT).close()
    with pytest.raises(SourceError, match="about another replay"):
        Checkpoint(state, ABOUT | {"from": 1})


@pytest.mark.parametrize("end", [b"\n", b""], ids=["a line", "no end"])
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"hello", "no checkpoint"),
        (b"[]", "no checkpoint"),
        (envelope(), "no checkpoint"),
        (envelope() + b"\n" + envelope(), "no checkpoint"),
        (b'{"replay":{}}', "about another replay"),
        (b'{"replay":{"source":"y"', "no checkpoint"),
        (b"\n", "no checkpoint"),
    ],
    ids=["text", "a list", "a capture of one", "a capture", "another's", "another's, cut", "blank"],
)
def test_a_file_that_is_not_of_this_replay_is_refused_and_stays_as_it_is(tmp_path, body, end, said):
    """With or without a last line feed: a capture of one record may well end without."""
    state = tmp_path / "state"
    state.write_bytes(body + end)
    with pytest.raises(SourceError, match=said):
        Checkpoint(state, ABOUT)
    assert state.read_bytes() == body + end


def test_a_first_line_that_a_crash_cut_is_written_anew(tmp_path):
    state = tmp_path / "state"
    Checkpoint(state, ABOUT).close()
    header = state.read_bytes()
    for length in range(len(header) + 1):
        state.write_bytes(header[:length])
        Checkpoint(state, ABOUT).close()
        assert state.read_bytes() == header


def test_a_checkpoint_is_one_replays_at_a_time(tmp_path):
    state, first, second = tmp_path / "state", piece(b"", "first"), piece(b"", "the second")
    with closing(Checkpoint(state, ABOUT)) as checkpoint:
        checkpoint.note(first, Done(1, "a"))
        before = state.read_bytes()
        with pytest.raises(SourceError, match=r"state is in use by another replay: wait until that ends, or give"):
            Checkpoint(state, ABOUT)
        assert state.read_bytes() == before
        checkpoint.note(second, Done(2, "b"))
    with closing(Checkpoint(state, ABOUT)) as checkpoint:
        assert (checkpoint.done(first), checkpoint.done(second)) == (Done(1, "a"), Done(2, "b"))


def test_a_checkpoint_that_cannot_be_locked_is_refused(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(SourceError, match=r"state cannot be kept from other replays \(No locks available\): give"):
        Checkpoint(tmp_path / "state", ABOUT)


def test_two_replays_that_no_lock_keeps_apart_write_over_nothing_of_each_other(tmp_path, monkeypatch):
    """As on a system without flock: each notes at the end of the file, not where its own last note ended."""
    monkeypatch.setattr("processor.checkpoint.lock", lambda *_, **_more: None)
    state, first, second = tmp_path / "state", piece(b"", "first"), piece(b"", "the second")
    with closing(Checkpoint(state, ABOUT)) as one, closing(Checkpoint(state, ABOUT)) as other:
        for count in range(4):
            one.note(first, Done(count, "a"))
            other.note(second, Done(count * 1000, "b"))
    with closing(Checkpoint(state, ABOUT)) as checkpoint:
        assert (checkpoint.done(first), checkpoint.done(second)) == (Done(3, "a"), Done(3000, "b"))


@pytest.fixture
def resumed(tmp_path):
    """Replays a file with a checkpoint, always the same; returns what came of it."""

    def go(path, fails_at=None):
        sink = Kept(fails_at)
        checkpoint = Checkpoint(tmp_path / "state", ABOUT)
        try:
            done = Replay(sink, rate=6, checkpoint=checkpoint, sleep=lambda _: None).run([capture(path)])
        finally:
            checkpoint.close()
        return sink, done

    return go


def lines(*numbers):
    return b"".join(envelope(n, NOW + n) + b"\n" for n in numbers)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("fails_at", [None, 2], ids=["done", "stopped amid it"])
def test_a_file_that_grew_goes_on_after_what_was_done(tmp_path, resumed, pack, fails_at):
    path = tmp_path / "capture"
    path.write_bytes(pack(lines(1, 2, 3, 4)))
    with nullcontext() if fails_at is None else pytest.raises(TransientError):
        resumed(path, fails_at)
    with path.open("ab") as file:
        file.write(pack(lines(5, 6)))
    sink, done = resumed(path)
    found = names(sink)
    assert found == ([5, 6] if fails_at is None else [4, 5, 6])
    assert (done.records, done.resumed) == (len(found), 6 - len(found))
    assert resumed(path)[1].sent == 0


@pytest.mark.parametrize(
    "numbers",
    [(1, 2, 3), (1, 2, 3, 5), (7, 2, 3, 4), (6, 7, 8, 9, 10, 11), ()],
    ids=["shorter", "as long, its end", "as long, its beginning", "longer", "empty"],
)
@pytest.mark.parametrize("fails_at", [None, 2], ids=["done", "stopped amid it"])
def test_another_file_of_the_same_name_is_refused(tmp_path, resumed, numbers, fails_at):
    path = tmp_path / "capture"
    path.write_bytes(lines(1, 2, 3, 4))
    with nullcontext() if fails_at is None else pytest.raises(TransientError):
        resumed(path, fails_at)
    path.write_bytes(lines(*numbers))
    os.utime(path, ns=(NOW, NOW))  # the clock of a file system may stand still for so long
    if fails_at is not None and numbers[:3] == (1, 2, 3):  # so far it was done, and so far it is the same
        assert names(resumed(path)[0]) == list(numbers[3:])
        return
    before = (tmp_path / "state").read_bytes()
    with pytest.raises(SourceError, match=r"capture is another one now.*--resume with a new file"):
        resumed(path)
    assert (tmp_path / "state").read_bytes() == before


def test_a_line_that_was_done_before_it_was_written_to_its_end_is_not_taken_for_done(tmp_path, resumed):
    path = tmp_path / "capture"
    path.write_bytes(lines(1, 2)[:-9])
    resumed(path)
    path.write_bytes(lines(1, 2, 3))
    with pytest.raises(SourceError, match="is another one now"):
        resumed(path)


def test_a_piece_that_is_done_and_has_not_changed_is_not_read_again(tmp_path):
    def opened():
        opens.append(1)
        return io.BufferedReader(io.BytesIO(lines(1, 2)))

    opens, state = [], tmp_path / "state"
    for tag, reads in (("one", 1), ("one", 1), ("two", 2), ("two", 2), ("", 3), ("", 4)):
        checkpoint = Checkpoint(state, ABOUT)
        Replay(Kept(), checkpoint=checkpoint).run([Piece("piece", 9, opened, tag)])
        checkpoint.close()
        assert len(opens) == reads


@pytest.fixture
def sink(table, stopwatch):
    writer = Writer(table, "processor-readings", threads=2)
    yield Table(writer, Rules(Limits(400 * 86400)), clock=lambda: NOW / 1000, sleep=stopwatch.sleep)
    writer.close()


def dated(count, arrived=NOW):
    return [Dated(envelope(n, at=arrived), arrived) for n in range(count)]


def test_what_is_stored_again_changes_nothing(sink, table):
    assert sink.take(dated(9))["stored"] == 9
    before = orjson.dumps([*table.items.values()])
    assert sink.take(dated(9)[::-1])["duplicates"] == 9
    assert orjson.dumps([*table.items.values()]) == before


def test_a_throttled_table_is_waited_for_and_each_reading_counted_once(sink, table):
    """The first attempt stores some and not others; the second must not call those duplicates."""
    calls = []

    def fail(operation, body):
        calls.append(body)
        if len(calls) == 2:
            raise TransientError("ThrottlingException", "slow down")

    table.fail = fail
    two = [*dated(3), *dated(3, NOW - 60_000)]
    ledger = sink.take(two)
    assert ledger == {"received": 6, "stored": 6, "duplicates": 0, "rejected": 0, "ignored": 0, "failed": 0}


def test_a_table_that_cannot_be_had_for_minutes_stops_it(sink, table, throttled):
    table.fail = throttled
    with pytest.raises(TransientError, match=r"3 readings could not be written, 8 times over: .*Throttling"):
        sink.take(dated(3))


def test_what_has_expired_since_is_not_brought_back(sink, table):
    old = NOW - 401 * 86_400_000
    assert sink.take(dated(2, old)) == {
        "received": 2, "stored": 0, "duplicates": 0, "rejected": 0, "ignored": 2, "failed": 0,
    }  # fmt: skip
    assert table.items == {}


class Learned:
    """A registry that knows what one sensor said of its model."""

    def __init__(self):
        self.models = {"AA": "new name"}

    def load(self, addresses):
        pass

    def ready(self, address, *, key=False):
        return True

    def lacking(self, address):
        return ""

    def heard(self, address):
        return self.models.get(address)

    def registered(self, address):
        return True

    def learn(self, models):
        self.models |= models


def test_the_past_teaches_the_registry_only_what_it_does_not_know():
    devices = Learned()
    Rules(Limits(1), devices=devices).historic().devices.learn({"AA": "old name", "BB": "name"})
    assert devices.models == {"AA": "new name", "BB": "name"}
    Rules(Limits(1), devices=devices).historic(learn=False).devices.learn({"CC": "name"})
    assert "CC" not in devices.models


def test_a_capture_is_a_file(tmp_path):
    path = tmp_path / "capture.jsonl"
    path.write_bytes(envelope())
    assert [*records(capture(path))] == [envelope()]
