// Liquidation orders as they come, and what became of them.

import { fateText, headFirst, orderColumns, orderKey } from "./columns.js";
import { el, panel, setText } from "./dom.js";
import { count } from "./format.js";
import { data } from "./store.js";
import { liveTable } from "./table.js";

export const orders = {
  title: "Orders",
  mount(main) {
    const now = () => data.overview?.clock_ns ?? 0;
    const note = el("p", { class: "note" });
    const table = liveTable({ caption: "Orders, the newest first", columns: headFirst(orderColumns(now)), key: orderKey, empty: "No order has been published." });
    main.append(el("h1", { class: "unseen", tabindex: "-1" }, "Orders"), panel("Orders", {}, note, table.element));
    function update() {
      const said = data.orders;
      if (!said) return;
      const silent = said.rows.filter((row) => fateText(row, now()).includes("nothing heard")).length;
      setText(note, `${count(said.rows.length)} newest of ${count(said.kept)} orders kept; of these ${count(silent)} of which nothing was heard`);
      table.update(said.rows);
    }
    return { sections: ["orders"], update };
  },
};
