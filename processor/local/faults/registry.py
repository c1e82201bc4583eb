"""The registry of faults: every one of them, by the name that `processor run --chaos` and the tests call it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from processor.errors import SettingsError
from processor.local.faults import input, service, wire  # noqa: A004 - what is sent
from processor.local.faults.answers import NO_LIST, NOT_JSON, Answer, AnswerLost, NotInvoked, Redelivered, report
from processor.local.faults.fault import Fault
from processor.local.faults.input import DAY, HOUR, MINUTE, SECOND, Input
from processor.local.faults.service import Deployed, Reshard
from processor.local.faults.wire import Wire, refused_with, rolls_up, table
from processor.local.faults.worker import Freeze, Kill, KillAfter, KillAny

CELLS = "cells are set with if_not_exists, named by the reading's own identity"
AGAIN = "no answer, no checkpoint: the batch comes again, and writing it again changes nothing"
FAILED = "what is not known to be written is reported as failed, from the lowest sequence number on"
WHOLE = "an answer that names no record of the batch fails all of it"
QUARANTINE = "what can never be stored is quarantined whole and counts as handled"
ROLLUP = "a roll-up is computed anew from what is stored, and written unless a later one is there"

KILLS = 0.15
"""Kills come this much more often than other faults: a run of ten minutes has to survive hundreds."""

FAULTS = (
    Fault("kill-before-write", 1, "SIGKILL for a worker whose write has not been carried out", AGAIN,
          partial(Kill, "before", every=KILLS)),
    Fault("kill-amid-write", 1, "SIGKILL for a worker whose write has been carried out, others of its batch not", CELLS,
          partial(Kill, "amid", every=KILLS)),
    Fault("kill-before-response", 1, "SIGKILL for a worker that has written all, and not answered", CELLS,
          partial(KillAfter, every=KILLS)),
    Fault("kill-rollup", 1, "SIGKILL for a worker amid its roll-ups", ROLLUP,
          partial(Kill, "amid", rolls_up, every=KILLS)),
    Fault("kill-any", 1, "SIGKILL for any worker at any moment: idle, starting, at work", AGAIN,
          partial(KillAny, every=KILLS)),
    Fault("freeze", 1, "SIGSTOP for a second amid a write, then SIGCONT", FAILED, partial(Freeze, 1.0)),
    Fault("timeout", 1, "SIGSTOP amid a write until the function's timeout ends the worker", AGAIN,
          partial(Freeze, None, every=8)),
    Fault("out-of-memory", 1, "answers so large that the worker passes its memory and is killed", AGAIN,
          partial(Wire, wire.padded, every=4, lasting=0.5)),
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
