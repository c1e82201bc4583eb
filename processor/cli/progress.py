"""A run's progress: a live table on a terminal, a plain line every two seconds elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.table import Table

from processor.local.system import System

LIVE_SECONDS = 0.2
PLAIN_SECONDS = 2.0


class Progress:
    """Shows a system at work while something else is waited for."""

    def __init__(self, system: System, console: Console | None = None) -> None:
        self._system = system
        self._console = console or Console(highlight=False)
        self._started = time.monotonic()
        self._live = self._console.is_terminal
        self._last = (self._started, 0)
        self._rate = 0.0

    def wait(self, what: str, job: Callable[[], None]) -> None:
        """Run `job` in a thread and show progress until it ends; raise what it raised.

        On Ctrl-C it stops waiting: the job's thread ends with the process.
        """
        failure: list[BaseException] = []

        def run() -> None:
            try:
                job()
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=run, name=what, daemon=True)
        thread.start()
        if self._live:
            with Live(console=self._console, transient=True, auto_refresh=False) as live:
                while thread.is_alive():
                    live.update(self._table(what), refresh=True)
                    thread.join(LIVE_SECONDS)
        else:
            shown = time.monotonic()
            while thread.is_alive():
                thread.join(LIVE_SECONDS)
                if time.monotonic() - shown >= PLAIN_SECONDS:
                    shown = time.monotonic()
                    self._console.print(self._line(what), soft_wrap=True)
        if failure:
            raise failure[0]

    def finish(self, lines: list[str]) -> None:
        """Print the summary."""
        for line in lines:
            self._console.print(line, soft_wrap=True, markup=False)

    def _figures(self) -> dict[str, str]:
        totals, now = self._system.totals, time.monotonic()
        handled = totals.ledger["received"]
        before, count = self._last
        rate = (handled - count) / (now - before) if now - before > 0.5 else None
        if rate is not None:
            self._last = (now, handled)
            self._rate = rate
        age = max(self._system.mapping.stats.iterator_age_ms.values(), default=0.0)
        return {
            "records sent": f"{len(self._system.sent):,}",
            "stored": f"{totals.ledger['stored']:,}",
            "duplicates": f"{totals.ledger['duplicates']:,}",
            "rejected": f"{totals.ledger['rejected']:,}",
            "ignored": f"{totals.ledger['ignored']:,}",
            "iterator age": f"{age / 1000:.1f} s",
            "write units": f"{totals.write_units:,.0f}",
            "readings/s": f"{self._rate:,.0f}",
        }

    def _table(self, what: str) -> Table:
        table = Table(title=f"{what}, {time.monotonic() - self._started:.0f} s", title_justify="left")
        figures = self._figures()
        for name in figures:
            table.add_column(name, justify="right")
        table.add_row(*figures.values())
        return table

    def _line(self, what: str) -> str:
        figures = ", ".join(f"{name} {value}" for name, value in self._figures().items())
        return f"{time.monotonic() - self._started:5.1f} s  {what}: {figures}"
