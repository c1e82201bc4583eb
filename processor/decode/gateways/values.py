"""What one value of a table of readings means: its unit, scale and sentinels, compiled into one function.

Numbers never go through floats multiplied: Decimal where every factor is one, else Fraction.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import orjson

from processor.decode.gateways.heard import refusal
from processor.errors import DecodeError
from processor.reading import Quantity, quantity

MAX_TEXT = 64
ABSENT: Any = object()
"""Stands for a value that is not there."""

_MOST = 10**15
_LEAST = 1e-15
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_VALUE_KEYS = {"quantity", "unit", "scale", "offset", "absent", "range", "map"}

Convert = Callable[[Any, str], Any]
"""Takes a value and its key; returns what it means, or ABSENT. Raises DecodeError."""

UNITS: dict[tuple[str, str], tuple[str, str]] = {
    ("°F", "°C"): ("5/9", "-160/9"),
    ("K", "°C"): ("1", "-273.15"),
    ("hPa", "Pa"): ("100", "0"),
    ("kPa", "Pa"): ("1000", "0"),
    ("mbar", "Pa"): ("100", "0"),
    ("bar", "Pa"): ("100000", "0"),
    ("mG", "g"): ("0.001", "0"),
    ("m/s²", "g"): ("1/9.80665", "0"),
    ("mV", "V"): ("0.001", "0"),
    ("mA", "A"): ("0.001", "0"),
    ("mW", "W"): ("0.001", "0"),
    ("kW", "W"): ("1000", "0"),
    ("Wh", "kWh"): ("0.001", "0"),
    ("g", "kg"): ("0.001", "0"),
    ("mm", "m"): ("0.001", "0"),
    ("cm", "m"): ("0.01", "0"),
    ("ms", "s"): ("0.001", "0"),
    ("min", "s"): ("60", "0"),
    ("h", "s"): ("3600", "0"),
    ("km/h", "m/s"): ("1/3.6", "0"),
    ("mL", "L"): ("0.001", "0"),
    ("mg/m³", "µg/m³"): ("1000", "0"),
    ("mS/cm", "µS/cm"): ("1000", "0"),
}
"""From one unit to another: factor and offset, added after it."""


def conversion(meaning: dict[str, Any], where: str) -> Convert:
    """Compile what a value means. Raises ValueError or KeyError for what makes no sense."""
    unknown = meaning.keys() - _VALUE_KEYS
    if unknown:
        raise ValueError(f"{sorted(unknown)} are no keys of a value; those are {sorted(_VALUE_KEYS)}")
    what = quantity(meaning["quantity"])
    absent = meaning.get("absent", [])
    if type(absent) is not list:
        raise ValueError("`absent` is a list of the values that mean that there is none")
    inner = _mapped(meaning["map"], what, where) if "map" in meaning else _KINDS[what.kind](meaning, what, where)
    if not absent:
        return inner

    def convert(value: Any, key: str) -> Any:
        return ABSENT if any(same(value, none) for none in absent) else inner(value, key)

    return convert


def _mapped(table: dict[str, Any], what: Quantity, where: str) -> Convert:
    """Return the conversion of a value that is one of a few, by its JSON text; `null` means that there is none."""
    _check_mapped(table, what)

    def convert(value: Any, key: str) -> Any:
        text = value if type(value) is str else orjson.dumps(whole(value)).decode() if _plain(value) else ""
        if text not in table:
            raise _refusal(key, f"one of {', '.join(table)}", where, value)
        found = table[text]
        return ABSENT if found is None else found

    return convert


def _check_mapped(table: Any, what: Quantity) -> None:
    if type(table) is not dict or not table:
        raise ValueError("`map` is an object: from a value to what it means")
    allowed = {"flag": (bool,), "event": (str,), "text": (str,)}.get(what.kind, (int, float))
    if not all(value is None or type(value) in allowed for value in table.values()):
        raise ValueError(f"`map`: {what.name} is a {what.kind}, and some of these values are not")


def _plain(value: Any) -> bool:
    return (
        (type(value) is int and abs(value) <= _MOST)
        or type(value) is bool
        or (type(value) is float and abs(value) < _MOST)
    )


def whole(value: Any) -> Any:
    """Return a float without a fraction as an int, and anything else as it is."""
    return int(value) if type(value) is float and value.is_integer() else value


def _number(meaning: dict[str, Any], what: Quantity, where: str) -> Convert:
    factor, offset = _linear(meaning, what)
    low, high = meaning.get("range", (-_MOST, _MOST))
    if not (_plain(low) and _plain(high) and low < high):
        raise ValueError("`range` is [least, greatest], of the value as it comes")
    change = None if factor == 1 and offset == 0 else _change(factor, offset)

    def convert(value: Any, key: str) -> Any:
        if type(value) is str and _NUMBER.fullmatch(value):
            value = float(value)
        kind = type(value)
        # A comparison with NaN is false, so this refuses it too.
        if not (kind is float or kind is int) or not -_MOST < value < _MOST or 0 < abs(value) < _LEAST:
            raise _refusal(key, "a number below 10^15", where, value)
        if not low <= value <= high:
            return ABSENT
        if change is not None:
            value = change(value)
        return int(value) if type(value) is float and value.is_integer() else value

    return convert


def _linear(meaning: dict[str, Any], what: Quantity) -> tuple[Fraction, Fraction]:
    """Return the factor and the offset from a value as it comes to the quantity's unit."""
    scale, shift = _fraction(meaning.get("scale", "1")), _fraction(meaning.get("offset", "0"))
    unit = meaning.get("unit", what.unit)
    factor, offset = Fraction(1), Fraction(0)
    if unit != what.unit:
        if (unit, what.unit) not in UNITS:
            known = ", ".join(sorted(one for one, other in UNITS if other == what.unit))
            raise ValueError(
                f"{what.name} is in {what.unit or 'no unit'}; it can come in {known or 'nothing else'}, not {unit}"
            )
        factor, offset = map(_fraction, UNITS[unit, what.unit])
    if not scale:
        raise ValueError("`scale` is not zero")
    return scale * factor, shift * factor + offset


def _fraction(text: Any) -> Fraction:
    """Return a decimal, its text, or two of them divided."""
    number, _, divisor = str(text).partition("/")
    return Fraction(number) / Fraction(divisor or "1")


def _change(factor: Fraction, offset: Fraction) -> Callable[[int | float], float]:
    """Return the function value × factor + offset: the float nearest to the result's decimal of 15 digits.

    Where both are decimals the sum is one too, and Decimal has it exactly; else (°F) Fraction, which is slower.
    """
    if _is_decimal(factor) and _is_decimal(offset):
        times, plus = _decimal(factor), _decimal(offset)
        return lambda value: float(f"{Decimal(repr(value)) * times + plus:.15g}")
    return lambda value: float(f"{_decimal(Fraction(repr(value)) * factor + offset):.15g}")


def _is_decimal(number: Fraction) -> bool:
    return 10**20 % number.denominator == 0


def _decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)


def _flag(_: dict[str, Any], __: Quantity, where: str) -> Convert:
    def convert(value: Any, key: str) -> Any:
        if type(value) is bool or ((type(value) is int or type(value) is float) and value in (0, 1)):
            return bool(value)
        raise _refusal(key, "true, false, 1 or 0", where, value)

    return convert


def _text(_: dict[str, Any], __: Quantity, where: str) -> Convert:
    def convert(value: Any, key: str) -> Any:
        if type(value) is str and 0 < len(value) <= MAX_TEXT:
            return value
        raise _refusal(key, f"text of at most {MAX_TEXT} characters", where, value)

    return convert


_KINDS = {
    "number": _number, "identifier": _number, "counter": _number, "flag": _flag, "text": _text, "event": _text
}  # fmt: skip


def same(value: Any, other: Any) -> bool:
    """Tell whether two JSON values are the same: 1 is not true."""
    return bool(value == other) and (type(value) is bool) == (type(other) is bool)


def _refusal(key: str, expected: str, where: str, value: Any) -> DecodeError:
    return refusal("value", f"`{key}` is {expected}", where, value)
