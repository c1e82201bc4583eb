"""What pages that are open at the same time are told."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import aclosing
from types import SimpleNamespace

from processor.dashboard.events import SAMPLES, Events
from processor.dashboard.health import nothing

PATIENCE = 5  # seconds until an event that does not come counts as lost


def events(rows, history=()):
    """Return the events of a fleet that is looked at only when a page comes."""
    snapshot = nothing("test", "") | {"history": {"t": list(history), "records": list(history)}}
    return Events(
        SimpleNamespace(rows=rows),
        SimpleNamespace(snapshot=lambda: snapshot),
        SimpleNamespace(count=lambda: (0, 0)),
        refresh=1000,
        closing=lambda: False,
    )


async def told(stream):
    """Return the next event as (name, data)."""
    name, data = (await asyncio.wait_for(anext(stream), PATIENCE)).decode().strip().split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def until(stream, wanted):
    while True:
        name, data = await told(stream)
        if name == wanted:
            return data


def test_of_two_pages_opened_at_once_the_first_hears_of_what_the_second_ones_look_found():
    """Each looks for itself, for neither knew of the other; between the two looks the device was heard again."""
    looks = itertools.count(1)

    async def open_both():
        source = events(lambda: {"D": {"device": "D", "seen": next(looks)}})
        async with aclosing(source.stream()) as first, aclosing(source.stream()) as second:
            (_, one), (_, other) = await asyncio.gather(told(first), told(second))
            return one["rows"], other["rows"], (await until(first, "devices"))["rows"]

    one, other, later = asyncio.run(open_both())
    assert (one, other) == ([{"device": "D", "seen": 1}], [{"device": "D", "seen": 2}])
    assert later == other


def test_the_last_samples_are_sent_and_not_the_last_alone():
    """CloudWatch's values come late: those of minutes that were sent before have changed since."""

    async def health():
        async with aclosing(events(dict, range(100)).stream()) as page:
            return (await until(page, "health"))["history"]

    assert asyncio.run(health()) == dict.fromkeys(("t", "records"), list(range(100))[-SAMPLES:])
    assert SAMPLES > 3
