"""Readings, roll-ups and devices as Arrow tables: the columns of an export, of SQL's views and of data frames.

`readings` has a row for each reading and a column for each quantity that occurs, `rollups` a row for each range of five
minutes (or longer) and quantity, `devices` one for each device. A column has the same type wherever it occurs: numbers
are doubles, flags booleans, texts and events text, times UTC to the millisecond. The time of a reading is called
`time`: `at`, as this package calls it elsewhere, is a word of SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

from processor.ask.choice import Member
from processor.errors import QueryError
from processor.reading import QUANTITIES, Reading, Value, quantity
from processor.store.registry import Device
from processor.store.rollups import Rollup

TYPES: dict[str, tuple[str, Callable[[Value], Any]]] = {
    "number": ("double", float),
    "identifier": ("double", float),
    "counter": ("double", float),
    "flag": ("bool", bool),
    "text": ("string", str),
    "event": ("string", str),
}
"""By a quantity's kind: the column's type, and what makes a value one of it."""

TIME = "timestamp"
REGISTERED = (("name", "string"), ("site", "string"), ("model", "string"))
READINGS = (("device", "string"), ("time", TIME), ("format", "string"), ("identity", "string"), ("gateway", "string"),
            ("rssi", "int32"), *REGISTERED)  # fmt: skip
ROLLUPS = (("device", "string"), ("start", TIME), ("quantity", "string"), ("unit", "string"), ("count", "int64"),
           ("sum", "double"), ("mean", "double"), ("min", "double"), ("max", "double"), ("last", "double"),
           *REGISTERED)  # fmt: skip
DEVICES = (("device", "string"), *REGISTERED, ("format", "string"), ("first_seen", TIME), ("last_seen", TIME))

ORDER = {name: number for number, name in enumerate(QUANTITIES)}


def arrow() -> ModuleType:
    """Return pyarrow, which only those need who ask for tables of it."""
    try:
        import pyarrow
    except ImportError:
        raise QueryError("this needs pyarrow: pip install 'processor[sql]'") from None
    found: ModuleType = pyarrow
    return found


def type_of(name: str) -> Any:
    """Return the Arrow type called so."""
    pa = arrow()
    return (
        pa.timestamp("ms", "UTC")
        if name == TIME
        else getattr(pa, {"double": "float64", "bool": "bool_"}.get(name, name))()
    )


def order(names: Iterable[str]) -> list[str]:
    """Return quantities in the order of their registry: a second temperature after the first."""

    def place(name: str) -> tuple[int, str]:
        base = name if name in ORDER else name.rpartition("_")[0]
        return ORDER.get(base, len(ORDER)), name

    return sorted(names, key=place)


def readings_table(readings: Sequence[Reading], devices: Mapping[str, Device]) -> Any:
    """Return readings, of any devices, as an Arrow table. devices: what is registered, by address."""
    known = [devices.get(reading.device) or Device(reading.device) for reading in readings]
    columns: dict[str, Any] = {
        "device": [reading.device for reading in readings],
        "time": [reading.at for reading in readings],
        "format": [reading.format for reading in readings],
        "identity": [reading.identity for reading in readings],
        "gateway": [reading.gateway for reading in readings],
        "rssi": [reading.rssi for reading in readings],
        **_registered(known),
    }
    types = dict(READINGS)
    for name in order({name for reading in readings for name in reading.values}):
        types[name], convert = TYPES[quantity(name).kind]
        columns[name] = [
            None if (value := reading.values.get(name)) is None else convert(value) for reading in readings
        ]
    return _table(columns, types)


def rollups_table(rollups: Sequence[Rollup], devices: Mapping[str, Device]) -> Any:
    """Return roll-ups, of any devices, as an Arrow table: a row for each quantity of each."""
    return _rows(summary_rows(rollups, devices), ROLLUPS)


def devices_table(members: Iterable[Member]) -> Any:
    """Return devices as an Arrow table."""
    rows = (
        {
            "device": device.address,
            **_names(device),
            "format": state.format if state else None,
            "first_seen": state.first_seen if state else None,
            "last_seen": state.last_seen if state else None,
        }
        for device, state in members
    )
    return _rows(rows, DEVICES)


def summary_rows(rollups: Iterable[Rollup], devices: Mapping[str, Device]) -> Iterable[dict[str, Any]]:
    """Yield a row for each quantity of each roll-up; `start` in ms since 1970."""
    for rollup in rollups:
        names = _names(devices.get(rollup.device) or Device(rollup.device))
        for name in order(rollup.quantities):
            summary = rollup.quantities[name]
            figures = {each: float(getattr(summary, each)) for each in ("sum", "mean", "min", "max", "last")}
            yield {
                "device": rollup.device,
                "start": rollup.start * 1000,
                "quantity": name,
                "unit": quantity(name).unit,
                "count": summary.count,
                **figures,
                **names,
            }


def reading_row(reading: Reading, devices: Mapping[str, Device]) -> dict[str, Any]:
    """Return a reading as a row of `readings`, its values as they are; `time` is a datetime."""
    return {
        "device": reading.device,
        "time": time_of(reading.at or 0),
        "format": reading.format,
        "identity": reading.identity,
        "gateway": reading.gateway,
        "rssi": reading.rssi,
        **_names(devices.get(reading.device) or Device(reading.device)),
        **reading.values,
    }


def time_of(at: int) -> datetime:
    """Return ms since 1970 as a datetime in UTC."""
    return datetime.fromtimestamp(at / 1000, UTC)


def _names(device: Device) -> dict[str, str | None]:
    return {"name": device.name, "site": device.site, "model": device.model or device.heard}


def _registered(devices: Sequence[Device]) -> dict[str, list[str | None]]:
    named = {id(device): _names(device) for device in devices}
    return {column: [named[id(device)][column] for device in devices] for column, _ in REGISTERED}


def _rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[tuple[str, str]]) -> Any:
    rows = list(rows)
    return _table({name: [row[name] for row in rows] for name, _ in columns}, dict(columns))


def _table(columns: Mapping[str, Any], types: Mapping[str, str]) -> Any:
    pa = arrow()
    return pa.table({name: pa.array(values, type_of(types[name])) for name, values in columns.items()})
