"""The pipeline's charts while figures come late, and after a connection was lost."""

from __future__ import annotations

import re

from processor.dashboard.health import COLUMNS, nothing
from processor.dashboard.server import Dashboard

from .test_page import expect

BEGUN = 1_700_000_040


class CloudWatch:
    """The health of a pipeline whose records a second, minute by minute, are set from outside."""

    def __init__(self, *records):
        self.records = list(records)

    def snapshot(self):
        history = {name: [0.0] * len(self.records) for name in COLUMNS}
        history |= {"t": [BEGUN + 60.0 * n for n in range(len(self.records))], "records": list(self.records)}
        return nothing("CloudWatch", "") | {"span": "the last 3 hours", "history": history}


def drawn(page):
    """The card of the records a second, whose table shows what is drawn, the latest first."""
    card = page.locator("section", has=page.get_by_role("heading", name="Records and readings a second"))
    card.get_by_text("As a table").click()
    return card


def records(*found):
    return [re.compile(rf"^{each:.1f}/s$") for each in reversed(found)]


def test_a_minute_that_was_drawn_too_low_is_corrected(site, open_page):
    """CloudWatch had a part of it only when it was first asked."""
    health = CloudWatch(10, 10, 1)
    with Dashboard(site.sources._replace(health=health), port=0) as served:
        page = open_page(f"{served.url}pipeline")
        cells = drawn(page).locator("tbody td:nth-child(2)")
        expect(cells).to_have_text(records(10, 10, 1))
        health.records = [10, 10, 10, 4]
        expect(cells).to_have_text(records(10, 10, 10, 4))
        health.records = [10, 10, 10, 10, 7]
        expect(cells).to_have_text(records(10, 10, 10, 10, 7))
        expect(page.locator(".tile", has_text="Records").locator("strong")).to_have_text("7.0/s")
        page.goto("about:blank")


def test_after_a_lost_connection_the_charts_have_what_was_missed(site, open_page):
    health = CloudWatch(10, 10)
    with Dashboard(site.sources._replace(health=health), port=0) as first:
        port = int(first.url.rstrip("/").rpartition(":")[2])
        page = open_page(f"{first.url}pipeline", strict=False)
        cells = drawn(page).locator("tbody td:nth-child(2)")
        expect(cells).to_have_count(2)
        expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator("#connection")).to_contain_text("Connection lost")
    health.records = [float(n) for n in range(40)]
    with Dashboard(site.sources._replace(health=health), port=port):
        expect(cells).to_have_text(records(*range(40)), timeout=20_000)
        page.goto("about:blank")
