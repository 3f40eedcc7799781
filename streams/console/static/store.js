// What the server has said: the newest of each section, and who wants to know when it changes.

const POLL_MS = 5000;
const SILENT_MS = 6000;
const SECTIONS = ["overview", "accounts", "orders", "breakers", "marks", "chains", "pipeline", "decisions", "letters"];

export const data = Object.fromEntries(SECTIONS.map((section) => [section, null]));
export const stream = { state: "connecting", held: false };

const listeners = new Set();
let source = null;
let heardAt = performance.now();
let polling = null;

// `call` is called when one of `sections` ('stream' for the connection) has changed, `always` even while the page is held; the answer
// takes it off the list.
export function watch(sections, call, { always = false } = {}) {
  const entry = { sections: new Set(sections), call, always };
  listeners.add(entry);
  return () => listeners.delete(entry);
}

function tell(section) {
  for (const { sections, call, always } of [...listeners]) if (sections.has(section) && (always || !stream.held)) call(section);
}

function take(section, content) {
  heardAt = performance.now();
  data[section] = content;
  tell(section);
}

function setState(state) {
  if (stream.state === state) return;
  stream.state = state;
  tell("stream");
}

// Holds the page as it is; what came meanwhile is shown when it goes on.
export function hold(held) {
  stream.held = held;
  tell("stream");
  if (!held) SECTIONS.forEach(tell);
}

export async function ask(path, signal) {
  const answer = await fetch(path, { signal, cache: "no-store" });
  if (!answer.ok) throw new Error(`${path} answers ${answer.status}: ${(await answer.text()).trim()}`);
  return answer.json();
}

export function connect() {
  source = new EventSource("/api/stream");
  for (const section of SECTIONS) {
    source.addEventListener(section, (event) => {
      setState("live");
      take(section, JSON.parse(event.data));
    });
  }
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) return setState("lost");
    setState("polling"); // refused: as many as can be served are reading already
    polling ??= setInterval(poll, POLL_MS);
    poll();
  });
  setInterval(() => {
    if (stream.state === "live" && performance.now() - heardAt > SILENT_MS) setState("silent");
  }, 1000);
}

async function poll() {
  try {
    for (const section of SECTIONS) take(section, await ask(`/api/${section}`));
    setState("polling");
  } catch {
    setState("lost");
  }
}
