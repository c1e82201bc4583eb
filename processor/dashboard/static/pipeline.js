// The pipeline's health: rates, ages, the ledger, the functions, and what it costs.

import { Chart, asLasting } from "./chart.js";
import { h, say, table, tile } from "./dom.js";
import { dollars, lasting, number, price } from "./format.js";
import { ask, live } from "./live.js";

const KEPT = 1800; // samples of the history
const LATE = 60_000; // ms: an iterator age to look at
const LEDGER = [
  ["received", "Received"], ["stored", "Stored"], ["duplicates", "Duplicates"], ["rejected", "Rejected"],
  ["ignored", "Ignored"], ["failed", "Failed, to be tried again"],
];
const last = (column) => column?.at(-1);

export function pipeline() {
  let [history, closed] = [null, false];
  const tiles = {
    records: tile("Records"), stored: tile("Readings stored"), age: tile("Iterator age"), rejected: tile("Rejected"),
    memory: tile("Memory"), units: tile("Write units a reading"), cost: tile("A million readings"),
  };
  const rate = (each) => `${number(each, 1)}/s`;
  const charts = {
    rates: new Chart({ title: "Records and readings a second", lines: ["Records", "Stored", "Duplicates", "Rejected"], zero: true, text: rate }),
    age: new Chart({ title: "Iterator age (ms)", lines: ["Iterator age"], zero: true, text: asLasting }),
    duration: new Chart({ title: "Duration of a batch (ms)", lines: ["Duration"], zero: true, text: asLasting }),
    units: new Chart({ title: "Write units a second", lines: ["Write units"], zero: true, text: rate }),
  };
  const source = h("p", { class: "muted" });
  const note = h("p", { class: "notice", hidden: true });
  const figures = h("div", { class: "tiles" }, Object.values(tiles).map((each) => each.element));
  const drawn = h("div", { class: "charts" }, Object.values(charts).map((each) => each.element));
  const tables = h("div", { class: "cards" });
  const content = h("div", {}, figures, drawn, tables);
  const element = h("div", { class: "pipeline" }, h("h1", {}, "Pipeline"), source, note, content);

  function tell(found) {
    say(source, found.source === "none" ? "" : `Figures of ${found.source}${found.span ? `, ${found.span}` : ""}.`);
    say(note, found.note);
    note.hidden = !found.note;
    content.hidden = Boolean(found.note);
    if (found.note) return;
    const [ingest] = found.functions;
    const age = Math.max(0, ...found.shards.map((shard) => shard.age_ms));
    tiles.records.set(rate(mean("records")), "the last minute");
    tiles.stored.set(rate(mean("stored")), found.ledger.stored === null ? "" : `${number(found.ledger.stored)} in all`);
    tiles.age.set(lasting(age), age > LATE ? "late" : "on time");
    tiles.age.element.classList.toggle("bad", age > LATE);
    tiles.rejected.set(number(found.ledger.rejected), found.span);
    if (ingest) tiles.memory.set(`${number(ingest.memory_mb)} MB`, ingest.limit_mb ? `of ${number(ingest.limit_mb)} MB` : "");
    const costs = found.costs;
    tiles.units.set(costs?.units_per_reading ? number(Number(costs.units_per_reading.toPrecision(3))) : "–", "packed by device and slot");
    tiles.cost.set(dollars(costs?.writes_per_million_readings), "in DynamoDB writes");
    details(found);
  }

  /** The mean of the last minute. */
  function mean(name) {
    if (!history?.t.length) return null;
    const from = last(history.t) - 60;
    const values = history[name].filter((_, at) => history.t[at] > from);
    return values.reduce((sum, each) => sum + each, 0) / values.length;
  }

  function draw() {
    if (!history?.t.length) return;
    const end = last(history.t);
    const range = [Math.min(history.t[0], end - 60), end];
    charts.rates.set([history.t, history.records, history.stored, history.duplicates, history.rejected], range);
    charts.age.set([history.t, history.age_ms], range);
    charts.duration.set([history.t, history.duration_ms], range);
    charts.units.set([history.t, history.write_units], range);
  }

  function details(found) {
    const counts = (of) => Object.entries(of).sort((one, other) => other[1] - one[1]).map(([word, count]) => `${word} ${number(count)}`).join(", ");
    const why = { rejected: counts(found.reasons), ignored: counts(found.ignored) };
    const cards = [
      ["Ledger", `Advertisements ${found.span}`, [["What", ""], ["Count", "number"], ["Why", "wrap"]],
        LEDGER.filter(([name]) => found.ledger[name] !== null).map(([name, text]) => [text, number(found.ledger[name]), why[name] ?? ""])],
      ["Shards", "Iterator age by shard", [["Shard", ""], ["Iterator age", "number"]],
        found.shards.map((shard) => [shard.shard, lasting(shard.age_ms)])],
      ["Functions", "Functions", [["Function", ""], ["Calls", "number"], ["Errors", "number"], ["Duration", "number"], ["Memory", "number"]],
        found.functions.map((each) => [each.name, number(each.invocations), number(each.errors),
          lasting(each.duration_ms) + (each.slowest_ms ? `, at most ${lasting(each.slowest_ms)}` : ""),
          each.memory_mb === null ? "–" : `${number(each.memory_mb)}${each.limit_mb ? ` of ${number(each.limit_mb)}` : ""} MB`])],
    ];
    if (found.costs) {
      cards.push(["What it would cost on AWS", found.costs.note, [["What", ""], ["Used", "number"], ["Each", "number"], ["Dollars", "number"]],
        [...found.costs.lines.map((line) => [line.what, number(line.used), price(line.each), dollars(line.dollars)]),
          ["Together", "", "", dollars(found.costs.dollars)]]]);
    }
    if (found.troubles.length) cards.push(["Trouble", "The last warnings of the log", [["Line", "wrap"]], found.troubles.map((line) => [line])]);
    const text = JSON.stringify(cards);
    if (tables.shown === text) return;
    tables.shown = text;
    tables.replaceChildren(...cards.map(([title, caption, columns, rows]) =>
      h("section", { class: "card" }, h("h2", {}, title), caption === title ? null : h("p", { class: "muted" }, caption), table(`${title}: ${caption}`, columns, rows))));
  }

  /** Take the last samples into the history, in place of those of the same time: CloudWatch's values come late. */
  function merge(news) {
    if (!news.t.length || last(news.t) < (last(history.t) ?? 0)) return;
    const kept = history.t.filter((at) => at < news.t[0]).length;
    for (const [name, column] of Object.entries(history)) {
      column.splice(kept, Infinity, ...news[name]);
      column.splice(0, column.length - KEPT);
    }
  }

  function changed({ detail: found }) {
    if (history) {
      merge(found.history);
      if (!document.hidden) draw();
    }
    tell(found);
  }

  /** After a lost connection more was missed than is sent of itself; it may even be another run. */
  function connected({ detail }) {
    if (detail.again) load();
  }

  async function load() {
    try {
      const found = await ask("/api/pipeline");
      if (closed) return;
      history = found.history;
      draw();
      tell(found);
    } catch (error) {
      say(note, error.message);
      note.hidden = false;
    }
  }

  live.addEventListener("health", changed);
  live.addEventListener("connection", connected);
  queueMicrotask(load);
  return {
    title: "Pipeline",
    element,
    close() {
      closed = true;
      live.removeEventListener("health", changed);
      live.removeEventListener("connection", connected);
      for (const chart of Object.values(charts)) chart.close();
    },
  };
}
