// The small pictures of the console; each stands beside the number that it shows.

import { el, svg } from "./dom.js";
import { plusPercent, usd } from "./format.js";

export const STATES = ["HEALTHY", "WARNING", "LIQUIDATABLE", "BANKRUPT", "UNKNOWN"];
export const TERMS = ["base", "security", "latency", "depeg", "size"];

const SHAPES = {
  HEALTHY: ["circle", { cx: 5, cy: 5, r: 3.5 }],
  WARNING: ["path", { d: "M5 1 9.5 9h-9z" }],
  LIQUIDATABLE: ["path", { d: "M5 .3 9.7 5 5 9.7 .3 5z" }],
  BANKRUPT: ["path", { d: "M1 1h8v8h-8z" }],
  UNKNOWN: ["circle", { cx: 5, cy: 5, r: 3.6, class: "hollow" }],
};

export function stateMark(state) {
  const [shape, attributes] = SHAPES[state] ?? SHAPES.UNKNOWN;
  return svg("svg", { class: "state-mark", viewBox: "0 0 10 10", width: 10, height: 10, "aria-hidden": "true" }, svg(shape, attributes));
}

export function badge(state) {
  return el("span", { class: `state state-${state.toLowerCase()}` }, stateMark(state), state.toLowerCase());
}

// closed, recovering and tripped, told apart by shape too.
export function breakerMark(state) {
  const of = { closed: "HEALTHY", recovering: "WARNING", tripped: "LIQUIDATABLE" }[state] ?? "UNKNOWN";
  return el("span", { class: `state state-${of.toLowerCase()}` }, stateMark(of), state);
}

const FAR = 0.5; // of the requirement, at which the bar is full

// Excess over maintenance, as a number and as a bar around the line: below it to the left, above it to the right.
export function distanceBar(distance) {
  if (distance === null) return el("span", { class: "distance" }, el("span", { class: "number" }, "–"));
  const share = Math.min(1, Math.abs(distance) / FAR) * 50;
  const below = distance < 0;
  const fill = svg("rect", { x: below ? 50 - share : 50, y: 2, width: share, height: 6, class: below ? "below" : "above" });
  return el(
    "span",
    { class: "distance" },
    el("span", { class: "number" }, plusPercent(distance)),
    svg(
      "svg",
      { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { x: 0, y: 4.5, width: 100, height: 1, class: "rail" }),
      fill,
      svg("rect", { x: 49.4, y: 0, width: 1.2, height: 10, class: "line" }),
    ),
  );
}

// The terms of a haircut, one after the other, on a scale from nothing to all.
export function haircutBar(terms, full = 1) {
  let at = 0;
  const parts = TERMS.map((term, k) => {
    const width = Math.max(0, Math.min(1 - at, (terms[term] ?? 0) / full)) * 100;
    const part = svg("rect", { x: at * 100, y: 0, width, height: 8, class: `term term-${k}` });
    at += width / 100;
    return part;
  });
  return svg("svg", { class: "haircut", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { width: 100, height: 8, class: "rail" }), ...parts);
}

export function termLegend() {
  return el("ul", { class: "legend" }, ...TERMS.map((term, k) => el("li", {}, el("span", { class: `swatch term-${k}`, "aria-hidden": "true" }), term)));
}

// A share of a whole.
export function shareBar(share, className = "") {
  return svg(
    "svg",
    { class: `share ${className}`, viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { width: 100, height: 6, class: "rail" }),
    svg("rect", { width: Math.max(0, Math.min(1, share)) * 100, height: 6, class: "fill" }),
  );
}

// The load line of one account: where its equity floats against the levels that are marked on the hull.
export function loadLine(report) {
  const levels = [
    ["maintenance", report.maintenance_usd],
    ["liquidation end", report.liquidation_end_usd],
    ["initial", report.initial_usd],
  ];
  if (report.equity_usd === null) return el("p", { class: "empty" }, "It cannot be valued, so there is no line to draw.");
  const values = [0, report.equity_usd, ...levels.map(([, value]) => value)];
  const low = Math.min(...values);
  const high = Math.max(...values, low + 1);
  const pad = 0.06 * (high - low);
  const x = (value) => (100 * (value - low + pad)) / (high - low + 2 * pad);
  const below = report.equity_usd < report.maintenance_usd;
  const parts = [
    el("span", { class: `hull ${below ? "below" : "above"}`, style: `left:${x(Math.min(0, report.equity_usd))}%;width:${x(Math.max(0, report.equity_usd)) - x(Math.min(0, report.equity_usd))}%` }),
    ...levels.map(([name, value], k) => el("span", { class: `level level-${k}`, style: `left:${x(value)}%` }, k === 0 || x(value) - x(levels[k - 1][1]) > 4 ? el("i", {}, name[0].toUpperCase()) : null)),
    el("span", { class: "equity", style: `left:${x(report.equity_usd)}%` }),
  ];
  const said = [`equity ${usd(report.equity_usd)} USD`, ...levels.map(([name, value]) => `${name} ${usd(value)} USD`)].join(", ");
  return el("div", { class: "load-line", role: "img", "aria-label": said }, ...parts);
}
