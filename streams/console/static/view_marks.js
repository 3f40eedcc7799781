// Each asset's mark, and each source of it: how old, how far off, whether it counts and why not.

import { el, setText, panel } from "./dom.js";
import { bps, count, duration, percent, price, usd, words } from "./format.js";
import { data } from "./store.js";
import { liveTable } from "./table.js";

const WHY = { never: "never told", stale: "too old", apart: "too far off" };

const known = (row) => (row.reason ? words(row.reason) : "yes");
const counting = (row) => row.sources.filter((one) => one.counts).length;
const whether = (row) => (row.counts ? "counts" : `no: ${WHY[row.why] ?? words(row.why)}`);
const judged = (good, text) => el("span", { class: good ? "good" : "bad" }, text);

const markColumns = [
  { head: "asset", className: "name", text: (row) => row.asset },
  { head: "class", className: "wide", text: (row) => words(row.asset_class) },
  { head: "mark", className: "num", text: (row) => price(row.mark_usd) },
  { head: "known", text: known, render: (row) => judged(!row.reason, known(row)) },
  { head: "sources", className: "num", text: (row) => `${counting(row)} of ${row.sources.length}` },
  { head: "age", className: "num", text: (row) => duration(row.age_seconds) },
  { head: "apart", className: "num wide", text: (row) => percent(row.dispersion, 2) },
  { head: "volatility", className: "num wide", text: (row) => percent(row.sigma_maintenance, 0) },
  { head: "at initial", className: "num roomy", text: (row) => percent(row.sigma_initial, 0) },
  { head: "depth", className: "num wide", text: (row) => usd(row.depth_usd) },
  { head: "depth's age", className: "num roomy", text: (row) => duration(row.depth_age_seconds) },
  { head: "spread", className: "num roomy", text: (row) => `${row.spread_bps.toFixed(1)} bp` },
  { head: "redeems for", className: "num roomy", text: (row) => price(row.bound_usd) },
];

const sourceColumns = [
  { head: "source", className: "name", text: (row) => row.source },
  { head: "price", className: "num", text: (row) => price(row.price_usd) },
  { head: "off the mark", className: "num wide", text: (row) => (row.mark_usd && row.price_usd !== null ? bps(row.price_usd / row.mark_usd - 1) : "–") },
  { head: "age", className: "num", text: (row) => duration(row.age_seconds) },
  { head: "counts", text: whether, render: (row) => judged(row.counts, whether(row)) },
];

// One asset's sources; made once, then told.
function card(asset) {
  const table = liveTable({ caption: `Sources of ${asset}`, columns: sourceColumns, key: (row) => row.source, empty: "It has none.", narrow: true });
  const mark = el("span", { class: "note" });
  const heading = el("h3", {}, asset, " ", mark);
  const element = el("div", { class: "card" }, heading, table.element);
  function update(row) {
    setText(mark, row.reason ? words(row.reason) : price(row.mark_usd));
    mark.className = row.reason ? "bad" : "note";
    table.update(row.sources.map((one) => ({ ...one, mark_usd: row.mark_usd })));
  }
  return { element, update };
}

const trouble = (row) => (row.reason ? 2 : counting(row) < row.sources.length ? 1 : 0);

export const marks = {
  title: "Marks",
  mount(main) {
    const summary = liveTable({ caption: "Marks", columns: markColumns, key: (row) => row.asset, empty: "No asset is known yet." });
    const cards = new Map();
    const grid = el("div", { class: "cards" });
    const note = el("p", { class: "note" });
    main.append(
      el("h1", { class: "unseen", tabindex: "-1" }, "Marks"),
      panel("Marks", {}, note, summary.element),
      panel("Sources", { note: "a mark is the weighted median of the sources that count; where something is wrong comes first" }, grid),
    );
    function update() {
      const rows = [...(data.marks?.rows ?? [])].sort((a, b) => trouble(b) - trouble(a) || a.asset.localeCompare(b.asset));
      setText(note, `${count(rows.length)} assets, ${count(rows.filter((row) => row.reason).length)} without a mark`);
      summary.update(rows);
      rows.forEach((row, at) => {
        if (!cards.has(row.asset)) cards.set(row.asset, card(row.asset));
        const { element, update: tell } = cards.get(row.asset);
        tell(row);
        if (grid.children[at] !== element) grid.insertBefore(element, grid.children[at] ?? null);
      });
    }
    return { sections: ["marks"], update };
  },
};
