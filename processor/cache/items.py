"""Values in the table: one item each, or, beyond what an item holds, a head and chunks.

    key (S)      hash of namespace, version and key                             partition key
    space (S)    namespace/version
    name (S)     the key itself, its first 1,024 bytes: what clear(prefix) looks for
    data (B, N)  the value; a whole number as a number, so that it can be counted on
    form (S)     int, bytes, json, refusal or a codec's name; +zlib or +zstd where it is compressed
    written (S)  tells one write from another
    until (N)    epoch milliseconds at which it expires; without it, never
    expires (N)  epoch seconds from which DynamoDB may delete it: not before `until`, nor while it may be served stale
    cost (N)     milliseconds that computing it took, where `cached` did
    chunks (N), sum (S)   of a head: how many chunks, and the checksum of them all; it has no data
    +….…         receipts of increments, see counter.py

The chunks' keys are the head's, `written` and their number. They are written before the head and never changed, so a
head always names chunks of its own write: a value is read whole or not at all. Whoever replaces or deletes a head
deletes its chunks. What a crash leaves behind expires with the value's time; clear(prefix) deletes it at once.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b

from processor.cache.codec import INT, MAX_VALUE, Undecodable, Values
from processor.cache.memory import NEVER, Entry
from processor.cache.request import Item, Table, binary, delete, number, put, sliced, unbinary
from processor.cache.stats import Stats

CHUNK = 400_000
"""Bytes of data in one item: an item holds 409,600, names, key and marks included."""
MAX_CHUNKS = -(-MAX_VALUE // CHUNK)
"""So many chunks are looked for, whatever a head says."""
NAME_BYTES = 1024
CHUNK_GETS = 40
"""Chunks asked for at once: as many as DynamoDB's 16 MB an answer hold."""
CHUNK_SLACK = 3600
"""Seconds that chunks live on after their head, so that DynamoDB deletes no chunk of a living one."""
ATTEMPTS = 4
"""Rounds of a write that finds the item changed meanwhile, every time."""


class Items:
    """Reads and writes entries of one namespace and version."""

    def __init__(self, table: Table, values: Values, stats: Stats, *, space: str, consistent: bool) -> None:
        self.table = table
        self.space = space
        self._values = values
        self._stats = stats
        self._consistent = consistent

    def id_of(self, key: str) -> str:
        """Return the partition key of a cache key."""
        text = f"{self.space}\0{key}".encode("utf-8", "surrogatepass")
        return urlsafe_b64encode(blake2b(text, digest_size=18).digest()).decode()

    def read(self, key: str, *, consistent: bool = False) -> Entry | None:
        """Return the entry, expired or not, if it is there and whole."""
        identity = self.id_of(key)
        item = self.table.get(identity, consistent=consistent or self._consistent)
        return None if item is None else self.entry(identity, item)

    def read_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Return the entries that are there and whole: at most 100 keys."""
        names = {self.id_of(key): key for key in keys}
        items = self.table.get_batch(names, consistent=self._consistent)
        found = {names[identity]: self.entry(identity, item) for identity, item in items.items()}
        return {key: entry for key, entry in found.items() if entry is not None}

    def entry(self, identity: str, item: Item) -> Entry | None:
        """Return an item as an entry, its chunks fetched; None where one is missing, or it cannot be read."""
        for again in (True, False):
            try:
                packed, data = item["form"]["S"], self._data(identity, item)
                if data is not None:
                    form, data = self._values.unpack(packed, data)
                    until = int(item["until"]["N"]) if "until" in item else NEVER
                    return Entry(form, data, until, int(item.get("cost", {}).get("N", 0)), item["written"]["S"])
            except (Undecodable, KeyError, ValueError):
                self._stats.add("undecodable")
                return None
            # Chunks missing: the head may have been replaced since, and its chunks been deleted.
            now = self.table.get(identity, consistent=True) if again else None
            if now is None or now.get("written") == item["written"]:
                break
            item = now
        self._stats.add("incomplete")
        return None

    def _data(self, identity: str, item: Item) -> bytes | None:
        if "chunks" not in item:
            data = item["data"]
            return data["N"].encode() if "N" in data else unbinary(data)
        written = item["written"]["S"]
        keys = _chunk_keys(identity, item)
        parts: dict[str, Item] = {}
        for some in sliced(keys, CHUNK_GETS):
            parts.update(self.table.get_batch(some, consistent=True))
        if len(parts) < len(keys):
            return None
        data = b"".join(unbinary(parts[key]["data"]) for key in keys)
        return data if _checksum(written, data) == item["sum"]["S"] else None

    def write(self, key: str, entry: Entry, grace: float = 0.0) -> None:
        """Put an entry in place of what is there, and delete the chunks of what was."""
        head, chunks = self.rendered(key, entry, grace)
        self.table.write_all(map(put, chunks))
        if not self.table.conditionally("PutItem", Item=head, ConditionExpression="attribute_not_exists(#chunks)"):
            self._replace(head)

    def add(self, key: str, entry: Entry, now: int) -> bool:
        """Put an entry where there is none, or an expired one, and tell whether there was none."""
        head, chunks = self.rendered(key, entry)
        self.table.write_all(map(put, chunks))
        condition = "attribute_not_exists(#key) OR #until <= :now OR #written = :written"  # written: our lost answer's
        values = {"now": number(now), "written": head["written"]}
        if self.table.conditionally("PutItem", Item=head, ConditionExpression=condition, values=values):
            return True
        self.table.write_all(map(delete, _chunk_keys(head["key"]["S"], head)))
        return False

    def write_many(self, entries: Mapping[str, Entry]) -> None:
        """Put entries in batches, chunks before their heads; the chunks of what was there are left to expire."""

        def requests() -> Iterator[Item]:
            for key, entry in entries.items():
                head, chunks = self.rendered(key, entry)
                yield from map(put, chunks)
                yield put(head)

        self.table.write_all(requests())

    def delete(self, key: str) -> None:
        """Delete an entry and its chunks."""
        identity = self.id_of(key)
        where = {"key": {"S": identity}}
        condition, values, chunks = _still(None)
        for _ in range(ATTEMPTS):
            if self.table.conditionally("DeleteItem", Key=where, ConditionExpression=condition, values=values):
                break
            there = self.table.get(identity, consistent=True)
            if there is None:  # deleted by us, the answer lost, or by another
                break
            condition, values, chunks = _still(there)
        else:
            there = self.table.call("DeleteItem", Key=where, ReturnValues="ALL_OLD").get("Attributes", {})
            chunks = _chunk_keys(identity, there)
        self.table.write_all(map(delete, chunks))

    def touch(self, key: str, until: int, now: int) -> bool:
        """Set a living entry's expiry, and tell whether there was one. Its chunks come first: none dies before it."""
        identity = self.id_of(key)
        condition = "attribute_exists(#data) AND (attribute_not_exists(#until) OR #until > :now)"
        if self._touch(identity, until, condition, {"now": number(now)}):
            return True
        head = self.table.get(identity, consistent=True)
        if head is None or "chunks" not in head or int(head.get("until", {}).get("N", NEVER)) <= now:
            return False
        sooner = "until" in head and until <= int(head["until"]["N"])  # the chunks may then die later than the head
        for chunk in () if sooner else _chunk_keys(identity, head):
            if not self._touch(chunk, until + CHUNK_SLACK * 1000, "attribute_exists(#key)", {}):
                return False
        return self._touch(identity, until, "#written = :written", {"written": head["written"]})

    def _touch(self, identity: str, until: int, condition: str, values: Mapping[str, Item]) -> bool:
        lasting = until >= NEVER
        return self.table.conditionally(
            "UpdateItem",
            Key={"key": {"S": identity}},
            ConditionExpression=condition,
            UpdateExpression="REMOVE #until, #expires" if lasting else "SET #until = :until, #expires = :expires",
            values={**values, **({} if lasting else _times(until, 0))},
        )

    def rendered(self, key: str, entry: Entry, grace: float = 0.0) -> tuple[Item, Iterator[Item]]:
        """Return an entry as the item that holds it, or as a head, and its chunks."""
        packed, data = self._values.pack(entry.form, entry.data)
        item = self.marks(key, entry.until, grace) | {"form": {"S": packed}, "written": {"S": entry.written}}
        if entry.cost:
            item["cost"] = number(entry.cost)
        if entry.form == INT:
            return item | {"data": {"N": data.decode()}}, iter(())
        if len(data) <= CHUNK:
            return item | {"data": binary(data)}, iter(())
        count = -(-len(data) // CHUNK)
        head = item | {"chunks": number(count), "sum": {"S": _checksum(entry.written, data)}}
        marks = self.marks(key, entry.until, grace + CHUNK_SLACK)
        marks.pop("until", None)
        parts = (
            marks | {"key": {"S": chunk}, "data": binary(data[n * CHUNK : (n + 1) * CHUNK])}
            for n, chunk in enumerate(_chunk_keys(item["key"]["S"], head))
        )
        return head, parts

    def marks(self, key: str, until: int, grace: float = 0.0) -> Item:
        """Return the attributes that every item of this namespace has."""
        name = key.encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore")
        item = {"key": {"S": self.id_of(key)}, "space": {"S": self.space}, "name": {"S": name}}
        return item if until == NEVER else item | _times(until, grace)

    def clear(self, prefix: str, segment: int, segments: int) -> None:
        """Delete, in one segment of the table, this namespace's and version's items whose keys start with `prefix`."""
        condition = "#space = :space" + (" AND begins_with(#name, :prefix)" if prefix else "")
        values = {"space": {"S": self.space}} | ({"prefix": {"S": prefix}} if prefix else {})
        page: Item = {}
        while True:
            answer = self.table.call(
                "Scan",
                FilterExpression=condition,
                ProjectionExpression="#key",
                values=values,
                Segment=segment,
                TotalSegments=segments,
                **page,
            )
            self.table.write_all(delete(item["key"]["S"]) for item in answer.get("Items", ()))
            if "LastEvaluatedKey" not in answer:
                return
            page = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def _replace(self, head: Item) -> None:
        """Put a head where one with chunks is, then delete those chunks."""
        identity = head["key"]["S"]
        chunks: list[str] = []
        for _ in range(ATTEMPTS):
            there = self.table.get(identity, consistent=True)
            if there is not None and there["written"] == head["written"]:
                break  # it was put; only the answer was lost
            condition, values, chunks = _still(there)
            if self.table.conditionally("PutItem", Item=head, ConditionExpression=condition, values=values):
                break
        else:  # others keep changing it; should this answer be lost, the chunks are left to expire
            there = self.table.call("PutItem", Item=head, ReturnValues="ALL_OLD").get("Attributes", head)
            chunks = [] if there["written"] == head["written"] else _chunk_keys(identity, there)
        self.table.write_all(map(delete, chunks))


def new_write() -> str:
    """Return what tells a new write from all others."""
    return secrets.token_urlsafe(9)


def _still(there: Item | None) -> tuple[str, dict[str, Item], list[str]]:
    """Return the condition that an item is as it was seen, its values, and the chunks that it then leaves behind."""
    if there is None or "chunks" not in there:
        return "attribute_not_exists(#chunks)", {}, []
    return "#written = :seen", {"seen": there["written"]}, _chunk_keys(there["key"]["S"], there)


def _times(until: int, grace: float) -> dict[str, Item]:
    return {"until": number(until), "expires": number(-(-(until + int(grace * 1000)) // 1000))}


def _chunk_keys(identity: str, head: Item) -> list[str]:
    count = min(int(head["chunks"]["N"]), MAX_CHUNKS) if "chunks" in head else 0
    return [f"{identity}.{head['written']['S']}.{n}" for n in range(count)]


def _checksum(written: str, data: bytes) -> str:
    return blake2b(data, digest_size=8, key=written.encode()).hexdigest()
