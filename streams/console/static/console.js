// The console: which view is shown, what the header says, the theme and the keys.

import { redraw } from "./charts.js";
import { el, setText } from "./dom.js";
import { moment } from "./format.js";
import { listenToKeys } from "./keys.js";
import { connect, data, hold, stream, watch } from "./store.js";
import { account } from "./view_account.js";
import { accounts } from "./view_accounts.js";
import { breakers } from "./view_breakers.js";
import { haircuts } from "./view_haircuts.js";
import { letters } from "./view_letters.js";
import { marks } from "./view_marks.js";
import { orders } from "./view_orders.js";
import { overview } from "./view_overview.js";
import { pipeline } from "./view_pipeline.js";

// A view is {title, mount(main, name) -> {sections, update(section), close?()}}.
const VIEWS = [
  ["", overview],
  ["accounts", accounts],
  ["marks", marks],
  ["haircuts", haircuts],
  ["orders", orders],
  ["breakers", breakers],
  ["pipeline", pipeline],
  ["letters", letters],
];
const THEMES = ["auto", "light", "dark"];
const STREAMS = {
  connecting: "connecting",
  live: "live",
  silent: "silent",
  lost: "lost, trying again",
  polling: "full, asking every 5 s",
};
const REFUSALS = { 401: "needs the password", 403: "not by this name", 503: "not available" };

const byId = (id) => document.getElementById(id);
const main = byId("main");
let shown = { close() {} };

// ---- views ----

function route() {
  const path = location.hash.startsWith("#/") ? location.hash.slice(2).split("?")[0] : "";
  const [name, ...rest] = path.split("/");
  if (name === "accounts" && rest.some(Boolean)) return { view: account, nav: "accounts", name: decodeURIComponent(rest.join("/")) };
  const [nav, view] = VIEWS.find(([known]) => known === name) ?? VIEWS[0];
  return { view, nav, name: "" };
}

function show(first) {
  const { view, nav, name } = route();
  shown.close();
  main.replaceChildren();
  const { sections, update, close } = view.mount(main, name);
  let due = false;
  let mounted = null;
  const off = watch(sections, () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      if (mounted === shown && !stream.held) update(); // held since: what is left out now is told again when the page goes on
    });
  });
  mounted = {
    close() {
      off();
      close?.();
    },
  };
  shown = mounted;
  update();
  document.title = `${name || view.title} · Plimsoll`;
  for (const link of byId("views").querySelectorAll("a")) {
    if (link.dataset.view === nav) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!first) {
    window.scrollTo(0, 0);
    if (!main.contains(document.activeElement)) main.querySelector("h1")?.focus({ preventScroll: true });
  }
}

// ---- header ----

function showOverview() {
  const said = data.overview;
  if (!said) return;
  setText(byId("clock"), moment(said.clock_ns));
  const mode = said.modes.join(" and ") || "–";
  setText(byId("mode"), mode);
  byId("mode").dataset.mode = mode;
  const reading = said.behind === null ? "Reading the topics …" : said.behind ? `Reading the topics: ${said.behind.toLocaleString("en-US")} records to go …` : "";
  const lines = [reading, ...said.problems].filter(Boolean);
  const told = lines.join("\n");
  const box = byId("problems");
  if (box.dataset.told === told) return;
  box.dataset.told = told;
  box.replaceChildren(...lines.map((line) => el("p", {}, line)));
}

function showStream() {
  setText(byId("stream"), stream.state === "refused" ? `refused: ${REFUSALS[stream.status] ?? "status"} (${stream.status})` : STREAMS[stream.state]);
  byId("stream").dataset.state = stream.state;
  byId("hold").setAttribute("aria-pressed", stream.held);
  setText(byId("hold"), stream.held ? "Held" : "Hold");
  document.body.classList.toggle("held", stream.held);
}

// ---- theme ----

function theme() {
  const kept = localStorage.getItem("theme");
  return THEMES.includes(kept) ? kept : "auto";
}

function applyTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  setText(byId("theme"), `Theme: ${name}`);
  redraw();
}

// ---- start ----

byId("views").append(
  ...VIEWS.map(([path, view], k) => el("li", {}, el("a", { href: `#/${path}`, "data-view": path, "aria-keyshortcuts": k + 1 }, view.title))),
);
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
byId("hold").addEventListener("click", () => hold(!stream.held));
byId("theme").addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  localStorage.setItem("theme", next);
  applyTheme(next);
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
window.addEventListener("hashchange", () => show(false));
listenToKeys({ dialog: byId("keys"), button: byId("help"), views: VIEWS.map(([path]) => `#/${path}`), hold: () => hold(!stream.held) });
applyTheme(theme());
watch(["overview"], showOverview, { always: true });
watch(["stream"], showStream, { always: true });
show(true);
connect();
