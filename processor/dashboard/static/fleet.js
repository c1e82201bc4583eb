// The fleet: what needs attention, and a table of every device that changes as they are heard.

import { announce, h, notice, say, tile } from "./dom.js";
import { ago, number, value } from "./format.js";
import { live } from "./live.js";

const NAMED = 3; // devices of which something cannot be read
const FRESH = 300_000; // ms: heard lately
const RANK = { trouble: 3, silent: 2, battery: 1, signal: 1 };
const has = (kind) => (row) => row.alarms.some((alarm) => alarm[0] === kind);
const fresh = (row) => row.seen !== null && live.now() - row.seen < FRESH;

const TILES = [
  ["Devices", null, () => true],
  ["Heard in 5 min", "ok", fresh],
  ["Silent", "bad", has("silent")],
  ["Battery low", "warn", has("battery")],
  ["Weak signal", "warn", has("signal")],
  ["Sensors' alarms", "bad", has("trouble")],
];

const name = (row) => row.name ?? row.device;
const link = (row) => h("a", { href: `/devices/${encodeURIComponent(row.device)}` }, name(row));
const rank = (row) => row.alarms.reduce((most, alarm) => Math.max(most, RANK[alarm[0]] ?? 0), 0);

// title, class, by what it is sorted (the larger first where `down`)
const COLUMNS = [
  ["Device", "device", name, false],
  ["Latest", "latest", (row) => row.values[0]?.[1] ?? null, true],
  ["Last seen", "number seen", (row) => row.seen, true],
  ["Battery", "number battery", (row) => row.battery, false],
  ["Signal", "number signal", (row) => row.signal, false],
  ["Alarms", "alarms", rank, true],
];

function compare(by, down) {
  return (one, other) => {
    const [a, b] = [by(one), by(other)];
    if (a === b) return name(one).localeCompare(name(other));
    if (a === null) return 1;
    if (b === null) return -1;
    const order = typeof a === "string" && typeof b === "string" ? a.localeCompare(b) : a < b ? -1 : 1;
    return down ? -order : order;
  };
}

/** The rows that can be seen: only theirs is said every second how long ago it was. */
const seen = new Set();
const watching = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) seen.add(target.row);
    else seen.delete(target.row);
    if (isIntersecting) target.row.tick();
  }
});

/** One row of the table, which is changed in place. */
class Row {
  constructor(row) {
    this.link = link(row);
    this.about = h("span", { class: "about" });
    this.chips = h("span", { class: "narrow" }); // where the column of alarms has no room
    this.cells = COLUMNS.slice(1).map(([, kind]) => h("td", { class: kind }));
    this.element = h("tr", {}, h("th", { scope: "row", class: "device" }, this.link, this.about, this.chips), this.cells);
    this.element.row = this;
    watching.observe(this.element);
    this.set(row);
  }

  close() {
    watching.unobserve(this.element);
    seen.delete(this);
  }

  set(row) {
    const first = this.row === undefined;
    this.row = row;
    say(this.link, name(row));
    say(this.about, [row.name ? row.device : null, row.model, row.site].filter(Boolean).join(" · "));
    const [latest, , battery, signal, alarms] = this.cells;
    const text = row.values.map(([of, found, unit]) => value(of, found, unit)).join("  ");
    if (!first && latest.textContent !== (text || "–")) this.#flash(latest);
    say(latest, text || "–");
    say(battery, row.battery !== null ? `${number(row.battery)}%` : row.voltage !== null ? `${number(row.voltage, 2)} V` : "–");
    say(signal, row.signal === null ? "–" : `${row.signal} dBm`);
    signal.title = row.gateways ? `${row.gateways} gateway${row.gateways > 1 ? "s" : ""}` : "";
    const kinds = row.alarms.map((alarm) => alarm.join()).join();
    if (this.kinds !== kinds) {
      this.kinds = kinds;
      for (const place of [alarms, this.chips]) {
        place.replaceChildren(...row.alarms.map(([kind, words]) => h("span", { class: `chip ${kind}` }, words)));
      }
      this.element.classList.toggle("alarmed", row.alarms.length > 0);
    }
    this.tick();
  }

  #flash(cell) {
    cell.classList.remove("fresh");
    requestAnimationFrame(() => cell.classList.add("fresh"));
  }

  /** Show how long ago the device was seen. */
  tick() {
    say(this.cells[1], this.row.seen === null ? "never" : ago(live.now() - this.row.seen));
  }
}

export function fleet() {
  const rows = new Map();
  let [wanted, text, column, down] = [0, "", COLUMNS.length - 1, true];
  let told = null;

  const tiles = TILES.map(([title, kind], at) =>
    tile(title, { kind, onclick: () => ((wanted = wanted === at ? 0 : at), arrange()) }),
  );
  const search = h("input", {
    type: "search", id: "filter", placeholder: "Name, address, site, model", autocomplete: "off", spellcheck: "false",
    oninput: () => ((text = search.value.trim().toLowerCase()), arrange()),
  });
  const heads = COLUMNS.map(([title, kind], at) => {
    const button = h("button", { type: "button", onclick: () => sort(at) }, title);
    return h("th", { scope: "col", class: kind, "aria-sort": "none" }, button);
  });
  const body = h("tbody");
  const omitted = notice();
  const count = h("p", { class: "muted", role: "status" });
  const empty = h("p", { class: "empty" }, "Waiting for the first device …");
  const element = h(
    "div",
    { class: "fleet" },
    h("h1", {}, "Fleet"),
    omitted.element,
    h("div", { class: "tiles", role: "group", "aria-label": "Show only" }, tiles.map((each) => each.element)),
    h("div", { class: "tools" }, h("label", { for: "filter" }, "Filter"), search, count),
    h("table", { class: "fleet-table" }, h("caption", { class: "unseen" }, "Devices, by what the headings sort them"),
      h("thead", {}, h("tr", {}, heads)), body),
    empty,
  );

  function sort(at) {
    down = at === column ? !down : COLUMNS[at][3];
    column = at;
    arrange();
    announce(`Sorted by ${COLUMNS[at][0]}, ${down ? "descending" : "ascending"}`, { now: true });
  }

  function matches(row) {
    if (!TILES[wanted][2](row)) return false;
    return !text || [row.device, row.name, row.site, row.model].some((each) => each?.toLowerCase().includes(text));
  }

  /** Put the rows that are meant in order, leaving the focus where it is. */
  function arrange() {
    const focused = document.activeElement;
    const found = [...live.fleet.values()].filter(matches).sort(compare(COLUMNS[column][2], down));
    const wantedRows = found.map((row) => {
      if (!rows.has(row.device)) rows.set(row.device, new Row(row));
      return rows.get(row.device).element;
    });
    const there = body.children;
    if (there.length !== wantedRows.length || wantedRows.some((each, at) => each !== there[at])) {
      body.replaceChildren(...wantedRows);
      if (focused !== document.activeElement && body.contains(focused)) focused.focus({ preventScroll: true });
    }
    heads.forEach((head, at) => head.setAttribute("aria-sort", at !== column ? "none" : down ? "descending" : "ascending"));
    tiles.forEach((each, at) => each.element.setAttribute("aria-pressed", String(at === wanted && at > 0)));
    say(count, found.length === live.fleet.size ? "" : `${found.length} of ${live.fleet.size}`);
    empty.hidden = found.length > 0;
    say(empty, !live.complete ? "Waiting for the fleet …"
      : live.fleet.size ? "No device fits." : "No device has been heard yet. Once readings are stored, it appears here.");
    figures();
  }

  function figures() {
    const all = [...live.fleet.values()];
    const counts = TILES.map(([, , meant]) => all.filter(meant).length);
    tiles.forEach((each, at) => {
      each.set(number(counts[at]));
      each.element.classList.toggle("none", counts[at] === 0);
    });
    const spoilt = all.filter((row) => row.unreadable);
    const [whose, page] = spoilt.length === 1 ? ["y of 1 device", "its page"] : [`ies of ${number(spoilt.length)} devices`, "their pages"];
    const links = spoilt.slice(0, NAMED).flatMap((row) => [", ", link(row)]).slice(1);
    const more = spoilt.length > NAMED ? ` and ${number(spoilt.length - NAMED)} more` : "";
    const words = `The entr${whose} cannot be read in full. What is left out, and what to do, is on ${page}: `;
    omitted.set(...(spoilt.length ? [h("p", {}, words, links, more)] : []));
    const alarmed = all.filter((row) => row.alarms.length).length;
    if (!live.complete) return;
    if (told !== null && told !== alarmed) announce(`${alarmed} device${alarmed === 1 ? " has" : "s have"} alarms`);
    told = alarmed;
  }

  function forget(device) {
    rows.get(device)?.close();
    rows.delete(device);
  }

  function changed({ detail }) {
    if (detail.devices === null) {
      for (const [device, row] of rows) {
        if (live.fleet.has(device)) row.set(live.fleet.get(device));
        else forget(device);
      }
      arrange();
      return;
    }
    detail.gone.forEach(forget);
    let moved = detail.gone.length > 0;
    for (const device of detail.devices) {
      const row = rows.get(device);
      const kinds = row?.kinds;
      row?.set(live.fleet.get(device));
      moved ||= !row || row.kinds !== kinds;
    }
    if (moved) arrange();
    else figures();
  }

  live.addEventListener("fleet", changed);
  const ticking = setInterval(() => document.hidden || seen.forEach((row) => row.tick()), 1000);
  arrange();
  return {
    title: "Fleet",
    element,
    close() {
      live.removeEventListener("fleet", changed);
      clearInterval(ticking);
      rows.forEach((row) => row.close());
    },
  };
}
