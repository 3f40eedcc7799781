// Who owns each partition and how it stands, and what each worker says of itself.

import { el, panel } from "./dom.js";
import { clock, count, duration } from "./format.js";
import { ask, data, stream } from "./store.js";
import { liveTable } from "./table.js";

const EVERY_MS = 5000;
const LATE_S = 15; // what is as old as this is shown as late

const columns = (nowMs) => [
  { head: "partition", className: "name", text: (row) => `${row.machine} ${row.partition}` },
  { head: "owner", text: (row) => row.owner },
  { head: "mode", text: (row) => row.mode },
  { head: "frames behind", className: "num", text: (row) => `${count(Math.max(0, row.log_end - 1 - row.applied))}` },
  { head: "applied", className: "num wide", text: (row) => count(row.applied) },
  { head: "cut at", className: "num wide", text: (row) => count(row.cut_applied) },
  {
    head: "told",
    className: "num",
    text: (row) => `${duration(Math.round((nowMs() - row.at_ms) / 1000))} ago`,
    render: (row) => {
      const s = Math.round((nowMs() - row.at_ms) / 1000);
      return el("span", { class: s > LATE_S ? "bad" : "" }, `${duration(s)} ago`);
    },
  },
  { head: "a cut takes", className: "num", text: (row) => duration(row.cut_seconds) },
  { head: "oldest not applied", className: "num wide", text: (row) => duration(row.oldest_seconds) },
  { head: "rows", className: "num roomy", text: (row) => count(row.rows) },
  { head: "clock", className: "num wide", text: (row) => clock(row.clock_ns) },
  { head: "loaded in", className: "num roomy", text: (row) => duration(row.loaded_seconds) },
  { head: "parameters", className: "roomy", text: (row) => row.parameters },
  { head: "engine", className: "num roomy", text: (row) => count(row.engine_version) },
];

const workerColumns = [
  { head: "worker", className: "name", text: (row) => row.owner },
  { head: "pages", text: (row) => row.pages, render: (row) => (row.pages ? el("a", { href: `${row.pages}/`, rel: "noreferrer" }, row.pages) : "") },
  { head: "ready", text: (row) => (row.ready ? "ready" : "not ready"), render: (row) => el("span", { class: row.ready ? "good" : "bad" }, row.ready ? "ready" : "not ready") },
  { head: "says", className: "fate", text: (row) => (row.ready ? "" : row.said) },
];

export const pipeline = {
  title: "Pipeline",
  mount(main) {
    const skew = { ms: 0 };
    const nowMs = () => Date.now() + skew.ms;
    const table = liveTable({ caption: "Partitions", columns: columns(nowMs), key: (row) => `${row.machine}/${row.partition}`, empty: "No partition has told anything yet." });
    const workers = liveTable({ caption: "Workers", columns: workerColumns, key: (row) => row.owner + row.pages, empty: "No worker is known yet." });
    main.append(
      el("h1", { class: "unseen", tabindex: "-1" }, "Pipeline"),
      panel("Partitions", { note: "each tells with its cut, about once a second" }, table.element),
      panel("Workers", { note: "what /ready says at each" }, workers.element),
    );
    async function question() {
      if (stream.held) return;
      try {
        workers.update(await ask("/api/workers"));
      } catch {
        // the header says that the stream is lost; what was known stays
      }
    }
    question();
    const timer = setInterval(question, EVERY_MS);
    function update() {
      if (!data.pipeline) return;
      if (data.overview) skew.ms = data.overview.now_ms - Date.now();
      table.update(data.pipeline.rows);
    }
    return { sections: ["pipeline", "overview"], update, close: () => clearInterval(timer) };
  },
};
