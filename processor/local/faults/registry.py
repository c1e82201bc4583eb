"""The registry of faults: every one of them, by the name that `processor run --chaos` and the tests call it.

The families are those of `fault.FAMILIES`. A row with a `scene` is played under a virtual clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from processor.errors import SettingsError
from processor.local.faults import input, scenes, service, wire  # noqa: A004 - what is sent
from processor.local.faults.answers import NO_LIST, NOT_JSON, Answer, AnswerLost, NotInvoked, Redelivered, report
from processor.local.faults.fault import Fault
from processor.local.faults.input import DAY, HOUR, MINUTE, SECOND, Input
from processor.local.faults.reshard import Reshard, SingleShard, merge, split
from processor.local.faults.service import Deployed
from processor.local.faults.wire import Wire, refused_with, rolls_up, table
from processor.local.faults.worker import Freeze, Glut, Hang, Kill, KillAfter, KillAmid, KillAny

CELLS = "cells are set with if_not_exists, named by the reading's own identity"
AGAIN = "no answer, no checkpoint: the batch comes again, and writing it again changes nothing"
FAILED = "what is not known to be written is reported as failed, from the lowest sequence number on"
WHOLE = "an answer that names no record of the batch fails all of it"
PARENTS = "parents are finished before their children are read"
GIVEN_UP = "what the mapping gives up goes to the failure destination"
HALVED = "halving, then maximum_retry_attempts and the failure destination"
QUARANTINE = "what can never be stored is quarantined whole and counts as handled"
LATE = "late readings are taken, and a roll-up is computed anew from what is stored"

KILLS = 0.12
"""Kills come this much more often than other faults: a run of ten minutes has to survive hundreds."""

FAULTS = (
    Fault("kill-before-write", 1, "SIGKILL for a worker whose write has not been carried out", AGAIN,
          partial(Kill, every=KILLS)),
    Fault("kill-amid-write", 1, "SIGKILL for a worker whose write has been carried out, others of its batch not", CELLS,
          partial(KillAmid, every=KILLS)),
    Fault("kill-before-response", 1, "SIGKILL for a worker that has written all, and not answered", CELLS,
          partial(KillAfter, every=KILLS)),
    Fault("kill-rollup", 1, "SIGKILL for a worker amid its roll-ups", AGAIN,
          partial(KillAmid, rolls_up, every=KILLS)),
    Fault("kill-any", 1, "SIGKILL for any worker at any moment: idle, starting, at work", AGAIN,
          partial(KillAny, every=KILLS)),
    Fault("freeze", 1, "SIGSTOP amid a write for longer than it may take, then SIGCONT", CELLS, partial(Freeze, 2.5)),
    Fault("timeout", 1, "SIGSTOP amid a write until the function's timeout has ended the worker", CELLS,
          partial(Hang, every=8)),
    Fault("out-of-memory", 1, "answers so large that the worker passes its memory and is killed", CELLS,
          partial(Glut, every=4)),
    Fault("throttled-table", 2, "every write is throttled for a while", FAILED,
          partial(Wire, refused_with("ThrottlingException"), lasting=1.5)),
    Fault("throttled-key", 2, "one device's writes are throttled for longer than an invocation tries", FAILED,
          wire.ThrottledKey),
    Fault("unprocessed-keys", 2, "BatchGetItem leaves every key unread for a while",
          "keys left unread are asked for again", service.KeysUnread),
    Fault("server-errors", 2, "500 InternalServerError to every call for a while", FAILED,
          partial(Wire, refused_with("InternalServerError", "500 Internal Server Error"), table, lasting=1.0)),
    Fault("unavailable", 2, "503 with a page that is not DynamoDB's", FAILED,
          partial(Wire, refused_with("", "503 Service Unavailable"), table, every=0.3)),
    Fault("answer-lost", 2, "a write is carried out, and its answer lost", CELLS, partial(Wire, wire.lost, every=0.3)),
    Fault("late-write", 2, "a write is carried out seconds after its client gave it up", CELLS,
          partial(Wire, wire.late, every=0.3)),
    Fault("reset-before", 2, "the connection is reset before a call is carried out", FAILED,
          partial(Wire, wire.unheard, table, every=0.3)),
    Fault("reset-mid-body", 2, "a write is carried out, and the connection reset amid its answer's body", CELLS,
          partial(Wire, wire.cut, every=0.3)),
    Fault("corrupted", 2, "a digit of an answer is changed on its way", "the answer's CRC32 is checked",
          service.Corrupted),
    Fault("garbled", 2, "a write, carried out or not, is answered with somebody else's page",
          "what is no answer of DynamoDB's is no success", partial(Wire, wire.garbled, every=0.3)),
    Fault("slow", 2, "answers come late, some later than the client waits", CELLS, partial(Wire, wire.slow)),
    Fault("refused", 2, "nothing listens at the endpoint for a while", FAILED, partial(wire.Refusing, every=2)),
    Fault("no-address", 2, "the workers are ended, and for a while new ones get an endpoint whose name has no address",
          FAILED, partial(wire.UnknownHost, every=3)),

    Fault("poison-first", 3, "of five records the first can never be decoded", QUARANTINE,
          partial(Input, input.poison_at(0))),
    Fault("poison-middle", 3, "of five records the middle one can never be decoded", QUARANTINE,
          partial(Input, input.poison_at(2))),
    Fault("poison-last", 3, "of five records the last can never be decoded", QUARANTINE,
          partial(Input, input.poison_at(4))),
    Fault("poison-all", 3, "five records of which none can ever be decoded", QUARANTINE,
          partial(Input, input.poison_at(0, 1, 2, 3, 4))),
    Fault("poison-delay", 3, "records that can never be decoded, timed: the first, middle, last, or all of a batch",
          QUARANTINE, scene=scenes.poison_delay),
    Fault("unknown-identifier", 3, "the function reports a record that is not in the batch", WHOLE,
          partial(Answer, report("1" * 56))),
    Fault("empty-identifier", 3, "the function reports an empty identifier", WHOLE, partial(Answer, report(""))),
    Fault("null-identifier", 3, "the function reports null", WHOLE, partial(Answer, report(None))),
    Fault("malformed-answer", 3, "the function's failures are no list", WHOLE, partial(Answer, NO_LIST)),
    Fault("answer-not-json", 3, "the function's answer is cut off", WHOLE, partial(Answer, NOT_JSON)),
    Fault("quarantine-fails", 3, "S3 refuses what is put into quarantine for a while",
          "records that cannot be quarantined are failed ones", service.QuarantineFails),
    Fault("crashing-record", 3, "a record that crashes the function whenever it is in a batch",
          HALVED, scene=scenes.crashing_record),

    Fault("redelivered", 4, "a batch is delivered again under the same sequence numbers", CELLS, Redelivered),
    Fault("delivered-at-once", 4, "a batch is delivered to two workers at once", CELLS,
          partial(Redelivered, at_once=True)),
    Fault("answer-never-came", 4, "an invocation does its work, and its answer never arrives", CELLS, AnswerLost),
    Fault("producer-retry", 4, "the same payload again under a new sequence number", CELLS,
          partial(Input, input.producer_retry)),
    Fault("overlapping-replay", 4, "records again in another order, with new ones among them", CELLS,
          partial(Input, input.overlapping_replay)),
    Fault("two-gateways", 4, "two gateways' clocks are 25 s apart", "one identity within the skew counts once",
          partial(Input, input.gateways_apart(0, -25 * SECOND))),
    Fault("three-gateways", 4, "three gateways' clocks are 50 s apart", "one identity within the skew counts once",
          partial(Input, input.gateways_apart(0, -25 * SECOND, 25 * SECOND))),

    Fault("split", 5, "a shard is split amid its batches", PARENTS,
          partial(Reshard, split)),
    Fault("merge", 5, "two shards are merged amid their batches", PARENTS,
          partial(Reshard, merge)),
    Fault("iterators-expire", 5, "every shard iterator expires", "a new iterator begins after what was read",
          service.IteratorsExpire),
    Fault("disabled", 5, "the mapping is disabled and enabled again", "it goes on from its checkpoints",
          service.Disabled),
    Fault("not-invoked", 5, "the function cannot be invoked for want of concurrency",
          AGAIN, partial(NotInvoked, every=0.3)),
    Fault("retention", 5, "records reach the limit of 24 hours while the table refuses all writes",
          GIVEN_UP, scene=scenes.retention),
    Fault("reshard-mid-batch", 5, "shards split and merge amid batches that fail half-way",
          PARENTS, scene=scenes.reshards),

    Fault("hot-key", 6, "forty records under one partition key",
          "a key's records are delivered in order, one batch at a time",
          partial(Input, input.hot_key)),
    Fault("random-keys", 6, "one device's records under forty partition keys", "a write sets its own cells alone",
          partial(Input, input.random_keys)),
    Fault("single-shard", 6, "all shards are merged into one, and for a second records go through it alone",
          "a child is read from its beginning",
          partial(SingleShard, every=2)),

    Fault("late-by-seconds", 7, "readings come up to a minute late, in no order", LATE,
          partial(Input, input.late_by(SECOND, MINUTE))),
    Fault("late-by-hours", 7, "readings come up to a day late, in no order", LATE,
          partial(Input, input.late_by(HOUR, DAY))),
    Fault("late-by-days", 7, "readings come up to a year late, in no order", LATE,
          partial(Input, input.late_by(DAY, 390 * DAY))),
    Fault("clock-1970", 7, "a gateway's clock was never set", QUARANTINE,
          partial(Input, input.clock_before(86_400_000))),
    Fault("clock-2000", 7, "a gateway's clock stands at 2000", QUARANTINE,
          partial(Input, input.clock_before(946_684_800_000))),
    Fault("clock-2038", 7, "a gateway's clock is at the end of 32 bits", "a time ahead is replaced by the envelope's",
          partial(Input, input.clock_ahead(lambda _now: (2**31 - 1) * 1000))),
    Fault("clock-ahead", 7, "a gateway's clock is three hours ahead", "a time ahead is replaced by the envelope's",
          partial(Input, input.clock_ahead(lambda now: now + 3 * HOUR))),
    Fault("wrap-around", 7, "a counter of 16 bits begins anew at its end, one of 8 bits within a slot",
          "a cell's name has the payload's digest beside the counter", partial(Input, input.wrap_around)),
    Fault("reboot", 7, "a sensor begins to count anew within one slot",
          "a cell's name has the payload's digest beside the counter", partial(Input, input.reboot)),

    Fault("malformed", 8, "what is broken at each layer: envelope, gateway, advertisement, format", QUARANTINE,
          partial(Input, input.malformed)),
    Fault("empty-key", 8, "readings without an address, which no key can be made of", QUARANTINE,
          partial(Input, input.empty_key)),
    Fault("full-item", 8, "more readings of one slot than 400 KB hold",
          "what finds no room is quarantined, the rest is stored", scene=scenes.full_item),
    Fault("ten-mebibytes", 8, "a record of 10 MiB, which no batch holds; then invoked directly",
          GIVEN_UP, partial(service.TooLarge, every=10)),

    Fault("expired-credentials", 9, "the function's credentials have expired for a while", FAILED,
          partial(Wire, refused_with("ExpiredTokenException"), table, lasting=1.0)),
    Fault("access-denied", 9, "the role may not write for a while", FAILED,
          partial(Wire, refused_with("AccessDeniedException"), lasting=1.0)),
    Fault("kms-disabled", 9, "KMS refuses to open a new sensor's bindkey at first",
          "a key that cannot be had now is a failure, not a rejection", service.KeyUnavailable),
    Fault("secret-rotated", 9, "a sensor's key and its secret are changed",
          QUARANTINE, service.SecretRotated),

    Fault("deploy-mid-batch", 10, "an older version is deployed, and the present one again; each gets copies", CELLS,
          partial(Deployed, every=3)),
    Fault("old-version-replays", 10, "an older version is given batches that were handled", CELLS, service.OldReplays),

    Fault("expired-visible", 11, "items past their expiry are still in the table",
          "readers pass them over, and no roll-up loses them", scene=scenes.expired_visible),
    Fault("metrics-overflow", 11, "a batch of more records than a metric may have values",
          "a metric's values are a sample of at most 50", partial(input.Crowd, every=3)),
    Fault("destination-fails", 11, "what the mapping gives up cannot be delivered at first",
          "the checkpoint waits until it is", service.DestinationFails),
)  # fmt: skip


def named(names: Iterable[str]) -> list[Fault]:
    """Return the faults of these names; all of them for `all`. Raises SettingsError for another name."""
    known = {fault.name: fault for fault in FAULTS}
    found = list(names)
    if "all" in found:
        return list(FAULTS)
    for name in found:
        if name not in known:
            raise SettingsError(f"there is no fault {name!r}; there are: all, {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(found)]
