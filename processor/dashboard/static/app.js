// The page's frame: which view an address shows, the connection's state, the colours.

import { $, announce, say } from "./dom.js";
import { device } from "./device.js";
import { fleet } from "./fleet.js";
import { live } from "./live.js";
import { pipeline } from "./pipeline.js";
import { rejected } from "./rejected.js";

// Each view: (…parts of the path) → { title, element, close }
const VIEWS = [
  [/^\/devices\/(.+?)\/?$/, "fleet", device],
  [/^\/pipeline\/?$/, "pipeline", pipeline],
  [/^\/rejected\/?$/, "rejected", rejected],
  [/^\/$/, "fleet", fleet],
];

let shown = null;

function show({ focus = true } = {}) {
  const [pattern, section, open] = VIEWS.find(([each]) => each.test(location.pathname)) ?? VIEWS.at(-1);
  const parts = (pattern.exec(location.pathname) ?? []).slice(1).map(decodeURIComponent);
  shown?.close?.();
  shown = open(...parts);
  $("#main").replaceChildren(shown.element);
  document.title = `${shown.title} · processor`;
  for (const link of document.querySelectorAll("nav [data-section]")) {
    if (link.dataset.section === section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (focus) {
    $("#main").focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/']");
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || link.target) return;
  event.preventDefault();
  if (link.href !== location.href) history.pushState(null, "", link.href);
  show();
});
addEventListener("popstate", () => show());

const WORDS = { live: "Live", lost: "Connection lost, trying again", waiting: "Connecting" };
live.addEventListener("connection", ({ detail }) => {
  const place = $("#connection");
  if (place.dataset.state === detail.state) return;
  if (place.dataset.state !== "waiting" || detail.state === "lost") announce(WORDS[detail.state], { now: true });
  place.dataset.state = detail.state;
  say($(".text", place), WORDS[detail.state]);
});
live.addEventListener("trouble", ({ detail }) => {
  const banner = $("#trouble");
  say(banner, detail.error ? `What you see may be old. ${detail.error}` : "");
  banner.hidden = !detail.error;
});
live.addEventListener("rejected", ({ detail }) => {
  const count = $("#rejected-count");
  say(count, detail.records);
  count.hidden = !detail.records;
});

const THEMES = { system: ["◐", "as the system has them"], light: ["☀", "light"], dark: ["☾", "dark"] };

function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function showTheme() {
  const [sign, text] = THEMES[theme()];
  const button = $("#theme");
  say($("span", button), sign);
  button.setAttribute("aria-label", `Colours: ${text}`);
  button.title = `Colours: ${text}`;
  document.dispatchEvent(new Event("colours"));
}

$("#theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(theme()) + 1) % names.length];
  if (next === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("theme");
  } else {
    document.documentElement.dataset.theme = next;
    localStorage.setItem("theme", next);
  }
  showTheme();
  announce(`Colours: ${THEMES[next][1]}`, { now: true });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("colours")));

showTheme();
show({ focus: false });
live.start();
