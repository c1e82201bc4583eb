"""Tumbling windows: the state that goes from invocation to invocation, and how a window ends."""

from __future__ import annotations

import base64
import json

import pytest

from processor.local.batch import MAXIMUM_PAYLOAD
from processor.local.mapping import SHARD_END, EventSourceMapping, MappingSettings
from processor.local.memory_kinesis import MemoryKinesis
from processor.local.window import MAXIMUM_STATE

START = 1_700_000_040.0  # a multiple of 60


class Counter:
    """A function that counts its records in the window's state; `answer` may change what it returns, or raise."""

    def __init__(self):
        self.events = []
        self.answer = lambda event, state: {"state": state}

    def __call__(self, event):
        self.events.append(json.loads(event))
        state = dict(self.events[-1]["state"])
        for text in self.texts(self.events[-1]):
            state[text] = state.get(text, 0) + 1
        return self.answer(self.events[-1], state)

    @staticmethod
    def texts(event):
        return [base64.b64decode(record["kinesis"]["data"]).decode() for record in event["Records"]]

    @property
    def finals(self):
        return [event for event in self.events if event["isFinalInvokeForWindow"]]


@pytest.fixture
def clock(clock):
    clock.now = START
    return clock


@pytest.fixture
def function():
    return Counter()


@pytest.fixture
def mapping_of(mapping_of):
    """Makes mappings whose windows are over at their end, but where a test says how long they wait."""
    chosen = {"tumbling_window_seconds": 60, "tumbling_window_grace_seconds": 0}
    return lambda **settings: mapping_of(**{**chosen, **settings})


def put(kinesis, *texts):
    kinesis.put_records(Records=[{"Data": text.encode(), "PartitionKey": text[:50]} for text in texts])


def test_the_event_is_the_one_of_lambdas_documentation(kinesis, function, mapping_of, run):
    put(kinesis, "a")
    run(mapping_of(), 1)
    [event] = function.events
    assert {name: value for name, value in event.items() if name != "Records"} == {
        "window": {"start": "2023-11-14T22:14:00Z", "end": "2023-11-14T22:15:00Z"},
        "state": {},
        "shardId": "shardId-000000000000",
        "eventSourceARN": kinesis.arn,
        "isFinalInvokeForWindow": False,
        "isWindowTerminatedEarly": False,
    }


def test_the_state_goes_from_batch_to_batch_and_the_window_ends_with_a_last_invocation(
    kinesis, function, mapping_of, run
):
    mapping = mapping_of()
    for text in "aba":
        put(kinesis, text)
        run(mapping, 5)
    assert [event["state"] for event in function.events] == [{}, {"a": 1}, {"a": 1, "b": 1}]
    assert not function.finals
    run(mapping, 50)
    [final] = function.finals
    assert (final["state"], final["Records"], final["isWindowTerminatedEarly"]) == ({"a": 2, "b": 1}, [], False)
    put(kinesis, "c")
    run(mapping, 5)
    assert function.events[-1]["state"] == {}
    assert function.events[-1]["window"]["start"] == "2023-11-14T22:15:00Z"


def test_a_batch_holds_records_of_one_window_even_when_all_are_read_at_once(kinesis, function, mapping_of, run, clock):
    for text in ("a", "b", "c"):
        put(kinesis, text)
        clock.now += 60
    run(mapping_of(batching_window_seconds=20), 30)
    seen = [(function.texts(event), event["isFinalInvokeForWindow"], event["state"]) for event in function.events]
    assert seen == [
        (["a"], False, {}),
        ([], True, {"a": 1}),
        (["b"], False, {}),
        ([], True, {"b": 1}),
        (["c"], False, {}),
        ([], True, {"c": 1}),
    ]


def test_a_window_without_new_records_waits_two_minutes_for_more(kinesis, function, mapping_of, run):
    put(kinesis, "a")
    mapping = mapping_of(tumbling_window_grace_seconds=MappingSettings().tumbling_window_grace_seconds)
    run(mapping, 60 + 119)
    assert not function.finals
    run(mapping, 2)
    assert [final["state"] for final in function.finals] == [{"a": 1}]


def test_the_wait_counts_anew_from_each_record_that_is_added(kinesis, function, mapping_of, run, clock):
    put(kinesis, "a")
    mapping = mapping_of(tumbling_window_grace_seconds=120)
    run(mapping, 150)
    clock.now = START + 59  # the stream's timestamps are approximate: this one is of the window that has ended
    put(kinesis, "b")
    clock.now = START + 150
    run(mapping, 119)
    assert not function.finals
    run(mapping, 2)
    assert [final["state"] for final in function.finals] == [{"a": 1, "b": 1}]


def test_a_record_of_a_later_window_ends_the_open_one_without_a_wait(kinesis, function, mapping_of, run):
    put(kinesis, "a")
    mapping = mapping_of(tumbling_window_grace_seconds=120)
    run(mapping, 61)
    put(kinesis, "b")
    run(mapping, 1)
    assert [(function.texts(e), e["isFinalInvokeForWindow"]) for e in function.events] == [
        (["a"], False),
        ([], True),
        (["b"], False),
    ]


def test_a_record_that_comes_late_for_its_own_window_joins_the_open_one(kinesis, function, mapping_of, run, clock):
    put(kinesis, "a")
    clock.now = START - 1
    put(kinesis, "b")
    clock.now = START
    run(mapping_of(batching_window_seconds=1), 70)
    assert [final["state"] for final in function.finals] == [{"a": 1, "b": 1}]
    assert function.finals[0]["window"]["start"] == "2023-11-14T22:14:00Z"


def test_each_shard_has_windows_of_its_own(clock, function, run):
    kinesis = MemoryKinesis(3, clock=clock)
    put(kinesis, *map(str, range(30)))
    settings = MappingSettings(batching_window_seconds=0, tumbling_window_seconds=60, tumbling_window_grace_seconds=0)
    run(EventSourceMapping(kinesis, kinesis.arn, function, settings, clock=clock), 70)
    assert len(function.finals) == 3
    assert sorted(text for final in function.finals for text in final["state"]) == sorted(map(str, range(30)))
    for final in function.finals:
        own = [text for e in function.events if e["shardId"] == final["shardId"] for text in function.texts(e)]
        assert set(final["state"]) == set(own)


@pytest.mark.parametrize("answer", [None, {}, {"state": None}, {"state": 7}, b"", b"{", {"batchItemFailures": []}])
def test_an_answer_without_a_state_is_a_failed_invocation(kinesis, function, mapping_of, run, answer):
    put(kinesis, "a")
    function.answer = lambda event, state: answer if len(function.events) == 1 else {"state": state}
    mapping = mapping_of(report_batch_item_failures=True)
    run(mapping, 5)
    assert [event["state"] for event in function.events] == [{}, {}]
    assert (mapping.stats.errors, mapping.stats.records) == (1, 1)


def test_a_state_beyond_a_megabyte_ends_the_window_early_and_the_rest_starts_afresh(kinesis, function, mapping_of, run):
    mapping = mapping_of()
    put(kinesis, "a")
    function.answer = lambda event, state: {"state": {"x": "y" * MAXIMUM_STATE}}
    run(mapping, 5)
    [_, final] = function.events
    assert (final["isFinalInvokeForWindow"], final["isWindowTerminatedEarly"]) == (True, True)
    assert len(final["state"]["x"]) == MAXIMUM_STATE
    function.answer = lambda event, state: {"state": state}
    put(kinesis, "b")
    run(mapping, 60)
    assert [event["state"] for event in function.events[2:]] == [{}, {"b": 1}]
    assert function.events[-1]["window"] == final["window"]
    assert not function.events[-1]["isWindowTerminatedEarly"]


def test_an_invocation_holds_its_state_too_however_the_state_has_grown_since_its_batch_was_gathered(
    kinesis, function, mapping_of, run
):
    sizes = []

    def partly(event, state):
        sizes.append(len(json.dumps(event, separators=(",", ":"))))
        grown = {"state": {"x": "y" * 1_000_000}}
        if len(sizes) == 1:
            second = event["Records"][1]["kinesis"]["sequenceNumber"]
            return {**grown, "batchItemFailures": [{"itemIdentifier": second}]}
        return grown

    function.answer = partly
    put(kinesis, *(f"{number}" + "x" * 450_000 for number in range(10)))
    mapping = mapping_of(report_batch_item_failures=True)
    run(mapping, 70)
    assert [text[0] for event in function.events for text in function.texts(event)] == list("0123456789123456789")
    assert [len(event["Records"]) for event in function.events] == [10, 8, 1, 0]
    assert max(sizes) <= MAXIMUM_PAYLOAD < sizes[0] + 500_000
    assert mapping.stats.records == 10


def test_an_answer_whose_state_is_no_json_is_a_failed_invocation_and_the_next_one_goes_on(
    kinesis, function, mapping_of, run
):
    answers = iter([{"state": {1: 2}}, {"state": {"x": object()}}])
    function.answer = lambda event, state: next(answers, {"state": state})
    put(kinesis, "a")
    mapping = mapping_of()
    run(mapping, 5)
    assert (len(function.events), mapping.stats.errors, mapping.stats.records) == (3, 2, 1)


def test_a_record_that_only_a_fresh_state_leaves_room_for_ends_the_window_early(kinesis, function, mapping_of, run):
    given_up = []
    function.answer = lambda event, state: {"state": {"x": "y" * 1_000_000}}
    put(kinesis, "a")
    mapping = mapping_of(on_failure=given_up.append)
    run(mapping, 5)
    put(kinesis, "b", "c" * 4_500_000, "d")
    run(mapping, 10)
    assert [[text[0] for text in function.texts(event)] for event in function.events] == [
        ["a"], ["b"], [], ["c"], ["d"],
    ]  # fmt: skip
    assert [event["isWindowTerminatedEarly"] for event in function.events] == [False, False, True, False, False]
    assert [len(event["state"]) for event in function.events] == [0, 1, 1, 0, 1]
    assert max(len(json.dumps(event)) for event in function.events) < MAXIMUM_PAYLOAD
    assert (mapping.stats.records, mapping.stats.discarded, given_up) == (4, 0, [])


def test_a_record_that_not_even_a_fresh_state_leaves_room_for_is_given_up(kinesis, function, mapping_of, run):
    given_up = []
    put(kinesis, "a", "b" * (MAXIMUM_PAYLOAD * 3 // 4 - 700), "c")
    mapping = mapping_of(on_failure=given_up.append)
    run(mapping, 10)
    assert [function.texts(event) for event in function.events] == [["a"], ["c"]]
    assert [failure["requestContext"]["condition"] for failure in given_up] == ["PayloadTooLarge"]
    assert (mapping.stats.records, mapping.stats.discarded) == (2, 1)


def test_a_window_whose_last_invocation_fails_stops_the_shard_until_it_succeeds(kinesis, function, mapping_of, run):
    put(kinesis, "a")
    failing = True

    def fail(event, state):
        if failing and event["isFinalInvokeForWindow"]:
            raise RuntimeError("not yet")
        return {"state": state}

    function.answer = fail
    failures = []
    mapping = mapping_of(maximum_retry_attempts=1, on_failure=failures.append)
    run(mapping, 60)
    put(kinesis, "b")
    run(mapping, 60)
    assert "b" not in [text for event in function.events for text in function.texts(event)]
    assert len(function.finals) > 5
    failing = False
    run(mapping, 20)
    assert function.texts(function.events[-2]) == ["b"] or function.texts(function.events[-1]) == ["b"]
    assert not failures


def test_a_failed_batch_is_tried_again_with_the_same_state_and_a_given_up_one_is_left_out(
    kinesis, function, mapping_of, run
):
    mapping = mapping_of(maximum_retry_attempts=1)
    put(kinesis, "a")
    run(mapping, 1)

    def fail(event, state):
        if "bad" in function.texts(event):
            raise RuntimeError("never")
        return {"state": state}

    function.answer = fail
    put(kinesis, "bad")
    run(mapping, 5)
    put(kinesis, "c")
    run(mapping, 60)
    assert [event["state"] for event in function.events] == [{}, {"a": 1}, {"a": 1}, {"a": 1}, {"a": 1, "c": 1}]
    assert mapping.stats.discarded == 1


def test_of_a_partial_failure_the_state_returned_is_kept_and_the_rest_is_tried_again(
    kinesis, function, mapping_of, run
):
    put(kinesis, "a", "b")

    def fail_second_once(event, state):
        if len(function.events) == 1:
            number = event["Records"][1]["kinesis"]["sequenceNumber"]
            return {"state": {"a": 1}, "batchItemFailures": [{"itemIdentifier": number}]}
        return {"state": state}

    function.answer = fail_second_once
    run(mapping_of(report_batch_item_failures=True), 70)
    assert [(function.texts(e), e["state"]) for e in function.events] == [
        (["a", "b"], {}),
        (["b"], {"a": 1}),
        ([], {"a": 1, "b": 1}),
    ]


def test_a_shard_that_ends_closes_its_window_and_its_children_start_afresh(kinesis, function, mapping_of, run):
    put(kinesis, "a")
    mapping = mapping_of()
    run(mapping, 1)
    kinesis.split_shard(ShardToSplit="shardId-000000000000")
    put(kinesis, "b")
    run(mapping, 5)
    assert [(function.texts(e), e["state"]) for e in function.events] == [
        (["a"], {}),
        ([], {"a": 1}),
        (["b"], {}),
    ]
    assert mapping.checkpoints["shardId-000000000000"] == SHARD_END


def test_the_checkpoint_waits_for_the_windows_end_so_that_another_mapping_builds_the_state_anew(
    kinesis, function, mapping_of, run
):
    put(kinesis, "a", "b")
    first = mapping_of()
    run(first, 5)
    assert first.stats.records == 2
    assert first.checkpoints == {}  # the records are handled, but no last invocation has succeeded
    second = mapping_of(checkpoints=first.checkpoints)
    run(second, 60)
    assert function.finals[0]["state"] == {"a": 1, "b": 1}
    assert len(second.checkpoints) == 1
    third = mapping_of(checkpoints=second.checkpoints)
    run(third, 60)
    assert third.stats.records == 0


def test_filtered_records_are_in_no_window(kinesis, function, mapping_of, run):
    put(kinesis, "1", "2")
    run(mapping_of(filters=('{"partitionKey": ["2"]}',)), 70)
    assert [event["state"] for event in function.finals] == [{"2": 1}]
