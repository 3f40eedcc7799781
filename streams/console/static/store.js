// What the server has said: the newest of each section, and who wants to know when it changes.

const POLL_MS = 5000;
const AGAIN_MS = 30000; // after which a stream that was refused is asked for again
const SILENT_MS = 6000;
const SECTIONS = ["overview", "accounts", "orders", "breakers", "marks", "chains", "pipeline", "decisions", "letters"];

export const data = Object.fromEntries(SECTIONS.map((section) => [section, null]));
export const stream = { state: "connecting", status: 0, held: false };

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

// `status`: of the answer by which we were refused, 0 where there was none.
function setState(state, status = 0) {
  if (stream.state === state && stream.status === status) return;
  Object.assign(stream, { state, status });
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
  if (!answer.ok) throw Object.assign(new Error(`${path} answers ${answer.status}: ${(await answer.text()).trim()}`), { status: answer.status });
  return answer.json();
}

export function connect() {
  open();
  setInterval(() => {
    if (stream.state === "live" && performance.now() - heardAt > SILENT_MS) setState("silent");
  }, 1000);
}

function open() {
  source = new EventSource("/api/stream");
  for (const section of SECTIONS) {
    source.addEventListener(section, (event) => {
      clearInterval(polling);
      polling = null;
      setState("live");
      take(section, JSON.parse(event.data));
    });
  }
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) return setState("lost");
    setTimeout(open, AGAIN_MS);
    polling ??= setInterval(poll, POLL_MS);
    poll();
  });
}

// The browser does not tell why the stream was refused. Where the rest is answered, as many as can be served are reading it already.
async function poll() {
  try {
    for (const section of SECTIONS) take(section, await ask(`/api/${section}`));
    if (polling) setState("polling");
  } catch (error) {
    if (polling) setState(error.status ? "refused" : "lost", error.status);
  }
}
