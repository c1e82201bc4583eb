"""One batch of Kinesis records being handled: decoded, grouped by device and slot, and written."""

from __future__ import annotations

import time
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from processor.decode import readings
from processor.decode.formats import BETTER, DOUBTFUL, SUPERSEDED, model_of, sample_of
from processor.decode.gateways import Advertisement, Heard
from processor.decode.record import heard
from processor.errors import DecodeError, KeyMissing, StoreError
from processor.ledger import Ledger, Source
from processor.reading import COUNTERS, Reading
from processor.rules import Directory, Rules
from processor.store.tables import SLOT_SECONDS, cell_name, slot_of
from processor.store.writer import Group, Outcome, Writer
from processor.waiting import AtHand, Entry, Found, Record, Unasked, Waiting

NONE_LEFT_OUT: Mapping[int, Collection[int]] = {}
PATIENCE_SECONDS = 60.0
"""How long a write may take where no invocation's end limits it; what is then left has failed."""
LOOKUPS_SHARE = 0.5
"""So much of its time may a batch wait for answers of the registry and for keys: whatever hangs there, the rest is
written."""
MOST_WAITING = 5_000
"""So much may wait at once, and is asked for at once: a flood must not take the memory, nor drive from the registry's
(REMEMBERED_DEVICES) what was just asked for."""


class Batch(Ledger):
    """One batch being handled: readings grouped for the table, and the ledger of all that became of them.

    only: for a record's place in the batch, the indexes of the advertisements that count; those of the record that are
    not among them are left out. A record without an entry counts whole.
    """

    def __init__(
        self, records: list[Mapping[str, Any]], rules: Rules, only: Mapping[int, Collection[int]] = NONE_LEFT_OUT
    ) -> None:
        super().__init__(samples=rules.samples)
        self.records = records
        self.rules = rules
        self.only = only
        self.renumbered: set[int] = set()
        """Places of records that count whole although `only` names some of them: they hold fewer advertisements now."""
        self.groups: dict[tuple[str, int], Group] = {}
        self.sources: dict[tuple[str, int], dict[str, list[Source]]] = {}
        self.models: dict[str, str] = {}
        """What is known of the sensors' models, by address: from this batch, and from the registry."""
        self.learned: dict[str, str] = {}
        """What this batch itself said of them."""
        self._asked = False
        """Whether the registry was asked, and every record heard that may say a model: nothing waits any more."""
        self._waiting: list[Record] = []
        self._held = 0
        self._keys = rules.keys

    def decode(self, deadline: float | None = None) -> None:
        """Decode every record and group what is to be written.

        deadline: time.monotonic() seconds, when all has to be written. A part of the time left is for asking the
        registry and for keys; what then still waits for them has failed, and all else is written.

        A superseded format is ignored where the same record holds the better one, not the same batch: what is
        stored must not depend on how records fall into batches, or a replay would change the table.
        """
        self.rules = rules = self.rules.within(deadline, LOOKUPS_SHARE)
        self._keys = rules.keys if rules.devices is None else AtHand(rules.keys, rules.devices)
        for place, record in enumerate(self.records):
            kinesis = record["kinesis"]
            arrived = round(kinesis["approximateArrivalTimestamp"] * 1000)
            found: Found = []
            waiting: list[Waiting] = []
            better: set[Any] = set()
            try:
                advertisements = heard(a2b_base64(kinesis["data"]), arrived, self.rules.known)
                self._listen(advertisements)
                counted = self._counted(place, advertisements)
                self.received += len(counted)
                for index in counted:
                    self._take(advertisements[index], (place, index), arrived, found, waiting)
                if place in self.only and (found or waiting):
                    better = self._better(advertisements)
            except DecodeError as error:
                self.received += 1
                self.reject(place, None, error.reason, str(error))
            except Base64Error as error:
                self.received += 1
                self.reject(place, None, "base64", f"the event's data is not Base64: {error}")
            if waiting or self._waiting:  # first copies stay: what comes later must not overtake what waits
                self._wait(Record(place, arrived, found, better, waiting))
            else:
                self._finish(place, arrived, found, better)
        self._catch_up()
        if self.learned and self.rules.devices is not None:
            with suppress(StoreError):  # they say it again
                self._learn(self.rules.devices)

    def _take(self, advertisement: Entry, source: Source, arrived: int, found: Found, waiting: list[Waiting]) -> None:
        """Handle one advertisement, or note that it waits."""
        try:
            self._advertisement(advertisement, source, arrived, found)
        except Unasked as unasked:
            waiting.append(Waiting(advertisement, source, unasked.device))
        except StoreError as error:  # the registry or a key cannot be had now: the record comes again
            self.fail(source, error)

    def _wait(self, record: Record) -> None:
        """Keep a record of which something waits, or that comes after one; handle all where it is too much to be kept.

        What then comes later no longer explains what came before.
        """
        self._waiting.append(record)
        self._held += len(record.waiting) + len(self.rejections.get(record.place, ()))
        if self._held >= MOST_WAITING:
            self._catch_up()

    def _catch_up(self) -> None:
        """Handle what waits, after asking the registry for all of it at once; fail what it cannot be asked for."""
        records, self._waiting, self._held = self._waiting, [], 0
        entries = [(record, each) for record in records for each in record.take()]
        devices = self.rules.devices
        for start in range(0, len(entries), MOST_WAITING):
            some = entries[start : start + MOST_WAITING]
            # In their order: where not all can be asked for, the first records are the first to go on.
            refused = self._load(dict.fromkeys(each.device for _, each in some if each.device is not None))
            for record, (advertisement, source, device) in some:
                self._asked = refused is None or devices is None or device is None or devices.ready(device)
                self._take(advertisement, source, record.arrived, record.found, record.waiting)
            if refused is not None:
                for record, _ in some:
                    for each in record.take():
                        self.fail(each.source, refused)
        self._asked = False
        for place, arrived, found, better, _ in records:
            found.sort(key=lambda each: each[1])
            if place in self.rejections:  # quarantine tells its objects apart by their content
                self.rejections[place].sort(key=lambda each: -1 if each.index is None else each.index)
            self._finish(place, arrived, found, better)

    def _load(self, names: Collection[str]) -> StoreError | None:
        """Ask the registry for these devices; return why it could not be asked."""
        try:
            if names and self.rules.devices is not None:
                self.rules.devices.load(names)
        except StoreError as error:
            return error
        return None

    def _finish(self, place: int, arrived: int, found: Found, better: set[Any]) -> None:
        """Group what a record says, but what it also has in a better format, or what does not count of it has."""
        self.fold(place)
        better = {sample_of(reading) for reading, _ in found if reading.format in BETTER}.union(better)
        for reading, source in found:
            if better and reading.format in SUPERSEDED and sample_of(reading) in better:
                self.ignore("superseded")
            else:
                self._group(reading, source, arrived)

    def _learn(self, devices: Directory) -> None:
        """Have the registry remember what sensors said; strangers are none of its business where only its own count."""
        learned = self.learned
        if self.rules.registered_only:
            devices.load(learned)
            learned = {address: model for address, model in learned.items() if devices.registered(address)}
        devices.learn(learned)

    def _counted(self, place: int, advertisements: Heard) -> Sequence[int]:
        """Return the indexes of a record's advertisements that count."""
        only = self.only.get(place)
        if only is not None and max(only) >= len(advertisements):  # today's decoder takes the record apart otherwise
            self.renumbered.add(place)
            only = None
        every = range(len(advertisements))
        return every if only is None else [index for index in every if index in only]

    def _better(self, advertisements: Heard) -> set[Any]:
        """Return the samples that a record has in a better format, in the advertisements too that are left out."""
        found = set()
        for each in advertisements:
            with suppress(DecodeError, StoreError, Unasked):
                if not isinstance(each, DecodeError):
                    found |= {sample_of(reading) for reading in self._readings(each) if reading.format in BETTER}
        return found

    def _listen(self, advertisements: Heard) -> None:
        """Learn what sensors say of their models."""
        for each in advertisements:
            if isinstance(each, Advertisement) and each.address is not None:
                model = model_of(each.data)
                if model is not None:
                    self.models[each.address] = self.learned[each.address] = model

    def _advertisement(self, advertisement: Entry, source: Source, arrived: int, found: Found) -> None:
        """Decode one advertisement (a Reading already is) into `found`, or count what else becomes of it.

        Raises Unasked, and counts nothing, where that cannot be told yet; StoreError where it cannot be had now.
        """
        if isinstance(advertisement, DecodeError):
            self.reject(*source, advertisement.reason, str(advertisement))
            return
        at = advertisement.at or 0
        try:
            decoded = self._readings(advertisement)
            if (not decoded or decoded[0].format in DOUBTFUL) and self._modelled(advertisement[0]):
                decoded = self._readings(advertisement)
        except KeyMissing as error:
            self._keyless(source, error)
            return
        except DecodeError as error:
            self._undecodable(advertisement, source, error)
            return
        if not decoded:
            self.ignore("unknown_format", advertisement)
            return
        if self.rules.registered_only and not all(self._registered(reading.device) for reading in decoded):
            self.ignore("unregistered")
            return
        kept = [reading for reading in decoded if len(reading.values) > 1 or measures(reading)]
        if not kept:
            self.ignore("no_value", advertisement)
            return
        earliest, latest = self.rules.limits.allowed(arrived)
        if not earliest <= at <= latest:
            self.reject(
                *source,
                "timestamp",
                f"measured at {at} ms, not in {earliest} … {latest}: is the gateway's clock right?",
            )
            return
        self.received += len(kept) - 1  # an advertisement with two readings has two outcomes
        found += [(reading, source) for reading in kept]

    def _modelled(self, address: str | None) -> bool:
        """Tell whether the registry remembers a model that nothing in this batch told. Raises Unasked at first.

        So a replay may store what came before its sensor's model was known. It never changes what is stored.
        """
        if address is None or address in self.models:
            return False
        if not self._asked:
            raise Unasked(address)
        devices = self.rules.devices
        model = None if devices is None else devices.heard(address)
        if model is None:
            return False
        self.models[address] = model
        return True

    def _readings(self, advertisement: Advertisement | Reading) -> list[Reading]:
        if isinstance(advertisement, Reading):
            return [advertisement]
        address, rssi, at, data, gateway = advertisement
        model = self.models.get(address) if self.models and address is not None else None
        keys = self.rules.keys if self._asked else self._keys
        return readings(data, address, at, keys, gateway, rssi, model)

    def _group(self, reading: Reading, source: Source, arrived: int) -> None:
        """Add a reading to its device's and slot's group: the first copy of a cell stays."""
        at = reading.at or 0
        slot = slot_of(at)
        key = (reading.device, slot)
        group = self.groups.get(key)
        if group is None:
            start = max(slot, slot_of(arrived)) if self.rules.limits.expires_from_arrival else slot
            group = Group(reading.device, slot, start + SLOT_SECONDS + self.rules.limits.retention_seconds)
            self.groups[key] = group
            self.sources[key] = {}
        offset = at - slot * 1000
        name = cell_name(reading, offset)
        sources = self.sources[key]
        if name in sources:
            sources[name].append(source)
        else:
            sources[name] = [source]
            group.cells[name] = reading
        if reading.gateway is not None and reading.gateway not in group.gateways:
            group.gateways[reading.gateway] = reading.rssi

    def store(self, writer: Writer, *, now: float) -> Outcome:
        """Decode, write and settle the records of the past. now: epoch seconds, for what has expired since."""
        self.decode()
        self.expire(now)
        outcome = writer.write(self.groups.values(), deadline=time.monotonic() + PATIENCE_SECONDS)
        self.settle(outcome)
        self.error = self.error or outcome.error
        return outcome

    def expire(self, now: float) -> None:
        """Ignore what has expired by `now` (epoch seconds): DynamoDB deleted it, and would have to do so again."""
        for key in [key for key, group in self.groups.items() if group.expires <= now]:
            del self.groups[key]
            self.ignored["expired"] += sum(map(len, self.sources.pop(key).values()))

    def settle(self, outcome: Outcome) -> None:
        """Count what the table answered, cell by cell."""
        for sources, written in zip(self.sources.values(), outcome.written, strict=True):
            for name in written.stored:
                self.stored += 1
                self.duplicates += len(sources[name]) - 1
            for name in written.duplicates:
                self.duplicates += len(sources[name])
            for name in written.failed:
                self.failed.update(place for place, _ in sources[name])
            for name, message in written.invalid.items():
                for place, index in sources[name]:
                    self.reject(place, index, "invalid_write", message)
                    self.fold(place)

    def response(self) -> dict[str, Any]:
        """Return what Lambda's event source mapping is told: the lowest failed sequence number, or none."""
        if not self.failed:
            return {"batchItemFailures": []}
        numbers = [self.records[place]["kinesis"]["sequenceNumber"] for place in self.failed]
        return {"batchItemFailures": [{"itemIdentifier": min(numbers, key=int)}]}

    def _registered(self, address: str) -> bool:
        devices = self.rules.devices
        if devices is None:
            return False
        if not self._asked and not devices.ready(address):
            raise Unasked(address)
        return devices.registered(address)

    def _undecodable(self, advertisement: Advertisement | Reading, source: Source, error: DecodeError) -> None:
        """Keep what cannot be decoded; where only registered devices count, a neighbour's is ignored like all of it."""
        if self.rules.registered_only and advertisement[0] is not None and not self._registered(advertisement[0]):
            self.ignore("unregistered")
        else:
            self.reject(*source, error.reason, str(error))

    def _keyless(self, source: Source, error: KeyMissing) -> None:
        """Keep what a registered sensor encrypted, for its key may come; a neighbour's is ignored."""
        if self._registered(error.device):
            why = self.rules.devices.lacking(error.device) if self.rules.devices is not None else ""
            self.reject(*source, error.reason, f"{error}: {why}" if why else str(error))
        else:
            self.ignore("no_key")


def measures(reading: Reading) -> bool:
    """Tell whether a reading says more than its own count."""
    return any(name not in COUNTERS for name in reading.values)
