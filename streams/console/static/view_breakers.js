// Breakers with what tripped them and since when, how they changed, and the chains whose lateness trips one kind of them.

import { TRIGGERS, breakerColumns, breakerValue } from "./columns.js";
import { el, panel } from "./dom.js";
import { clock, count, duration, percent, words } from "./format.js";
import { breakerMark } from "./parts.js";
import { data } from "./store.js";
import { liveTable } from "./table.js";

const changeColumns = [
  { head: "what", className: "name", text: (row) => row.name },
  { head: "time", className: "num", text: (row) => clock(row.since_ns) },
  { head: "trigger", text: (row) => TRIGGERS[row.trigger] ?? words(row.trigger) },
  { head: "became", text: (row) => row.state, render: (row) => breakerMark(row.state) },
  { head: "value of limit", className: "num", text: breakerValue },
];

const chainColumns = [
  { head: "chain", className: "name", text: (row) => row.chain },
  { head: "breaker", text: (row) => row.breaker, render: (row) => breakerMark(row.breaker) },
  { head: "attested after", className: "num", text: (row) => duration(row.lag_p95_seconds) },
  { head: "heard", className: "num", text: (row) => (row.heartbeat_age_seconds === null ? "never" : `${duration(row.heartbeat_age_seconds)} ago`) },
  { head: "finality", className: "num wide", text: (row) => duration(row.finality_seconds) },
  { head: "messages by", className: "wide", text: (row) => row.layer },
  { head: "premium", className: "num wide", text: (row) => percent(row.security_premium, 2) },
];

export const breakers = {
  title: "Breakers and chains",
  mount(main) {
    const now = () => data.overview?.clock_ns ?? 0;
    const columns = [...breakerColumns(now), { head: "seen so by", className: "num wide", text: (row) => `${count(row.partitions)} of ${count(row.partitions_told)}` }];
    const table = liveTable({ caption: "Breakers", columns, key: (row) => `${row.trigger}/${row.name}`, empty: "None has ever tripped." });
    const chains = liveTable({ caption: "Chains", columns: chainColumns, key: (row) => row.chain, empty: "No chain is known yet." });
    const changes = liveTable({ caption: "Changes of breakers", columns: changeColumns, key: (row) => `${row.trigger}/${row.name}/${row.state}/${row.since_ns}`, empty: "None has ever tripped." });
    main.append(
      el("h1", { class: "unseen", tabindex: "-1" }, "Breakers and chains"),
      el(
        "div",
        { class: "columns" },
        panel("Breakers", { note: "those that have ever left closed; as the partitions see it that are furthest from it" }, table.element),
        el("div", { class: "stack" }, panel("Chains", { note: "95 of 100 attestations came within this time" }, chains.element), panel("Changes", { note: "the newest first" }, changes.element)),
      ),
    );
    function update() {
      table.update(data.breakers?.rows ?? []);
      changes.update(data.breakers?.changes ?? []);
      chains.update(data.chains?.rows ?? []);
    }
    return { sections: ["breakers", "chains"], update };
  },
};
