"""Faults of what is sent: duplicates, order, clocks, counters, partition keys, and what is malformed or too large.

Each of them measures with sensors of its own, so that it knows by itself how many readings of a device there must be.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

import orjson

from processor.decode.envelope import seal
from processor.decode.gateways import Advertisement, plain
from processor.local.faults.fault import Injector, Sent
from processor.local.sensors import Sensor
from processor.store.tables import SLOT_MS, slot_of

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000

MOST_VALUES = 100


def post(heard: Iterable[Advertisement], at: int, imsi: str = "295059999999999") -> bytes:
    """Return the record of a gateway that tells its own times, as Funnel has it at `at` (ms since 1970)."""
    return seal(orjson.Fragment(plain.encode(heard)), at=at, imsi=imsi)


class Input(Injector):
    """Makes records. make: yields those of one injection from a source of sensors and times."""

    def __init__(self, make: Callable[[Source], Iterable[Sent]], *, every: float = 1.0) -> None:
        self.every = every
        self._make = make

    def records(self) -> Iterable[Sent]:
        """Return the records of an injection that is due."""
        if not self.due():
            return ()
        found = list(self._make(Source(self)))
        self.count()
        return found


class Crowd(Input):
    """Puts more records at once than a metric may have values: its blob must still be one that CloudWatch takes."""

    def __init__(self, *, every: float = 1.0) -> None:
        super().__init__(crowd, every=every)

    def records(self) -> Iterable[Sent]:
        """Return the records of an injection that is due, which counts when they are handled."""
        return list(crowd(Source(self))) if self.due() else ()

    def line(self, name: str, line: str) -> None:
        """Look at each blob of a function (Amazon CloudWatch User Guide: a metric has at most 100 values)."""
        if '"_aws"' not in line:
            return
        blob = orjson.loads(line)
        if blob.get("Records", 0) > MOST_VALUES:
            self.count()
        for directive in blob["_aws"]["CloudWatchMetrics"]:
            for metric in directive["Metrics"]:
                values = blob[metric["Name"]]
                if isinstance(values, list) and len(values) > MOST_VALUES:
                    self.run.errors.append(f"{name}: {metric['Name']} has {len(values)} values in one blob")


class Source:
    """What an injection is made from: new sensors, the time, a source of randomness, and the truth to be told."""

    def __init__(self, injector: Injector) -> None:
        self.run = injector.run
        self.random: random.Random = injector.random
        self.now = self.run.now()

    def sensor(self, model: str = "ruuvi.5") -> Sensor:
        """Return a sensor that nobody has heard of."""
        return self.run.sensor(model)

    def measure(
        self, sensor: Sensor, times: Iterable[int], *, clock: int = 0, sequence: int | None = None
    ) -> list[Advertisement]:
        """Measure at these times (ms since 1970), which count as readings that must be stored once each.

        clock: by how much the gateway's own is wrong. sequence: the first of the sensor's counter.
        """
        if sequence is not None:
            sensor.count = sequence - 1
        heard = []
        for at in times:
            sensor.drift()
            self.run.expect(sensor.address)
            heard += [
                Advertisement(sensor.address, self.random.randrange(-95, -40), at + clock, data)
                for data in sensor.advertisements()
            ]
        return heard

    def record(self, heard: Iterable[Advertisement], *, key: str | None = None) -> Sent:
        """Return a record that arrives now."""
        return Sent(post(heard, self.now), key)


def producer_retry(source: Source) -> Iterator[Sent]:
    """Put the same payload again, under sequence numbers of its own."""
    sent = source.record(source.measure(source.sensor(), [source.now - n * SECOND for n in range(5)]))
    for _ in range(source.random.randrange(2, 5)):
        yield sent


def overlapping_replay(source: Source) -> Iterator[Sent]:
    """Put ten records, then the last six of them again in another order, with two new ones among them."""
    sensor = source.sensor()
    sent = [source.record(source.measure(sensor, [source.now - n * 7 * SECOND])) for n in range(12)]
    again = sent[4:]
    source.random.shuffle(again)
    yield from (*sent[:10], *again)


def gateways_apart(*clocks: int) -> Callable[[Source], Iterator[Sent]]:
    """Have gateways hear the same advertisements whose clocks are so many ms off, and nobody puts them right."""

    def make(source: Source) -> Iterator[Sent]:
        first = source.measure(source.sensor(), [source.now - MINUTE + n * 3 * SECOND for n in range(8)])
        for number, clock in enumerate(clocks):
            heard = [each._replace(at=each.at + clock) for each in first]
            yield Sent(post(heard, source.now, f"29505999999{number:04d}"))

    return make


def late_by(least: int, most: int) -> Callable[[Source], Iterator[Sent]]:
    """Put readings in no order at all that were measured so long ago."""

    def make(source: Source) -> Iterator[Sent]:
        sensor = source.sensor()
        times = [source.now - source.random.randrange(least, most) for _ in range(6)]
        sent = [source.record(source.measure(sensor, [at])) for at in times]
        source.random.shuffle(sent)
        yield from sent

    return make


def clock_before(at: int) -> Callable[[Source], Iterator[Sent]]:
    """Have a gateway say a time of long before: nothing of it can be stored, all of it must be kept in quarantine."""

    def make(source: Source) -> Iterator[Sent]:
        sensor = source.sensor()
        source.run.expect(sensor.address, 0)
        sensor.drift()
        yield source.record([Advertisement(sensor.address, -60, at, sensor.advertisements()[0])])

    return make


def clock_ahead(at: Callable[[int], int]) -> Callable[[Source], Iterator[Sent]]:
    """Have a gateway say a time to come: the envelope's own counts instead."""

    def make(source: Source) -> Iterator[Sent]:
        yield source.record(source.measure(source.sensor(), [at(source.now)]))

    return make


def wrap_around(source: Source) -> Iterator[Sent]:
    """Have counters pass their ends, in and across records.

    One of 16 bits begins anew behind 65,534 (the next means "not available"), one of 8 bits within a slot.
    """
    sensor = source.sensor()
    times = [source.now - (8 - n) * SECOND for n in range(8)]
    end = source.measure(sensor, times[:4], sequence=65_531)
    start = source.measure(sensor, times[4:], sequence=0)
    yield source.record(start)
    yield source.record([*end, *start])
    yield from _wrapped_within_a_slot(source)


def _wrapped_within_a_slot(source: Source) -> Iterator[Sent]:
    """Have a counter of 8 bits (BTHome's packet id) go all the way round within one slot, where it is warmer then."""
    sensor = source.sensor("bthome")
    begin = slot_of(source.now - 2 * SLOT_MS) * 1000
    first = source.measure(sensor, [begin + n * 50 for n in range(256)], sequence=250)
    sensor.temperature += 1.0
    again = source.measure(sensor, [begin + n * 50 for n in range(256, 264)])
    yield source.record([*first[:8], *again])
    yield source.record(first)


def reboot(source: Source) -> Iterator[Sent]:
    """Have a sensor begin its counter anew within one slot: the same numbers, other measurements."""
    sensor = source.sensor()
    before = source.measure(sensor, [source.now - 9 * SECOND + n * SECOND for n in range(4)], sequence=0)
    after = source.measure(sensor, [source.now - 4 * SECOND + n * SECOND for n in range(4)], sequence=0)
    yield source.record(before)
    yield source.record([*after, *before])


def hot_key(source: Source) -> Iterator[Sent]:
    """Put forty records under one partition key: one lane gets them all."""
    sensor, key = source.sensor(), f"{source.random.getrandbits(64):016x}"
    for n in range(40):
        yield source.record(source.measure(sensor, [source.now - n * SECOND]), key=key)


def random_keys(source: Source) -> Iterator[Sent]:
    """Put one device's records under forty partition keys: every lane gets some, so nothing of their order is left."""
    sensor = source.sensor()
    for n in range(40):
        yield source.record(source.measure(sensor, [source.now - n * SECOND]), key=f"{source.random.getrandbits(64):x}")


def crowd(source: Source) -> Iterator[Sent]:
    """Put three hundred records at once: more than a metric of one EMF blob may have values."""
    sensor, key = source.sensor(), f"{source.random.getrandbits(64):016x}"
    for n in range(300):
        yield source.record(source.measure(sensor, [source.now - n * 200]), key=key)


def poison(draws: random.Random) -> bytes:
    """Return a record that can never be decoded, and is like no other."""
    return b"\x16\x03\x01poison " + draws.randbytes(20)


def poison_at(*places: int) -> Callable[[Source], Iterator[Sent]]:
    """Put five records under one key, of which those at these places can never be decoded."""

    def make(source: Source) -> Iterator[Sent]:
        sensor, key = source.sensor(), f"{source.random.getrandbits(64):016x}"
        for n in range(5):
            good = source.record(source.measure(sensor, [source.now - n * SECOND]) if n not in places else [], key=key)
            yield Sent(poison(source.random), key) if n in places else good

    return make


def malformed(source: Source) -> Iterator[Sent]:
    """Put what is broken at each layer, one record each, and a good advertisement beside it wherever one can be."""
    sensor, at = source.sensor(), source.now
    source.run.expect(sensor.address, 0)
    sensor.drift()
    good = sensor.advertisements()[0]
    entry = {"address": sensor.address, "rssi": -60, "timestamp": at, "data": good.hex()}

    def listed(*entries: object) -> bytes:
        return seal(list(entries), at=at, imsi="295059999999999")

    yield Sent(b"\xff\xfe\xfd")  # no envelope: not UTF-8
    yield Sent(b'{"payloads": ' + b"[" * 2000)  # nested, and cut off
    yield Sent(b'{"payloads": 1, "payloads": 2}')  # a key twice
    yield Sent(listed(entry)[:-30])  # cut short
    yield Sent(seal(7, at=at, imsi="295059999999999"))  # no payload
    yield Sent(seal({"advertisements": 5}, at=at, imsi="295059999999999"))  # no gateway's shape
    for wrong in ({"address": "no address"}, {"data": "zz"}, {"data": good[:-1].hex()}, {"timestamp": "soon"}):
        (beside,) = source.measure(source.sensor(), [at])
        fine = {"address": beside.address, "rssi": -50, "timestamp": beside.at, "data": beside.data.hex()}
        yield Sent(listed(fine, entry | wrong))
    yield Sent(listed(entry | {"data": (good[:7] + b"\x00" + good[8:20]).hex()}))  # a format's length is wrong


def empty_key(source: Source) -> Iterator[Sent]:
    """Put readings without an address, which would be an empty key: DynamoDB takes none."""
    sensor = source.sensor("govee")
    source.run.expect(sensor.address, 0)
    sensor.drift()
    data = sensor.advertisements()[0].hex()
    for address in ("", None):
        entry = {"address": address, "rssi": -60, "timestamp": source.now, "data": data}
        yield Sent(seal([entry], at=source.now, imsi="295059999999999"))
