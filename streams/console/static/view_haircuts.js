// What is cut off each asset on each chain, term by term, for a holding of one million dollars.

import { el, panel } from "./dom.js";
import { percent } from "./format.js";
import { TERMS, haircutBar, termLegend } from "./parts.js";
import { data } from "./store.js";
import { liveTable } from "./table.js";

const TOTAL = "total_1m";
const terms = (row) => ({ ...row, size: row.size_1m });

const columns = [
  { head: "asset", className: "name", text: (row) => row.asset },
  { head: "chain", text: (row) => row.chain },
  { head: "haircut", className: "num strong", text: (row) => (row.eligible ? percent(row[TOTAL], 2) : "not eligible") },
  { head: "terms", className: "bar", text: (row) => JSON.stringify(terms(row)), render: (row) => haircutBar(terms(row)) },
  ...TERMS.map((term) => ({ head: term, className: "num wide", text: (row) => percent(terms(row)[term], 2) })),
];

export const haircuts = {
  title: "Haircuts",
  mount(main) {
    let asset = "";
    const choose = el("select", { id: "asset" }, el("option", { value: "" }, "all assets"));
    choose.addEventListener("change", () => {
      asset = choose.value;
      update();
    });
    const table = liveTable({ caption: "Haircuts by asset and chain", columns, key: (row) => `${row.asset}/${row.chain}`, empty: "No asset is known yet." });
    main.append(
      el("h1", { class: "unseen", tabindex: "-1" }, "Haircuts"),
      el("div", { class: "filters" }, el("label", { for: "asset" }, "Asset"), choose),
      panel("Haircuts by term", { note: "of 1,000,000 USD held by an account that has positions on another chain too" }, termLegend(), table.element),
    );
    function update() {
      const rows = data.marks?.rows ?? [];
      for (const row of rows.slice(choose.options.length - 1)) choose.append(el("option", {}, row.asset));
      const each = rows.filter((row) => !asset || row.asset === asset).flatMap((row) => row.haircuts.map((one) => ({ ...one, asset: row.asset })));
      table.update(each);
    }
    return { sections: ["marks"], update };
  },
};
