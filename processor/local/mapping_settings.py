"""The settings of an event source mapping, in AWS's ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from processor.errors import SettingsError
from processor.local.filters import MAXIMUM_FILTERS, FilterCriteria

MAXIMUM_PATTERN = 4096
"""Characters of a filter's pattern (Lambda API Reference, "Filter")."""

StartingPosition = Literal["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"]


@dataclass(frozen=True)
class MappingSettings:
    """What CreateEventSourceMapping takes for a stream, with its ranges; SettingsError outside them.

    batch_size: records of an invocation at most, 1–10,000 (fewer where the payload limit of 6 MB is reached).
    batching_window_seconds: how long to gather them, 0–300. AWS takes whole seconds; here fractions too.
    parallelization_factor: concurrent batches of a shard, 1–10; records of one partition key, or of one item of
    DynamoDB, stay in order.
    starting_position: where to start in shards that have no checkpoint; `starting_position_timestamp`, seconds since
    1970, goes with AT_TIMESTAMP.
    start_delay_seconds: how long after its start the mapping reads for the first time, 0–600. Not a setting of AWS,
    where "it may take several minutes": with LATEST, what is put in the meantime is missed.
    bisect_batch_on_function_error: halve a failed batch before retrying it.
    maximum_retry_attempts: −1 (until the records expire) to 10,000.
    maximum_record_age_seconds: −1 (until they expire), or 60–604,800.
    report_batch_item_failures: believe the function's `batchItemFailures`.
    tumbling_window_seconds: 0 (no windows) to 900; the function then returns a `state`. One state a shard is kept, so
    parallelization_factor is 1 with it.
    tumbling_window_grace_seconds: how long a window waits for more records after its end, 0–120. Not a setting of AWS,
    which says "up to 2 minutes": the default is the longest that a function has to bear, and 0 suits a run by the wall
    clock, where each quiet window would hold its checkpoint for as long.
    filters: patterns of the filter criteria, each the text of a JSON object of up to 4,096 characters; see `filters`.
    filter_quota: how many there may be: 5, or up to 10 in an account whose quota was raised.
    """

    batch_size: int = 100
    batching_window_seconds: float = 0.5
    parallelization_factor: int = 1
    starting_position: StartingPosition = "TRIM_HORIZON"
    starting_position_timestamp: float | None = None
    start_delay_seconds: float = 0
    bisect_batch_on_function_error: bool = False
    maximum_retry_attempts: int = -1
    maximum_record_age_seconds: int = -1
    report_batch_item_failures: bool = False
    tumbling_window_seconds: int = 0
    tumbling_window_grace_seconds: float = 120
    filters: tuple[str, ...] = ()
    filter_quota: int = 5

    def __post_init__(self) -> None:
        self._check("batch_size", 1, 10_000)
        self._check("batching_window_seconds", 0, 300, fractions=True)
        self._check("parallelization_factor", 1, 10)
        self._check("start_delay_seconds", 0, 600, fractions=True)
        self._check("maximum_retry_attempts", -1, 10_000)
        self._check("tumbling_window_seconds", 0, 900)
        self._check("tumbling_window_grace_seconds", 0, 120, fractions=True)
        if self.tumbling_window_seconds and self.parallelization_factor != 1:
            raise SettingsError(
                "tumbling_window_seconds keeps one state a shard: it goes with parallelization_factor 1"
            )
        self._check_filters()
        if self.maximum_record_age_seconds != -1:
            self._check("maximum_record_age_seconds", 60, 604_800, or_else="or -1 for no limit")
        if self.starting_position not in get_args(StartingPosition):
            raise SettingsError(
                f"starting_position is one of {', '.join(get_args(StartingPosition))}, not {self.starting_position!r}"
            )
        if (self.starting_position == "AT_TIMESTAMP") != (self.starting_position_timestamp is not None):
            raise SettingsError(
                "starting_position_timestamp goes with starting_position AT_TIMESTAMP, and only with it"
            )

    def _check_filters(self) -> None:
        self._check("filter_quota", 5, MAXIMUM_FILTERS)
        if len(self.filters) > self.filter_quota:
            quota = f"{self.filter_quota} at most (filter_quota, 5 to {MAXIMUM_FILTERS})"
            raise SettingsError(f"filters are {quota}, not {len(self.filters)}")
        for place, pattern in enumerate(self.filters):
            if len(pattern) > MAXIMUM_PATTERN:
                size = f"{MAXIMUM_PATTERN:,} characters at most, not {len(pattern):,}"
                raise SettingsError(f"filters[{place}] has {size}: {pattern[:40]}…")
        FilterCriteria(self.filters)

    def _check(self, name: str, low: int, high: int, *, fractions: bool = False, or_else: str = "") -> None:
        value = getattr(self, name)
        kind = "a number" if fractions else "a whole number"
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (fractions and isinstance(value, float))) or not low <= value <= high:
            raise SettingsError(f"{name} is {kind} from {low:,} to {high:,} {or_else}".rstrip() + f", not {value!r}")
