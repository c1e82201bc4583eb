// One device: what is known of it, and its history in charts that share one range of time.

import { announce, h, notice, say } from "./dom.js";
import { Chart } from "./chart.js";
import { ago, moment, number, period, shown, value, words } from "./format.js";
import { ask, live } from "./live.js";

const MINUTE = 60_000;
const SPANS = [
  ["5m", 5 * MINUTE, "5 minutes"], ["15m", 15 * MINUTE, "15 minutes"], ["1h", 60 * MINUTE, "hour"],
  ["6h", 360 * MINUTE, "6 hours"], ["24h", 1440 * MINUTE, "24 hours"], ["7d", 10_080 * MINUTE, "7 days"],
  ["30d", 43_200 * MINUTE, "30 days"], ["1y", 525_600 * MINUTE, "year"],
];
const DETAILS = [
  ["auto", "Automatic"], ["raw", "Every reading"], ["5m", "5 minutes"], ["hour", "Hours"], ["day", "Days"],
];
const SAID = { raw: "readings", "5m": "five-minute roll-ups", hour: "hourly roll-ups", day: "daily roll-ups" };
const MUCH = {
  raw: "the later part is left out: too much for every reading",
  rolled: "the earlier part as it was rolled up: too many readings to look for what is missing there",
};
const LEAST = 10_000; // ms: no closer
const PATIENCE = 2000; // ms between two looks at what is new

/** The time that is shown: the last `span` ms, or from `from` to `to`; in the address, so that it can be kept. */
class Range {
  constructor(search) {
    const given = new URLSearchParams(search);
    this.chosen = given.has("span") || given.has("from");
    this.span = Number(given.get("span")) || SPANS[2][1];
    this.from = Number(given.get("from")) || null;
    this.to = Number(given.get("to")) || null;
    this.detail = DETAILS.some(([name]) => name === given.get("detail")) ? given.get("detail") : "auto";
  }

  get followed() {
    return this.from === null || this.to === null || this.from >= this.to;
  }

  bounds() {
    const now = Math.ceil(live.now());
    return this.followed ? [now - this.span, now] : [this.from, this.to];
  }

  keep() {
    const time = this.followed ? { span: this.span } : { from: this.from, to: this.to };
    const detail = this.detail === "auto" ? {} : { detail: this.detail };
    history.replaceState(history.state, "", `${location.pathname}?${new URLSearchParams({ ...time, ...detail })}`);
  }
}

export function device(address) {
  const range = new Range(location.search);
  const charts = new Map();
  const unread = {}; // what could not be read: of the device's entry, of its history
  let [asking, last, again, closed] = [null, 0, null, false];

  const heading = h("h1", {}, address);
  const about = h("p", { class: "muted about" });
  const chips = h("p", { class: "chips" });
  const omitted = notice();
  const facts = h("dl", { class: "facts" });
  const status = h("p", { class: "muted status", role: "status" });
  const place = h("div", { class: "charts" });
  const spans = SPANS.map(([text, span, spoken]) =>
    h("button", { type: "button", "aria-label": `The last ${spoken}`, onclick: () => follow(span) }, text));
  const step = (text, label, move) => h("button", { type: "button", "aria-label": label, title: label, onclick: move }, text);
  const detail = h("select", { id: "detail", onchange: () => ((range.detail = detail.value), load()) },
    DETAILS.map(([name, text]) => h("option", { value: name, selected: name === range.detail }, text)));
  const tools = h("div", { class: "tools range" },
    h("div", { class: "joined", role: "group", "aria-label": "The last" }, spans),
    h("div", { class: "joined", role: "group", "aria-label": "Move and zoom" },
      step("‹", "Earlier", () => move(-0.5)), step("›", "Later", () => move(0.5)),
      step("+", "Zoom in", () => scale(0.5)), step("−", "Zoom out", () => scale(2))),
    h("span", { class: "field" }, h("label", { for: "detail" }, "Detail"), detail));
  const element = h("div", { class: "device" },
    h("p", { class: "back" }, h("a", { href: "/" }, "‹ Fleet")), heading, about, chips, omitted.element, facts, tools, status, place);

  /** Without a choice, what there is: the shortest span with all of it, at most an hour. */
  function fit(age) {
    range.chosen = true;
    range.span = (SPANS.slice(0, 3).find(([, span]) => span >= age) ?? SPANS[2])[1];
  }

  function follow(span) {
    Object.assign(range, { span, from: null, to: null });
    load();
  }

  function zoom(from, to) {
    if (from === null) return follow(range.span);
    const middle = (from + to) / 2;
    const width = Math.max(to - from, LEAST / 1000);
    range.from = Math.max(0, Math.round((middle - width / 2) * 1000));
    range.to = Math.round((middle + width / 2) * 1000);
    return load();
  }

  const asked = () => range.bounds().map((each) => each / 1000);

  function move(share) {
    const [from, to] = range.bounds();
    zoom((from + share * (to - from)) / 1000, (to + share * (to - from)) / 1000);
  }

  function scale(factor) {
    const [from, to] = range.bounds();
    const wide = ((to - from) * factor) / 2000;
    zoom((from + to) / 2000 - wide, (from + to) / 2000 + wide);
  }

  async function load({ quiet = false } = {}) {
    clearTimeout(again);
    asking?.abort();
    const mine = (asking = new AbortController());
    const [from, to] = range.bounds();
    last = Date.now();
    if (!quiet) range.keep();
    spans.forEach((button, at) => button.setAttribute("aria-pressed", String(range.followed && SPANS[at][1] === range.span)));
    const points = range.detail === "raw" ? 100_000 : Math.max(500, Math.min(4000, Math.round(place.clientWidth * 2)));
    const reading = quiet ? null : setTimeout(() => say(status, "Reading …"), 400);
    const query = new URLSearchParams({ from, to, resolution: range.detail, points });
    try {
      const found = await ask(`/api/series/${encodeURIComponent(address)}?${query}`, { signal: mine.signal });
      clearTimeout(reading);
      if (closed) return;
      draw(found, [from / 1000, to / 1000]);
      omit({ history: found.left_out });
      const text = `${period(from, to)}, ${SAID[found.resolution]}`;
      say(status, found.complete ? text : `${text}; ${found.resolution === "raw" ? MUCH.raw : MUCH.rolled}`);
      if (!quiet) announce(text, { now: true });
    } catch (error) {
      if (error.name === "AbortError" || closed) return;
      say(status, error.message);
    } finally {
      clearTimeout(reading);
    }
  }

  function draw(found, bounds) {
    const wanted = new Set();
    for (const each of found.quantities) {
      const [unit, factor] = shown(each.name, each.unit);
      const scaled = (column) => (factor === 1 ? column : column.map((one) => one * factor));
      const columns = [each.t, scaled(each.mean)];
      if (each.min) columns.push(scaled(each.min), scaled(each.max));
      put(each.name, () => ({ title: words(each.name), unit, flag: each.kind === "flag", zoom, asked })).set(columns, bounds);
      wanted.add(each.name);
    }
    if (found.signal?.t.length) {
      const chart = put("signal", () => ({ title: "Signal by gateway", unit: "dBm", zoom, asked }));
      const names = found.signal.gateways.map((gateway) => gateway.name);
      chart.set([found.signal.t, ...found.signal.gateways.map((gateway) => gateway.rssi)], bounds, names);
      wanted.add("signal");
    }
    for (const [name, chart] of charts) {
      if (wanted.has(name)) continue;
      chart.close();
      chart.element.remove();
      charts.delete(name);
    }
    if (note.isConnected) note.remove();
    if (!wanted.size) say(note, "Nothing was measured in this time.");
    else if (!found.signal) say(note, "The signal is kept with the readings, not in roll-ups: look at six hours or less to see it.");
    else return;
    place.append(note);
  }
  const note = h("p", { class: "empty" });

  function put(name, options) {
    if (!charts.has(name)) {
      const chart = new Chart(options());
      charts.set(name, chart);
      place.append(chart.element);
    }
    return charts.get(name);
  }

  async function know() {
    try {
      const found = await ask(`/api/devices/${encodeURIComponent(address)}`);
      if (closed) return;
      if (!range.chosen && found.first !== null) fit(live.now() - found.first);
      tell(found);
    } catch (error) {
      if (!closed) say(about, error.message);
    }
  }

  /** Say what is not shown, for it cannot be read, and what to do. */
  function omit(found) {
    const all = Object.values(Object.assign(unread, found));
    const count = all.reduce((sum, each) => sum + each.count, 0);
    const first = all.flatMap((each) => each.first);
    const more = count > first.length ? [`and ${number(count - first.length)} more: processor query ${address} names some of them`] : [];
    const [parts, are] = count === 1 ? ["1 part", "is"] : [`${number(count)} parts`, "are"];
    if (!count) return omitted.set();
    return omitted.set(
      h("p", {}, `${parts} of what is stored of this device cannot be read, and ${are} left out here.`),
      h("details", {}, h("summary", {}, "What it is, and what to do"), h("ul", {}, [...first, ...more].map((each) => h("li", {}, each)))),
    );
  }

  function tell(found) {
    omit({ entry: found.left_out });
    say(heading, found.name ?? found.device);
    const known = [found.name ? found.device : null, found.model, found.site, found.calibrated ? "calibrated" : null];
    say(about, known.filter(Boolean).join(" · "));
    chips.replaceChildren(...found.alarms.map(([kind, text]) => h("span", { class: `chip ${kind}` }, text)));
    const list = [
      ["Last seen", found.seen === null ? "never" : `${ago(live.now() - found.seen)} ago`],
      ["First seen", found.first === null ? "never" : moment(found.first, false)],
      ["Format", found.format ?? "–"],
      ["Gateways", found.heard_by.length ? found.heard_by.map(([name, rssi]) => (rssi === null ? name : `${name}, ${rssi} dBm`)) : "–"],
      ...found.latest.filter(([, , , , kind]) => kind !== "number" && kind !== "flag") // those have charts
        .map(([name, latest, unit]) => [words(name), value(name, latest, unit)]),
    ];
    const text = JSON.stringify(list);
    if (facts.dataset.shown !== text) {
      facts.dataset.shown = text;
      facts.replaceChildren(...list.map(([term, told]) => h("div", {}, h("dt", {}, term), h("dd", {}, Array.isArray(told) ? told.map((each) => h("span", {}, each)) : told))));
    }
  }

  /** Something new of this device: look again, but not all the time. */
  function changed({ detail: news }) {
    if (news.devices !== null && !news.devices.includes(address)) return;
    if (document.hidden) return;
    know();
    if (!range.followed) return;
    clearTimeout(again);
    again = setTimeout(() => load({ quiet: true }), Math.max(0, last + PATIENCE - Date.now()));
  }

  live.addEventListener("fleet", changed);
  know().then(() => closed || load());
  return {
    title: address,
    element,
    close() {
      closed = true;
      asking?.abort();
      clearTimeout(again);
      live.removeEventListener("fleet", changed);
      for (const chart of charts.values()) chart.close();
    },
  };
}
