// What was refused: by topic and reason, and the newest records one by one.

import { el, panel } from "./dom.js";
import { count, words } from "./format.js";
import { data } from "./store.js";
import { liveTable } from "./table.js";

const countColumns = [
  { head: "reason", className: "name", text: (row) => words(row.reason) },
  { head: "topic", text: (row) => row.topic },
  { head: "records", className: "num", text: (row) => count(row.count) },
];

const letterColumns = [
  { head: "record", className: "name", text: (row) => `${row.topic}/${row.partition}/${row.offset}` },
  { head: "reason", text: (row) => words(row.reason) },
  { head: "key", className: "wide", text: (row) => row.key ?? "" },
  { head: "detail", className: "fate", text: (row) => row.detail },
];

const unreadableColumns = [
  { head: "topic", className: "name", text: (row) => row.topic },
  { head: "records", className: "num", text: (row) => count(row.count) },
];

export const letters = {
  title: "Refused",
  mount(main) {
    const counts = liveTable({ caption: "Refused records by reason", columns: countColumns, key: (row) => `${row.topic}/${row.reason}`, empty: "Nothing was refused." });
    const newest = liveTable({ caption: "The newest refused records", columns: letterColumns, key: (row) => `${row.topic}/${row.partition}/${row.offset}`, empty: "Nothing was refused." });
    const unreadable = liveTable({ caption: "Records that the console cannot read", columns: unreadableColumns, key: (row) => row.topic, empty: "It could read everything." });
    main.append(
      el("h1", { class: "unseen", tabindex: "-1" }, "Refused"),
      el("div", { class: "columns even" }, panel("By reason", {}, counts.element), panel("Not readable here", { note: "of a later version, or not ours" }, unreadable.element)),
      panel("The newest", { note: "redrive them when they are put right" }, newest.element),
    );
    function update() {
      if (!data.letters) return;
      counts.update([...data.letters.counts].sort((a, b) => b.count - a.count));
      newest.update(data.letters.newest);
      unreadable.update(Object.entries(data.letters.unreadable).map(([topic, number]) => ({ topic, count: number })));
    }
    return { sections: ["letters"], update };
  },
};
