"""The filter criteria: every operator that Lambda documents, on records of Kinesis and of DynamoDB."""

from __future__ import annotations

import base64
import json

import pytest

from processor.errors import SettingsError
from processor.local.filters import FilterCriteria


def kinesis(data, key="1"):
    encoded = base64.b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).decode()
    return json.dumps({"kinesis": {"partitionKey": key, "data": encoded}, "eventSource": "aws:kinesis"}).encode()


def passes(data, pattern):
    return FilterCriteria([json.dumps({"data": pattern})]).match(kinesis(data))


@pytest.mark.parametrize(
    ("rule", "fits", "does_not"),
    [
        ([None], [None], ["", 0, "null", False]),
        ([""], [""], [None, " ", 0]),
        (["Alice"], ["Alice"], ["alice", "Alice ", None]),
        (["Credit", "Debit"], ["Credit", "Debit"], ["Cash"]),
        ([True], [True], ["true", 1, False]),
        ([{"anything-but": ["Raining"]}], ["Dry", 1, None, ""], ["Raining"]),
        ([{"anything-but": "Raining"}], ["Dry"], ["Raining"]),
        ([{"anything-but": [{"prefix": "Rain"}]}], ["Dry"], ["Raining"]),
        ([{"numeric": ["=", 100]}], [100, 100.0], ["100", 100.1, None]),
        ([{"numeric": [">", 10, "<=", 20]}], [10.5, 20], [10, 20.5, "15"]),
        ([{"numeric": ["<", 0]}, {"numeric": [">=", 5]}], [-1, 5], [0, 4]),
        ([{"prefix": "us-"}], ["us-east-1"], ["eu-us-", 7, None]),
        ([{"suffix": ".png"}], ["a.png"], ["a.png.jpg"]),
        ([{"equals-ignore-case": "alice"}], ["ALICE", "Alice"], ["alic", None]),
        ([{"exists": True}], ["", None, 0, [1]], [{"inner": 1}]),
        ([{"exists": False}], [{"inner": 1}], ["", None]),
        (["a"], [["b", "a"]], [["b"], []]),
    ],
)
def test_each_operator_of_a_rule(rule, fits, does_not):
    assert [value for value in fits if not passes({"field": value}, {"field": rule})] == []
    assert [value for value in does_not if passes({"field": value}, {"field": rule})] == []


def test_only_does_not_exist_fits_a_field_that_is_not_there():
    rules = [[None], [""], ["a"], [{"anything-but": ["a"]}], [{"exists": True}], [{"numeric": ["=", 1]}]]
    assert [rule for rule in rules if passes({"other": 1}, {"field": rule})] == []
    assert passes({"other": 1}, {"field": [{"exists": False}]})


def test_every_field_of_a_pattern_has_to_fit_and_others_do_not_matter():
    pattern = {"Location": ["New York"], "Day": ["Monday"]}
    assert passes({"Location": "New York", "Day": "Monday", "Hour": 1}, pattern)
    assert not passes({"Location": "New York", "Day": "Sunday"}, pattern)


def test_or_over_several_fields():
    pattern = {"$or": [{"Location": ["New York"]}, {"Day": ["Monday"]}]}
    assert passes({"Day": "Monday"}, pattern)
    assert passes({"Location": "New York", "Day": "Sunday"}, pattern)
    assert not passes({"Day": "Sunday"}, pattern)


def test_numbers_are_equal_only_as_they_are_written():
    criteria = FilterCriteria(['{"data": {"n": [300]}}'])
    assert criteria.match(kinesis(b'{"n": 300}'))
    assert not criteria.match(kinesis(b'{"n": 300.0}'))
    assert not criteria.match(kinesis(b'{"n": 3.0e2}'))
    assert not criteria.match(kinesis(b'{"n": "300"}'))


def test_objects_in_lists_fit_as_wholes():
    pattern = {"tags": {"name": ["a"], "value": [1]}}
    assert passes({"tags": [{"name": "b", "value": 2}, {"name": "a", "value": 1}]}, pattern)
    assert not passes({"tags": [{"name": "a", "value": 2}, {"name": "b", "value": 1}]}, pattern)


@pytest.mark.parametrize("data", [b"plain", b"\xff\xfe", b"", b"{", b'"text"', b"[1]", b"[{}]", b"5", b"null"])
def test_data_that_is_no_json_object_fits_no_pattern_for_it_but_metadata_alone_is_compared(data):
    for pattern in ({"a": [1]}, {"a": [{"exists": False}]}, {"$or": [{"a": [{"exists": False}]}, {"b": [1]}]}):
        assert not passes(data, pattern)
    assert FilterCriteria(['{"partitionKey": ["1"]}']).match(kinesis(data))
    assert not FilterCriteria(['{"partitionKey": ["2"]}']).match(kinesis(data))


@pytest.mark.parametrize("levels", [300, 500, 900, 3000, 100_000])
@pytest.mark.parametrize("opened", ["[", '{"a":'])
def test_data_nested_however_deep_is_compared_or_left_out(levels, opened):
    closed = "]" if opened == "[" else "}"
    deep = opened * levels + '"x"' + closed * levels
    data = f'{{"c": {deep}}}'.encode()
    for pattern in ({"c": ["y"]}, {"c": {"b": ["x"]}}):
        assert not passes(data, pattern)
    if levels < 1000:  # the parser of every Python takes that
        assert passes(data, {"c": ["x"]}) is (opened == "[")


def test_a_pattern_may_have_a_hundred_levels():
    pattern, data = ["x"], "x"
    for _ in range(99):
        pattern, data = {"a": pattern}, {"a": data}
    assert passes(data, pattern)


def test_any_of_several_filters_is_enough_and_none_lets_all_pass():
    criteria = FilterCriteria(['{"data": {"a": [1]}}', '{"partitionKey": ["2"]}'])
    assert criteria.match(kinesis({"a": 1}))
    assert criteria.match(kinesis({"a": 2}, key="2"))
    assert not criteria.match(kinesis({"a": 2}))
    assert FilterCriteria([]).match(kinesis(b"plain"))


def test_a_change_of_a_table_is_compared_by_its_parts():
    event = {"eventName": "MODIFY", "dynamodb": {"Keys": {"slot": {"N": "15"}}, "NewImage": {"a": {"S": "x"}}}}
    fits = [
        {"eventName": ["MODIFY"]},
        {"dynamodb": {"Keys": {"slot": {"N": ["15"]}}}},
        {"dynamodb": {"NewImage": {"a": {"S": [{"exists": True}]}, "b": {"S": [{"exists": False}]}}}},
    ]
    does_not = [
        {"eventName": ["REMOVE"]},
        {"dynamodb": {"Keys": {"slot": {"N": [{"numeric": ["=", 15]}]}}}},
        {"dynamodb": {"OldImage": {"a": {"S": ["x"]}}}},
    ]
    encoded = json.dumps(event).encode()
    assert [pattern for pattern in fits if not FilterCriteria([json.dumps(pattern)]).match(encoded)] == []
    assert [pattern for pattern in does_not if FilterCriteria([json.dumps(pattern)]).match(encoded)] == []


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{", "JSON object"),
        ("[]", "JSON object"),
        ("{}", "empty"),
        ('{"data": ["plain"]}', "data is a JSON object"),
        ('{"data": "plain"}', "data is a JSON object"),
        ('{"data": {}}', "empty at data"),
        ('{"a": "b"}', "rule at a is a list"),
        ('{"a": []}', "rule at a is a list"),
        ('{"a": [["b"]]}', "list in a list"),
        ('{"a": [{"like": "b"}]}', "one operator of anything-but"),
        ('{"a": [{"prefix": "b", "suffix": "c"}]}', "one operator of"),
        ('{"a": [{"prefix": 1}]}', "a.prefix is of the kind str"),
        ('{"a": [{"exists": "true"}]}', "a.exists is of the kind bool"),
        ('{"a": [{"numeric": [">"]}]}', "looks like"),
        ('{"a": [{"numeric": ["~", 1]}]}', "looks like"),
        ('{"a": [{"numeric": ["=", "1"]}]}', "looks like"),
        ('{"a": [{"numeric": ["=", 1e99999999999999999999]}]}', "a.numeric is a number, not 1e9"),
        ('{"a": [{"anything-but": [{"anything-but": ["b"]}]}]}', "takes values"),
        ('{"a": [{"anything-but": {"anything-but": ["b"]}}]}', "takes values"),
        ("[" * 3000 + "]" * 3000, "JSON object"),
        ('{"a": ' * 3000 + "1" + "}" * 3000, "JSON object"),
        ('{"a": ' * 101 + '["b"]' + "}" * 101, "has 100 levels at most: a.a.a"),
    ],
)
def test_what_is_no_pattern_is_refused_at_the_start(pattern, said):
    with pytest.raises(SettingsError, match=said):
        FilterCriteria([pattern])


def test_more_filters_than_the_quota_are_refused():
    with pytest.raises(SettingsError, match="10 filters at most, not 11"):
        FilterCriteria(['{"a": [1]}'] * 11)
