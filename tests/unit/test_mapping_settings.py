"""The settings of an event source mapping keep to AWS's ranges."""

from __future__ import annotations

import pytest

from processor.errors import SettingsError
from processor.local.mapping_settings import MappingSettings

SHORT = '{"partitionKey": ["a"]}'
LONGEST = '{"partitionKey": ["' + "a" * (4096 - len('{"partitionKey": [""]}')) + '"]}'


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("batch_size", (1, 10_000)),
        ("batching_window_seconds", (0, 0.5, 300)),
        ("parallelization_factor", (1, 10)),
        ("maximum_retry_attempts", (-1, 0, 10_000)),
        ("maximum_record_age_seconds", (-1, 60, 604_800)),
        ("tumbling_window_seconds", (0, 900)),
        ("tumbling_window_grace_seconds", (0, 0.5, 120)),
        ("filters", ((), (SHORT,) * 5, (LONGEST,))),
        ("filter_quota", (5, 10)),
        ("starting_position", ("TRIM_HORIZON", "LATEST")),
        ("start_delay_seconds", (0, 0.5, 600)),
    ],
)
def test_the_ends_of_each_range_are_taken(name, values):
    for value in values:
        assert getattr(MappingSettings(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("batch_size", 0, "from 1 to 10,000, not 0"),
        ("batch_size", 10_001, "not 10001"),
        ("batch_size", 5.0, "a whole number"),
        ("batch_size", True, "not True"),
        ("batching_window_seconds", -0.1, "from 0 to 300, not -0.1"),
        ("batching_window_seconds", 300.5, "not 300.5"),
        ("batching_window_seconds", float("nan"), "not nan"),
        ("batching_window_seconds", "1", "not '1'"),
        ("parallelization_factor", 11, "from 1 to 10"),
        ("maximum_retry_attempts", -2, "from -1 to 10,000"),
        ("maximum_record_age_seconds", 0, "or -1 for no limit, not 0"),
        ("maximum_record_age_seconds", 59, "from 60 to 604,800"),
        ("maximum_record_age_seconds", 604_801, "not 604801"),
        ("tumbling_window_seconds", 901, "from 0 to 900, not 901"),
        ("tumbling_window_grace_seconds", 120.5, "from 0 to 120, not 120.5"),
        ("start_delay_seconds", 601, "from 0 to 600, not 601"),
        ("filters", (SHORT,) * 6, "5 at most (filter_quota, 5 to 10), not 6"),
        ("filters", (SHORT, LONGEST + " "), "filters[1] has 4,096 characters at most, not 4,097"),
        ("filter_quota", 11, "from 5 to 10, not 11"),
        ("starting_position", "NEWEST", "TRIM_HORIZON, LATEST, AT_TIMESTAMP, not 'NEWEST'"),
        ("starting_position", "AT_TIMESTAMP", "starting_position_timestamp goes with"),
        ("starting_position_timestamp", 1.0, "and only with it"),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name_and_range(name, value, said):
    with pytest.raises(SettingsError) as error:
        MappingSettings(**{name: value})
    assert name in str(error.value)
    assert said in str(error.value)


def test_more_than_five_filters_go_with_a_raised_quota():
    assert len(MappingSettings(filters=(SHORT,) * 10, filter_quota=10).filters) == 10
    with pytest.raises(SettingsError, match="10 at most"):
        MappingSettings(filters=(SHORT,) * 11, filter_quota=10)
