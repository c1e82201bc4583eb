// Elements made and changed without HTML in strings: text is always text.

/** Make an element: h("td", { class: "number", onclick: f }, "text", child, …). null and undefined are left out. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set an element's text where it differs: what stays the same costs no layout, and is not read out again. */
export function say(element, text) {
  const words = String(text);
  if (element.textContent !== words) element.textContent = words;
}

export const $ = (selector, within = document) => within.querySelector(selector);

const PATIENCE = 8000;
let last = 0;
let waiting = null;

/** Tell a screen reader something, politely. What comes in between is dropped: only the latest counts. */
export function announce(text, { now = false } = {}) {
  clearTimeout(waiting);
  const wait = now ? 0 : Math.max(0, last + PATIENCE - Date.now());
  waiting = setTimeout(() => {
    last = Date.now();
    $("#announcer").textContent = text;
  }, wait);
}

/** A table: columns are [title, class]; rows are lists of texts or elements. */
export function table(caption, columns, rows) {
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map(([title, kind]) => h("th", { scope: "col", class: kind }, title)))),
      h(
        "tbody",
        {},
        rows.map((row) => h("tr", {}, row.map((cell, at) => h("td", { class: columns[at][1] }, cell ?? "–")))),
      ),
    ),
  );
}

/** A place for what seldom has to be said: elements, or nothing. A screen reader hears it when its text changes. */
export function notice() {
  const element = h("div", { role: "status" }); // there from the start: a live region that comes with its text is not read
  function set(...parts) {
    if (element.textContent === parts.map((part) => part.textContent).join("")) return;
    element.replaceChildren(...(parts.length ? [h("div", { class: "notice" }, parts)] : []));
  }
  return { element, set };
}

/** One figure with its name; a button where `onclick` is given. */
export function tile(name, { onclick, kind } = {}) {
  const figure = h("strong", { class: "figure" }, "–");
  const note = h("span", { class: "note" });
  const element = h(
    onclick ? "button" : "div",
    { class: `tile ${kind ?? ""}`, onclick, type: onclick ? "button" : null, "aria-pressed": onclick ? "false" : null },
    h("span", { class: "name" }, name),
    figure,
    note,
  );
  return { element, set: (value, words = "") => (say(figure, value), say(note, words)) };
}
