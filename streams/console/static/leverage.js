// How leveraged an account really is, and what of its collateral was bought with borrowed money.

import { el, facts } from "./dom.js";
import { duration, multiple, percent, plusMultiple, usd } from "./format.js";

export const loopColumns = [
  { head: "collateral", className: "name", text: (row) => row.collateral },
  { head: "at", text: (row) => row.collateral_venue },
  { head: "bought with", text: (row) => row.owed },
  { head: "borrowed at", text: (row) => row.venue },
  { head: "worth", className: "num", text: (row) => usd(row.usd) },
  { head: "comes back", className: "wide", text: (row) => (row.way === "loop" ? "yes: a loop" : "no: a chain") },
];

export function loopKey(row) {
  return [row.collateral, row.collateral_venue, row.owed, row.venue].join("/");
}

// Pairs of a name and what it is, in words; `leverage` is that of an account's report.
export function leveragePairs(leverage) {
  const { passive, turns } = leverage;
  return [
    ["leverage", multiple(leverage.leverage)],
    ["netted by coin", multiple(leverage.net_leverage)],
    ["exposure", `${usd(leverage.gross_usd)} USD`],
    ["owed", `${usd(leverage.owed_usd)} USD`],
    ["of that, collateral again", `${usd(leverage.looped_usd)} USD`],
    ["owed to collateral", percent(leverage.loan_to_value)],
    ["owed to own collateral", percent(leverage.own_loan_to_value)],
    ["all lost by a fall of", percent(leverage.fall_taking_all)],
    turns !== null && ["turns of its loop", turns.toFixed(1)],
    leverage.passed_on_usd > 0 && ["handed on as receipts", `${usd(leverage.passed_on_usd)} USD`],
    passive && [`at the marks of ${duration(passive.hours * 3600)} before`, `${multiple(passive.leverage_then)}, since then ${plusMultiple(passive.per_hour)} an hour`],
  ].filter(Boolean);
}

export function leverageFacts(leverage) {
  return leverage ? facts(leveragePairs(leverage)) : el("p", { class: "empty" }, "Not known.");
}
