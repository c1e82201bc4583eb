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
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from processor.errors import TransientError
from processor.reading import Value, key_of, quantity
from processor.store.items import REFUSED, answers, set_item
from processor.store.registry import device_of
from processor.store.tables import AttributeValue, Slot, attribute_value, measured, rssi_of
from processor.store.unreadable import Note, Unreadable, passed_over
from processor.store.wire import Client
from processor.times import END_MS

GATEWAYS = 20
"""So many gateways are kept of a device: those that heard it last."""

TRIES = 20
"""So often a state is joined anew with what others wrote meanwhile."""

PAUSE = 0.05

STATE_PART = "the state"
"""What an item's part is called of which this module says that it cannot be read."""


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


Known = tuple[State | None, AttributeValue | None]
"""A device's state and revision, as the table has them."""

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


def state_from(item: Mapping[str, AttributeValue], note: Note = passed_over) -> State | None:
    """Return an item of `devices` as a State; None where no reading of the device was seen.

    None, and a note, where it cannot be read, too.
    """
    if "last_seen" not in item:
        return None
    device = item["device"]["S"]
    try:
        latest = {
            name: Latest(_time(each["M"]["at"]), value)
            for key, each in item["latest"]["M"].items()
            for name, value in measured({key: each["M"]["v"]}).items()
        }
        heard_by = {
            name: Heard(_time(each["M"]["at"]), rssi_of(each["M"]["rssi"]))
            for name, each in item["heard_by"]["M"].items()
        }
        return State(device, _time(item["first_seen"]), _time(item["last_seen"]), item["format"]["S"], latest, heard_by)
    except (LookupError, ValueError) as error:
        why = f"it is none ({error!r})"
        note(Unreadable("devices", device, None, STATE_PART, why, "`processor verify --fix` writes it anew"))
        return None


def _time(value: AttributeValue) -> int:
    """Return ms since 1970. Raises ValueError for a time that there is not."""
    found = int(value["N"])
    if not 0 <= found < END_MS:
        raise ValueError(f"{found} is no time in ms since 1970")
    return found


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
        self, devices: Iterable[str], *, deadline: float | None = None, note: Note = passed_over
    ) -> dict[str, Known]:
        """Return the devices' states and revisions, by device; of those only that have an item."""
        return {
            device: known
            for answer in self.answers(devices, deadline=deadline, note=note)
            for device, known in answer.items()
            if known is not None
        }

    def answers(
        self, devices: Iterable[str], *, deadline: float | None = None, note: Note = passed_over
    ) -> Iterator[dict[str, Known | None]]:
        """Yield the same, answer by answer, as they are read; None for those that have no item.

        Raises what `Client.call` does, after what was read before it; none is asked for after `deadline`.
        """
        keys: list[dict[str, AttributeValue]] = [{"device": {"S": device}} for device in dict.fromkeys(devices)]
        for read, items in answers(self._client, self._table, keys, consistent=True, deadline=deadline):
            found: dict[str, Known | None] = dict.fromkeys(key["device"]["S"] for key in read)
            for item in items:
                device = device_of(item)
                for each in device.unreadable:
                    note(each)
                found[device.address] = state_from(item, note), item.get("revision")
            yield found

    def join(self, state: State, known: Known = (None, None), *, deadline: float | None = None) -> bool:
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
        raise TransientError(REFUSED, f"{state.device}: others keep writing its state")

    def _put(self, state: State, revision: AttributeValue | None, deadline: float | None) -> bool:
        number = (revision or {}).get("N", "")
        values = _values(state) | {"revision": {"N": str(int(number) + 1 if number.isdigit() else 1)}}
        condition = "attribute_not_exists(#revision)" if revision is None else "#revision=:known"
        operands = {} if revision is None else {":known": revision}
        key: dict[str, AttributeValue] = {"device": {"S": state.device}}
        return set_item(self._client, self._table, key, values, condition, operands, deadline=deadline)
