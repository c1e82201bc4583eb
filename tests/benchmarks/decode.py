"""Decoding: advertisement to Reading, against other decoders and against a bare `struct.unpack` to a dict."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from processor.decode import readings
from tests.benchmarks.libraries import installed
from tests.benchmarks.measure import Measured, paired, show, verdict
from tests.benchmarks.messages import Message, kinds, messages, vector
from tests.benchmarks.peers import RSSI, Peer, compared, described

AT = 1_700_000_000_000
GATEWAY = "C8:25:2D:8E:9C:2C"
PEER_TARGET = 3.0
"""Messages per second against the fastest peer's."""
SPLITTING = ", splitting"
BARE_TARGET = 1 / 3
"""Messages per second against a bare unpack's."""


class Layout(NamedTuple):
    """Where a format's integers are: what a bare unpack needs. No scale, no sentinel, no AD structure."""

    at: int
    codes: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, at: int, codes: str, names: str) -> Layout:
        return cls(at, codes, tuple(names.split()))


_RUUVI = 3 + 4 + 1  # flags; length, type and company; the data format
_WEATHER = "temperature humidity pressure"
_AXES = "acceleration_x acceleration_y acceleration_z"

LAYOUTS: dict[str, Layout] = {
    "ruuvi.3": Layout.of(_RUUVI, ">BBBHhhhH", f"humidity temperature hundredths pressure {_AXES} battery_voltage"),
    "ruuvi.5": Layout.of(_RUUVI, ">hHHhhhHBH", f"{_WEATHER} {_AXES} power movement_counter sequence"),
    "ruuvi.6": Layout.of(
        _RUUVI, ">hHHHHBBBxBB", f"{_WEATHER} pm2_5 co2 voc_index nox_index illuminance sequence flags"
    ),
    "ruuvi.e1": Layout.of(
        _RUUVI,
        ">hHHHHHHHBBBH3xBHB",
        f"{_WEATHER} pm1_0 pm2_5 pm4_0 pm10 co2 voc_index nox_index lux_high lux sequence_high sequence flags",
    ),
    "bthome.2": Layout.of(3 + 4 + 1, "<xBxBxhxH", "packet_id battery temperature humidity"),
    "ibeacon": Layout.of(3 + 4 + 2, ">16sHHb", "uuid major minor tx_power"),
    "eddystone.uid": Layout.of(3 + 4 + 4 + 1, ">b10s6s", "tx_power namespace instance"),
    "eddystone.tlm": Layout.of(3 + 4 + 4 + 2, ">HhII", "battery_voltage temperature advertisement_count uptime_s"),
}
"""Formats whose every message has one layout; a URL has none, and what is encrypted has to be decrypted first."""


def run(rounds: int, count: int, *, least: float) -> None:
    """Measure every format and print the tables."""
    peers = installed()
    rows, bare_rows, alone = [], [], []
    for kind in kinds():
        told = messages(kind, count)
        able = [peer for peer in peers if kind in peer.kinds]
        check(kind, told, able)
        if not able:
            alone.append(kind)
        if able or kind in LAYOUTS:
            measured = paired(contenders(kind, told, able), rounds=rounds, least=least)
            rows += _peer_rows(kind, measured, count, able)
            if kind in LAYOUTS:
                bare_rows.append(_bare_row(kind, measured, count))
    target = f"at least {PEER_TARGET:g}"
    show(
        "Decode, µs of CPU per advertisement: ours, a peer's, and how many times ours that is; of a peer that takes AD "
        "structures split also with bluetooth-data-tools, which splits them",
        ("format", "ours", "peer", "its", "times", target, "with its splitter", "times", target),
        rows,
    )
    print(f"\nAs each is called: met by {met(rows, 5)} rows. With the splitter of those that need one: {met(rows, 8)}.")
    whole = [[*row[:5], row[5] if row[8] == "–" else row[8]] for row in rows]
    print(f"Every row from the advertisement on, as far as its ecosystem goes: {met(whole, 5)}.")
    print(f"\nNo peer here reads {', '.join(alone)}.")
    for peer in peers:
        print(f"\n{described(peer)}.", end="")
    print("\nOurs was given the advertisement as bytes, the sensor's address, the time, the gateway and the RSSI.")
    show(
        "Decode, µs of CPU per advertisement: ours, and a bare unpack of the integers to a dict, without AD "
        "structures, scales or sentinels; once with `struct.unpack`, once with a compiled `struct.Struct`",
        (
            "format",
            "ours",
            "struct.unpack",
            "ours / it",
            "Struct",
            "ours / it",
            "messages/s, a third of struct.unpack's",
        ),
        bare_rows,
    )


def contenders(kind: str, told: list[Message], peers: Iterable[Peer]) -> dict[str, Callable[[], object]]:
    """Return what is timed: each goes through all the messages once."""
    found: dict[str, Callable[[], object]] = {"ours": ours(told)}
    for peer in peers:
        found[peer.name] = _each(peer.decode, [peer.given(message) for message in told])
        if peer.splits:
            found[f"{peer.name}{SPLITTING}"] = splitting(peer, told)
    if kind in LAYOUTS:
        found["struct.unpack"] = unpacked(told, LAYOUTS[kind])
        found["Struct"] = compiled(told, LAYOUTS[kind])
    return found


def splitting(peer: Peer, told: list[Message]) -> Callable[[], None]:
    """Return the work of a peer that takes AD structures split, with the splitting, by its ecosystem's own library."""
    given, decode = peer.given, peer.decode

    def work() -> None:
        for message in told:
            decode(given(message))

    return work


def ours(told: list[Message]) -> Callable[[], None]:
    """Return the work of decoding all messages on the hot path, as the handler calls it."""
    keys = {message.address: message.key for message in told if message.key is not None}

    def work() -> None:
        for address, data, _, _, model in told:
            readings(data, address, AT, keys, GATEWAY, RSSI, model)

    return work


def unpacked(told: list[Message], layout: Layout) -> Callable[[], None]:
    """Return the work of `struct.unpack` to a dict for all messages."""
    at, codes, names = layout
    end = at + struct.calcsize(codes)

    def work() -> None:
        for _, data, *_ in told:
            dict(zip(names, struct.unpack(codes, data[at:end])))  # noqa: B905 - the keyword costs a third

    return work


def compiled(told: list[Message], layout: Layout) -> Callable[[], None]:
    """Return the same work with a compiled `struct.Struct`."""
    at, codes, names = layout
    unpack = struct.Struct(codes).unpack_from

    def work() -> None:
        for _, data, *_ in told:
            dict(zip(names, unpack(data, at)))  # noqa: B905

    return work


def _each(decode: Callable[[Any], Any], given: list[Any]) -> Callable[[], None]:
    def work() -> None:
        for each in given:
            decode(each)

    return work


def check(kind: str, told: list[Message], peers: Iterable[Peer]) -> None:
    """See that everyone decodes the published vector and every message that will be timed, and does so again."""
    known = vector(kind)
    for message in (known, *told):
        keys = {message.address: message.key} if message.key else {}
        (reading,) = readings(message.data, message.address, AT, keys, model=message.model)
        assert reading.values == message.values, f"{kind}: {reading.values}, not {message.values}"
    for peer in peers:
        given = [(message, peer.given(message)) for message in told]
        for _ in "ab":
            for message, taken in given:
                compared(peer, message, peer.decode(taken))


def _peer_rows(kind: str, measured: Measured, count: int, peers: Iterable[Peer]) -> list[list[str]]:
    rows = []
    for peer in peers:
        row = [kind, f"{measured.seconds('ours') / count * 1e6:.2f}", peer.name]
        for name in (peer.name, f"{peer.name}{SPLITTING}"):
            if name in measured.rounds:
                times = measured.ratio(name, "ours")
                row += [
                    f"{measured.seconds(name) / count * 1e6:.2f}",
                    f"{times:.1f} ×",
                    verdict(times, least=PEER_TARGET),
                ]
            else:
                row += ["–"] * 3
        rows.append(row)
    return sorted(rows, key=lambda row: float(row[3]))


def met(rows: list[list[str]], column: int) -> str:
    """Return how many rows are met, of those that say."""
    said = [row[column] for row in rows if row[column] != "–"]
    return f"{sum(cell.startswith('met') for cell in said)} of {len(said)}"


def _bare_row(kind: str, measured: Measured, count: int) -> list[str]:
    row = [kind, f"{measured.seconds('ours') / count * 1e6:.2f}"]
    for name in ("struct.unpack", "Struct"):
        row += [f"{measured.seconds(name) / count * 1e6:.2f}", f"{measured.ratio('ours', name):.1f}"]
    return [*row, verdict(measured.ratio("struct.unpack", "ours"), least=BARE_TARGET)]
