// Columns that several views share.

import { el } from "./dom.js";
import { clock, count, duration, percent, plusPercent, usd, words } from "./format.js";
import { badge, breakerMark, distanceBar } from "./parts.js";
import { nearText } from "./venues.js";

function accountLink(name) {
  return el("a", { href: `#/accounts/${encodeURIComponent(name)}` }, name);
}

export function whyText(health) {
  if (health.reason !== "none") return words(health.reason);
  return health.cause === "none" ? nearText(health) : `by ${words(health.cause)}`;
}

const money = (head, of, className = "num") => ({
  head,
  className,
  text: (row) => usd(of(row.health)),
  title: (row) => (of(row.health) === null ? "not known" : `${of(row.health)} USD`),
});

const mode = (name) => money(name, (health) => health.requirement_usd && health.requirement_usd[name], "num roomy");

export const accountColumns = [
  { head: "account", className: "name", text: (row) => row.health.account, render: (row) => accountLink(row.health.account) },
  { head: "state", text: (row) => row.health.state, render: (row) => badge(row.health.state) },
  { head: "distance", className: "far", text: (row) => plusPercent(row.distance), render: (row) => distanceBar(row.distance) },
  money("equity", (health) => health.equity_usd),
  money("requirement", (health) => health.maintenance_usd, "num wide"),
  mode("isolated"),
  mode("protocol"),
  mode("portfolio"),
  money("initial", (health) => health.initial_usd, "num roomy"),
  { head: "why", className: "wide", text: (row) => whyText(row.health) },
  { head: "orders", className: "num wide", text: (row) => (row.health.orders_in_flight ? count(row.health.orders_in_flight) : "") },
  { head: "frozen", className: "roomy", text: (row) => (row.health.frozen ? "frozen" : "") },
];

// An overview has room for what says most.
export const accountColumnsShort = accountColumns.filter((column) => !["isolated", "protocol", "portfolio", "initial", "frozen"].includes(column.head));

// What became of an order, in a word or two.
export function fateText({ order, fate }, now) {
  const whole = Math.abs(order.lots);
  const filled = fate.filled_lots ? ` ${count(fate.filled_lots)} of ${count(whole)}` : "";
  if (order.outcome === "observed" && !order.published) return "only shown";
  if (fate.ended === "filled") return fate.filled_lots < whole ? `filled${filled}` : "filled";
  if (fate.ended) return `${fate.ended}${filled ? `, filled${filled}` : ""}`;
  if (fate.status) return `${words(fate.status)}${filled}${fate.reason ? `: ${fate.reason}` : ""}`;
  return order.expires_ns && now > order.expires_ns ? "nothing heard" : "out, nothing heard yet";
}

export function orderColumns(now, { account = true } = {}) {
  return [
    { head: "time", className: "num", text: ({ order }) => clock(order.decided_ns) },
    account && { head: "account", className: "name", text: ({ order }) => order.account, render: ({ order }) => accountLink(order.account) },
    { head: "venue", text: ({ order }) => order.venue },
    { head: "instrument", text: ({ order }) => order.instrument },
    { head: "lots", className: "num", text: ({ order }) => `${order.lots > 0 ? "buy" : "sell"} ${count(Math.abs(order.lots))}` },
    { head: "limit, ticks", className: "num roomy", text: ({ order }) => count(order.limit_ticks) },
    { head: "of", className: "wide", text: ({ order }) => order.state, render: ({ order }) => badge(order.state) },
    { head: "cause", className: "wide", text: ({ order }) => words(order.cause) },
    { head: "try", className: "num roomy", text: ({ order }) => (order.attempt ? count(order.attempt) : "") },
    { head: "expected cost", className: "num roomy", text: ({ order }) => usd(order.cost_usd) },
    { head: "what became of it", className: "fate", text: (row) => fateText(row, now()) },
  ].filter(Boolean);
}

const SHORT = ["time", "account", "venue", "instrument", "lots", "what became of it"];

export const orderColumnsShort = (now) => orderColumns(now).filter((column) => SHORT.includes(column.head));

export const orderKey = ({ order }) => order.order_id;

// By the first column that is not a time, a row is opened: the row's head must be what names it.
export function headFirst(columns) {
  const at = columns.findIndex((column) => column.className === "name");
  return at > 0 ? [columns[at], ...columns.slice(0, at), ...columns.slice(at + 1)] : columns;
}

export const TRIGGERS = {
  asset_move: "price moved",
  volatility_jump: "volatility jumped",
  source_divergence: "sources apart",
  eligibility: "not fit as collateral",
  attestation_lag: "attestations late",
  layer_lag: "messaging layer late",
  system_move: "whole market moved",
  quarantine: "quarantined",
  liquidation_volume: "budget spent",
  venue_silence: "venue silent",
  bad_debt: "bad debt",
};

const BREAKER_VALUES = {
  attestation_lag: duration,
  volatility_jump: (value) => `${value.toFixed(1)} times`,
  venue_silence: count,
};

export function breakerValue(row) {
  const shown = BREAKER_VALUES[row.trigger] ?? percent;
  return `${shown(row.value)} of ${shown(row.limit)}`;
}

export function breakerColumns(now) {
  return [
    { head: "what", className: "name", text: (row) => row.name },
    { head: "trigger", text: (row) => TRIGGERS[row.trigger] ?? words(row.trigger) },
    { head: "state", text: (row) => row.state, render: (row) => breakerMark(row.state) },
    { head: "since", className: "num", text: (row) => clock(row.since_ns) },
    { head: "for", className: "num", text: (row) => (row.state === "closed" ? "" : duration((now() - row.since_ns) / 1e9)) },
    { head: "value of limit", className: "num", text: breakerValue },
  ];
}

export const decisionColumns = [
  { head: "account", className: "name", text: (row) => row.account || "all", render: (row) => (row.account ? accountLink(row.account) : "all") },
  { head: "time", className: "num", text: (row) => clock(row.decided_ns) },
  { head: "decided", text: (row) => words(row.outcome) },
  { head: "state", className: "wide", text: (row) => row.state, render: (row) => (row.state ? badge(row.state) : "") },
  { head: "cause", className: "wide", text: (row) => (row.cause === "none" ? "" : words(row.cause)) },
  { head: "equity", className: "num roomy", text: (row) => usd(row.equity_usd) },
  { head: "grounds", className: "fate", text: (row) => noteText(row.note) },
];

export const decisionKey = (row) => `${row.decided_ns}/${row.ledger}/${row.account}/${row.outcome}/${row.note}`;

// The audit gives the end of a grace period in nanoseconds, and states in capitals.
function noteText(note) {
  return note.replace(/^until (\d{19})$/, (_, ns) => `until ${clock(Number(ns))}`).replace(/^now ([A-Z]+)$/, (text) => text.toLowerCase());
}
