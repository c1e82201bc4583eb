"""One batch of Kinesis records being handled: decoded, grouped by device and slot, and written."""

from __future__ import annotations

import time
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from processor.decode import readings
from processor.decode.formats import BETTER, SUPERSEDED, model_of, sample_of
from processor.decode.gateways import Advertisement, Heard
from processor.decode.record import heard
from processor.errors import DecodeError, KeyMissing, StoreError
from processor.ledger import Ledger, Source
from processor.reading import COUNTERS, Reading
from processor.rules import Directory, Rules
from processor.store.tables import SLOT_SECONDS, cell_name, slot_of
from processor.store.writer import Group, Outcome, Writer

NONE_LEFT_OUT: Mapping[int, Collection[int]] = {}
PATIENCE_SECONDS = 60.0
"""How long a write may take where no invocation's end limits it; what is then left has failed."""


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

    def decode(self) -> None:
        """Decode every record and group what is to be written.

        A superseded format is ignored where the same record holds the better one, not the same batch: what is
        stored must not depend on how records fall into batches, or a replay would change the table.
        """
        for place, record in enumerate(self.records):
            kinesis = record["kinesis"]
            arrived = round(kinesis["approximateArrivalTimestamp"] * 1000)
            found: list[tuple[Reading, Source]] = []
            try:
                advertisements = heard(a2b_base64(kinesis["data"]), arrived, self.rules.known)
                self._prepare(advertisements)
                counted = self._counted(place, advertisements)
                self.received += len(counted)
                unknown = [
                    (advertisement, (place, index))
                    for index, advertisement in counted
                    if not self._advertisement(advertisement, (place, index), arrived, found)
                ]
                if unknown:
                    self._unknown(unknown, arrived, found)
            except DecodeError as error:
                self.received += 1
                self.reject(place, None, error.reason, str(error))
            except Base64Error as error:
                self.received += 1
                self.reject(place, None, "base64", f"the event's data is not Base64: {error}")
            self.fold(place)
            better = {sample_of(reading) for reading, _ in found if reading.format in BETTER}
            if place in self.only and found:
                better |= self._better(advertisements)
            for reading, source in found:
                if better and reading.format in SUPERSEDED and sample_of(reading) in better:
                    self.ignore("superseded")
                else:
                    self._group(reading, source, arrived)
        if self.learned and self.rules.devices is not None:
            with suppress(StoreError):  # they say it again
                self._learn(self.rules.devices)

    def _learn(self, devices: Directory) -> None:
        """Have the registry remember what sensors said; strangers are none of its business where only its own count."""
        learned = self.learned
        if self.rules.registered_only:
            devices.load(learned)
            learned = {address: model for address, model in learned.items() if devices.registered(address)}
        devices.learn(learned)

    def _counted(self, place: int, advertisements: Heard) -> list[tuple[int, Advertisement | Reading | DecodeError]]:
        """Return the advertisements of a record that count, each with its index."""
        only = self.only.get(place)
        if only is not None and max(only) >= len(advertisements):  # today's decoder takes the record apart otherwise
            self.renumbered.add(place)
            only = None
        return [(index, each) for index, each in enumerate(advertisements) if only is None or index in only]

    def _better(self, advertisements: Heard) -> set[Any]:
        """Return the samples that a record has in a better format, in the advertisements too that are left out."""
        found = set()
        for each in advertisements:
            with suppress(DecodeError, StoreError):
                if not isinstance(each, DecodeError):
                    found |= {sample_of(reading) for reading in self._readings(each) if reading.format in BETTER}
        return found

    def _prepare(self, advertisements: Iterable[Advertisement | Reading | DecodeError]) -> None:
        """Learn what sensors say of their models, and ask for all devices at once where each must be registered."""
        for each in advertisements:
            if isinstance(each, Advertisement) and each.address is not None:
                model = model_of(each.data)
                if model is not None:
                    self.models[each.address] = self.learned[each.address] = model
        if self.rules.registered_only and self.rules.devices is not None:
            names = {str(each[0]) for each in advertisements if isinstance(each, tuple) and each[0] is not None}
            with suppress(StoreError):  # each is asked for again, and fails by itself
                self.rules.devices.load(names)

    def _advertisement(
        self,
        advertisement: Advertisement | Reading | DecodeError,
        source: Source,
        arrived: int,
        found: list[tuple[Reading, Source]],
    ) -> bool:
        """Decode one advertisement (a Reading already is) into `found`, or count what else becomes of it.

        Return False, and count nothing, where its format is not known.
        """
        if isinstance(advertisement, DecodeError):
            self.reject(*source, advertisement.reason, str(advertisement))
            return True
        at = advertisement.at or 0
        try:
            decoded = self._readings(advertisement)
            if not decoded:
                return False
            if self.rules.registered_only and not all(self._registered(reading.device) for reading in decoded):
                self.ignore("unregistered")
                return True
        except KeyMissing as error:
            self._keyless(source, error)
            return True
        except DecodeError as error:
            self._undecodable(advertisement, source, error)
            return True
        except StoreError as error:  # the registry or a key cannot be had now: the record comes again
            self.fail(source, error)
            return True
        kept = [reading for reading in decoded if len(reading.values) > 1 or measures(reading)]
        if not kept:
            self.ignore("no_value", advertisement)
            return True
        earliest, latest = self.rules.limits.allowed(arrived)
        if not earliest <= at <= latest:
            self.reject(
                *source,
                "timestamp",
                f"measured at {at} ms, not in {earliest} … {latest}: is the gateway's clock right?",
            )
            return True
        self.received += len(kept) - 1  # an advertisement with two readings has two outcomes
        found += [(reading, source) for reading in kept]
        return True

    def _unknown(
        self,
        unknown: list[tuple[Advertisement | Reading | DecodeError, Source]],
        arrived: int,
        found: list[tuple[Reading, Source]],
    ) -> None:
        """Try once more what was not known, with the models that the registry remembers; ignore what still is not.

        So a replay may store what came before its sensor's model was known. It never changes what is stored.
        """
        devices = self.rules.devices
        names = {str(each[0]) for each, _ in unknown if isinstance(each, Advertisement) and each[0] is not None}
        if devices is not None:
            with suppress(StoreError):  # each is asked for again, and fails by itself
                devices.load(names - self.models.keys())
        for advertisement, source in unknown:
            address = advertisement[0] if isinstance(advertisement, Advertisement) else None
            if devices is not None and address is not None and address not in self.models:
                try:
                    model = devices.heard(address)
                except StoreError as error:
                    self.fail(source, error)
                    continue
                if model is not None:
                    self.models[address] = model
                    if self._advertisement(advertisement, source, arrived, found):
                        continue
            self.ignore("unknown_format", advertisement)

    def _readings(self, advertisement: Advertisement | Reading) -> list[Reading]:
        if isinstance(advertisement, Reading):
            return [advertisement]
        address, rssi, at, data, gateway = advertisement
        model = self.models.get(address) if self.models and address is not None else None
        return readings(data, address, at, self.rules.keys, gateway, rssi, model)

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

    def response(self) -> dict[str, Any]:
        """Return what Lambda's event source mapping is told: the lowest failed sequence number, or none."""
        if not self.failed:
            return {"batchItemFailures": []}
        numbers = [self.records[place]["kinesis"]["sequenceNumber"] for place in self.failed]
        return {"batchItemFailures": [{"itemIdentifier": min(numbers, key=int)}]}

    def _registered(self, address: str) -> bool:
        return self.rules.devices is not None and self.rules.devices.registered(address)

    def _undecodable(self, advertisement: Advertisement | Reading, source: Source, error: DecodeError) -> None:
        """Keep what cannot be decoded; where only registered devices count, a neighbour's is ignored like all of it."""
        try:
            if self.rules.registered_only and advertisement[0] is not None and not self._registered(advertisement[0]):
                self.ignore("unregistered")
            else:
                self.reject(*source, error.reason, str(error))
        except StoreError as failure:
            self.fail(source, failure)

    def _keyless(self, source: Source, error: KeyMissing) -> None:
        """Keep what a registered sensor encrypted, for its key may come; a neighbour's is ignored."""
        try:
            if self._registered(error.device):
                self.reject(*source, error.reason, str(error))
            else:
                self.ignore("no_key")
        except StoreError as failure:
            self.fail(source, failure)


def measures(reading: Reading) -> bool:
    """Tell whether a reading says more than its own count."""
    return any(name not in COUNTERS for name in reading.values)
