"""A shard's lanes, batches, retries and checkpoint, without threads or AWS."""

from __future__ import annotations

import pytest

from processor.local.batch import MAXIMUM_PAYLOAD, SUCCESS, Outcome
from processor.local.mapping_settings import MappingSettings
from processor.local.shard import BACKOFF_FIRST, BACKOFF_MAXIMUM, ShardQueue
from processor.local.stream import Record

FAILED = Outcome("failed", unhandled=True)
THROTTLED = Outcome("throttled")


def partial(at):
    return Outcome("partial", at)


def record(number, key="k", arrival=0.0, size=100):
    return Record(str(number), key, arrival, b"x" * size)


def queue_of(count=0, *, key="k", retention=None, checkpoint=None, **settings):
    settings = {"batching_window_seconds": 0, **settings}
    queue = ShardQueue("shard", MappingSettings(**settings), checkpoint=checkpoint, retention_seconds=retention)
    queue.add([record(number, key) for number in range(1, count + 1)], 0.0)
    return queue


def numbers(batch):
    return [int(found.sequence_number) for found in batch.records]


def fail_until_empty(queue, bad, now=0.0):
    """Send everything there is, with a function that raises where a bad record is in the batch; return what it saw."""
    seen = []
    while queue.unfinished:
        now = max(now, queue.due(0))
        batch = queue.take(0, now)
        if batch.condition is not None:
            seen.append(("given up", numbers(batch)))
            queue.complete(batch, SUCCESS, now)
        else:
            seen.append(("sent", numbers(batch)))
            queue.complete(batch, FAILED if bad & set(numbers(batch)) else SUCCESS, now)
    return seen


# Batches


def test_a_full_batch_is_sent_at_once_and_the_rest_when_its_window_has_passed():
    queue = queue_of(batch_size=3, batching_window_seconds=2)
    queue.add([record(number) for number in (1, 2, 3, 4)], 10.0)
    first = queue.take(0, 10.0)
    assert numbers(first) == [1, 2, 3]
    queue.complete(first, SUCCESS, 10.5)
    assert queue.take(0, 11.9) is None
    assert queue.due(0) == 12.0
    assert numbers(queue.take(0, 12.0)) == [4]


def test_the_window_counts_from_the_oldest_waiting_record():
    queue = queue_of(batching_window_seconds=2)
    queue.add([record(1)], 10.0)
    queue.add([record(2)], 11.0)
    assert queue.due(0) == 12.0
    batch = queue.take(0, 12.5)
    queue.add([record(3)], 12.6)
    queue.complete(batch, SUCCESS, 13.0)
    assert queue.due(0) == 14.6


def test_without_a_window_any_record_is_sent_at_once():
    assert numbers(queue_of(1).take(0, 0.0)) == [1]


def test_a_batch_never_passes_the_payload_limit_and_reaching_it_ends_the_window():
    queue = queue_of(batch_size=10_000, batching_window_seconds=300)
    queue.add([record(number, size=MAXIMUM_PAYLOAD // 4) for number in range(1, 6)], 0.0)
    batch = queue.take(0, 0.0)
    assert numbers(batch) == [1, 2, 3]
    assert len(batch.event()) <= MAXIMUM_PAYLOAD
    queue.complete(batch, SUCCESS, 0.0)
    assert queue.due(0) == 300.0


@pytest.mark.parametrize(("spare", "sent"), [(0, [1, 2]), (-1, [1])])
def test_the_payload_limit_is_exact(spare, sent):
    both = MAXIMUM_PAYLOAD - len(b'{"Records":[,]}') - spare
    queue = queue_of(batching_window_seconds=0)
    queue.add([record(1, size=100), record(2, size=both - 100)], 0.0)
    batch = queue.take(0, 0.0)
    assert numbers(batch) == sent
    assert len(batch.event()) <= MAXIMUM_PAYLOAD


def test_a_record_that_no_invocation_can_hold_is_given_up_alone_and_at_once():
    queue = queue_of(batching_window_seconds=300)
    queue.add([record(1, size=MAXIMUM_PAYLOAD), record(2)], 0.0)
    batch = queue.take(0, 0.0)
    assert (numbers(batch), batch.condition, batch.invocations) == ([1], "PayloadTooLarge", 0)
    queue.complete(batch, SUCCESS, 0.0)
    assert queue.checkpoint == "1"
    assert numbers(queue.take(0, 300.0)) == [2]
    assert queue.counts.discarded == 1


def test_a_lane_has_one_batch_under_way_at_most():
    queue = queue_of(4, batch_size=2)
    batch = queue.take(0, 0.0)
    assert queue.due(0) is None
    assert queue.take(0, 99.0) is None
    queue.complete(batch, SUCCESS, 99.0)
    assert numbers(queue.take(0, 99.0)) == [3, 4]


def test_a_batch_is_completed_once():
    queue = queue_of(1)
    batch = queue.take(0, 0.0)
    queue.complete(batch, SUCCESS, 0.0)
    with pytest.raises(ValueError, match="is not waiting for this batch"):
        queue.complete(batch, SUCCESS, 0.0)


# The checkpoint


def test_records_of_one_key_share_a_lane_and_keys_spread_over_all():
    queue = queue_of(parallelization_factor=10)
    lanes = {key: queue.lane_of(f"key {key}") for key in range(200)}
    assert set(lanes.values()) == set(range(10))
    assert lanes == {key: queue.lane_of(f"key {key}") for key in range(200)}


def test_the_checkpoint_is_below_the_lowest_unfinished_record_of_all_lanes():
    queue = queue_of(parallelization_factor=2)
    slow, fast = (next(key for key in "abcdefgh" if queue.lane_of(key) == lane) for lane in (0, 1))
    queue.add([record(1, fast), record(2, slow), record(3, fast), record(4, slow), record(5, fast)], 0.0)
    first, second = queue.take(0, 0.0), queue.take(1, 0.0)
    queue.complete(second, SUCCESS, 0.0)
    assert (queue.checkpoint, queue.unfinished) == ("1", 2)
    queue.complete(first, SUCCESS, 0.0)
    assert (queue.checkpoint, queue.unfinished) == ("5", 0)


def test_numbers_are_compared_as_integers_and_kept_as_text():
    queue = queue_of()
    queue.add([record("0009"), record("00010")], 0.0)
    batch = queue.take(0, 0.0)
    assert [found.sequence_number for found in batch.records] == ["0009", "00010"]
    queue.complete(batch, SUCCESS, 0.0)
    assert queue.checkpoint == "00010"
    assert queue.read_to == 10


def test_records_that_were_read_before_are_ignored():
    queue = queue_of(checkpoint="5")
    queue.add([record(4), record(5), record(6)], 0.0)
    queue.add([record(6), record(7)], 0.0)
    assert numbers(queue.take(0, 0.0)) == [6, 7]
    assert queue.checkpoint == "5"


def test_reading_pauses_when_two_batches_a_lane_wait_and_goes_on_when_they_are_done():
    queue = queue_of(3, batch_size=2)
    assert queue.has_room()
    queue.add([record(4)], 0.0)
    assert not queue.has_room()
    queue.complete(queue.take(0, 0.0), SUCCESS, 0.0)
    assert queue.has_room()


def test_reading_pauses_for_bytes_too():
    queue = queue_of(batch_size=10_000)
    queue.add([record(number, size=MAXIMUM_PAYLOAD - 100) for number in (1, 2)], 0.0)
    assert queue.has_room()
    queue.add([record(3, size=200)], 0.0)
    assert not queue.has_room()
    queue.complete(queue.take(0, 0.0), SUCCESS, 0.0)
    assert queue.has_room()


# Failures


def test_a_failed_batch_is_sent_again_whole_before_what_came_after_it():
    queue = queue_of(2, batch_size=2)
    queue.complete(queue.take(0, 0.0), FAILED, 0.0)
    queue.add([record(3)], 0.0)
    assert queue.take(0, 0.0) is None
    assert numbers(queue.take(0, BACKOFF_FIRST)) == [1, 2]


def test_the_back_off_doubles_up_to_its_limit_and_starts_anew_after_a_success():
    queue = queue_of(1)
    now, delays = 0.0, []
    for _ in range(10):
        queue.complete(queue.take(0, now), FAILED, now)
        delays.append(round(queue.due(0) - now, 6))
        now = queue.due(0)
    assert delays[:4] == [BACKOFF_FIRST, 2 * BACKOFF_FIRST, 4 * BACKOFF_FIRST, 8 * BACKOFF_FIRST]
    assert delays[-1] == BACKOFF_MAXIMUM
    queue.complete(queue.take(0, now), SUCCESS, now)
    queue.add([record(2)], now)
    queue.complete(queue.take(0, now), FAILED, now)
    assert round(queue.due(0) - now, 6) == BACKOFF_FIRST


def test_without_a_limit_it_is_tried_for_ever():
    queue = queue_of(1)
    for attempt in range(1000):
        batch = queue.take(0, attempt * BACKOFF_MAXIMUM)
        assert batch.condition is None
        queue.complete(batch, FAILED, attempt * BACKOFF_MAXIMUM)
    assert (queue.counts.retries, queue.checkpoint) == (1000, None)


@pytest.mark.parametrize("attempts", [0, 2])
def test_after_the_retries_the_batch_is_given_up_and_the_shard_goes_on(attempts):
    queue = queue_of(4, batch_size=2, maximum_retry_attempts=attempts)
    assert fail_until_empty(queue, {1}) == [
        *[("sent", [1, 2])] * (attempts + 1),
        ("given up", [1, 2]),
        ("sent", [3, 4]),
    ]
    assert (queue.counts.discarded, queue.counts.records, queue.counts.retries) == (2, 2, attempts)
    assert (queue.counts.errors, queue.counts.invocations) == (attempts + 1, attempts + 2)
    assert queue.checkpoint == "4"


def test_a_given_up_batch_says_why_and_how_often_it_was_tried():
    queue = queue_of(1, maximum_retry_attempts=1)
    now = 0.0
    for _ in range(2):
        now = max(now, queue.due(0))
        queue.complete(queue.take(0, now), FAILED, now)
    batch = queue.take(0, now)
    assert (batch.condition, batch.invocations, batch.unhandled) == ("RetryAttemptsExhausted", 2, True)


def test_bisecting_isolates_one_bad_record_and_uses_up_no_retry():
    queue = queue_of(8, batch_size=8, bisect_batch_on_function_error=True, maximum_retry_attempts=1)
    assert fail_until_empty(queue, {6}) == [
        ("sent", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("sent", [1, 2, 3, 4]),
        ("sent", [5, 6, 7, 8]),
        ("sent", [5, 6]),
        ("sent", [5]),
        ("sent", [6]),
        ("sent", [6]),
        ("given up", [6]),
        ("sent", [7, 8]),
    ]
    assert (queue.counts.bisects, queue.counts.retries, queue.counts.discarded) == (3, 1, 1)


def test_after_a_bisect_batches_are_as_large_as_before():
    queue = queue_of(8, batch_size=4, bisect_batch_on_function_error=True, maximum_retry_attempts=0)
    sent = fail_until_empty(queue, {1})
    assert sent == [
        ("sent", [1, 2, 3, 4]),
        ("sent", [1, 2]),
        ("sent", [1]),
        ("given up", [1]),
        ("sent", [2]),
        ("sent", [3, 4]),
        ("sent", [5, 6, 7, 8]),
    ]


@pytest.mark.parametrize("reporting", [True, False])
def test_a_failed_invocation_is_bisected_whether_items_may_be_reported_or_not(reporting):
    queue = queue_of(4, report_batch_item_failures=reporting, bisect_batch_on_function_error=True)
    queue.complete(queue.take(0, 0.0), FAILED, 0.0)
    assert numbers(queue.take(0, 0.0)) == [1, 2]


def test_a_partial_failure_is_retried_from_the_reported_record_on_and_uses_up_no_retry():
    queue = queue_of(4, report_batch_item_failures=True, maximum_retry_attempts=0)
    queue.complete(queue.take(0, 0.0), partial(2), 0.0)
    assert queue.checkpoint == "2"
    assert queue.counts.records == 2
    again = queue.take(0, BACKOFF_FIRST)
    assert (numbers(again), again.retries, again.condition) == ([3, 4], 0, None)
    queue.complete(again, partial(0), BACKOFF_FIRST)
    assert queue.take(0, BACKOFF_FIRST).condition == "RetryAttemptsExhausted"
    assert (queue.counts.partials, queue.counts.errors, queue.counts.retries) == (2, 0, 0)


def test_a_report_of_the_first_record_uses_up_a_retry_and_one_of_a_later_record_gives_all_of_them_back():
    queue = queue_of(3, report_batch_item_failures=True, maximum_retry_attempts=1)
    now, sent = 0.0, []
    for at in (1, 0, 1, 0):  # 2 fails, fails again, succeeds while 3 fails for the first time, and 3 fails again
        batch = queue.take(0, now)
        sent.append((numbers(batch), batch.retries, batch.condition))
        queue.complete(batch, partial(at), now)
        now = queue.due(0)
    assert sent == [([1, 2, 3], 0, None), ([2, 3], 0, None), ([2, 3], 1, None), ([3], 0, None)]
    last = queue.take(0, now)
    assert (numbers(last), last.retries, last.condition) == ([3], 1, None)


def test_what_is_left_of_a_partial_success_is_tried_and_counted_as_a_batch_of_its_own():
    """As AWS did it: LocalStack's recording of `test_kinesis_report_batch_item_failures`, three retries allowed."""
    queue = queue_of(6, batch_size=3, report_batch_item_failures=True, maximum_retry_attempts=3)
    now, sent = 0.0, []
    while (batch := queue.take(0, now)).condition is None:
        sent.append(numbers(batch))
        at = numbers(batch).index(6) if 6 in numbers(batch) else None
        queue.complete(batch, SUCCESS if at is None else partial(at), now)
        now = max(now, queue.due(0))
    assert sent == [[1, 2, 3], [4, 5, 6], [6], [6], [6], [6]]
    assert (numbers(batch), batch.condition, batch.invocations) == ([6], "RetryAttemptsExhausted", 4)


def test_with_both_switched_on_a_batch_splits_at_the_reported_record_and_uses_up_no_retry():
    queue = queue_of(4, report_batch_item_failures=True, bisect_batch_on_function_error=True, maximum_retry_attempts=0)
    queue.complete(queue.take(0, 0.0), partial(2), 0.0)
    again = queue.take(0, BACKOFF_FIRST)
    assert (numbers(again), again.retries, again.condition) == ([3, 4], 0, None)
    assert queue.counts.bisects == 1


def test_with_both_switched_on_a_report_of_the_first_record_halves_the_batch():
    queue = queue_of(4, report_batch_item_failures=True, bisect_batch_on_function_error=True, maximum_retry_attempts=0)
    queue.complete(queue.take(0, 0.0), partial(0), 0.0)
    left = queue.take(0, 0.0)
    queue.complete(left, partial(0), 0.0)
    first = queue.take(0, 0.0)
    assert (numbers(left), numbers(first)) == ([1, 2], [1])
    queue.complete(first, partial(0), 0.0)
    given_up = queue.take(0, 0.0)
    assert (numbers(given_up), given_up.condition) == ([1], "RetryAttemptsExhausted")


def test_a_throttle_is_no_invocation_uses_up_no_retry_and_bisects_nothing():
    queue = queue_of(2, bisect_batch_on_function_error=True, maximum_retry_attempts=1)
    now = 0.0
    for _ in range(5):
        now = max(now, queue.due(0))
        batch = queue.take(0, now)
        assert (numbers(batch), batch.condition) == ([1, 2], None)
        queue.complete(batch, THROTTLED, now)
    assert queue.counts.throttles == 5
    assert (queue.counts.invocations, queue.counts.retries, queue.counts.bisects) == (0, 0, 0)
    assert queue.take(0, queue.due(0)).retries == 0


# Age


def test_records_past_the_maximum_age_are_given_up_from_the_front_and_the_others_sent():
    queue = queue_of(maximum_record_age_seconds=60)
    queue.add([record(1, arrival=0.0), record(2, arrival=1.0), record(3, arrival=30.0)], 0.0)
    batch = queue.take(0, 61.0)
    assert (numbers(batch), batch.condition) == ([1, 2], "RecordAgeExceeded")
    queue.complete(batch, SUCCESS, 61.0)
    assert queue.checkpoint == "2"
    assert numbers(queue.take(0, 61.0)) == [3]


def test_a_batch_that_grows_too_old_while_it_is_retried_is_given_up():
    queue = queue_of(maximum_record_age_seconds=60)
    queue.add([record(1), record(2, arrival=50.0)], 0.0)
    queue.complete(queue.take(0, 59.9), FAILED, 59.9)
    batch = queue.take(0, 61.0)
    assert (numbers(batch), batch.condition, batch.invocations) == ([1], "RecordAgeExceeded", 1)
    queue.complete(batch, SUCCESS, 61.0)
    again = queue.take(0, 61.0)
    assert (numbers(again), again.retries) == ([2], 1)


@pytest.mark.parametrize(("maximum", "retention", "limit"), [(-1, 100.0, 100), (60, 100.0, 60), (200, 100.0, 100)])
def test_the_streams_retention_limits_the_age_as_well(maximum, retention, limit):
    queue = queue_of(1, maximum_record_age_seconds=maximum, retention=retention)
    assert queue.take(0, limit).condition == "RecordAgeExceeded"
    queue = queue_of(1, maximum_record_age_seconds=maximum, retention=retention)
    assert queue.take(0, limit - 0.1).condition is None


def test_a_failure_destination_that_fails_keeps_the_checkpoint_back_until_it_works():
    queue = queue_of(2, batch_size=1, maximum_retry_attempts=0)
    queue.complete(queue.take(0, 0.0), FAILED, 0.0)
    now = 0.0
    for _ in range(3):
        now = max(now, queue.due(0))
        batch = queue.take(0, now)
        assert batch.condition == "RetryAttemptsExhausted"
        queue.complete(batch, Outcome("failed"), now)
        assert (queue.checkpoint, queue.counts.discarded) == (None, 0)
    now = queue.due(0)
    queue.complete(queue.take(0, now), SUCCESS, now)
    assert (queue.checkpoint, queue.counts.discarded, queue.counts.destination_errors) == ("1", 1, 3)
    assert numbers(queue.take(0, now)) == [2]


def test_the_oldest_arrival_and_finished_to_follow_the_lowest_unfinished_record():
    queue = queue_of(batch_size=1)
    assert (queue.oldest_arrival, queue.finished_to(99)) == (None, True)
    queue.add([record(5, arrival=1.0), record(7, arrival=2.0)], 0.0)
    assert (queue.oldest_arrival, queue.finished_to(4), queue.finished_to(5)) == (1.0, True, False)
    queue.complete(queue.take(0, 0.0), SUCCESS, 0.0)
    assert (queue.oldest_arrival, queue.finished_to(6), queue.finished_to(7)) == (2.0, True, False)


def test_what_is_finished_behind_a_blocked_record_is_not_remembered():
    queue = queue_of(batch_size=10, parallelization_factor=2)
    blocked, free = (next(key for key in "abcdefgh" if queue.lane_of(key) == lane) for lane in (0, 1))
    queue.add([record(1, blocked)], 0.0)
    queue.take(0, 0.0)
    for first in range(2, 10_002, 10):
        queue.add([record(number, free) for number in range(first, first + 9)], 0.0)
        queue.add([record(first + 9, blocked)._replace(matched=False)], 0.0)
        queue.complete(queue.take(1, 0.0), SUCCESS, 0.0)
    kept = [value for value in vars(queue).values() if hasattr(value, "__len__")]
    assert max(map(len, kept)) < 20
    assert (queue.unfinished, queue.checkpoint, queue.oldest_arrival) == (1, None, 0.0)
    queue.complete(queue.lanes[0].running, SUCCESS, 0.0)
    assert queue.checkpoint == "10001"
