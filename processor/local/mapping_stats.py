"""What a mapping has done so far, over all of its shards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from processor.local.consumer import ShardConsumer
from processor.local.shard import Counts


@dataclass
class MappingStats(Counts):
    """The counts of all shards together, and figures per shard id.

    `iterator_age_ms` is Lambda's metric: the age of a batch's last record when it is sent (0 once nothing is left).
    `millis_behind_latest` is GetRecords' figure. `read_errors` counts failed reads, which are repeated;
    `trimmed` the times that records expired before they were read, or may have.
    """

    read_errors: int = 0
    trimmed: int = 0
    iterator_age_ms: dict[str, float] = field(default_factory=dict)
    millis_behind_latest: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, consumers: Iterable[ShardConsumer]) -> MappingStats:
        """Return what these consumers have counted."""
        stats = cls()
        for consumer in consumers:
            with consumer.changed:
                for count in fields(Counts):
                    setattr(stats, count.name, getattr(stats, count.name) + getattr(consumer.queue.counts, count.name))
            shard_id = consumer.queue.shard_id
            stats.read_errors += consumer.iterator.errors
            stats.trimmed += consumer.iterator.trimmed
            stats.iterator_age_ms[shard_id] = consumer.iterator_age_ms
            stats.millis_behind_latest[shard_id] = consumer.iterator.millis_behind_latest or 0
        return stats
