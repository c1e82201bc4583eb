"""The path of a record: envelope, gateway, advertisement, Reading; and what it costs to see that nothing is known.

A peer reads advertisements only. Before it stands the least that finds one: `orjson.loads`, the payload's address and
data, their hexadecimal text; and what makes of them what the peer takes (an HCI event; AD structures that are split by
its ecosystem's own library).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import orjson

from processor.decode import readings
from processor.decode.advertisement import manufacturer_data, service_data, structure
from processor.decode.envelope import seal
from processor.decode.gateways import (
    Advertisement,
    aprilbrother,
    binary,
    cassia,
    hci,
    ingics,
    minew,
    moko,
    openblocks,
    plain,
    ruuvi,
    theengs,
)
from processor.decode.record import heard
from tests.benchmarks.decode import PEER_TARGET, check, met
from tests.benchmarks.libraries import installed
from tests.benchmarks.measure import paired, show, verdict
from tests.benchmarks.messages import FLAGS, Message, kinds, messages
from tests.benchmarks.peers import RSSI, Peer

AT = 1_700_000_000_000
GATEWAY = "C8:25:2D:8E:9C:2C"
IMSI = "295050000000001"
MANY = 10
"""Advertisements of a record that holds several."""
UNKNOWN_TARGET = 1.0
"""What seeing that nothing is known may cost, in decodes of Ruuvi's format 5."""


class Family(NamedTuple):
    """A way that gateways send: `encode` gives the payload of several advertisements, or of one where `single`."""

    name: str
    encode: Callable[[list[Advertisement]], Any]
    single: bool = False


FAMILIES = (
    Family("Ruuvi Gateway, HTTP", lambda told: json.loads(ruuvi.encode_post(told, GATEWAY, AT))),
    Family("Ruuvi Gateway, MQTT", lambda told: json.loads(ruuvi.encode_message(told[0], GATEWAY, AT)), single=True),
    Family("Minew, JSON-LONG", lambda told: json.loads(minew.encode_post(told, GATEWAY, AT))),
    Family("Minew, long binary", lambda told: minew.encode_frame(told, GATEWAY)),
    Family("April Brother, MessagePack", lambda told: aprilbrother.encode(told, GATEWAY)),
    Family("April Brother, JSON", lambda told: json.loads(aprilbrother.encode_json(told, GATEWAY))),
    Family("OpenMQTTGateway, Theengs", lambda told: json.loads(theengs.encode(told[0], timed=True)), single=True),
    Family("Moko MKGW", lambda told: json.loads(moko.encode(told, GATEWAY))),
    Family("Cassia", lambda told: json.loads(cassia.encode_message(told, GATEWAY, AT))),
    Family("Ingics iGS, lines", lambda told: ingics.encode(told, GATEWAY)),
    Family("Plat'Home OpenBlocks", lambda told: json.loads(openblocks.encode(told[0])), single=True),
    Family("raw HCI events", hci.encode),
    Family("plain JSON", lambda told: json.loads(plain.encode(told))),
    Family("binary frame", lambda told: binary.encode(told, AT)),
)

NEIGHBOUR = structure(0x09, b"Galaxy")
UNKNOWN = {
    "manufacturer data of an unknown company": FLAGS + manufacturer_data(0x0075, bytes(range(24))),
    "the same with a name and a UUID beside": FLAGS
    + structure(0x03, b"\x0f\x18")
    + manufacturer_data(0x0075, bytes(range(10)))
    + NEIGHBOUR,
    "service data of an unknown UUID": FLAGS + structure(0x03, b"\x9f\xfe") + service_data(0xFE9F, bytes(20)),
    "Apple's, but no iBeacon": FLAGS + manufacturer_data(0x004C, bytes.fromhex("10055b1c0f6a42")),
    "flags and a name": FLAGS + structure(0x09, b"headphones 00"),
}
"""Advertisements of nothing that is known here, as the neighbours send them all day."""


def run(rounds: int, count: int, *, least: float) -> None:
    """Measure and print the tables."""
    _families(rounds, count, least)
    _formats(rounds, count, least)
    _unknown(rounds, count, least)


def batched(items: list[Any], each: int) -> list[list[Any]]:
    """Return the items in lists of `each`."""
    return [items[at : at + each] for at in range(0, len(items), each)]


def advertisements(told: Iterable[Message]) -> list[Advertisement]:
    return [Advertisement(message.address, RSSI, AT - 2000, message.data, GATEWAY) for message in told]


def records(family: Family, told: Iterable[Message], each: int) -> list[bytes]:
    """Return the records that Funnel makes of these messages, `each` advertisements in one."""
    return [seal(family.encode(group), at=AT, imsi=IMSI) for group in batched(advertisements(told), each)]


def opened(sent: list[bytes]) -> Callable[[], None]:
    """Return the work of finding the advertisements in all records."""

    def work() -> None:
        for record in sent:
            heard(record, AT)

    return work


def ours(sent: list[bytes], told: Iterable[Message] = ()) -> Callable[[], None]:
    """Return the work of making Readings of all records."""
    keys = {message.address: message.key for message in told if message.key is not None}
    models = {message.address: message.model for message in told if message.model is not None}

    def work() -> None:
        for record in sent:
            for address, rssi, at, data, gateway in heard(record, AT):
                readings(data, address, at, keys, gateway, rssi, models.get(address))

    return work


def shortest(sent: list[bytes], told: Iterable[Message]) -> Callable[[], None]:
    """Return the work of our decoding behind the opening that the peers get, which checks nothing.

    What a peer's whole time is of it is what no opening, however quick, could exceed.
    """
    known = {message.address: (message.key, message.model) for message in told}
    keys = {address: key for address, (key, _) in known.items() if key is not None}

    def work() -> None:
        for record in sent:
            for entry in orjson.loads(record)["payloads"]:
                address = entry["address"]
                readings(bytes.fromhex(entry["data"]), address, AT, keys, GATEWAY, RSSI, known[address][1])

    return work


def theirs(sent: list[bytes], peer: Peer, told: list[Message]) -> Callable[[], None]:
    """Return the work of a peer behind the shortest opening of the same records, which are plain JSON."""
    known = {message.address: (message.key, message.model) for message in told}
    decode, given = peer.decode, peer.given

    def work() -> None:
        for record in sent:
            for entry in orjson.loads(record)["payloads"]:
                address = entry["address"]
                decode(given(Message(address, bytes.fromhex(entry["data"]), {}, *known[address])))

    return work


def _families(rounds: int, count: int, least: float) -> None:
    told = messages("ruuvi.5", count, sensors=count)
    rows = []
    for family in FAMILIES:
        row = [family.name]
        for each in (1, MANY):
            if family.single and each > 1:
                row += ["–", "–"]
                continue
            sent = records(family, told, each)
            found = [readings(data, address, at) for record in sent for address, _, at, data, _ in heard(record, AT)]
            assert [reading.values for (reading,) in found] == [message.values for message in told], family.name
            measured = paired({"opened": opened(sent), "whole": ours(sent)}, rounds=rounds, least=least)
            row += [f"{measured.seconds(name) / count * 1e6:.2f}" for name in ("opened", "whole")]
        rows.append(row)
    show(
        "Record to advertisements, and on to Readings of Ruuvi's format 5: µs of CPU per advertisement, with one in a "
        f"record and with {MANY}",
        ("gateway", "1: advertisements", "readings", f"{MANY}: advertisements", "readings"),
        rows,
    )


def _formats(rounds: int, count: int, least: float) -> None:
    peers, family = installed(), FAMILIES[-2]
    rows = []
    for kind in kinds():
        able = [peer for peer in peers if kind in peer.kinds]
        if not able:
            continue
        told = messages(kind, count)
        check(kind, told, able)
        found: dict[str, list[str]] = {peer.name: [kind, peer.name] for peer in able}
        for each in (1, MANY):
            sent = records(family, told, each)
            works = {"ours": ours(sent, told), "shortest": shortest(sent, told)}
            works |= {peer.name: theirs(sent, peer, told) for peer in able}
            measured = paired(works, rounds=rounds, least=least)
            for name, row in found.items():
                times, most = (measured.ratio(name, one) for one in ("ours", "shortest"))
                row += [f"{measured.seconds(one) / count * 1e6:.2f}" for one in ("ours", name)]
                row += [f"{times:.1f} ×", verdict(times, least=PEER_TARGET), f"{most:.1f} ×"]
        rows += sorted(found.values(), key=lambda row: float(row[3]))
    target = f"at least {PEER_TARGET:g}"
    show(
        "Record (plain JSON in Funnel's envelope) to Readings, against every peer behind the shortest opening of the "
        f"same record: µs of CPU per advertisement, with one in a record and with {MANY}. At most: our decoding behind "
        "that opening too",
        (
            "format",
            "peer",
            *(name for each in (1, MANY) for name in (f"{each}: ours", "its", "times", target, "at most")),
        ),
        rows,
    )
    for each, at in ((1, 5), (MANY, 10)):
        reach = sum(float(row[at + 1].rstrip(" ×")) >= PEER_TARGET for row in rows)
        print(
            f"\nAdvertisements in a record: {each}. Met by {met(rows, at)} rows; behind the shortest opening, our "
            f"decoding would meet it in {reach}."
        )


def _unknown(rounds: int, count: int, least: float) -> None:
    told = messages("ruuvi.5", count)
    works: dict[str, Callable[[], None]] = {
        name: _detecting(_varied(data, count), [message.address for message in told]) for name, data in UNKNOWN.items()
    }
    for name, data in UNKNOWN.items():
        assert readings(data, GATEWAY, AT) == [], name
    works["decode"] = _detecting([message.data for message in told], [message.address for message in told])
    measured = paired(works, rounds=rounds, least=least)
    show(
        "Seeing that an advertisement is of nothing known, µs of CPU, and in decodes of Ruuvi's format 5 "
        f"({measured.seconds('decode') / count * 1e6:.2f} µs)",
        ("advertisement", "µs", "of a decode", "at most"),
        [
            [
                name,
                f"{measured.seconds(name) / count * 1e6:.2f}",
                f"{measured.ratio(name, 'decode'):.2f}",
                verdict(measured.ratio(name, "decode"), most=UNKNOWN_TARGET),
            ]
            for name in UNKNOWN
        ],
    )


def _varied(data: bytes, count: int) -> list[bytes]:
    """Return advertisements that end otherwise each time, in their payload."""
    at = data.find(NEIGHBOUR) if NEIGHBOUR in data else len(data)
    return [data[: at - 2] + n.to_bytes(2, "big") + data[at:] for n in range(count)]


def _detecting(told: list[bytes], addresses: list[str]) -> Callable[[], None]:
    pairs = list(zip(told, addresses, strict=True))

    def work() -> None:
        for data, address in pairs:
            readings(data, address, AT, {}, GATEWAY, RSSI)

    return work
