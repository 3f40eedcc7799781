// The whole in one look: how many accounts are where, what is worst, what has just happened.

import { chart, colour, utc } from "./charts.js";
import { accountColumnsShort, breakerColumns, decisionColumns, decisionKey, headFirst, orderColumnsShort, orderKey } from "./columns.js";
import { el, panel, setText } from "./dom.js";
import { count, usd, usdShort } from "./format.js";
import { STATES, shareBar, stateMark } from "./parts.js";
import { ask, data } from "./store.js";
import { liveTable } from "./table.js";

const WORST = 30;
const SHOWN = 8;
const POINTS_MAX = 1000;
const DRAWN = ["WARNING", "LIQUIDATABLE", "BANKRUPT", "UNKNOWN"]; // the rest are healthy
const PATTERNS = { WARNING: "", LIQUIDATABLE: "/", BANKRUPT: "x", UNKNOWN: "." };

function tiles() {
  const of = Object.fromEntries(
    STATES.map((state) => {
      const number = el("b", { "data-state": state }, "–");
      const equity = el("span", { class: "sub" }, "");
      const bar = el("span", { class: "bar" });
      const link = el(
        "a",
        { class: `tile state-${state.toLowerCase()}`, href: `#/accounts?state=${state}` },
        el("span", { class: "tile-name" }, stateMark(state), state.toLowerCase()),
        number,
        equity,
        bar,
      );
      return [state, { link, number, equity, bar }];
    }),
  );
  const element = el("ul", { class: "tiles", "aria-label": "Accounts by state" }, ...STATES.map((state) => el("li", {}, of[state].link)));
  function update(said) {
    const all = Object.values(said.states).reduce((sum, n) => sum + n, 0);
    for (const state of STATES) {
      const { number, equity, bar } = of[state];
      setText(number, count(said.states[state]));
      setText(equity, state === "UNKNOWN" ? "cannot be valued" : `equity ${usdShort(said.equity_usd[state])} USD`);
      bar.replaceChildren(shareBar(all ? said.states[state] / all : 0));
    }
  }
  return { element, update };
}

function figures() {
  const cells = {
    shortfall: el("dd", {}, "–"),
    local: el("dd", { id: "local" }, "–"),
    fund: el("dd", {}, "–"),
    orders: el("dd", {}, "–"),
    breakers: el("dd", {}, "–"),
    letters: el("dd", {}, "–"),
  };
  const names = {
    shortfall: "missing to maintenance",
    local: "healthy, but near a venue's line",
    fund: "asked of the fund",
    orders: "orders published",
    breakers: "breakers open",
    letters: "records refused",
  };
  const element = el("dl", { class: "figures" }, ...Object.entries(cells).map(([name, cell]) => el("div", {}, el("dt", {}, names[name]), cell)));
  function update(said) {
    setText(cells.shortfall, `${usd(said.shortfall_usd)} USD`);
    setText(cells.local, count(said.local));
    setText(cells.fund, `${usd(said.fund_usd)} USD`);
    setText(cells.orders, count(said.orders));
    const { tripped = 0, recovering = 0 } = said.breakers;
    setText(cells.breakers, `${tripped} tripped, ${recovering} recovering`);
    setText(cells.letters, count(said.letters));
  }
  return { element, update };
}

export const overview = {
  title: "Overview",
  mount(main) {
    const now = () => data.overview?.clock_ns ?? 0;
    const states = tiles();
    const sums = figures();
    const worst = liveTable({ caption: "The worst accounts", columns: accountColumnsShort, key: (row) => row.health.account, empty: "No account is known yet." });
    const newest = liveTable({ caption: "The newest orders", columns: headFirst(orderColumnsShort(now)), key: orderKey, empty: "No order has been published." });
    const open = liveTable({ caption: "Breakers that are not closed", columns: breakerColumns(now), key: (row) => `${row.trigger}/${row.name}`, empty: "All are closed." });
    const decided = liveTable({ caption: "The newest decisions", columns: decisionColumns, key: decisionKey, empty: "Nothing has been decided." });
    let went = null;
    const trouble = chart("Accounts that are not healthy, over the run", 190, () => {
      const { times_ns: times, states: counts } = went ?? { times_ns: [], states: {} };
      const at = times.map(utc);
      const traces = DRAWN.map((state) => ({
        x: at,
        y: counts[state] ?? [],
        name: state.toLowerCase(),
        stackgroup: "all",
        mode: "lines",
        line: { width: 1, color: colour(`--${state.toLowerCase()}`), shape: "hv" },
        fillcolor: colour(`--${state.toLowerCase()}-soft`),
        fillpattern: { shape: PATTERNS[state], fgcolor: colour(`--${state.toLowerCase()}`), bgcolor: colour(`--${state.toLowerCase()}-soft`), size: 6, solidity: 0.15 },
      }));
      const last = DRAWN.map((state) => `${count(counts[state]?.at(-1) ?? 0)} ${state.toLowerCase()}`).join(", ");
      return { traces, layout: {}, said: `Accounts that are not healthy, over the run; now ${last}` };
    });
    let asked = false;

    // Asked for once, when the server has read the topics; from there on the page keeps its own.
    function follow(said) {
      if (!asked && said.behind === 0) {
        asked = true;
        ask("/api/history").then(
          (history) => {
            went = history;
            trouble.update();
          },
          () => (asked = false),
        );
      }
      if (!went || !said.clock_ns || said.clock_ns <= (went.times_ns.at(-1) ?? 0)) return;
      went.times_ns.push(said.clock_ns);
      for (const state of STATES) went.states[state].push(said.states[state]);
      if (went.times_ns.length > POINTS_MAX) {
        went.times_ns = went.times_ns.filter((_, k) => k % 2 === 0);
        for (const state of STATES) went.states[state] = went.states[state].filter((_, k) => k % 2 === 0);
      }
      trouble.update();
    }

    main.append(
      el("h1", { class: "unseen", tabindex: "-1" }, "Overview"),
      states.element,
      sums.element,
      panel("Not healthy, over the run", { className: "wide-panel" }, trouble.element),
      el(
        "div",
        { class: "columns" },
        panel("The worst accounts", { note: "short and unknown ones first, then by distance to liquidation" }, worst.element),
        el(
          "div",
          { class: "stack" },
          panel("The newest orders", {}, newest.element),
          panel("Open breakers", {}, open.element),
          panel("The newest decisions", { note: "other than orders and their ends" }, decided.element),
        ),
      ),
    );

    function update() {
      if (data.overview) {
        states.update(data.overview);
        sums.update(data.overview);
        follow(data.overview);
      }
      worst.update(data.accounts?.rows.slice(0, WORST) ?? []);
      newest.update(data.orders?.rows.slice(0, SHOWN) ?? []);
      open.update(data.breakers?.rows.filter((row) => row.state !== "closed").slice(0, SHOWN) ?? []);
      decided.update(data.decisions?.rows.slice(0, SHOWN) ?? []);
    }
    return { sections: ["overview", "accounts", "orders", "breakers", "decisions"], update, close: trouble.close };
  },
};
