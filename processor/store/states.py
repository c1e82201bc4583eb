"""What is known of each device from its readings: first and last seen, latest values, who hears it. In `devices`.

    first_seen, last_seen (N)   ms since 1970, of its first and latest reading
    format (S)                  the latest reading's
    latest (M)                  by short key of a quantity: {at: N (ms), v: its latest value, uncalibrated}
    heard_by (M)                by gateway: {at: N (the last slot that it heard it in, epoch seconds), rssi: N or NULL}
    revision (N)                how often the above were written

States *join*: of two, whatever is newer of each part. So they may be joined in any order, and as often as one likes,
and never go back. The rest of the item belongs to the registry (`registry.py`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from processor.errors import StoreError, TransientError
from processor.reading import Value, key_of, name_of, quantity
from processor.store.items import get_items
from processor.store.rollups import REFUSED
from processor.store.tables import AttributeValue, Slot, attribute_value, value_of
from processor.store.wire import Client

GATEWAYS = 20
"""So many gateways are kept of a device: those that heard it last."""

TRIES = 20
"""So often a state is joined anew with what others wrote meanwhile."""

PAUSE = 0.05


class Latest(NamedTuple):
    """A quantity's latest value, and when it was measured, in ms since 1970."""

    at: int
    value: Value


class Heard(NamedTuple):
    """The last slot in which a gateway heard the device (epoch seconds), and its first RSSI there."""

    at: int
    rssi: int | None


class State(NamedTuple):
    """What is known of one device from its readings; times in ms since 1970. Counters are not kept."""

    device: str
    first_seen: int
    last_seen: int
    format: str
    latest: Mapping[str, Latest]
    heard_by: Mapping[str, Heard]


T = TypeVar("T", Latest, Heard)


def _newer(one: T, other: T) -> T:
    """Return the later of two; of two of the same time always the same one."""
    return max(one, other, key=lambda each: (each.at, repr(each[1])))


def state_of(device: str, slots: Iterable[Slot]) -> State | None:
    """Return the state that these slots of a device come to; None where they hold no readings."""
    times: list[int] = []
    last = (0, "")
    latest: dict[str, Latest] = {}
    heard_by: dict[str, Heard] = {}
    for slot in slots:
        if not slot.cells:
            continue
        _join_into(heard_by, {name: Heard(slot.start, rssi) for name, rssi in slot.gateways.items()})
        for reading in slot.cells.values():
            at = reading.at or 0
            times.append(at)
            last = max(last, (at, reading.format))
            _join_into(
                latest,
                {name: Latest(at, value) for name, value in reading.values.items() if quantity(name).kind != "counter"},
            )
    if not times:
        return None
    return State(device, min(times), last[0], last[1], latest, _recent(heard_by))


def join(one: State, other: State) -> State:
    """Return what two states of one device come to."""
    last = max((one.last_seen, one.format), (other.last_seen, other.format))
    latest, heard_by = dict(one.latest), dict(one.heard_by)
    _join_into(latest, other.latest)
    _join_into(heard_by, other.heard_by)
    return State(one.device, min(one.first_seen, other.first_seen), *last, latest, _recent(heard_by))


def _join_into(known: dict[str, T], new: Mapping[str, T]) -> None:
    for name, each in new.items():
        known[name] = _newer(known[name], each) if name in known else each


def _recent(heard_by: dict[str, Heard]) -> dict[str, Heard]:
    if len(heard_by) <= GATEWAYS:
        return heard_by
    names = sorted(heard_by, key=lambda name: (heard_by[name].at, name))
    return {name: heard_by[name] for name in names[-GATEWAYS:]}


def state_from(item: Mapping[str, AttributeValue]) -> State | None:
    """Return an item of `devices` as a State; None where no reading of the device was seen."""
    if "last_seen" not in item:
        return None
    return State(
        item["device"]["S"],
        int(item["first_seen"]["N"]),
        int(item["last_seen"]["N"]),
        item["format"]["S"],
        {
            name_of(key): Latest(int(each["M"]["at"]["N"]), value_of(each["M"]["v"]))
            for key, each in item["latest"]["M"].items()
        },
        {
            name: Heard(int(each["M"]["at"]["N"]), int(each["M"]["rssi"]["N"]) if "N" in each["M"]["rssi"] else None)
            for name, each in item["heard_by"]["M"].items()
        },
    )


def _values(state: State) -> dict[str, AttributeValue]:
    return {
        "first_seen": {"N": str(state.first_seen)},
        "last_seen": {"N": str(state.last_seen)},
        "format": {"S": state.format},
        "latest": {
            "M": {
                key_of(name): {"M": {"at": {"N": str(each.at)}, "v": attribute_value(each.value)}}
                for name, each in state.latest.items()
            }
        },
        "heard_by": {
            "M": {
                name: {
                    "M": {
                        "at": {"N": str(each.at)},
                        "rssi": {"NULL": True} if each.rssi is None else {"N": str(each.rssi)},
                    }
                }
                for name, each in state.heard_by.items()
            }
        },
    }


class States:
    """Joins states into the table `devices`, through one client."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def known(
        self, devices: Iterable[str], *, deadline: float | None = None
    ) -> dict[str, tuple[State | None, int | None]]:
        """Return the devices' states and revisions, by device; of those only that have an item."""
        keys = [{"device": {"S": device}} for device in dict.fromkeys(devices)]
        return {
            item["device"]["S"]: (state_from(item), int(item["revision"]["N"]) if "revision" in item else None)
            for item in get_items(self._client, self._table, keys, consistent=True, deadline=deadline)
        }

    def join(
        self, state: State, known: tuple[State | None, int | None] = (None, None), *, deadline: float | None = None
    ) -> bool:
        """Join a state into the table's; tell whether that changed anything there.

        known: what `known` gave. Where somebody else wrote meanwhile, it is read anew. Raises TransientError where that
        goes on for too long.
        """
        for tried in range(TRIES):
            there, revision = known
            joined = state if there is None else join(there, state)
            if joined == there:
                return False
            if self._put(joined, revision, deadline):
                return True
            time.sleep(random.random() * PAUSE * min(tried, 4))  # noqa: S311 - a pause, no secret
            known = self.known([state.device], deadline=deadline).get(state.device, (None, None))
        raise TransientError("ConditionalCheckFailedException", f"{state.device}: others keep writing its state")

    def _put(self, state: State, revision: int | None, deadline: float | None) -> bool:
        values = _values(state) | {"revision": {"N": str((revision or 0) + 1)}}
        body: dict[str, Any] = {
            "TableName": self._table,
            "Key": {"device": {"S": state.device}},
            "UpdateExpression": "SET " + ",".join(f"#{n}=:{n}" for n in range(len(values))),
            "ConditionExpression": "attribute_not_exists(#r)" if revision is None else "#r=:r",
            "ExpressionAttributeNames": {f"#{n}": name for n, name in enumerate(values)} | {"#r": "revision"},
            "ExpressionAttributeValues": {f":{n}": value for n, value in enumerate(values.values())},
        }
        if revision is not None:
            body["ExpressionAttributeValues"][":r"] = {"N": str(revision)}
        try:
            self._client.call("UpdateItem", body, deadline=deadline)
        except StoreError as error:
            if error.code != REFUSED:
                raise
            return False
        return True
