"""The filter criteria of a mapping: which records reach the function.

Patterns and their rules are those of the Lambda Developer Guide, "Control which events Lambda sends to your function"
(filter rule syntax, five filters that are ORed), "Using event filtering with a Kinesis event source" and "… with a
DynamoDB event source"; where they are silent, those of the Amazon EventBridge User Guide, "Comparison operators".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from processor.errors import SettingsError

MAXIMUM_FILTERS = 10
"""Five by default, ten where the quota was raised."""

MAXIMUM_DEPTH = 100
"""Levels of a pattern. Ours: AWS names no bound but a pattern's length, and this one keeps within Python's."""

Test = Callable[[Any], bool]
"""Says whether a value fits; a value that is not there is ABSENT."""

ABSENT = object()
NO_OBJECT = object()
"""Data that is no JSON object: no pattern for it fits, not even one of what must not be there."""


class Number(str):
    """A number as it was written: 300, 300.0 and 3.0e2 are not equal to Lambda."""


class FilterCriteria:
    """Patterns, each the text of a JSON object; a record that fits any of them passes, and all where there is none.

    Raises SettingsError for what is no pattern.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        texts = tuple(patterns)
        if len(texts) > MAXIMUM_FILTERS:
            raise SettingsError(f"a mapping has {MAXIMUM_FILTERS} filters at most, not {len(texts)}")
        self._filters = [_compiled(text) for text in texts]

    def __bool__(self) -> bool:
        return bool(self._filters)

    def match(self, event: bytes) -> bool:
        """Say whether a record passes, by its part of the invocation's event."""
        if not self._filters:
            return True
        record = _parsed(event.decode())
        subject = record.get("kinesis", record)
        if subject is not record:
            subject["data"] = _decoded(subject["data"])
        return any(test(subject) for test in self._filters)


def _decoded(data: str) -> Any:
    """Return what a record of Kinesis holds if that is a JSON object; a pattern for `data` fits nothing else.

    Ours: what is nested beyond what Python's parser takes is none. How deep Lambda's goes is not documented.
    """
    try:
        found = _parsed(base64.b64decode(data).decode())
    except (ValueError, RecursionError):  # the second where it is nested beyond what can be parsed
        return NO_OBJECT
    return found if isinstance(found, dict) else NO_OBJECT


def _parsed(text: str) -> Any:
    return json.loads(text, parse_int=Number, parse_float=Number)


def _compiled(text: str) -> Test:
    try:
        pattern = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"a filter's pattern is the text of a JSON object: {error} in {text[:200]!r}") from error
    if not isinstance(pattern, dict):
        raise SettingsError(f"a filter's pattern is a JSON object, not {text[:200]!r}")
    for key in ("data", "dynamodb"):
        if key in pattern and not isinstance(pattern[key], dict):
            raise SettingsError(f"a filter's pattern for {key} is a JSON object, not {pattern[key]!r}")
    return _object(pattern, "")


def _object(pattern: Mapping[str, Any], path: str, depth: int = 1) -> Test:
    """Return the test of an object: every field's has to fit, and one alternative of `$or`."""
    if not pattern:
        raise SettingsError(f"a filter's pattern is empty{' at ' + path if path else ''}: name a field or leave it out")
    if depth > MAXIMUM_DEPTH:
        raise SettingsError(f"a filter's pattern has {MAXIMUM_DEPTH} levels at most: {path[:80]}…")
    fields: list[tuple[str, Test]] = []
    choices: list[Test] = []
    for name, rule in pattern.items():
        place = f"{path}.{name}".lstrip(".")
        if name == "$or" and isinstance(rule, list):
            choices = [_object(_known(each, dict, place), place, depth + 1) for each in rule]
        elif isinstance(rule, dict):
            fields.append((name, _object(rule, place, depth + 1)))
        elif isinstance(rule, list) and rule:
            fields.append((name, _leaf([_rule(each, place) for each in rule])))
        else:
            raise SettingsError(f"a filter's rule at {place} is a list of values, or an object, not {rule!r}")

    def fits(value: Any) -> bool:
        if value is NO_OBJECT:
            return False
        there = value if isinstance(value, dict) else {}
        return all(test(there.get(name, ABSENT)) for name, test in fields) and (
            not choices or any(choice(there) for choice in choices)
        )

    return lambda value: any(fits(each) for each in _elements(value))  # any of a list, each as a whole


def _leaf(tests: list[Test]) -> Test:
    """Return the test of a field: one of the rules has to fit the value, or one of the values of a list."""

    def fits(value: Any) -> bool:
        found = ABSENT if isinstance(value, dict) else value  # rules speak of leaves
        return any(test(found) for test in tests)

    return lambda value: any(fits(each) for each in _elements(value))


def _elements(value: Any) -> Iterator[Any]:
    """Yield a value, or the elements of a list, and of the lists in it, which may be nested to any depth."""
    if not isinstance(value, list):
        yield value
        return
    open_lists = [iter(value)]
    while open_lists:
        for each in open_lists[-1]:
            if isinstance(each, list):
                open_lists.append(iter(each))
                break
            yield each
        else:
            open_lists.pop()


def _rule(rule: Any, path: str) -> Test:
    if not isinstance(rule, dict):
        if isinstance(rule, list):
            raise SettingsError(f"a filter's rule at {path} holds a list in a list: {rule!r}")
        return _equal(rule)
    if len(rule) != 1 or next(iter(rule)) not in OPERATORS:
        raise SettingsError(f"a filter's rule at {path} has one operator of {', '.join(OPERATORS)}, not {rule!r}")
    [(operator, operand)] = rule.items()
    return OPERATORS[operator](operand, f"{path}.{operator}")


def _equal(wanted: Any) -> Test:
    return lambda value: type(value) is type(wanted) and value == wanted


def _anything_but(operand: Any, path: str) -> Test:
    operands = operand if isinstance(operand, list) else [operand]
    if any(isinstance(each, dict) and "anything-but" in each for each in operands):
        raise SettingsError(f"a filter's {path} takes values and other operators, not itself")
    refused = [_rule(each, path) for each in operands]
    return lambda value: value is not ABSENT and not any(test(value) for test in refused)


def _numeric(operand: Any, path: str) -> Test:
    parts = _known(operand, list, path)
    bounds = list(zip(parts[::2], parts[1::2], strict=False))
    if not bounds or len(parts) % 2 or any(sign not in SIGNS or type(n) is not Number for sign, n in bounds):
        raise SettingsError(f'a filter\'s {path} looks like [">", 10, "<=", 20], not {operand!r}')
    checks = [(SIGNS[sign], _bound(number, path)) for sign, number in bounds]

    def fits(value: Any) -> bool:
        if type(value) is not Number:
            return False
        try:
            number = Decimal(value)
        except InvalidOperation:  # NaN and its like, which are no JSON
            return False
        return all(holds(number, bound) for holds, bound in checks)

    return fits


def _bound(number: Number, path: str) -> Decimal:
    try:
        return Decimal(number)
    except InvalidOperation:
        raise SettingsError(f"a filter's {path} is a number, not {number[:80]}") from None


def _exists(operand: Any, path: str) -> Test:
    wanted = _known(operand, bool, path)
    return lambda value: (value is not ABSENT) is wanted


def _text(fits: Callable[[str, str], bool]) -> Callable[[Any, str], Test]:
    def make(operand: Any, path: str) -> Test:
        wanted: str = _known(operand, str, path)
        return lambda value: type(value) is str and fits(value, wanted)

    return make


def _known(value: Any, kind: type, path: str) -> Any:
    if type(value) is not kind:
        raise SettingsError(f"a filter's {path} is of the kind {kind.__name__}, not {value!r}")
    return value


SIGNS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "=": lambda value, bound: value == bound,
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}

OPERATORS: dict[str, Callable[[Any, str], Test]] = {
    "anything-but": _anything_but,
    "numeric": _numeric,
    "exists": _exists,
    "prefix": _text(str.startswith),
    "suffix": _text(str.endswith),
    "equals-ignore-case": _text(lambda value, wanted: value.lower() == wanted.lower()),
}
"""The comparison operators beyond null, empty, equals, and (fields), or (values) and `$or`."""
