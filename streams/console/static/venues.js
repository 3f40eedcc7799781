// What an account has at venues that have a rule of their own, and how far each of them is from liquidating it.

import { percent, plusPercent, usd, words } from "./format.js";

export const legColumns = [
  { head: "venue", className: "name", text: (row) => row.venue },
  { head: "rule", className: "wide", text: (row) => row.rule },
  { head: "equity", className: "num", text: (row) => usd(row.equity_usd) },
  { head: "initial", className: "num roomy", text: (row) => usd(row.initial_usd) },
  { head: "maintenance", className: "num", text: (row) => usd(row.maintenance_usd) },
  { head: "distance", className: "num", text: (row) => plusPercent(row.distance) },
  { head: "", text: (row) => (row.unknown ? words(row.unknown) : row.verdict) },
];

// Of a healthy account: the venues that may liquidate their leg soon all the same.
export function nearText(health) {
  if (health.state !== "HEALTHY") return "";
  const near = (health.legs ?? []).filter((leg) => leg.verdict === "near" || leg.verdict === "past");
  return near.map((leg) => farText(leg.distance, leg.venue)).join(", ");
}

// A distance of null has no size to go by: the leg is past.
export function farText(distance, venue) {
  if (distance === null) return `past the line of ${venue}`;
  return `${percent(Math.abs(distance))} ${distance < 0 ? "past" : "from"} the line of ${venue}`;
}
