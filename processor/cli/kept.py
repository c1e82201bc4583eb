"""A kept run: it goes on serving, and sending, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import click

from processor.background import Background
from processor.cli.progress import Progress
from processor.cli.summary import next_steps
from processor.local.fleet import Fleet
from processor.local.funnel import Funnel
from processor.local.system import System

if TYPE_CHECKING:  # the web framework is an extra
    from processor.dashboard.server import Dashboard

DRAIN_SECONDS = 120.0


class _Living(Background):
    """The fleet of a kept run, sending on in a thread of its own until it is left."""

    def __init__(self, system: System, fleet: Fleet | None) -> None:
        super().__init__("fleet")
        self._system = system
        self._fleet = fleet
        self.sent = 0
        self.failure: BaseException | None = None

    def work(self) -> None:
        """Send until it is left; keep what stopped it."""
        try:
            if self._fleet is not None:
                self._send(self._fleet)
        except BaseException as error:
            self.failure = error

    def _send(self, fleet: Fleet) -> None:
        started = time.time()
        fleet.start = round(started * 1000)
        for record in fleet.records():
            if self.stopping.wait(max(0.0, started + record.at / 1000 - time.time())):
                return
            self._system.put(record.data).result()
            self.sent += 1


def serve(
    system: System,
    funnel: Funnel,
    progress: Progress,
    fleet: Fleet | None,
    serving: AbstractContextManager[Dashboard | None],
) -> bool:
    """Serve until Ctrl-C, the fleet going on; then check once more, with what came through Funnel's entry points."""
    before = len(system.sent)
    with funnel, serving as page:
        for line in next_steps(system, funnel, None if page is None else page.url):
            click.echo(line)
        sys.stdout.flush()
        with _Living(system, fleet) as living:
            try:
                while living.failure is None:
                    time.sleep(0.5)
                    system.alive()
                    if page is not None:
                        page.check()
            except KeyboardInterrupt:
                click.echo("")
        if living.failure is not None:
            raise living.failure
    posted = len(system.sent) - before - living.sent
    if len(system.sent) == before:
        return True
    progress.wait("draining", lambda: system.drain(DRAIN_SECONDS))
    verdict = system.check()
    click.echo(f"{posted} records came through Funnel's entry points; {verdict.found} readings are in the table now.")
    for line in verdict.differences():
        click.echo(line)
    return verdict.passed
