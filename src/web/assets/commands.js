// Commands on their way. The page never guesses: until the response is there an outlet is "turning on", and what it
// shows as on or off is what the device confirmed.

import { send } from "./bus.js";
import { touch } from "./store.js";
import { capital, why } from "./format.js";
import { t } from "./texts.js";

const commands = new Map(); // path or group/<id> → { want, phase: "pending" | "failed", error, payload }

export const command = (path) => commands.get(path);
export const isPending = (path) => commands.get(path)?.phase === "pending";

const keyOf = (path) => (path.startsWith("group/") ? path : `outlet/${path}`);

function keep(path, state) {
  if (state) commands.set(path, state);
  else commands.delete(path);
  touch(keyOf(path));
}

/** Switches an outlet or a group. `payload` is that of the `set` topic: ON, OFF or AUTO, never TOGGLE. */
export async function switchTo(path, name, payload) {
  const mine = { want: payload.state, phase: "pending", payload };
  keep(path, mine);
  const answer = await send(`${path}/set`, payload);
  if (commands.get(path) !== mine) return; // a newer one took its place
  if (answer.status === "ok") {
    keep(path, null);
    const words = { ON: t.said.isOn, OFF: t.said.isOff, AUTO: t.said.follows }[payload.state] ?? t.said.done;
    say(words(name));
  } else {
    keep(path, { ...mine, phase: "failed", error: answer.error });
    say(pick(payload.state, t.said.failedOn, t.said.failedOff, t.said.failed)(name, why(answer.error)));
  }
}

const pick = (want, on, off, other) => (want === "ON" ? on : want === "OFF" ? off : other);

/** What to show below the row of a failed command. */
export const failure = ({ want, error }) => pick(want, t.said.couldNotOn, t.said.couldNotOff, t.said.couldNot)(why(error));

export const dismiss = (path) => keep(path, null);

/** Sends a request; resolves to its data, or to null after the page showed why not. */
export async function request(name, payload = {}) {
  return show(await send(`bridge/request/${name}`, payload));
}

/** Sends a message to any other command topic; the same. */
export async function message(topic, payload) {
  return show(await send(topic, payload));
}

const BUSY = 20; // times that a busy bridge is asked again

/** Reads what a page wants to show; resolves to null where the bridge cannot be asked. */
export async function ask(name, payload = {}) {
  for (let tries = 0; ; tries += 1) {
    const { data, error } = await send(`bridge/request/${name}`, payload);
    if (error?.code !== "busy" || tries === BUSY) return data ?? null;
    await new Promise((done) => setTimeout(done, 250));
  }
}

function show(answer) {
  if (answer.status === "ok") return answer.data ?? {};
  toast(`${capital(why(answer.error))}.`, { tone: "bad" });
  return null;
}

/** Reads a sentence aloud, without showing it: the change is already there to see. */
export function say(words) {
  document.getElementById("said").textContent = words;
}

// Set by the page, so that this module builds no elements.
let toast = () => {};
export const onToast = (call) => {
  toast = call;
};
