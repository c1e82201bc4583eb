"""One Kinesis record to everything that gateways heard in it."""

from __future__ import annotations

from processor.decode.aggregation import records
from processor.decode.envelope import kept, open_record
from processor.decode.gateways import ALL, Heard, Known, advertisements
from processor.errors import DecodeError


def heard(data: bytes, arrived_at: int, known: Known = ALL) -> Heard:
    """Return a record's advertisements in order; what cannot be read leaves its DecodeError in its place.

    What a gateway decoded itself comes as Readings. arrived_at: the record's approximate arrival, in ms since 1970.
    known: which family a SIM is of, and what decoded JSON means. Raises DecodeError where nothing of it can be read; of
    an aggregated record, each user record stands and falls alone.
    """
    parts = records(data)
    if len(parts) == 1:
        return advertisements(open_record(parts[0], arrived_at), known)
    found: Heard = []
    for part in parts:
        try:
            found += advertisements(open_record(part, arrived_at), known)
        except DecodeError as error:
            found.append(kept(error))
    return found
