// A table whose rows keep their elements while they change and move, so that focus, selection and the reader's place stay.

import { el } from "./dom.js";

// columns: {head, text(row), render?(row), className?, title?(row)}; the first one heads its row. `key(row)` tells rows apart.
// A table that is wider than its place scrolls there, by keyboard too, unless it is `narrow`.
export function liveTable({ caption, columns, key, empty = "Nothing here.", narrow = false }) {
  const body = el("tbody");
  const note = el("p", { class: "empty" }, empty);
  const table = el(
    "table",
    {},
    el("caption", { class: "unseen" }, caption),
    el("thead", {}, el("tr", {}, ...columns.map((column) => el("th", { scope: "col", class: column.className }, column.head)))),
    body,
  );
  const element = el("div", narrow ? {} : { class: "table", tabindex: "0", role: "region", "aria-label": caption }, table, note);
  const rows = new Map();

  function make() {
    const cells = columns.map((column, k) => el(k === 0 ? "th" : "td", { scope: k === 0 ? "row" : null, class: column.className }));
    return { element: el("tr", {}, ...cells), cells, told: columns.map(() => null) };
  }

  function fill(line, row) {
    columns.forEach((column, k) => {
      const text = column.text(row);
      const title = column.title?.(row) ?? "";
      if (line.cells[k].title !== title) line.cells[k].title = title;
      if (line.told[k] === text) return;
      line.told[k] = text;
      line.cells[k].replaceChildren(column.render ? column.render(row) : text);
    });
  }

  function update(content) {
    const focused = body.contains(document.activeElement) ? document.activeElement : null;
    const seen = new Set();
    content.forEach((row, at) => {
      const id = key(row);
      seen.add(id);
      let line = rows.get(id);
      if (!line) rows.set(id, (line = make()));
      fill(line, row);
      if (body.children[at] !== line.element) body.insertBefore(line.element, body.children[at] ?? null);
    });
    for (const [id, line] of rows) {
      if (seen.has(id)) continue;
      line.element.remove();
      rows.delete(id);
    }
    if (focused && document.activeElement !== focused && body.contains(focused)) focused.focus({ preventScroll: true });
    table.hidden = content.length === 0;
    note.hidden = content.length > 0;
  }

  update([]);
  return { element, update };
}
