// What single keys do. They can be turned off, for those whose hands or voice press keys by accident.

import { el } from "./dom.js";

const KEYS = [
  ["/", "search the accounts"],
  ["j  k  ↓  ↑", "the next and the previous row of the table"],
  ["Enter", "open it"],
  ["Esc", "close, clear, or go back"],
  ["1 … 8", "the views, from left to right"],
  ["p", "hold the page as it is, and go on"],
  ["?", "these keys"],
];

const off = () => localStorage.getItem("keys") === "off";

function typing(target) {
  return target instanceof HTMLInputElement || target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement;
}

// The links that rows are opened by, of the table in which the focus is, else of the first table that has some.
function rowLinks() {
  const table = document.activeElement?.closest("table") ?? [...document.querySelectorAll("main table")].find((one) => one.querySelector("tbody a"));
  return table ? [...table.querySelectorAll("tbody th a")] : [];
}

function step(by) {
  const links = rowLinks();
  if (!links.length) return false;
  const row = document.activeElement?.closest("tr");
  const at = links.findIndex((link) => link.closest("tr") === row);
  const next = links[at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.max(0, Math.min(links.length - 1, at + by))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
  return true;
}

function escape() {
  const focused = document.activeElement;
  if (focused instanceof HTMLInputElement && focused.type === "search") {
    if (focused.value) {
      focused.value = "";
      focused.dispatchEvent(new Event("input"));
    } else focused.blur();
    return true;
  }
  const back = document.querySelector("main [data-back]");
  if (back) back.click();
  return Boolean(back);
}

export function listenToKeys({ dialog, button, views, hold }) {
  const box = el("input", { type: "checkbox", id: "keys-on" });
  box.checked = !off();
  box.addEventListener("change", () => localStorage.setItem("keys", box.checked ? "on" : "off"));
  dialog.append(
    el("h2", { id: "keys-title" }, "Keys"),
    el("dl", { class: "keys" }, ...KEYS.map(([key, what]) => el("div", {}, el("dt", {}, el("kbd", {}, key)), el("dd", {}, what)))),
    el("p", {}, box, el("label", { for: "keys-on" }, " Single keys are on")),
    el("form", { method: "dialog" }, el("button", {}, "Close")),
  );
  button.addEventListener("click", () => dialog.showModal());

  function search() {
    const box = document.getElementById("search");
    if (box) box.focus();
    else {
      location.hash = "#/accounts";
      setTimeout(() => document.getElementById("search")?.focus()); // when the view is there
    }
    return true;
  }

  function act(key) {
    if (key === "/") return search();
    if (key === "?") return dialog.showModal(), true;
    if (key === "p") return hold(), true;
    if (key === "j" || key === "k") return step(key === "j" ? 1 : -1);
    if (/^[1-9]$/.test(key) && views[key - 1] !== undefined) return (location.hash = views[key - 1]), true;
    return false;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    const inTable = document.activeElement?.closest("tbody");
    let done = false;
    if (event.key === "Escape") done = escape();
    else if (event.key === "ArrowDown" && document.activeElement?.id === "search") done = step(1);
    else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && inTable) done = step(event.key === "ArrowDown" ? 1 : -1);
    else if (!typing(event.target) && !off()) done = act(event.key);
    if (done) event.preventDefault();
  });
}
