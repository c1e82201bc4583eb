// One chart: a line, with a band from least to greatest where a point stands for several values; or several lines.
// Drawn by uPlot. It can be zoomed by dragging and by keys, says what it shows in words, and as a table.

import { announce, h, say, table } from "./dom.js";
import { clock, day, lasting, moment, number, period } from "./format.js";

const { uPlot } = window;
const LINES = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5", "--line-6", "--line-7", "--line-8"];
const ROWS = 200; // of the table beside the chart
const HEIGHT = 190;
const [MINUTE, HOUR, DAY] = [60, 3600, 86400];
const STEPS = [
  ...[0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 15, 30], ...[1, 2, 5, 10, 15, 30].map((each) => each * MINUTE),
  ...[1, 2, 3, 6, 12].map((each) => each * HOUR), ...[1, 2, 5, 10, 30, 60, 90, 180, 365].map((each) => each * DAY),
]; // between the times below a chart, s

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Where the time between two points is many times the usual one, nothing was heard: the line is broken there. */
function broken(columns) {
  const [t] = columns;
  if (t.length < 3) return columns;
  const steps = new Float64Array(t.length - 1);
  for (let at = 1; at < t.length; at++) steps[at - 1] = t[at] - t[at - 1];
  const usual = steps.slice().sort()[Math.floor(steps.length * 0.9)];
  const limit = Math.max(usual * 4, 1);
  const gaps = [];
  for (let at = 0; at < steps.length; at++) if (steps[at] > limit) gaps.push(at + 1);
  if (!gaps.length) return columns;
  return columns.map((column, which) => {
    const found = [];
    let from = 0;
    for (const gap of gaps) {
      for (let at = from; at < gap; at++) found.push(column[at]);
      found.push(which ? null : (t[gap - 1] + t[gap]) / 2);
      from = gap;
    }
    for (let at = from; at < column.length; at++) found.push(column[at]);
    return found;
  });
}

function times(_chart, splits, _axis, _space, step) {
  let before = null;
  return splits.map((at) => {
    const today = day(at);
    const text = step >= 86400 ? today : clock(at, step < 60);
    const first = step < 86400 && today !== before;
    before = today;
    return first ? `${text}\n${today}` : text;
  });
}

/** The numbers beside the chart, with as many digits as tell one from the next. */
function ticks(_chart, splits, _axis, _space, step) {
  const digits = Math.min(8, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));
  return splits.map((each) => number(each, digits));
}

/** Bounds with a margin, that a value which never changes has too. */
function bounds(_chart, low, high) {
  if (low === null) return [0, 1];
  const space = (high - low) * 0.12 || Math.abs(high) * 0.02 || 1;
  return [low - space, high + space];
}

export class Chart {
  /**
   * title, unit; lines: names of the lines, if there are several; flag: only yes and no; zero: from 0 up;
   * zoom(from, to): what a drag or a key asks for, in seconds; asked(): [from, to] that was asked for last, which may not
   * be there yet; text(value): a value in words.
   */
  constructor({ title, unit = "", lines = null, flag = false, zero = false, zoom = null, asked = null, text = null }) {
    Object.assign(this, { title, unit, lines, flag, zero, zoom, asked });
    this.text = text ?? ((found) => (flag ? (found >= 0.5 ? "yes" : "no") : `${number(found)}${unit === "%" || unit === "°" ? "" : " "}${unit}`.trim()));
    this.latest = h("strong", { class: "latest-value" });
    this.pointed = h("output", { class: "summary", "aria-live": "off", hidden: true }); // keys announce what they reach
    this.summary = h("p", { class: "summary" });
    this.place = h("div", {
      class: "plot", tabindex: "0", role: "group", "aria-roledescription": "chart",
      onkeydown: (event) => this.#key(event),
    });
    this.rows = h("div");
    this.details = h("details", { ontoggle: () => this.#table() }, h("summary", {}, "As a table"), this.rows);
    this.legend = h("ul", { class: "legend" });
    this.element = h("section", { class: "card chart" },
      h("div", { class: "chart-head" }, h("h2", {}, title), this.latest),
      this.place, this.legend, this.pointed, this.summary, this.details);
    this.columns = [[]];
    this.time = null; // of the point that keys have reached
    this.resized = new ResizeObserver(() => this.#fit());
    this.resized.observe(this.place);
    this.redraw = () => this.#legend() || this.plot?.redraw(false);
    document.addEventListener("colours", this.redraw);
  }

  /** columns: t and a value for each line; or t, mean, and where there are any min and max. range: [from, to], s. */
  set(columns, range, lines = this.lines) {
    const shape = `${columns.length} ${lines?.join() ?? ""}`;
    this.columns = columns;
    this.range = range;
    this.lines = lines;
    this.banded = !lines && columns.length === 4;
    if (this.plot && this.shape === shape) {
      this.plot.batch(() => {
        this.plot.setData(broken(columns), false);
        this.plot.setScale("x", { min: range[0], max: range[1] });
      });
    } else {
      this.plot?.destroy();
      this.shape = shape;
      this.plot = new uPlot(this.#options(), broken(columns), this.place);
      this.#legend();
    }
    this.#words();
    this.#table();
    this.#aim();
  }

  /** Put the cursor on the point that keys have reached, wherever it is now. */
  #aim() {
    if (this.time === null) return;
    const place = this.plot.data[0].indexOf(this.time);
    const there = place >= 0 && this.time >= this.range[0] && this.time <= this.range[1];
    this.plot.setCursor(there ? { left: this.plot.valToPos(this.time, "x"), top: 10 } : { left: -10, top: -10 });
    this.#point(there ? place : null);
  }

  close() {
    this.resized.disconnect();
    document.removeEventListener("colours", this.redraw);
    this.plot?.destroy();
    this.plot = null;
  }

  #options() {
    const stroke = (name, width = 1.75) => ({ stroke: () => colour(name), width, points: { size: 4, fill: () => colour(name) } });
    const stepped = this.flag ? { paths: uPlot.paths.stepped({ align: 1 }) } : {};
    const series = this.lines
      ? this.lines.map((_, at) => ({ ...stroke(LINES[at % LINES.length]), spanGaps: !this.zero }))
      : [{ ...stroke(LINES[0]), ...stepped }];
    if (this.banded) for (let at = 0; at < 2; at++) series.push({ width: 0, points: { show: false }, stroke: "transparent" });
    const axis = { stroke: () => colour("--muted"), grid: { stroke: () => colour("--grid"), width: 1 }, ticks: { show: false },
      font: "12px system-ui, sans-serif" };
    const y = { ...axis, size: (_chart, values) => 14 + 7 * Math.max(3, ...(values ?? []).map((each) => String(each).length)) };
    if (this.flag) Object.assign(y, { splits: () => [0, 1], values: () => ["no", "yes"] });
    else y.values = ticks;
    return {
      width: Math.max(200, this.place.clientWidth),
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: Boolean(this.zoom), y: false, setScale: false }, points: { size: 7 } },
      scales: {
        x: { time: true, range: () => this.range },
        y: { range: this.flag ? [-0.15, 1.15] : this.zero ? (_c, _low, high) => [0, (high || 1) * 1.1] : bounds },
      },
      axes: [{ ...axis, values: times, incrs: STEPS, space: (_chart, _axis, _low, _high, size) => (size < 420 ? 60 : 80) }, y],
      series: [{}, ...series],
      bands: this.banded ? [{ series: [3, 2], fill: () => colour("--band") }] : [],
      hooks: {
        setCursor: [(plot) => this.#point(plot.cursor.idx)],
        setSelect: [(plot) => this.#dragged(plot)],
      },
    };
  }

  #dragged(plot) {
    const { left, width } = plot.select;
    if (!this.zoom || width < 5) return;
    const [from, to] = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.zoom(from, to);
  }

  #fit() {
    const width = this.place.clientWidth;
    if (this.plot && width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }

  #legend() {
    if (!this.lines || this.lines.length < 2) return this.legend.replaceChildren();
    const marks = this.lines.map((name, at) => {
      const mark = h("span", { class: "mark" });
      mark.style.background = `var(${LINES[at % LINES.length]})`;
      return h("li", {}, mark, name);
    });
    return this.legend.replaceChildren(...marks);
  }

  /** Say what the point under the cursor is. */
  #point(at) {
    const t = this.plot?.data[0][at ?? -1];
    say(this.pointed, t === undefined ? "" : `${moment(t * 1000)}: ${this.#valueAt(this.plot.data, at)}`);
    this.pointed.hidden = t === undefined;
    this.summary.hidden = t !== undefined;
  }

  #valueAt(columns, at) {
    if (this.lines) {
      const found = this.lines.map((name, which) => [name, columns[which + 1][at]]).filter(([, each]) => each !== null);
      return found.map(([name, each]) => (this.lines.length > 1 ? `${name} ${this.text(each)}` : this.text(each))).join(", ") || "–";
    }
    if (columns[1][at] === null) return "–";
    const band = this.banded && columns[2][at] !== columns[3][at] && !this.flag;
    return this.text(columns[1][at]) + (band ? ` (${number(columns[2][at])} to ${number(columns[3][at])})` : "");
  }

  #words() {
    const [t, ...values] = this.columns;
    const lasts = this.lines ? [] : [values[0].at(-1)];
    say(this.latest, lasts.length && lasts[0] !== undefined ? this.text(lasts[0]) : "");
    let text = "Nothing in this time.";
    if (t.length) {
      const span = period(t[0] * 1000, t.at(-1) * 1000);
      text = this.lines
        ? this.lines.map((name, at) => `${this.lines.length > 1 ? `${name}: ` : ""}${this.#extent(values[at], values[at])}`).join("; ")
        : this.flag ? `${this.text(lasts[0])} at last` : this.#extent(values[0], values[1] ?? values[0], values[2] ?? values[0]);
      text += `. ${number(t.length)} points, ${span}.`;
    }
    say(this.summary, text);
    const keys = this.zoom ? " Arrow keys: point by point; with shift: earlier, later; plus and minus: zoom; 0: back." : "";
    this.place.setAttribute("aria-label", `${this.title}. ${text}${keys}`);
  }

  #extent(means, lows, highs = lows) {
    let [low, high, sum, count] = [Infinity, -Infinity, 0, 0];
    for (let at = 0; at < means.length; at++) {
      if (means[at] === null || means[at] === undefined) continue;
      if (lows[at] < low) low = lows[at];
      if (highs[at] > high) high = highs[at];
      sum += means[at];
      count++;
    }
    if (!count) return "nothing";
    return low === high ? `always ${this.text(low)}` : `${this.text(low)} to ${this.text(high)}, mean ${this.text(Number((sum / count).toPrecision(4)))}`;
  }

  /** The last points as a table, made only when it is open. */
  #table() {
    if (!this.details.open) return;
    const [t] = this.columns;
    const heads = this.lines ?? (this.banded ? ["Mean", "Least", "Greatest"] : ["Value"]);
    const columns = [["Time", ""], ...heads.map((name) => [name, "number"])];
    const rows = [];
    for (let at = t.length - 1; at >= Math.max(0, t.length - ROWS); at--) {
      rows.push([moment(t[at] * 1000), ...this.columns.slice(1).map((each) => (each[at] === null ? null : this.text(each[at])))]);
    }
    const more = t.length > ROWS ? `The last ${ROWS} of ${number(t.length)} points: zoom in for others.` : "";
    this.rows.replaceChildren(table(`${this.title}, the latest first`, columns, rows), h("p", { class: "muted" }, more));
  }

  #key(event) {
    if (event.target !== this.place || event.ctrlKey || event.metaKey || event.altKey) return;
    const [t] = this.columns;
    const [from, to] = this.asked?.() ?? this.range ?? [0, 1]; // pressed three times at once, it zooms three times
    const width = to - from;
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    const at = this.time === null ? -1 : t.indexOf(this.time);
    const middle = at >= 0 && t[at] >= from && t[at] <= to ? t[at] : (from + to) / 2;
    let done = true;
    if (event.key in steps && event.shiftKey) this.zoom?.(from + (steps[event.key] * width) / 2, to + (steps[event.key] * width) / 2);
    else if (event.key in steps) this.#go((at >= 0 ? at : t.length - (steps[event.key] > 0 ? 1 : 0)) + steps[event.key]);
    else if (event.key === "Home") this.#go(0);
    else if (event.key === "End") this.#go(t.length - 1);
    else if (event.key === "+" || event.key === "=") this.zoom?.(middle - width / 4, middle + width / 4);
    else if (event.key === "-") this.zoom?.(middle - width, middle + width);
    else if (event.key === "0") this.zoom?.(null, null);
    else done = false;
    if (done) event.preventDefault();
  }

  /** Put the cursor on a point and tell it. */
  #go(at) {
    const [t] = this.columns;
    if (!t.length) return;
    const place = Math.max(0, Math.min(t.length - 1, at));
    this.time = t[place];
    this.#aim();
    announce(`${clock(this.time)}: ${this.#valueAt(this.columns, place)}`, { now: true });
  }
}

/** A chart's text for lengths of time in ms. */
export const asLasting = (found) => lasting(found);
