"""Values that came decoded, as JSON: a declared table says which key is which quantity, in which unit.

readings.json beside this file is the table that ships; a file of the same form, named by the setting GATEWAY_READINGS,
adds sources without code. README.md says how. Everything is checked and compiled when the table is
read; conversions are exact: a value goes through Decimal or Fraction, never through floats multiplied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pkgutil import get_data
from typing import Any, NamedTuple
from zlib import crc32

import orjson

from processor.decode.gateways.candidates import Asks, Candidates
from processor.decode.gateways.heard import address_if, address_in, kept_at, refusal, rssi_in, time_in
from processor.decode.gateways.values import ABSENT, MAX_TEXT, Convert, conversion, same, whole
from processor.errors import SettingsError
from processor.reading import Reading, Value

WHERE = "readings"
IMSI = "imsi"
ADDRESS = "address"

_SOURCE_KEYS = {"format", "source", "match", "where", "device", "namespace", "time", "rssi", "counter", "values"}


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
            if _at(message, path) is ABSENT:
                return False
        return all(same(_at(message, path), value) for path, value in self.where)

    def reading(self, message: Mapping[str, Any], at: int, imsi: str | None, gateway: str | None) -> Reading:
        """Return a message's Reading; `at` is when it was measured, in ms since 1970.

        imsi: the SIM it came through, where that may stand for the device. Raises DecodeError where a value is not
        what the table says, or nobody says which device it is.
        """
        values: dict[str, Value] = {}
        for path, key, name, convert in self.values:
            value = _at(message, path)
            if value is not None and value is not ABSENT:
                value = convert(value, key)
                if value is not ABSENT:
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
        if type(own) is not str or not own.isprintable() or len(own) > MAX_TEXT:
            raise refusal("address", f"a device's id is text of at most {MAX_TEXT} characters", self.format, own)
        if self.namespace == ADDRESS:
            return address_in(own, self.format) or ""
        if self.namespace is not None:
            return f"{self.namespace}:{own}"
        return address_if(own) or f"{self.format}:{own}"


class Table:
    """Every kind of message that is known, those of the user's file first; `own` are these alone, if there are any."""

    def __init__(self, sources: Iterable[Source], own: Table | None = None) -> None:
        self.sources = tuple(sources)
        self.own = own
        self._candidates = Candidates(Asks(source.match, source.where) for source in self.sources)

    def source_of(self, message: Mapping[str, Any]) -> Source | None:
        """Return the first kind that a message is of."""
        for place in self._candidates.of(message):
            if self.sources[place].matches(message):
                return self.sources[place]
        return None

    def reading(self, message: Mapping[str, Any], at: int, imsi: str | None) -> Reading | None:
        """Return the Reading of a message that arrived at `at`, None where no kind fits. Raises DecodeError."""
        source = self.source_of(message)
        if source is None:
            return None
        seen = None if source.time is None else time_in(_present(_at(message, source.time)), source.format)
        return source.reading(message, kept_at(at, None, seen), imsi, imsi)

    def readings(self, message: Any, at: int, imsi: str | None) -> list[Reading]:
        """Return the Reading of a message that arrived at `at`. Raises DecodeError where no kind fits."""
        reading = self.reading(message, at, imsi) if type(message) is dict else None
        if reading is None:
            raise refusal("shape", "no source in readings.json has these keys", WHERE, message)
        return [reading]


def table(document: bytes) -> Table:
    """Compile a table's JSON, and put it before the one that ships. Raises SettingsError, naming the entry."""
    own = Table(_sources(document))
    return Table((*own.sources, *SHIPPED.sources), own)


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
        (_path(key), key, meaning["quantity"], conversion(meaning, name))
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
    """Return what is at a path of keys, or ABSENT."""
    for key in path:
        if type(message) is not dict:
            return ABSENT
        message = message.get(key, ABSENT)
    return message


def _present(value: Any) -> Any:
    return None if value is ABSENT else value


def _counter(value: Any, where: str) -> int | None:
    if value is None or value is ABSENT:
        return None
    value = whole(value)
    if type(value) is int and 0 <= value < 2**63:
        return value
    raise refusal("value", "a counter is a whole number", where, value)


def shipped() -> bytes:
    """Return the table that ships, as its file holds it."""
    return get_data(__package__, "readings.json") or b"[]"


SHIPPED = Table(_sources(shipped()))
