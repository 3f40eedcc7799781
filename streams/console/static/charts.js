// Charts by plotly, whose script is fetched when the first chart is drawn. What a chart shows stands in tables too.

import { el } from "./dom.js";

const AGAIN_MS = 10000; // after which a script that could not be loaded is asked for again

let loading = null;
const drawn = new Set();

function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = el("script", { src: "/static/plotly.min.js", onload: () => resolve(window.Plotly), onerror: failed });
    function failed() {
      setTimeout(() => (loading = null), AGAIN_MS);
      script.remove();
      reject(new Error("no plotly"));
    }
    document.head.append(script);
  });
  return loading;
}

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function layout(height, more) {
  const axis = { gridcolor: colour("--rule"), linecolor: colour("--rule"), zeroline: false, automargin: true, tickfont: { size: 10 } };
  return {
    height,
    margin: { l: 6, r: 8, t: 6, b: 6 },
    font: { family: getComputedStyle(document.body).fontFamily, size: 11, color: colour("--quiet") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--rule"), font: { color: colour("--ink"), size: 11 } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 } },
    ...more,
    xaxis: { ...axis, type: "date", ...more?.xaxis },
    yaxis: { ...axis, rangemode: "tozero", ...more?.yaxis },
  };
}

// `make()` answers {traces, layout, said}: drawn anew on update() and when the theme changes; `said` is what it shows, in words.
export function chart(title, height, make) {
  const plot = el("div", { class: "plot", style: `height:${height}px` });
  const figure = el("div", { class: "chart", role: "img", "aria-label": title }, plot);
  let asked = false;
  async function update() {
    if (asked) return;
    asked = true;
    try {
      const Plotly = await plotly();
      asked = false;
      if (!figure.isConnected) return;
      plot.querySelector(".empty")?.remove();
      const made = make();
      figure.setAttribute("aria-label", made.said);
      await Plotly.react(plot, made.traces, layout(height, made.layout), { displayModeBar: false, responsive: true });
    } catch {
      asked = false;
      plot.replaceChildren(el("p", { class: "empty" }, "The chart cannot be drawn; the numbers are in the tables."));
    }
  }
  drawn.add(update);
  return { element: figure, update, close: () => (drawn.delete(update), window.Plotly?.purge(plot)) };
}

export function redraw() {
  drawn.forEach((update) => update());
}

// Times as plotly shows them: in UTC.
export function utc(ns) {
  return new Date(ns / 1e6).toISOString().slice(0, 23);
}
