// Rejected records: why, what they hold, and a button that decodes and stores them once more.

import { announce, h, say } from "./dom.js";
import { moment, number } from "./format.js";
import { ask, live } from "./live.js";

// what redrive.Counts calls it, what was done, what would be
const OUTCOMES = [
  ["stored", "stored", "would be stored"], ["ready", "", "would be stored"],
  ["duplicates", "stored before", "stored before"], ["failed_again", "rejected again", "would be rejected again"],
  ["ignored", "ignored by today's rules", "would be ignored by today's rules"],
  ["left", "left for later: a service could not be reached", "cannot be told: a service could not be reached"],
];
const many = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

/** What a redrive came to, or would, in words. */
function outcome(counts) {
  const parts = OUTCOMES.filter(([name]) => counts[name])
    .map(([name, done, would]) => `${number(counts[name])} ${counts.dry_run ? would : done}`);
  const reasons = Object.entries(counts.reasons).map(([word, count]) => `${word} ${number(count)}`).join(", ");
  const changed = counts.changed ? ` ${many(counts.changed, "object")} changed meanwhile and stayed as they are.` : "";
  if (!counts.redriven) return `There is nothing to redrive any more.${changed}`;
  return `${many(counts.redriven, "advertisement")}: ${parts.join(", ")}${reasons ? ` (${reasons})` : ""}.${changed}${counts.error ? ` ${counts.error}` : ""}`;
}

/** The dialog that says what a redrive would do, does it when it is confirmed, and shows what came of it. */
class Redrive {
  constructor(done) {
    this.done = done;
    this.title = h("h2", { id: "redrive-title" });
    this.text = h("p", { role: "status" });
    this.confirm = h("button", { type: "button", class: "primary", onclick: () => this.#do() }, "Redrive");
    this.cancel = h("button", { type: "button", onclick: () => this.element.close() }, "Cancel");
    this.element = h("dialog", { "aria-labelledby": "redrive-title" }, this.title,
      h("p", { class: "muted" }, "They are decoded with today's decoder, keys and registry, and stored. What fails again stays here."),
      this.text, h("p", { class: "buttons" }, this.cancel, this.confirm));
  }

  async open(title, asked) {
    this.asked = asked;
    say(this.title, title);
    say(this.text, "Trying it out, without changing anything …");
    say(this.cancel, "Cancel");
    this.confirm.hidden = false;
    this.confirm.disabled = true;
    this.element.showModal();
    this.cancel.focus();
    try {
      const counts = await ask("/api/redrive", { body: { ...asked, dry_run: true } });
      say(this.text, outcome(counts));
      this.confirm.disabled = counts.redriven === 0;
      if (!this.confirm.disabled) this.confirm.focus();
    } catch (error) {
      say(this.text, error.message);
    }
  }

  async #do() {
    this.confirm.disabled = true;
    say(this.text, "Redriving …");
    try {
      const counts = await ask("/api/redrive", { body: this.asked });
      say(this.text, `Done. ${outcome(counts)}`);
      this.done();
    } catch (error) {
      say(this.text, `Not done: ${error.message}`);
    }
    this.confirm.hidden = true;
    say(this.cancel, "Close");
    this.cancel.focus();
  }
}

export function rejected() {
  let [found, reason, closed] = [null, null, false];
  const dialog = new Redrive(() => load());
  const chips = h("div", { class: "chips", role: "group", "aria-label": "Show only one reason" });
  const count = h("p", { class: "muted", role: "status" });
  const all = h("button", { type: "button", class: "primary", onclick: () => redriveAll() }, "Redrive all");
  const list = h("ul", { class: "records" });
  const empty = h("p", { class: "empty" }, "Looking …");
  const element = h("div", { class: "rejected" }, h("h1", {}, "Rejected records"),
    h("p", { class: "muted" }, "What could not be decoded is kept whole, with the reason, and leaves this list once it is stored."),
    chips, h("div", { class: "tools" }, count, all), list, empty, dialog.element);

  function redriveAll() {
    if (reason) dialog.open(`Redrive all rejected for “${reason}”?`, { reasons: [reason] });
    else dialog.open("Redrive all rejected records?", {});
  }

  function item(record) {
    const causes = record.rejected.map((each) => h("li", {}, h("span", { class: "chip signal" }, each.reason), " ",
      each.index === null ? "" : `advertisement ${each.index + 1}: `, each.message));
    const times = record.attempts > 1 ? `, tried ${record.attempts} times` : "";
    return h("li", { class: "card record", "data-name": record.name },
      h("div", { class: "record-head" },
        h("p", {}, h("strong", {}, moment(record.arrived)), h("span", { class: "muted" }, `${times} · ${record.devices.join(", ") || "device not known"}`)),
        h("button", { type: "button", "aria-label": `Redrive the record of ${moment(record.arrived)}`,
          onclick: () => dialog.open("Redrive this record?", { records: [record.name] }) }, "Redrive")),
      h("ul", { class: "causes" }, causes),
      h("details", {}, h("summary", {}, `Content, ${many(record.bytes, "byte")}`), h("p", { class: "muted" }, record.name), h("pre", { tabindex: "0" }, record.payload)));
  }

  function draw() {
    const open = new Set([...list.querySelectorAll("details[open]")].map((each) => each.closest("[data-name]").dataset.name));
    const names = Object.entries(found.reasons);
    if (reason && !(reason in found.reasons)) reason = null;
    chips.replaceChildren(...[[null, "All"], ...names.map(([word, times]) => [word, `${word} ${number(times)}`])].map(([word, text]) =>
      h("button", { type: "button", class: "chip-button", "aria-pressed": String(word === reason), onclick: () => ((reason = word), draw()) }, text)));
    chips.hidden = names.length < 2;
    const shown = found.records.filter((record) => !reason || record.rejected.some((each) => each.reason === reason));
    const focused = document.activeElement?.closest?.("[data-name]")?.dataset.name;
    list.replaceChildren(...shown.map(item));
    for (const each of list.children) {
      if (open.has(each.dataset.name)) each.querySelector("details").open = true;
      if (focused === each.dataset.name) each.querySelector("button").focus({ preventScroll: true });
    }
    say(count, shown.length ? `${many(shown.length, "record")}${found.complete ? "" : ", the latest; there are more"}` : "");
    all.hidden = shown.length === 0;
    say(all, reason ? `Redrive all: ${reason}` : "Redrive all");
    empty.hidden = shown.length > 0;
    say(empty, "Nothing is rejected. Everything that came in was understood.");
  }

  async function load() {
    try {
      const before = found?.records.length;
      found = await ask("/api/rejected");
      if (closed) return;
      draw();
      if (before !== undefined && before !== found.records.length) announce(`${many(found.records.length, "rejected record")} now`);
    } catch (error) {
      if (!closed) say(empty, error.message);
    }
  }

  const changed = () => document.hidden || load();
  live.addEventListener("rejected", changed);
  load();
  return {
    title: "Rejected records",
    element,
    close() {
      closed = true;
      live.removeEventListener("rejected", changed);
    },
  };
}
