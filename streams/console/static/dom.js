// Elements from names, attributes and children. Data only ever becomes text or an attribute's value, never markup.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

// Writes only what differs: text that is being read, or selected, stays where it is.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A titled part of a view; `note` says in a line what it shows.
export function panel(title, { note = "", className = "" } = {}, ...children) {
  const head = el("div", { class: "panel-head" }, el("h2", {}, title), note ? el("p", { class: "note" }, note) : null);
  return el("section", { class: `panel ${className}`.trim() }, head, ...children);
}

// Pairs of a name and what it is; values may be text or elements.
export function facts(pairs) {
  return el("dl", { class: "facts" }, ...pairs.filter(Boolean).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}
