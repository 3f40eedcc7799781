// All accounts, the worst first; by state, and by any part of a name.

import { accountColumns } from "./columns.js";
import { el, panel, setText } from "./dom.js";
import { count } from "./format.js";
import { STATES, stateMark } from "./parts.js";
import { ask, data } from "./store.js";
import { liveTable } from "./table.js";

const LIMIT = 200;
const PAUSE_MS = 250; // after a key, and between two questions
const kept = { state: "", search: "", opened: "" };

export const accounts = {
  title: "Accounts",
  mount(main) {
    const asked = new URLSearchParams(location.hash.split("?")[1] ?? "").get("state");
    if (STATES.includes(asked)) kept.state = asked;
    const search = el("input", { type: "search", id: "search", placeholder: "any part of a name", autocomplete: "off", spellcheck: "false", "aria-keyshortcuts": "/" });
    search.value = kept.search;
    const filters = STATES.map((state) => {
      const number = el("span", { class: "number" });
      const button = el("button", { type: "button", class: `filter state-${state.toLowerCase()}` }, stateMark(state), `${state.toLowerCase()} `, number);
      button.addEventListener("click", () => {
        kept.state = kept.state === state ? "" : state;
        refresh();
      });
      return { state, button, number };
    });
    const found = el("p", { class: "note" });
    const table = liveTable({ caption: "Accounts, the worst first", columns: accountColumns, key: (row) => row.health.account, empty: "No account is like that." });
    table.element.addEventListener("click", (event) => {
      const link = event.target.closest("a");
      if (link) kept.opened = link.textContent;
    });
    let answer = null;
    let waiting = 0;
    let asking = null;

    function showRows(said) {
      table.update(said.rows);
      const left = data.overview?.accounts_left_out ? `; accounts beyond ${count(said.of)} are not shown` : "";
      setText(found, `${count(said.rows.length)} of ${count(said.matching)} shown, ${count(said.of)} accounts in all${left}`);
      if (kept.opened) {
        const link = [...table.element.querySelectorAll("tbody th a")].find((one) => one.textContent === kept.opened);
        kept.opened = "";
        link?.focus();
      }
    }

    async function question() {
      waiting = 0;
      asking?.abort();
      asking = new AbortController();
      const query = new URLSearchParams({ state: kept.state, search: kept.search, limit: LIMIT });
      try {
        answer = await ask(`/api/accounts?${query}`, asking.signal);
        showRows(answer);
      } catch (error) {
        if (error.name !== "AbortError") setText(found, error.message);
      }
    }

    function refresh() {
      for (const { state, button } of filters) button.setAttribute("aria-pressed", kept.state === state);
      waiting ||= setTimeout(question, PAUSE_MS);
    }

    search.addEventListener("input", () => {
      kept.search = search.value.trim();
      refresh();
    });
    main.append(
      el("h1", { class: "unseen", tabindex: "-1" }, "Accounts"),
      el(
        "div",
        { class: "filters", role: "search" },
        el("label", { for: "search" }, "Search"),
        search,
        el("div", { class: "chips", role: "group", "aria-label": "Only accounts in one state" }, ...filters.map(({ button }) => button)),
      ),
      panel("Accounts", {}, found, table.element),
    );
    question();

    function update() {
      for (const { state, number } of filters) setText(number, data.overview ? count(data.overview.states[state]) : "");
      refresh();
    }
    return {
      sections: ["accounts"],
      update,
      close() {
        clearTimeout(waiting);
        asking?.abort();
      },
    };
  },
};
