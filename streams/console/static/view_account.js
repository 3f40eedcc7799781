// One account: what its book knows of it, how it went, and what was decided about it.

import { chart, colour, utc } from "./charts.js";
import { decisionColumns, decisionKey, orderColumns, orderKey, whyText } from "./columns.js";
import { el, facts, panel, setText } from "./dom.js";
import { clock, count, duration, moment, percent, price, quantity, usd, words } from "./format.js";
import { leverageFacts, loopColumns, loopKey } from "./leverage.js";
import { badge, distanceBar, haircutBar, loadLine, shareBar, termLegend } from "./parts.js";
import { ask, data, stream } from "./store.js";
import { liveTable } from "./table.js";
import { legColumns } from "./venues.js";

const EVERY_MS = 1500;

const positionColumns = [
  { head: "instrument", className: "name", text: (row) => row.instrument },
  { head: "chain", text: (row) => row.chain },
  { head: "venue", text: (row) => row.venue },
  { head: "contract", className: "wide", text: (row) => words(row.contract) },
  { head: "side", text: (row) => (row.side === "flat" ? "" : row.side) },
  { head: "quantity", className: "num", text: (row) => (row.lots ? quantity(row.quantity) : ""), title: (row) => `${row.lots} lots` },
  { head: "mark", className: "num wide", text: (row) => price(row.mark_usd) },
  { head: "cash", className: "num roomy", text: (row) => (row.cash_quote ? `${quantity(row.cash_quote)} ${row.quote}` : "") },
  { head: "notional", className: "num roomy", text: (row) => usd(row.notional_usd) },
  { head: "value", className: "num", text: (row) => (row.unknown ? words(row.unknown) : usd(row.value_usd)) },
  { head: "cost to close", className: "num roomy", text: (row) => usd(row.closing_cost_usd) },
];

const collateralColumns = [
  { head: "asset", className: "name", text: (row) => row.asset },
  { head: "chain", text: (row) => row.chain },
  { head: "value", className: "num", text: (row) => usd(row.value_usd) },
  ...["base", "security", "latency", "depeg", "size"].map((term) => ({ head: term, className: "num wide", text: (row) => percent(row[term], 2) })),
  { head: "haircut", className: "num", text: (row) => (row.eligible ? percent(row.haircut, 2) : "not eligible") },
  { head: "terms", className: "bar", text: (row) => `${row.haircut}`, render: (row) => haircutBar(row) },
  { head: "over its cap", className: "num roomy", text: (row) => (row.over_cap_usd ? usd(row.over_cap_usd) : "") },
  { head: "lost", className: "num", text: (row) => usd(row.lost_usd) },
];

const greekColumns = [
  { head: "underlying", className: "name", text: (row) => row.asset },
  { head: "delta", className: "num", text: (row) => (row.delta === null ? usd(null) : quantity(row.delta)) },
  ...[
    ["delta USD", "delta_usd"],
    ["gamma, 1 %", "gamma_usd"],
    ["vega", "vega_usd"],
    ["theta, a day", "theta_usd"],
    ["rho, 1 %", "rho_usd"],
  ].map(([head, name]) => ({ head, className: "num", text: (row) => usd(row[name]) })),
];

const flightColumns = (now) => [
  { head: "instrument", className: "name", text: (row) => row.instrument },
  { head: "venue", text: (row) => row.venue },
  { head: "lots", className: "num", text: (row) => count(row.lots) },
  { head: "filled", className: "num", text: (row) => count(row.filled_lots) },
  { head: "reserved", className: "num", text: (row) => usd(row.notional_usd) },
  { head: "try", className: "num", text: (row) => count(row.attempt) },
  { head: "expires", className: "num", text: (row) => `${clock(row.expires_ns)}, in ${duration((row.expires_ns - now()) / 1e9)}` },
  { head: "heard of", text: (row) => (row.heard ? "yes" : "nothing yet") },
];

function levelsTable(report) {
  const over = (level) => (report.equity_usd === null || level === null ? null : report.equity_usd - level);
  return facts([
    ["equity", `${usd(report.equity_usd)} USD`],
    ["before haircuts", `${usd(report.unhaircut_usd)} USD`],
    ["maintenance", `${usd(report.maintenance_usd)} USD`],
    ["over maintenance", `${usd(over(report.maintenance_usd))} USD`],
    ["liquidation end", `${usd(report.liquidation_end_usd)} USD`],
    ["initial", `${usd(report.initial_usd)} USD`],
    ["equity at initial", `${usd(report.equity_initial_usd)} USD`],
    ["cost to close all", `${usd(report.close_cost_usd)} USD`],
  ]);
}

function modesTable(report) {
  if (!report.requirement_usd) return el("p", { class: "empty" }, "Not known.");
  const largest = Math.max(...Object.values(report.requirement_usd), 1e-9);
  return el(
    "table",
    { class: "modes" },
    el("caption", { class: "unseen" }, "Requirement in the three modes"),
    el("thead", {}, el("tr", {}, ...["mode", "requirement", "of isolated", ""].map((head, k) => el(k === 3 ? "td" : "th", { scope: k === 3 ? null : "col", class: k ? "num" : null }, head)))),
    el(
      "tbody",
      {},
      ...Object.entries(report.requirement_usd).map(([mode, value]) =>
        el(
          "tr",
          { class: mode === report.decision_mode ? "decides" : null },
          el("th", { scope: "row" }, mode, mode === report.decision_mode ? el("span", { class: "note" }, " decides") : null),
          el("td", { class: "num", "data-mode": mode }, usd(value)),
          el("td", { class: "num" }, percent(report.requirement_usd.isolated ? value / report.requirement_usd.isolated : null, 0)),
          el("td", { class: "bar" }, shareBar(value / largest)),
        ),
      ),
    ),
  );
}

const REFUSES = {
  initial_margin: "equity is below initial margin",
  limit_account: "its positions are beyond the limit of an account",
  limit_asset: "its positions in one risk group are beyond the limit",
  limit_venue: "its positions at one venue are beyond the limit",
  bad_debt: "its book has too much bad debt",
};

function obstacles(report, call) {
  const lines = [
    ...report.standing,
    ...report.freezes,
    ...(report.refuses ?? []).map((reason) => `new risk is refused: ${REFUSES[reason] ?? reason}`),
    report.grace_until_ns ? `grace until ${clock(report.grace_until_ns)}, ${duration((report.grace_until_ns - report.clock_ns) / 1e9)} from now` : "",
    report.retry_ns ? `a plan came to nothing; tried again at ${clock(report.retry_ns)}` : "",
    report.publish ? "" : "orders are only shown: its book observes",
    call ? `last margin call at ${clock(call.decided_ns)}: ${usd(call.shortfall_usd)} USD short${call.cause === "none" ? "" : `, by ${call.cause}`}` : "",
  ].filter(Boolean);
  return lines.length ? el("ul", { class: "plain" }, ...lines.map((line) => el("li", {}, line))) : el("p", { class: "empty" }, "Nothing stands in its way.");
}

export const account = {
  title: "Account",
  mount(main, name) {
    const now = () => data.overview?.clock_ns ?? 0;
    const state = el("span", { id: "account-state" });
    const why = el("span", { class: "note" });
    const far = el("span", { class: "far" });
    const asOf = el("p", { class: "note", id: "as-of" }, "Asking its book …");
    const line = el("div");
    const levels = el("div", { id: "levels" });
    const modes = el("div", { id: "modes" });
    const binding = el("p", { id: "binding" });
    const way = el("div");
    const positions = liveTable({ caption: "Positions by chain and venue", columns: positionColumns, key: (row) => `${row.venue}/${row.instrument}`, empty: "It holds nothing." });
    const collateral = liveTable({ caption: "Haircuts of its collateral by term", columns: collateralColumns, key: (row) => `${row.chain}/${row.instrument}`, empty: "It has no collateral that counts." });
    const greeks = liveTable({ caption: "Greeks by underlying", columns: greekColumns, key: (row) => row.asset, empty: "Nothing it holds has a price that moves." });
    const leverage = el("div", { id: "leverage" });
    const loops = liveTable({ caption: "Collateral bought with borrowed money", columns: loopColumns, key: loopKey, empty: "None was." });
    const local = el("ul", { class: "plain", id: "local" });
    const legs = liveTable({ caption: "By the venues' own rules", columns: legColumns, key: (row) => row.venue, empty: "It holds nothing at a venue whose rule is known." });
    const flights = liveTable({ caption: "Orders in flight", columns: flightColumns(now), key: (row) => row.order_id, empty: "None is in flight." });
    const orders = liveTable({ caption: "Its orders", columns: orderColumns(now, { account: false }), key: orderKey, empty: "It never had one, of those that are kept." });
    const decided = liveTable({ caption: "Decisions about it", columns: decisionColumns.slice(1), key: decisionKey, empty: "None, of those that are kept." });
    let went = null;
    const course = chart("Equity against maintenance", 220, () => {
      const { times_ns: times, equity_usd: equity, maintenance_usd: maintenance, states } = went ?? { times_ns: [], equity_usd: [], maintenance_usd: [], states: [] };
      const at = times.map(utc);
      const trace = (name, y, color, dash) => ({ x: at, y, name, mode: "lines", line: { width: 1.6, color: colour(color), shape: "hv", dash }, connectgaps: false });
      const spans = [];
      states.forEach((one, k) => {
        if (one === "HEALTHY") return;
        const x0 = at[k];
        const x1 = at[k + 1] ?? at[k];
        const last = spans.at(-1);
        if (last && last.state === one && last.x1 === x0) last.x1 = x1;
        else spans.push({ state: one, x0, x1 });
      });
      const shapes = spans.map((span) => ({ type: "rect", xref: "x", yref: "paper", x0: span.x0, x1: span.x1, y0: 0, y1: 1, line: { width: 0 }, layer: "below", fillcolor: colour(`--${span.state.toLowerCase()}-soft`) }));
      return {
        traces: [trace("equity", equity, "--ink"), trace("maintenance", maintenance, "--liquidatable", "dash")],
        layout: { shapes, yaxis: { rangemode: "normal" } },
        said: `Equity against maintenance over ${times.length} points from ${moment(times[0])} to ${moment(times.at(-1))}; the background shows when it was not healthy`,
      };
    });
    const wentNote = el("p", { class: "note" });
    main.append(
      el("p", { class: "back" }, el("a", { href: "#/accounts", "data-back": "" }, "← accounts")),
      el("div", { class: "account-head" }, el("h1", { tabindex: "-1" }, name), state, far, why),
      asOf,
      el(
        "div",
        { class: "account-grid" },
        panel("Against the line", {}, line, levels),
        panel("Requirement", {}, modes, el("h3", {}, "The scenario that binds"), binding, el("h3", {}, "In its way"), way),
        panel("Since the run began", { className: "grow" }, course.element, wentNote),
      ),
      panel("Positions", { note: "by chain and venue; value before haircuts" }, positions.element),
      panel("Collateral", {}, termLegend(), collateral.element),
      panel("Greeks", { note: "USD; each underlying for itself, empty where a position cannot be valued" }, greeks.element),
      panel("At its venues", { note: "each leg by its venue's own rule, which liquidates there whatever the whole is" }, local, legs.element),
      panel("Leverage", { note: "at what coins claim, each counted once" }, leverage, loops.element),
      el("div", { class: "columns even" }, panel("In flight", {}, flights.element), panel("Decisions", {}, decided.element)),
      panel("Orders", {}, orders.element),
    );
    let asking = null;
    let askedAt = 0;
    let timer = 0;

    function show(said) {
      const { health, report } = said;
      const known = report ?? health;
      state.replaceChildren(known ? badge(known.state) : el("span", { class: "state" }, "not known"));
      setText(why, known ? whyText(known) : "");
      const excess = report?.equity_usd != null && report.maintenance_usd ? (report.equity_usd - report.maintenance_usd) / report.maintenance_usd : said.distance;
      far.replaceChildren(distanceBar(excess));
      went = said.history;
      setText(
        wentNote,
        !went
          ? "No history is kept of this account."
          : `${count(went.times_ns.length)} points; told when it changes`,
      );
      course.update();
      orders.update(said.orders);
      decided.update(said.decisions);
      if (report) {
        setText(asOf, `As of ${moment(report.clock_ns)}, ledger ${report.ledger}, parameters ${report.parameters}; told by ${said.owner?.owner ?? "its book"}`);
        line.replaceChildren(loadLine(report));
        levels.replaceChildren(levelsTable(report));
        modes.replaceChildren(modesTable(report));
        setText(binding, report.binding || (report.equity_usd === null ? "Not known." : "None: nothing it holds can lose, or the mode that decides sums several."));
        way.replaceChildren(obstacles(report, said.margin_call));
        positions.update(report.positions);
        collateral.update(report.collateral);
        greeks.update(report.greeks?.by_asset ?? []);
        leverage.replaceChildren(leverageFacts(report.leverage));
        loops.update(report.leverage?.loops ?? []);
        flights.update(report.flights);
        local.replaceChildren(...report.local.map((sentence) => el("li", {}, sentence)));
        legs.update(report.legs);
      } else {
        setText(asOf, `Only what the topics say is shown: ${said.why}.`);
        if (health) {
          const told = { ...health, equity_initial_usd: null, close_cost_usd: null };
          line.replaceChildren(loadLine(told));
          levels.replaceChildren(levelsTable(told));
          modes.replaceChildren(modesTable({ ...health, decision_mode: "" }));
          setText(binding, "Only its book knows.");
          legs.update(health.legs ?? []);
        }
      }
    }

    async function question() {
      timer = 0;
      if (stream.held) return;
      askedAt = performance.now();
      asking?.abort();
      asking = new AbortController();
      try {
        show(await ask(`/api/accounts/${encodeURIComponent(name)}`, asking.signal));
      } catch (error) {
        if (error.name !== "AbortError") setText(asOf, error.message);
      }
    }

    function update() {
      timer ||= setTimeout(question, Math.max(0, askedAt + EVERY_MS - performance.now()));
    }
    return {
      sections: ["accounts", "orders", "decisions", "marks"],
      update,
      close() {
        clearTimeout(timer);
        asking?.abort();
        course.close();
      },
    };
  },
};
