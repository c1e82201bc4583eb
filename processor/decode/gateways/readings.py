"""Values that came decoded, as JSON: a declared table says which key is which quantity, in which unit.

readings.json beside this file is the table that ships; a file of the same form, named by the setting GATEWAY_READINGS,
adds sources without code. README.md says how. Everything is checked and compiled when the table is
read; conversions are exact: a value goes through Decimal or Fraction, never through floats multiplied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from pkgutil import get_data
from typing import Any, NamedTuple
from zlib import crc32

import orjson

from processor.decode.gateways.heard import address_if, address_in, kept_at, refusal, rssi_in, time_in
from processor.errors import DecodeError, SettingsError
from processor.reading import Quantity, Reading, Value, quantity

WHERE = "readings"
IMSI = "imsi"
ADDRESS = "address"
_MAX_TEXT = 64
_MOST = 10**15
_LEAST = 1e-15
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_ABSENT: Any = object()

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

_SOURCE_KEYS = {"format", "source", "match", "where", "device", "namespace", "time", "rssi", "counter", "values"}
_VALUE_KEYS = {"quantity", "unit", "scale", "offset", "absent", "range", "map"}

Convert = Callable[[Any, str], Any]
"""Takes a value and its key; returns what it means, or _ABSENT. Raises DecodeError."""


class Source(NamedTuple):
    """One kind of JSON message: how it is told from others, and what its keys mean."""

    format: str
    match: tuple[tuple[str, ...], ...]
    where: tuple[tuple[tuple[str, ...], Any], ...]
    device: tuple[str, ...] | None
    namespace: str | None
    time: tuple[str, ...] | None
    rssi: tuple[str, ...] | None
    counter: tuple[str, ...] | None
    values: tuple[tuple[tuple[str, ...], str, str, Convert], ...]
    """Path, key as it is written, quantity, conversion."""

    def matches(self, message: Mapping[str, Any]) -> bool:
        """Tell whether a message has all of the keys, and the values asked for."""
        for path in self.match:
            if _at(message, path) is _ABSENT:
                return False
        return all(_same(_at(message, path), value) for path, value in self.where)

    def reading(self, message: Mapping[str, Any], at: int, imsi: str | None, gateway: str | None) -> Reading:
        """Return a message's Reading; `at` is when it was measured, in ms since 1970.

        imsi: the SIM it came through, where that may stand for the device. Raises DecodeError where a value is not
        what the table says, or nobody says which device it is.
        """
        values: dict[str, Value] = {}
        for path, key, name, convert in self.values:
            value = _at(message, path)
            if value is not None and value is not _ABSENT:
                value = convert(value, key)
                if value is not _ABSENT:
                    values[name] = value
        counter = None if self.counter is None else _counter(_at(message, self.counter), self.format)
        rssi = None if self.rssi is None else rssi_in(_present(_at(message, self.rssi)), self.format)
        # What was measured, not how it came: the same values through two gateways are one reading.
        digest = crc32(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)) & 0xFFFFFF
        return Reading(self._device(message, imsi), at, self.format, values, counter, digest, gateway, rssi)

    def _device(self, message: Mapping[str, Any], imsi: str | None) -> str:
        own = None if self.device is None else _present(_at(message, self.device))
        if own is None or own == "":
            if imsi is None:
                raise refusal("address", "neither the message nor its envelope says which device it is", self.format,
                              message)  # fmt: skip
            return f"{IMSI}:{imsi}"
        if type(own) is int and self.namespace is not None:
            own = str(own)
        if type(own) is not str or not own.isprintable() or len(own) > _MAX_TEXT:
            raise refusal("address", f"a device's id is text of at most {_MAX_TEXT} characters", self.format, own)
        if self.namespace == ADDRESS:
            return address_in(own, self.format) or ""
        if self.namespace is not None:
            return f"{self.namespace}:{own}"
        return address_if(own) or f"{self.format}:{own}"


class Table:
    """Every kind of message that is known, those of the user's file first."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.sources = tuple(sources)

    def source_of(self, message: Mapping[str, Any]) -> Source | None:
        """Return the first kind that a message is of."""
        for source in self.sources:
            if source.matches(message):
                return source
        return None

    def readings(self, message: Any, at: int, imsi: str | None) -> list[Reading]:
        """Return the Reading of a message that arrived at `at`. Raises DecodeError where no kind fits."""
        source = self.source_of(message) if type(message) is dict else None
        if source is None:
            raise refusal("shape", "no source in readings.json has these keys", WHERE, message)
        seen = None if source.time is None else time_in(_present(_at(message, source.time)), source.format)
        return [source.reading(message, kept_at(at, None, seen), imsi, imsi)]


def table(document: bytes) -> Table:
    """Compile a table's JSON, and put it before the one that ships. Raises SettingsError, naming the entry."""
    return Table((*_sources(document), *SHIPPED.sources))


def _sources(document: bytes) -> list[Source]:
    try:
        entries = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"the table of readings is not JSON: {error}") from None
    if type(entries) is not list or not all(type(entry) is dict for entry in entries):
        raise SettingsError("the table of readings is a list of objects, one for each kind of message")
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            found.append(_source(entry))
        except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            name = entry.get("format", f"number {number}")
            reason = f"it has no {error}" if type(error) is KeyError and len(str(error)) < 20 else error
            raise SettingsError(f"the table of readings, entry {name}: {reason}") from None
    return found


def _source(entry: dict[str, Any]) -> Source:
    unknown = entry.keys() - _SOURCE_KEYS
    if unknown:
        raise ValueError(f"{sorted(unknown)} are no keys of an entry; those are {sorted(_SOURCE_KEYS)}")
    name, match, where, values = entry["format"], entry["match"], entry.get("where", {}), entry["values"]
    if not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)*", name):
        raise ValueError("a format is called maker.model, in small letters")
    if type(match) is not list or not match or type(where) is not dict or type(values) is not dict or not values:
        raise ValueError("`match` is a list of keys, `where` and `values` are objects; `match` and `values` not empty")
    namespace = entry.get("namespace")
    if namespace is not None and not re.fullmatch(r"[a-z]{1,16}", namespace):
        raise ValueError("`namespace` is a short word, which goes before the device's id (imei), or address")
    device = entry.get("device")
    compiled = [
        (_path(key), key, meaning["quantity"], _convert(meaning, name))
        for key, meanings in values.items()
        for meaning in (meanings if type(meanings) is list else [meanings])
    ]
    if len({quantity_name for _, _, quantity_name, _ in compiled}) != len(compiled):
        raise ValueError("two keys mean the same quantity: call the second temperature_2")
    return Source(
        name,
        tuple(map(_path, match)),
        tuple((_path(key), value) for key, value in where.items()),
        None if device in (None, IMSI) else _path(device),
        namespace,
        _optional(entry, "time"),
        _optional(entry, "rssi"),
        _optional(entry, "counter"),
        tuple(compiled),
    )


def _optional(entry: dict[str, Any], key: str) -> tuple[str, ...] | None:
    return None if entry.get(key) is None else _path(entry[key])


def _path(key: Any) -> tuple[str, ...]:
    if type(key) is not str or not key:
        raise ValueError(f"a key is text, with dots between the levels, not {key!r}")
    return tuple(key.split("."))


def _at(message: Any, path: tuple[str, ...]) -> Any:
    """Return what is at a path of keys, or _ABSENT."""
    for key in path:
        if type(message) is not dict:
            return _ABSENT
        message = message.get(key, _ABSENT)
    return message


def _same(value: Any, other: Any) -> bool:
    return bool(value == other) and (type(value) is bool) == (type(other) is bool)


def _present(value: Any) -> Any:
    return None if value is _ABSENT else value


def _convert(meaning: dict[str, Any], where: str) -> Convert:
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
        return _ABSENT if any(_same(value, none) for none in absent) else inner(value, key)

    return convert


def _mapped(table: dict[str, Any], what: Quantity, where: str) -> Convert:
    """Return the conversion of a value that is one of a few, by its JSON text; `null` means that there is none."""
    _check_mapped(table, what)

    def convert(value: Any, key: str) -> Any:
        text = value if type(value) is str else orjson.dumps(_whole(value)).decode() if _plain(value) else ""
        if text not in table:
            raise _refusal(key, f"one of {', '.join(table)}", where, value)
        found = table[text]
        return _ABSENT if found is None else found

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


def _whole(value: Any) -> Any:
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
            return _ABSENT
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
        if type(value) is str and 0 < len(value) <= _MAX_TEXT:
            return value
        raise _refusal(key, f"text of at most {_MAX_TEXT} characters", where, value)

    return convert


_KINDS = {
    "number": _number, "identifier": _number, "counter": _number, "flag": _flag, "text": _text, "event": _text
}  # fmt: skip


def _counter(value: Any, where: str) -> int | None:
    if value is None or value is _ABSENT:
        return None
    value = _whole(value)
    if type(value) is int and 0 <= value < 2**63:
        return value
    raise refusal("value", "a counter is a whole number", where, value)


def _refusal(key: str, expected: str, where: str, value: Any) -> DecodeError:
    return refusal("value", f"`{key}` is {expected}", where, value)


def shipped() -> bytes:
    """Return the table that ships, as its file holds it."""
    return get_data(__package__, "readings.json") or b"[]"


SHIPPED = Table(_sources(shipped()))
