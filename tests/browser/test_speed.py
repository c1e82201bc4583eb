"""1,000 devices and 100,000 points: all of them are there; how long that takes is printed (`-s`), not asserted."""

from __future__ import annotations

import contextlib
import time

import pytest

from processor.dashboard.server import Dashboard
from processor.reading import Reading

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
  const at = (share) => frames[Math.floor((frames.length - 1) * share)];
  return [frames.length, at(0.5), at(0.99), at(1)];
}
"""

TIMED = """
(what) => {
  const filter = document.querySelector("#filter");
  const begun = performance.now();
  if (what === "sort") document.querySelectorAll("thead button")[1].click();
  else {
    filter.value = what.slice(7);
    filter.dispatchEvent(new Event("input"));
  }
  document.body.offsetHeight;
  return performance.now() - begun;
}
"""

MOVING = """
() => {
  const over = document.querySelector(".u-over");
  const box = over.getBoundingClientRect();
  let x = 0;
  setInterval(() => {
    x = (x + 7) % box.width;
    const at = { clientX: box.left + x, clientY: box.top + 40, bubbles: true };
    over.dispatchEvent(new MouseEvent("mousemove", at));
  }, 8);
}
"""

ANSWERED = """
() => {
  const [asked] = performance.getEntriesByType("resource").filter((each) => each.name.includes("/api/series/"));
  return [asked.responseEnd - asked.requestStart, performance.now() - asked.responseEnd, asked.encodedBodySize / 1024];
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
        site.store(
            Reading(
                MANY,
                round((now - 2 - n) * 1000),
                "ruuvi.5",
                {"temperature": 20 + (n % 600) / 100 + (n % 7) / 10},
                n % 65_000,
                n & 0xFFFFFF,
            )
            for n in range(POINTS - 1)
        )
        yield site, now, stack.enter_context(Dashboard(site.sources, port=0)).url.rstrip("/")


def frames(page, what, seconds=3, scroll=False):
    count, median, late, worst = page.evaluate(FRAMES, [seconds, scroll])
    print(f"{what}: {count / seconds:.0f} frames/s; a frame {median:.1f} ms, 99 % {late:.1f} ms, worst {worst:.1f} ms")


def answered(page, what):
    server, browser, size = page.evaluate(ANSWERED)
    print(f"\n{what}: answered in {server:.0f} ms ({size:.0f} KB), drawn {browser:.0f} ms later at most")


def test_a_thousand_devices(large, open_page):
    """Every row is in the table; sorted, filtered and scrolled, while values change."""
    site, _, url = large
    page = open_page(url)
    page.wait_for_selector(f"tbody tr:nth-child({DEVICES})")
    print(f"\n1,000 rows there {page.evaluate('performance.now()'):.0f} ms after the page was asked for")
    frames(page, "1,000 rows, scrolled", scroll=True)
    site.send(
        (f"C0:00:00:00:{n >> 8:02X}:{n & 255:02X}", time.time() - 0.5, {"temperature": 50 + n / 20}) for n in range(500)
    )
    frames(page, "1,000 rows, 500 of them changing at once", seconds=4)
    for what, script in (
        ("sorted", "sort"),
        (
            "filtered",
            "filter 00:01:",
        ),
        (
            "shown again",
            "filter ",
        ),
    ):
        took = page.evaluate(TIMED, script)
        print(f"1,000 rows, {what}: {took:.0f} ms of script and layout")
    assert page.locator("tbody tr").count() == DEVICES


def test_a_hundred_thousand_points(large, open_page):
    """The whole range drawn from every reading, and thinned; dragged over and zoomed."""
    _, now, url = large
    now = round(now * 1000)
    times = f"from={now - (POINTS + 60) * 1000}&to={now + 60_000}"
    page = open_page(f"{url}/devices/{MANY}?{times}&detail=raw")
    chart = page.locator("section", has=page.get_by_role("heading", name="Temperature"))
    chart.locator("canvas").wait_for()
    answered(page, "100,000 points")
    assert "100,000 points" in chart.locator(".plot").get_attribute("aria-label")
    frames(page, "100,000 points, at rest", seconds=2)
    box = chart.locator(".u-over").bounding_box()
    page.evaluate(MOVING)
    frames(page, "100,000 points, the cursor moving")
    with page.expect_response("**/api/series/*") as response:
        page.mouse.move(box["x"] + 200, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 300, box["y"] + 60, steps=5)
        page.mouse.up()
    assert response.value.ok
    page.goto(f"{url}/devices/{MANY}?{times}&detail=auto")
    chart.locator("canvas").wait_for()
    answered(page, "the same range, detail automatic")
