"""1,000 devices and 100,000 points: all of them are there; how long that takes is printed (`-s`), not asserted."""

from __future__ import annotations

import contextlib
import time

import pytest

from processor.dashboard.server import Dashboard
from processor.reading import Reading
from processor.store.tables import cell_name, slot_of
from processor.store.writer import Group

from .conftest import Site

DEVICES, POINTS = 1000, 100_000
MANY = "C0:FF:EE:00:00:00"

FRAMES = """
async ([seconds, scroll]) => {
  const frames = [];
  const until = performance.now() + seconds * 1000;
  let before = performance.now();
  while (before < until) {
    if (scroll) scrollBy(0, 120);
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    frames.push(now - before);
    before = now;
  }
  frames.sort((a, b) => a - b);
  return [frames.length, frames[Math.floor(frames.length / 2)], frames[Math.floor(frames.length * 0.99)], frames.at(-1)];
}
"""


@pytest.fixture(scope="module")
def large(kinesis_event):
    """A fleet of 1,000 devices, and one of them with 100,000 readings, one a second."""
    with contextlib.ExitStack() as stack:
        site = Site(stack, kinesis_event)
        now = time.time()
        site.send(
            (f"C0:00:00:00:{n >> 8:02X}:{n & 255:02X}", now - 1 - n % 9, {"temperature": n / 20})
            for n in range(DEVICES - 1)
        )
        site.send([(MANY, now - 1, {"temperature": 20.0})])
        groups = {}
        for n in range(POINTS):
            at = round((now - 2 - n) * 1000)
            values = {"temperature": 20 + (n % 600) / 100 + (n % 7) / 10}
            reading = Reading(MANY, at, "ruuvi.5", values, n % 65_000, n & 0xFFFFFF)
            slot = slot_of(at)
            group = groups.setdefault(slot, Group(MANY, slot, round(now) + 10**6))
            group.cells[cell_name(reading, at - slot * 1000)] = reading
        assert not site.writer.write(groups.values(), deadline=time.monotonic() + 600).error
        yield site, stack.enter_context(Dashboard(site.sources, port=0)).url.rstrip("/")


def frames(page, what, seconds=3, scroll=False):
    count, median, late, worst = page.evaluate(FRAMES, [seconds, scroll])
    print(f"{what}: {count / seconds:.0f} frames/s; a frame {median:.1f} ms, 99 % {late:.1f} ms, worst {worst:.1f} ms")


def test_a_thousand_devices(large, open_page):
    """Every row is in the table; sorted, filtered and scrolled, while values change."""
    site, url = large
    page = open_page(url)
    page.wait_for_selector(f"tbody tr:nth-child({DEVICES})")
    print(f"\n1,000 rows there {page.evaluate('performance.now()'):.0f} ms after the page was asked for")
    frames(page, "1,000 rows, scrolled", scroll=True)
    site.send(
        (f"C0:00:00:00:{n >> 8:02X}:{n & 255:02X}", time.time() - 0.5, {"temperature": 50 + n / 20}) for n in range(500)
    )
    frames(page, "1,000 rows, 500 of them changing at once", seconds=4)
    for what, script in (
        ("sorted", "document.querySelectorAll('thead button')[0].click()"),
        (
            "filtered",
            "const i = document.querySelector('#filter'); i.value = '00:01:'; i.dispatchEvent(new Event('input'))",
        ),
        (
            "shown again",
            "const i = document.querySelector('#filter'); i.value = ''; i.dispatchEvent(new Event('input'))",
        ),
    ):
        took = page.evaluate(
            f"() => {{ const t = performance.now(); {script}; document.body.offsetHeight; return performance.now() - t; }}"
        )
        print(f"1,000 rows, {what}: {took:.0f} ms of script and layout")
    assert page.locator("tbody tr").count() == DEVICES


def test_a_hundred_thousand_points(large, open_page):
    """The whole range drawn from every reading, and thinned; dragged over and zoomed."""
    _, url = large
    now = round(time.time() * 1000)
    times = f"from={now - (POINTS + 60) * 1000}&to={now + 60_000}"
    page = open_page(f"{url}/devices/{MANY}?{times}&detail=raw")
    chart = page.locator("section", has=page.get_by_role("heading", name="Temperature"))
    chart.locator("canvas").wait_for()
    print(f"\n100,000 points there {page.evaluate('performance.now()'):.0f} ms after the page was asked for")
    assert "100,001 points" in chart.locator(".plot").get_attribute("aria-label")
    frames(page, "100,000 points, at rest", seconds=2)
    box = chart.locator(".u-over").bounding_box()
    page.evaluate(
        """() => { const over = document.querySelector(".u-over"); const box = over.getBoundingClientRect(); let x = 0;
             setInterval(() => { x = (x + 7) % box.width;
               over.dispatchEvent(new MouseEvent("mousemove", { clientX: box.left + x, clientY: box.top + 40, bubbles: true }));
             }, 8); }"""
    )
    frames(page, "100,000 points, the cursor moving")
    with page.expect_response("**/series?*") as answered:
        page.mouse.move(box["x"] + 200, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 300, box["y"] + 60, steps=5)
        page.mouse.up()
    assert answered.value.ok
    redrawn = page.evaluate(
        """() => { const t = performance.now(); document.dispatchEvent(new Event("colours")); return performance.now() - t; }"""
    )
    print(f"redrawn: {redrawn:.1f} ms of script")
    page.goto(f"{url}/devices/{MANY}?{times}&detail=auto")
    chart.locator("canvas").wait_for()
    print(f"the same range, detail automatic: {page.evaluate('performance.now()'):.0f} ms")
