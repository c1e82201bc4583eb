"""The page in a real Chromium: opened, watched, zoomed, redriven; by mouse, by keys, narrow, dark and light."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from urllib.parse import parse_qs, urlparse

import pytest

from processor.dashboard.server import Dashboard
from processor.reading import Reading
from processor.store.tables import slot_of

from .conftest import HOUR, ONE, THREE, TWO

PAGES = ("/", f"/devices/{ONE}", "/pipeline", "/rejected")
TOKEN = "browser-test-token-0123456789"


def expect(*arguments, **options):
    """Playwright's assertions, imported only where the tests run."""
    from playwright.sync_api import expect as found

    return found(*arguments, **options)


def ready(page, path):
    """Wait until a view shows what it is for."""
    marks = {"/": "tbody tr", "/pipeline": ".plot canvas", "/rejected": "h1"}
    page.locator(marks.get(path, ".plot canvas")).first.wait_for()


def ranges(page):
    """The times of every question for a history, in ms, with the resolution."""
    queries = [parse_qs(urlparse(asked).query) for asked in page.asked if "/api/series/" in asked]
    return [(int(query["from"][0]), int(query["to"][0])) for query in queries]


def row(page, device):
    return page.locator("tbody tr", has=page.locator(f"a[href='/devices/{device.replace(':', '%3A')}']"))


def test_the_fleet_is_shown_with_names_values_and_alarms(url, open_page):
    page = open_page(url)
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(row(page, ONE)).to_contain_text("Cellar")
    expect(row(page, ONE)).to_contain_text(re.compile(r"\d+(\.\d+)? °C"))
    expect(row(page, THREE)).to_contain_text("Silent")
    expect(page.locator(".tile", has_text="Silent").locator("strong")).to_have_text("1")
    expect(page.locator("tbody tr").first).to_contain_text("Silent")  # what needs attention comes first
    page.get_by_role("button", name="Silent").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Silent").click()
    page.get_by_label("Filter").fill("cell")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("#connection")).to_have_text("Live")


def test_names_are_text_whatever_they_hold(url, open_page):
    page = open_page(url)
    expect(row(page, THREE)).to_contain_text("<img src=x onerror=alert(1)>")
    page.goto(f"{url}/devices/{THREE}")
    expect(page.locator("h1")).to_have_text("<img src=x onerror=alert(1)>")
    assert page.locator("main img").count() == 0


def test_a_device_whose_id_has_a_slash_is_opened_from_the_fleet_and_by_its_address(site, url, open_page):
    site.store([Reading("acme:cold room/1", round(time.time() * 1000) - 500, "acme", {"temperature": -18.5}, None, 1)])
    page = open_page(url)
    page.get_by_role("link", name="acme:cold room/1").click()
    for address in (None, f"{url}/devices/acme%3Acold%20room%2F1", f"{url}/devices/acme:cold%20room/1"):
        if address:
            page.goto(address)
        expect(page.locator("h1")).to_have_text("acme:cold room/1")
        expect(page.locator(".latest-value")).to_have_text("-18.5 °C")
    site.forget("acme:cold room/1")


def test_what_cannot_be_read_is_counted_and_said_with_what_to_do(site, url, open_page):
    """On the fleet's page and the device's, in a region that a screen reader hears; and no more once it is mended."""
    spoilt, at = "acme:spoilt", round(time.time() * 1000) - 500
    site.store([Reading(spoilt, at, "acme", {"temperature": 7.5}, None, 1)])
    page = open_page(url)
    said = page.get_by_role("status").filter(has_text="cannot be read")
    expect(row(page, spoilt)).to_contain_text("7.5 °C")
    expect(said).to_have_count(0)
    slot = {"device": {"S": spoilt}, "slot": {"N": str(slot_of(at))}}
    site.put(site.settings.readings_table, slot, {"c9.AAAA": {"M": {}}})
    site.put(site.settings.devices_table, {"device": {"S": spoilt}}, {"calibration": {"S": "x"}})
    expect(said).to_contain_text("The entry of 1 device cannot be read in full")
    said.get_by_role("link", name=spoilt).click()
    expect(said).to_contain_text("2 parts of what is stored of this device cannot be read, and are left out here")
    said.get_by_text("What it is, and what to do").click()
    expect(said.get_by_role("listitem")).to_contain_text(
        [
            re.compile("calibration.*`processor devices set` writes it anew"),
            re.compile("c9.AAAA.*correct that attribute, or remove it"),
        ]
    )
    expect(page.locator(".latest-value")).to_have_text("7.5 °C")
    site.put(site.settings.readings_table, slot, {"c9.AAAA": None})
    site.put(site.settings.devices_table, {"device": {"S": spoilt}}, {"calibration": None})
    page.reload()
    expect(page.locator(".latest-value")).to_have_text("7.5 °C")
    expect(said).to_have_count(0)
    site.forget(spoilt)


def test_a_value_changes_without_a_reload(site, url, open_page):
    page = open_page(url)
    ready(page, "/")
    page.evaluate("window.same = true")
    site.send([(TWO, time.time() - 1, {"temperature": 77.25})])
    expect(row(page, TWO)).to_contain_text("77.25 °C")
    page.locator(f"a[href='/devices/{TWO.replace(':', '%3A')}']").click()
    temperature = page.locator("section", has=page.get_by_role("heading", name="Temperature"))
    expect(temperature.locator(".latest-value")).to_have_text("77.25 °C")
    time.sleep(1.1)  # a second reading of a slot of its own name
    site.send([(TWO, time.time() - 0.5, {"temperature": 78.5})])
    expect(temperature.locator(".latest-value")).to_have_text("78.5 °C")
    assert page.evaluate("window.same") is True


def test_a_new_device_and_the_count_of_rejected_records_appear(site, url, open_page):
    page = open_page(url)
    expect(page.locator("tbody tr")).to_have_count(3)
    new = "C0:00:00:00:00:77"
    site.send([(new, time.time() - 1, {"temperature": 1.0})])
    expect(page.locator("tbody tr")).to_have_count(4)
    site.forget(new)
    expect(page.locator("tbody tr")).to_have_count(3)


def test_dragging_zooms_and_asks_for_finer_data(url, open_page):
    page = open_page(f"{url}/devices/{ONE}?span={24 * HOUR * 1000}")
    status = page.locator(".status")
    expect(status).to_contain_text("five-minute roll-ups")
    expect(page.locator(".charts")).to_contain_text("six hours or less")  # no signal in roll-ups
    over = page.locator(".u-over").first
    box = over.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + 60, steps=4)
    page.mouse.up()
    expect(status).to_contain_text("readings")
    (start, end), (closer_start, closer_end) = ranges(page)[-2], ranges(page)[-1]
    assert (closer_end - closer_start) == pytest.approx((end - start) * 0.05, rel=0.2)
    assert start < closer_start < closer_end < end
    expect(page.get_by_role("heading", name="Signal by gateway")).to_be_visible()
    assert f"from={closer_start}" in page.url  # the address keeps it
    page.reload()
    expect(status).to_contain_text("readings")
    assert ranges(page)[-1] == (closer_start, closer_end)


def test_keys_zoom_move_and_read_the_chart(url, open_page):
    page = open_page(f"{url}/devices/{ONE}?span={HOUR * 1000}")
    plot, announcer = page.locator(".plot").first, page.locator("#announcer")

    def press(key):
        """Return the times that are asked for, once they are drawn: that is said last."""
        before = announcer.inner_text()
        with page.expect_response("**/api/series/*"):
            page.keyboard.press(key)
        expect(announcer).not_to_have_text(before)
        return ranges(page)[-1]

    expect(announcer).to_have_text(re.compile(" to .*, "))
    plot.focus()
    wide = ranges(page)[-1]
    closer = press("+")
    assert closer[1] - closer[0] == pytest.approx((wide[1] - wide[0]) / 2, rel=0.01)
    assert press("Shift+ArrowLeft")[0] == pytest.approx(closer[0] - (closer[1] - closer[0]) / 2, abs=5)
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    expect(announcer).to_have_text(re.compile(r"^\d\d:\d\d:\d\d: [\d.]+ °C$"))
    card = page.locator("section").first
    reached = announcer.inner_text().split()[0].rstrip(":")
    press("-")
    expect(card.locator("output")).to_contain_text(reached)  # the cursor stays with its point
    point, line = (card.locator(each).bounding_box() for each in (".u-cursor-pt", ".u-cursor-x"))
    assert point["x"] + point["width"] / 2 == pytest.approx(line["x"] + line["width"], abs=4)
    again = press("0")
    assert again[1] - again[0] == wide[1] - wide[0]
    assert plot.evaluate("element => element === document.activeElement")


def test_keys_count_from_what_was_asked_for_last_though_it_is_not_there_yet(url, open_page):
    page = open_page(f"{url}/devices/{ONE}?span={HOUR * 1000}")
    page.locator(".plot canvas").first.wait_for()
    page.locator(".plot").first.focus()
    held = []
    page.route("**/api/series/*", lambda route: held.append(route))
    asked = len(ranges(page))
    for _ in range(3):
        page.keyboard.press("+")
    page.wait_for_function("document.location.search.includes('from=')")
    widths = [to - start for start, to in ranges(page)[asked:]]
    assert widths == pytest.approx([HOUR * 500, HOUR * 250, HOUR * 125], abs=5)
    page.unroute("**/api/series/*")


def test_a_chart_says_what_it_shows_and_is_there_as_a_table(url, open_page):
    page = open_page(f"{url}/devices/{ONE}?span={HOUR * 1000}")
    card = page.locator("section", has=page.get_by_role("heading", name="Temperature"))
    label = card.locator(".plot").get_attribute("aria-label")
    assert re.search(r"Temperature\. 20(\.\d+)? °C to 22\.9\d? °C, mean 21\.\d+ °C\. \d+ points", label)
    card.get_by_text("As a table").click()
    expect(card.locator("tbody tr").first).to_contain_text("°C")
    assert card.locator("tbody tr").count() >= 55


def test_a_band_from_least_to_greatest_is_drawn_of_rollups(url, open_page):
    """Between the two the chart has the band's own colour, of which 17 % (43 of 255) is what is seen of it."""
    page = open_page(f"{url}/devices/{ONE}?span={24 * HOUR * 1000}&detail=hour")
    card = page.locator("section", has=page.get_by_role("heading", name="Temperature"))
    expect(page.locator(".status")).to_contain_text("hourly roll-ups")
    card.get_by_text("As a table").click()
    expect(card.locator("thead")).to_contain_text("Greatest")
    painted = card.locator("canvas").evaluate(
        """canvas => { const d = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
           return d.filter((each, at) => at % 4 === 3 && Math.abs(each - 43) < 2).length; }"""
    )
    assert painted > 10_000


def test_the_pipelines_health_is_shown_and_goes_on(site, url, open_page):
    page = open_page(f"{url}/pipeline")
    ready(page, "/pipeline")
    expect(page.locator("main")).to_contain_text("shardId-000000000000")
    expect(page.locator("main")).to_contain_text("ingest")
    expect(page.locator("main")).to_contain_text("$0.625 a million")
    expect(page.locator("main")).to_contain_text("us-east-1")
    stored = page.locator("tr", has_text="Stored").locator("td").nth(1)
    before = int(stored.inner_text().replace(",", ""))
    site.send([(TWO, time.time() - 3, {"temperature": 3.0})])
    expect(stored).to_have_text(f"{before + 1:,}")


def test_a_redrive_is_confirmed_stores_the_record_and_takes_it_off_the_list(site, url, open_page):
    page = open_page(f"{url}/rejected")
    ready(page, "/rejected")
    expect(page.locator(".record")).to_have_count(0)
    device = "C0:00:00:00:00:99"
    at = round(time.time() * 1000)
    site.reject(
        site.envelope(device, at, {"temperature": 12.5}), site.envelope(device, at - 40_000, {"temperature": 13.5})
    )
    site.reject(b'{"payloads": 7', reason="json")
    expect(page.locator(".record")).to_have_count(3)
    expect(page.locator("#rejected-count")).to_have_text("3")
    page.locator(".record", has_text="unknown").first.get_by_role("button", name="Redrive").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1 advertisement: 1 would be stored")
    assert site.reader.latest(device) == []
    dialog.get_by_role("button", name="Redrive").click()
    expect(dialog).to_contain_text("Done. 1 advertisement: 1 stored")
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator(".record")).to_have_count(2)
    assert len(site.reader.latest(device, 5)) == 1
    page.get_by_role("button", name="unknown 1").click()
    expect(page.locator(".record")).to_have_count(1)
    page.get_by_role("button", name="Redrive all: unknown").click()
    dialog.get_by_role("button", name="Redrive").click()
    expect(dialog).to_contain_text("Done. 1 advertisement: 1 stored")
    page.keyboard.press("Escape")
    expect(page.locator(".record")).to_have_count(1)
    page.get_by_role("button", name="Redrive all").click()
    dialog.get_by_role("button", name="Redrive").click()
    expect(dialog).to_contain_text("1 rejected again")
    page.keyboard.press("Escape")
    expect(page.locator(".record")).to_contain_text("tried 2 times")


def test_nothing_but_our_own_origin_is_asked_on_any_page(url, open_page):
    """Nor is the policy broken, nor an error written: `open_page` fails for each of them."""
    page = open_page(url)
    for path in PAGES:
        page.goto(url + path)
        ready(page, path)
    assert all(asked.startswith(url) for asked in page.asked)
    assert len(page.asked) > 20


def test_the_policy_is_enforced(url, open_page):
    """Had somebody's name become a script, it would not run, nor could it send anything away."""
    page = open_page(url, strict=False)
    ready(page, "/")
    outcome = page.evaluate(
        """async () => {
          const tried = {};
          try { const s = document.createElement("script"); s.textContent = "window.ran = 1"; document.head.append(s); }
          catch (error) { tried.script = error.name; }
          try { document.body.insertAdjacentHTML("beforeend", "<b onclick='window.ran = 1'>x</b>"); }
          catch (error) { tried.html = error.name; }
          try { await fetch("http://127.0.0.2:9/"); } catch (error) { tried.fetch = error.name; }
          return { ...tried, ran: window.ran ?? null };
        }"""
    )
    assert outcome["ran"] is None
    assert outcome["html"] == outcome["fetch"] == "TypeError"
    violations = page.evaluate("window.violations.splice(0)")
    assert any(each.startswith("connect-src") for each in violations)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_on_a_phone_nothing_is_wider_than_the_screen(url, open_page, path, scheme):
    page = open_page(url + path, color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    ready(page, path)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for chart in page.locator(".plot canvas").all():
        assert chart.bounding_box()["width"] <= 360
    expect(page.get_by_role("navigation")).to_be_visible()


def test_everything_is_reached_by_keys_alone(url, open_page):
    page = open_page(url)
    ready(page, "/")

    def focused():
        return page.evaluate("document.activeElement.textContent.trim()")

    page.keyboard.press("Tab")
    assert focused() == "Skip to the content"
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert focused().startswith("Devices")
    for _ in range(7):
        page.keyboard.press("Tab")
    assert focused() == "Device"
    header = page.locator("thead th").first
    page.keyboard.press("Enter")
    expect(header).to_have_attribute("aria-sort", "ascending")
    page.keyboard.press("Enter")
    expect(header).to_have_attribute("aria-sort", "descending")
    for _ in range(6):
        page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/devices/"))
    page.locator(".plot canvas").first.wait_for()
    assert page.evaluate("document.activeElement.id") == "main"
    page.go_back()
    expect(page.get_by_role("heading", name="Fleet")).to_be_visible()


def test_every_control_has_a_name_and_every_table_a_caption(url, open_page):
    page = open_page(url)
    for path in PAGES:
        page.goto(url + path)
        ready(page, path)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, a, input, select, [role=group], [role=region]")]
              .filter((each) => !each.hidden && !(each.ariaLabel || each.textContent.trim() || each.labels?.length))
              .map((each) => each.outerHTML)"""
        )
        assert nameless == []
        assert page.locator("table").count() == page.locator("table > caption").count()
        assert page.locator("h1").count() == 1
        assert page.locator("main").count() == page.locator("nav[aria-label]").count() == 1


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_dark_and_light_as_the_system_has_them_or_as_chosen(url, open_page):
    page = open_page(url, color_scheme="light")
    light = background(page)
    page.emulate_media(color_scheme="dark")
    dark = background(page)
    assert light != dark
    button = page.get_by_role("button", name="Colours")
    expect(button).to_have_accessible_name("Colours: as the system has them")
    button.click()
    assert background(page) == light
    page.reload()
    assert background(page) == light
    expect(button).to_have_accessible_name("Colours: light")
    button.click()
    button.click()
    assert background(page) == dark


CONTRAST = """
(pairs) => {
  const canvas = document.createElement("canvas").getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    canvas.fillStyle = style.getPropertyValue(name).trim();
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(canvas.fillStyle.slice(at, at + 2), 16) / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return pairs.map(([one, other]) => {
    const [a, b] = [light(one), light(other)].sort((x, y) => y - x);
    return [one, other, (a + 0.05) / (b + 0.05)];
  });
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(url, open_page, scheme):
    """WCAG 2.2, 1.4.3 and 1.4.11: 4.5 to 1 for text, 3 to 1 for lines."""
    page = open_page(url, color_scheme=scheme)
    text = [
        (f"--{one}", f"--{other}")
        for one in ("text", "muted", "accent", "ok", "warn", "bad")
        for other in ("back", "surface")
    ]
    text += [("--accent-text", "--accent"), ("--warn", "--warn-back"), ("--bad", "--bad-back")]
    assert [each for each in page.evaluate(CONTRAST, text) if each[2] < 4.5] == []
    lines = [(f"--line-{n}", "--surface") for n in range(1, 9)] + [("--focus", "--surface"), ("--focus", "--back")]
    assert [each for each in page.evaluate(CONTRAST, lines) if each[2] < 3] == []


def test_a_screen_reader_is_not_flooded(site, url, open_page):
    """Many values change; what is said aloud does not, for none of them is an alarm."""
    page = open_page(url)
    ready(page, "/")
    page.evaluate(
        """window.said = 0; new MutationObserver(() => window.said++)
           .observe(document.querySelector("#announcer"), { childList: true, characterData: true, subtree: true })"""
    )
    for n in range(4):
        site.send([(TWO, time.time() - 0.5, {"temperature": 30.0 + n})])
        expect(row(page, TWO)).to_contain_text(f"{30 + n} °C")
        time.sleep(1.1)
    assert page.evaluate("window.said") == 0
    regions = page.locator("[aria-live]:not([aria-live=off])")
    assert regions.count() == 1


def test_no_motion_where_none_is_wanted(url, open_page):
    page = open_page(url, reduced_motion="reduce")
    expect(page.locator("#connection")).to_have_text("Live")
    assert page.evaluate("getComputedStyle(document.querySelector('.dot')).animationName") == "none"


def test_a_lost_connection_is_said_and_made_anew(site, open_page):
    with Dashboard(site.sources, port=0) as first:
        port = int(first.url.rstrip("/").rpartition(":")[2])
        page = open_page(first.url, strict=False)
        expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator("#connection")).to_contain_text("Connection lost")
    with Dashboard(site.sources, port=port):
        expect(page.locator("#connection")).to_have_text("Live")
        page.goto("about:blank")


def test_with_a_token_the_printed_address_opens_the_page_and_no_other_does(site, open_page):
    with Dashboard(site.sources, port=0, token=TOKEN) as guarded:
        page = open_page(guarded.url)
        expect(page.locator("#connection")).to_have_text("Live")
        assert TOKEN not in page.url
        assert TOKEN not in page.content()
        assert page.evaluate("document.cookie") == ""
        stranger = open_page(guarded.url.partition("?")[0], strict=False)
        expect(stranger.locator("body")).to_contain_text("A token is needed")
        page.goto("about:blank")


def test_a_kept_run_shows_a_living_fleet(open_page):
    """As a user types it: the printed address shows devices, whose values change, and the pipeline's records."""
    command = [sys.executable, "-m", "processor.cli", "run", "--keep", "--devices", "20", "--seconds", "3"]
    with subprocess.Popen(
        [*command, "--dashboard-port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            output = []
            for line in process.stdout:
                output.append(line)
                if match := re.match(r"^  (http://127\.0\.0\.1:\d+)/$", line):
                    break
            else:
                pytest.fail("no address:\n" + "".join(output))
            address = match[1]
            page = open_page(address)
            expect(page.locator("tbody tr").nth(9)).to_be_visible()
            latest = page.locator("td.latest")
            before = latest.all_inner_texts()
            deadline = time.monotonic() + 60
            while latest.all_inner_texts() == before:
                assert time.monotonic() < deadline, "no value changed"
                time.sleep(0.5)
            page.goto(f"{address}/pipeline")
            expect(page.locator(".tile", has_text="Readings stored").locator(".note")).to_have_text(
                re.compile(r"\d+ in all")
            )
            expect(page.locator("tr", has_text="rollup")).to_be_visible()
            page.goto("about:blank")
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
            assert process.wait(60) == 0, rest
            assert "0 records came through" in rest
        finally:
            process.kill()
