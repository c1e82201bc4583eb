"""One Kinesis record to everything that gateways heard in it."""

from __future__ import annotations

from collections.abc import Iterator

from processor.decode.aggregation import records
from processor.decode.envelope import Envelope, Joined, open_record
from processor.decode.gateways import ALL, Heard, Known, advertisements
from processor.decode.gateways.heard import collect
from processor.errors import DecodeError

UNSAID = -1
"""Stands for an arrival that nobody knows."""


def heard(data: bytes, arrived_at: int, known: Known = ALL) -> Heard:
    """Return a record's advertisements in order; what cannot be read leaves its DecodeError in its place.

    What a gateway decoded itself comes as Readings. arrived_at: the record's approximate arrival, in ms since 1970.
    known: which family a SIM is of, and what decoded JSON means. Raises DecodeError where nothing of it can be read; of
    an aggregated record, each user record stands and falls alone.
    """
    parts = records(data)
    if len(parts) == 1:
        return advertisements(open_record(parts[0], arrived_at), known)
    return collect(parts, lambda part: advertisements(open_record(part, arrived_at), known))


def sent_at(data: bytes) -> int | None:
    """Return when Funnel had a record, in ms since 1970: the last of its envelopes' times.

    None where an envelope does not say, or something has none: what that measured has its time from the record's
    arrival, perhaps. Raises DecodeError where nothing of the record can be read.
    """
    parts = records(data)
    times: list[int] = []
    for part in parts:
        try:
            times += _times(open_record(part, UNSAID))
        except DecodeError:
            if len(parts) == 1:
                raise
    return None if not times or UNSAID in times else max(times)


def _times(envelope: Envelope) -> Iterator[int]:
    if type(envelope.payload) is not Joined:
        yield envelope.at
        return
    for part in envelope.payload:
        if type(part) is Envelope:
            yield part.at
        elif not isinstance(part, DecodeError):
            yield envelope.at
