// The connection to the bridge. Down: server-sent events, first `hello` with the bridge's time and version, then one JSON
// `{topic, payload}` each: everything retained, `{topic: null}`, and every change. Where streams do not get through, the
// page asks for changes instead. Up: POST of `{topic, payload}`, answered with the response of the command, so that a
// failure appears at the button that was pressed. All URLs are relative: it works below any prefix.

const QUIET = 35_000; // two heartbeats of 15 s were missed: the connection is dead, whatever the browser shows
const NO_STREAM = 8_000; // a proxy that collects a stream lets nothing through
const RETRY = 3_000;
const POLL = 2_000;

let position = ""; // the id of the last message: a new connection goes on from there
let version;
let source;
let timer;
let attempt = 0; // an answer to an earlier one comes too late to change anything
let listener;

/** Connects, and calls `listener`: `hello`, `message`, and `status` with connected, connecting, lost or login. */
export function connect(calls) {
  listener = calls;
  open();
  addEventListener("online", open);
}

/** Connects now. */
export function open() {
  close();
  listener.status("connecting");
  source = new EventSource(`api/events?after=${position}`);
  after(NO_STREAM, poll);
  source.addEventListener("hello", (event) => {
    hello(JSON.parse(event.data));
    listener.status("connected");
    alive();
  });
  source.addEventListener("beat", alive);
  source.onmessage = (event) => {
    alive();
    position = event.lastEventId || position;
    listener.message(JSON.parse(event.data));
  };
  source.onerror = () => {
    listener.status("lost");
    // The browser reconnects by itself, except after a response that is no event stream.
    if (source.readyState === EventSource.CLOSED) find();
    else after(QUIET, open);
  };
}

/** Ends the attempt that goes on. Returns whether the one that begins is still the last one. */
function close() {
  source?.close();
  source = undefined;
  clearTimeout(timer);
  const own = ++attempt;
  return () => own === attempt;
}

function after(time, call) {
  clearTimeout(timer);
  timer = setTimeout(call, time);
}

const alive = () => after(QUIET, open);

function hello(said) {
  if (version && version !== said.version) location.reload(); // the bridge was updated, so this page is old
  version = said.version;
  listener.hello(said);
}

/** Why there is no stream: a login is missing, or the bridge is away. */
async function find() {
  const isLast = close();
  const response = await fetch(`api/changes?after=${position}`).catch(() => null);
  if (!isLast()) return;
  if (response?.status === 401) return listener.status("login");
  after(RETRY, open);
}

/** Asks for changes, again and again. */
async function poll() {
  const isLast = close();
  try {
    const response = await fetch(`api/changes?after=${position}`, { signal: AbortSignal.timeout(15_000) });
    const said = response.status === 401 ? null : await response.json();
    if (!isLast()) return;
    if (!said) return listener.status("login");
    hello(said.hello);
    listener.status("connected");
    for (const one of said.changes) listener.message(one);
    if (!said.more) listener.message({ topic: null });
    position = said.id;
    after(said.more ? 0 : POLL, poll);
  } catch {
    if (!isLast()) return;
    listener.status("lost");
    after(RETRY, open);
  }
}

const post = (path, body, patience = 15_000) =>
  fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Tapo2mqtt": "1" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(patience),
  });

/** Sends one message to a command or request topic; resolves to its response and never rejects. */
export async function send(topic, payload, patience) {
  try {
    const response = await post("api/send", { topic, payload }, patience);
    if (response.status === 401) find();
    return await response.json();
  } catch {
    return { status: "error", state: null, error: { code: "lost", message: "", origin: "page" } };
  }
}

/** Logs in; resolves to null, or to the code of why not. */
export async function login(password) {
  try {
    const response = await post("api/login", { password });
    return response.ok ? null : (await response.json()).error.code;
  } catch {
    return "lost";
  }
}

export async function logout() {
  await post("api/logout", {}).catch(() => null);
  find();
}
