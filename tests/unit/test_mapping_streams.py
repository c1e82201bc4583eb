"""A mapping of a DynamoDB table's stream, in memory and under a clock that is moved by hand."""

from __future__ import annotations

import json

import pytest

from processor.errors import LocalError, SettingsError
from processor.local.dynamodb_stream import DynamoDBStream, order_key
from processor.local.iterator import ShardIterator
from processor.local.mapping import SHARD_END, EventSourceMapping
from processor.local.memory_shards import client_error
from processor.local.memory_streams import EXPIRY, MemoryStreams
from processor.local.stream import Start

DAY = 24 * 3600


class Function:
    """Remembers the events; `answer` is called with the changed slots and may raise."""

    def __init__(self):
        self.events = []
        self.answer = lambda slots: None

    def __call__(self, event):
        self.events.append(json.loads(event)["Records"])
        return self.answer(self.batches[-1])

    @property
    def batches(self):
        return [[int(record["dynamodb"]["Keys"]["slot"]["N"]) for record in records] for records in self.events]

    @property
    def slots(self):
        return [slot for batch in self.batches for slot in batch]


@pytest.fixture
def streams(clock):
    return MemoryStreams(clock=clock)


@pytest.fixture
def mapping_of(mapping_of, streams):
    return lambda stream=streams, **settings: mapping_of(stream, **settings)


@pytest.fixture
def function():
    return Function()


def item(slot, device="a", **more):
    return {"device": {"S": device}, "slot": {"N": str(slot)}, **more}


def put(streams, *slots, device="a"):
    for slot in slots:
        streams.append(None, item(slot, device))


def test_the_event_is_the_one_of_lambdas_documentation_with_binary_as_base64(clock, function, mapping_of, run):
    streams = MemoryStreams(clock=clock, view="NEW_AND_OLD_IMAGES")
    old = item(
        15, data={"B": b"\x00\xff"}, many={"BS": [b"a"]}, cell={"M": {"l": {"L": [{"B": b"b"}, {"NULL": True}]}}}
    )
    streams.append(old, item(15))
    run(mapping_of(streams))
    [[record]] = function.events
    change = record["dynamodb"]
    assert record == {
        "eventID": record["eventID"],
        "eventName": "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "eventSourceARN": streams.arn,
        "dynamodb": {
            "ApproximateCreationDateTime": 1_700_000_000,
            "Keys": {"device": {"S": "a"}, "slot": {"N": "15"}},
            "OldImage": {
                "device": {"S": "a"},
                "slot": {"N": "15"},
                "data": {"B": "AP8="},
                "many": {"BS": ["YQ=="]},
                "cell": {"M": {"l": {"L": [{"B": "Yg=="}, {"NULL": True}]}}},
            },
            "NewImage": {"device": {"S": "a"}, "slot": {"N": "15"}},
            "SequenceNumber": change["SequenceNumber"],
            "SizeBytes": change["SizeBytes"],
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
    }
    assert isinstance(change["ApproximateCreationDateTime"], int)


@pytest.mark.parametrize(
    ("view", "images"),
    [
        ("KEYS_ONLY", set()),
        ("NEW_IMAGE", {"NewImage"}),
        ("OLD_IMAGE", {"OldImage"}),
        ("NEW_AND_OLD_IMAGES", {"NewImage", "OldImage"}),
    ],
)
def test_the_record_has_the_images_of_its_view(clock, function, mapping_of, run, view, images):
    streams = MemoryStreams(clock=clock, view=view)
    streams.append(item(1), item(1, a={"S": "x"}))
    run(mapping_of(streams))
    assert {name for name in function.events[0][0]["dynamodb"] if name.endswith("Image")} == images


def test_a_deletion_by_expiry_says_who_did_it(streams, function, mapping_of, run):
    streams.append(item(1), None, identity=EXPIRY)
    streams.append(item(2), None)
    run(mapping_of())
    [expired, deleted] = function.events[0]
    assert expired["userIdentity"] == {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    assert [expired["eventName"], deleted["eventName"]] == ["REMOVE", "REMOVE"]
    assert "userIdentity" not in deleted


def test_the_order_key_is_one_whatever_the_form_of_the_keys():
    keys = order_key({"slot": {"N": "1500"}, "device": {"S": "a"}})
    assert keys == order_key({"device": {"S": "a"}, "slot": {"N": "1.50E3"}})
    others = [
        {"device": {"S": "a"}, "slot": {"N": "15"}},
        {"device": {"S": "a"}, "slot": {"S": "1500"}},
        {"device": {"B": b"a"}, "slot": {"N": "1500"}},
        {"device": {"S": "a"}},
    ]
    assert len({keys, *map(order_key, others)}) == 5


def test_changes_of_one_item_stay_in_order_while_another_lane_is_blocked(streams, function, mapping_of, run):
    for value in range(20):
        for slot in range(10):
            streams.append(item(slot, v={"N": str(value - 1)}), item(slot, v={"N": str(value)}))
    sent = {}
    for record in streams.get_records(
        ShardIterator=streams.get_shard_iterator(ShardId=next(iter(streams._shards)), ShardIteratorType="TRIM_HORIZON")[
            "ShardIterator"
        ]
    )["Records"]:
        sent.setdefault(int(record["dynamodb"]["Keys"]["slot"]["N"]), []).append(record["dynamodb"]["SequenceNumber"])
    blocked = True

    def fail(slots):
        if blocked and 0 in slots:
            raise RuntimeError("not yet")

    function.answer = fail
    mapping = mapping_of(parallelization_factor=10, batch_size=1)
    run(mapping, 5)
    assert len(set(function.slots)) > 5
    assert function.slots.count(0) > 3
    assert mapping.stats.records < 200
    blocked = False
    function.events.clear()
    run(mapping, 60)
    assert mapping.stats.records == 200
    delivered = {}
    for records in function.events:
        for record in records:
            slot = int(record["dynamodb"]["Keys"]["slot"]["N"])
            delivered.setdefault(slot, []).append(record["dynamodb"]["SequenceNumber"])
    assert delivered[0] == sent[0]
    for slot, numbers in delivered.items():
        assert numbers == sorted(numbers, key=int)
        assert numbers == sent[slot][-len(numbers) :]


def test_a_partial_failure_is_reported_by_sequence_number(streams, function, mapping_of, run):
    put(streams, 1, 2, 3)

    def fail_second_once(slots):
        if len(function.events) == 1:
            number = function.events[0][1]["dynamodb"]["SequenceNumber"]
            return {"batchItemFailures": [{"itemIdentifier": number}]}
        return None

    function.answer = fail_second_once
    mapping = mapping_of(report_batch_item_failures=True)
    run(mapping)
    assert function.batches == [[1, 2, 3], [2, 3]]
    assert mapping.stats.partials == 1


def test_the_failure_record_names_the_batch_as_lambda_does_for_dynamodb(streams, function, mapping_of, run):
    put(streams, 1, 2)

    def fail(slots):
        raise RuntimeError("never")

    function.answer = fail
    failures = []
    run(mapping_of(maximum_retry_attempts=0, on_failure=failures.append))
    [failure] = failures
    numbers = [record["dynamodb"]["SequenceNumber"] for record in function.events[0]]
    assert failure["DDBStreamBatchInfo"] == {
        "shardId": "shardId-00000000000000000000-00000000",
        "startSequenceNumber": numbers[0],
        "endSequenceNumber": numbers[1],
        "approximateArrivalOfFirstRecord": "2023-11-14T22:13:20Z",
        "approximateArrivalOfLastRecord": "2023-11-14T22:13:20Z",
        "batchSize": 2,
        "streamArn": streams.arn,
    }
    assert "KinesisBatchInfo" not in failure
    assert json.loads(failure["payload"])["Records"] == function.events[0]


def test_every_page_of_shards_is_read_and_children_follow_their_parents(clock, function, mapping_of, run):
    streams = MemoryStreams(5, clock=clock)
    for slot in range(100):
        put(streams, slot, device=f"device {slot % 10}")
    for shard_id in list(streams._shards):
        (streams.split_shard if shard_id.endswith("0") else streams.roll_shard)(shard_id)
    for slot in range(100, 200):
        put(streams, slot, device=f"device {slot % 10}")
    mapping = mapping_of(streams, batch_size=7)
    run(mapping)
    assert sorted(function.slots) == list(range(200))
    for device in range(10):
        assert [slot for slot in function.slots if slot % 10 == device] == list(range(device, 200, 10))
    assert list(mapping.checkpoints.values()).count(SHARD_END) == 5


def test_more_records_than_an_answer_holds_are_read_on(streams, function, mapping_of, run):
    put(streams, *range(2500))
    mapping = mapping_of(batch_size=10_000, batching_window_seconds=1)
    run(mapping)
    assert function.slots == list(range(2500))
    assert len(function.batches[0]) == 2500


@pytest.mark.parametrize(("position", "delivered"), [("TRIM_HORIZON", [1, 2]), ("LATEST", [2])])
def test_the_starting_position_decides_about_changes_before(streams, function, mapping_of, run, position, delivered):
    put(streams, 1)
    mapping = mapping_of(starting_position=position)
    mapping.step()
    put(streams, 2)
    run(mapping)
    assert function.slots == delivered


def test_with_latest_an_iterator_that_expires_before_the_first_change_misses_nothing(
    streams, function, mapping_of, run, clock
):
    put(streams, *range(1500))
    clock.now += 10
    mapping = mapping_of(starting_position="LATEST")
    mapping.step()
    streams.fault = lambda operation, arguments: (
        client_error("InternalServerError", operation) if operation == "GetRecords" else None
    )
    put(streams, 2000, 2001)
    run(mapping, 1000)
    streams.fault = None
    run(mapping)
    assert function.slots == [2000, 2001]
    assert streams.calls["GetShardIterator"] > 1


def test_with_latest_a_child_of_a_shard_closed_before_is_read_from_now_on(streams, function, mapping_of, run, clock):
    put(streams, 1)
    streams.roll_shard("shardId-00000000000000000000-00000000")
    put(streams, 2)
    clock.now += 5
    mapping = mapping_of(starting_position="LATEST")
    mapping.step()
    put(streams, 3)
    run(mapping)
    assert function.slots == [3]


def test_a_mapping_goes_on_where_another_one_ended(streams, function, mapping_of, run):
    put(streams, 1, 2)
    first = mapping_of()
    run(first)
    streams.roll_shard("shardId-00000000000000000000-00000000")
    put(streams, 3)
    run(first)
    put(streams, 4)
    second = mapping_of(checkpoints=json.loads(json.dumps(first.checkpoints)))
    run(second)
    assert function.slots == [1, 2, 3, 4]
    assert second.checkpoints["shardId-00000000000000000000-00000000"] == SHARD_END


def test_changes_that_expired_unread_are_passed_over_and_the_rest_delivered(streams, function, mapping_of, run, clock):
    put(streams, 1)
    mapping = mapping_of()
    run(mapping)
    put(streams, 2)
    streams.fault = lambda operation, arguments: (
        client_error("InternalServerError", operation) if operation == "GetRecords" else None
    )
    run(mapping, 600)
    clock.now += DAY
    put(streams, 3)
    streams.fault = None
    run(mapping, 20)
    assert function.slots == [1, 3]
    [checkpoint] = mapping.checkpoints.values()
    put(streams, 4)
    clock.now += 2 * DAY
    put(streams, 5)
    resumed = mapping_of(checkpoints={next(iter(mapping.checkpoints)): checkpoint})
    run(resumed)
    assert function.slots == [1, 3, 5]


def test_a_failing_batch_is_given_up_when_the_stream_does_not_keep_it_any_more(
    streams, function, mapping_of, run, clock
):
    put(streams, 1)

    def fail(slots):
        raise RuntimeError("never")

    function.answer = fail
    failures = []
    mapping = mapping_of(on_failure=failures.append)
    run(mapping, 60)
    clock.now += DAY - 180
    run(mapping, 60)
    assert not failures
    run(mapping, 120)
    assert [failure["requestContext"]["condition"] for failure in failures] == ["RecordAgeExceeded"]


def test_a_timestamp_is_refused_where_the_api_has_none(mapping_of, clock):
    with pytest.raises(SettingsError, match="TRIM_HORIZON or LATEST"):
        mapping_of(starting_position="AT_TIMESTAMP", starting_position_timestamp=clock.now)


def test_an_unknown_stream_is_said_at_the_start(streams, function):
    arn = streams.arn.replace("table/table", "table/nobody")
    with pytest.raises(LocalError, match=r"cannot read the stream arn:aws:dynamodb.*nobody"):
        EventSourceMapping(streams, arn, function).start()


def test_a_child_waits_while_its_parents_changes_fail(streams, function, mapping_of, run):
    put(streams, 1)
    streams.roll_shard("shardId-00000000000000000000-00000000")
    put(streams, 2)
    failing = True

    def fail(slots):
        if failing and 1 in slots:
            raise RuntimeError("not yet")

    function.answer = fail
    mapping = mapping_of()
    run(mapping)
    assert set(function.slots) == {1}
    failing = False
    run(mapping, 20)
    assert function.slots[-2:] == [1, 2]


def test_only_an_empty_answer_is_taken_for_the_tip(streams, clock):
    put(streams, 1)
    stream = DynamoDBStream(streams, streams.arn, "rollup")
    stream.open()
    [shard_id] = stream.shards()
    iterator = ShardIterator(stream, shard_id, Start("TRIM_HORIZON"), clock=clock)
    tips = [(len(iterator.read()), iterator.at_tip) for _ in range(2)]
    assert tips == [(1, False), (0, True)]
