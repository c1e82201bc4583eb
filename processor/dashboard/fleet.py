"""The fleet as the page shows it: a row for each device, from the table `devices`, with its alarms.

Bindkeys and the names of secrets are in that table too. They are not even read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from processor.dashboard.left_out import left_out
from processor.reading import QUANTITIES, Value, quantity
from processor.store.items import pages
from processor.store.registry import Device, device_of
from processor.store.states import State, state_from
from processor.store.tables import SLOT_SECONDS, AttributeValue
from processor.store.unreadable import Unreadable
from processor.store.wire import Client

SILENT_SECONDS = 900
"""A device that was not heard for so long is silent. The roll-up function on AWS tells of it five minutes late."""

LOW_BATTERY = 15  # %
WEAK_SIGNAL = -90  # dBm, at the nearest gateway: close to what radios can still hear
HEARD_SECONDS = 120
"""Of the gateways that heard a device, those that did so late enough to count for its signal."""

READ: tuple[str, ...] = (
    *("device", "name", "site", "model", "heard", "calibration"),
    *("first_seen", "last_seen", "format", "latest", "heard_by"),
)

TROUBLE = {
    "problem": "Problem",
    "tamper": "Tampered with",
    "smoke": "Smoke",
    "gas_detected": "Gas",
    "carbon_monoxide": "Carbon monoxide",
    "moisture_detected": "Water",
    "earthquake": "Earthquake",
    "left_open": "Left open",
}
"""Flags that are alarms by themselves, in words."""

HEADLINES = ("temperature", "humidity", "co2", "pm2_5", "door", "opening", "motion", "pressure", "illuminance", "power")
"""What a row shows of a device's latest values: the first two of these that it has, else its first two numbers."""


class Known(NamedTuple):
    """All that the table says of one device.

    state: None where no reading of it was ever stored. unreadable: what of the item is left out.
    """

    device: Device
    state: State | None
    unreadable: Sequence[Unreadable] = ()


class Fleet:
    """Reads the table `devices`. silent_seconds: after how long a device counts as silent. clock: epoch seconds."""

    def __init__(
        self,
        client: Client,
        table: str,
        *,
        silent_seconds: float = SILENT_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._table = table
        self._silent = silent_seconds
        self._clock = clock

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return every device that was ever heard or registered, by address."""
        now = self._clock()
        return {known.device.address: self._row(known, now) for known in self._all()}

    def one(self, address: str) -> tuple[dict[str, Any], Known] | None:
        """Return one device's row, with all its latest values and gateways; None where the table does not know it."""
        names = {f"#{n}": name for n, name in enumerate(READ)}
        body = {
            "RequestItems": {
                self._table: {
                    "Keys": [{"device": {"S": address}}],
                    "ProjectionExpression": ",".join(names),
                    "ExpressionAttributeNames": names,
                }
            }
        }
        items = self._client.call("BatchGetItem", body)["Responses"].get(self._table, ())
        if not items:
            return None
        known = _known(items[0])
        return self._row(known, self._clock()) | _details(known), known

    def _all(self) -> Iterator[Known]:
        names = {f"#{n}": name for n, name in enumerate(READ)}
        body: dict[str, Any] = {
            "TableName": self._table,
            "ProjectionExpression": ",".join(names),
            "ExpressionAttributeNames": names,
        }
        for items in pages(self._client, "Scan", body):
            yield from map(_known, items)

    def _row(self, known: Known, now: float) -> dict[str, Any]:
        device, state, unreadable = known
        row: dict[str, Any] = {
            "device": device.address,
            "name": device.name,
            "site": device.site,
            "model": device.model or device.heard or (state and state.format),
            "seen": state and state.last_seen,
            "battery": None,
            "voltage": None,
            "signal": None,
            "gateways": 0,
            "values": [],
            "alarms": [],
            "unreadable": len(unreadable),
        }
        if state is None:
            return row
        latest = {name: _corrected(device, name, each.value) for name, each in state.latest.items()}
        near = _near(state)
        row["battery"], row["voltage"] = latest.get("battery"), latest.get("battery_voltage")
        row["signal"] = max((rssi for rssi in near.values() if rssi is not None), default=None)
        row["gateways"] = len(near)
        row["values"] = [[name, latest[name], quantity(name).unit] for name in _headlines(latest)]
        row["alarms"] = self._alarms(row, latest, now)
        return row

    def _alarms(self, row: Mapping[str, Any], latest: Mapping[str, Value], now: float) -> list[list[str]]:
        """Return a device's alarms as (kind, words), the worst first."""
        found = [["trouble", words] for flag, words in TROUBLE.items() if latest.get(flag) is True]
        if now - row["seen"] / 1000 > self._silent:
            found.append(["silent", "Silent"])
        if latest.get("battery_low") is True or (row["battery"] is not None and row["battery"] <= LOW_BATTERY):
            found.append(["battery", "Battery low"])
        if row["signal"] is not None and row["signal"] < WEAK_SIGNAL:
            found.append(["signal", "Weak signal"])
        return found


def _known(item: Mapping[str, AttributeValue]) -> Known:
    noted: list[Unreadable] = []
    state = state_from(item, noted.append)
    device = device_of(item)
    return Known(device, state, (*device.unreadable, *noted))


def _near(state: State) -> dict[str, int | None]:
    """Return the gateways that heard the device last, each with its RSSI."""
    last = max((heard.at for heard in state.heard_by.values()), default=0)
    return {name: heard.rssi for name, heard in state.heard_by.items() if heard.at >= last - HEARD_SECONDS}


def _corrected(device: Device, name: str, value: Value) -> Value:
    calibration = device.calibration.get(name)
    return value if calibration is None else calibration.apply(value)


def _headlines(latest: Mapping[str, Value]) -> list[str]:
    first = [name for name in HEADLINES if name in latest]
    rest = [name for name in QUANTITIES if name in latest and QUANTITIES[name].kind == "number"]
    others = (name for name in rest if name not in HEADLINES and not name.startswith(("battery", "tx_power")))
    return [*first, *others][:2]


def _details(known: Known) -> dict[str, Any]:
    """Return what only a device's own page shows."""
    device, state, unreadable = known
    said = {"left_out": left_out(unreadable)}
    if state is None:
        return said | {"first": None, "format": None, "latest": [], "heard_by": [], "calibrated": False}
    return said | {
        "first": state.first_seen,
        "format": state.format,
        "latest": [
            [name, _corrected(device, name, each.value), quantity(name).unit, each.at, quantity(name).kind]
            for name, each in sorted(state.latest.items())
        ],
        "heard_by": [
            [name, heard.rssi, (heard.at + SLOT_SECONDS) * 1000]
            for name, heard in sorted(state.heard_by.items(), key=lambda pair: (-pair[1].at, pair[0]))
        ],
        "calibrated": bool(device.calibration),
    }
