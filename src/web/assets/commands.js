// Commands on their way. The page never guesses: until the response is there an outlet is "turning on", and what it
// shows as on or off is what the device confirmed.
//
// Nothing else sends messages, so that no part of the page switches what the settings want a question for without one.

import { send } from "./bus.js";
import { confirm, toast } from "./dialog.js";
import { guarded, touch } from "./store.js";
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

/** Whether messages may be sent that concern `outlets` with `confirm`, or whose question has words: a person says so. */
async function agreed(outlets, { yes = t.action.change, title = `${yes}?`, words = "", bad } = {}) {
  const names = outlets.map((one) => one.name).join(", ");
  const all = names ? `${words} ${t.action.guarded(names)}`.trim() : words;
  return !all || confirm(title, all, yes, { bad });
}

/** Resolves to the response, or to null where a person did not agree. */
export async function deliver(topic, payload, question, patience) {
  return (await agreed(guarded(topic, payload), question)) ? send(topic, payload, patience) : null;
}

const verbs = { ON: t.action.turnOn, OFF: t.action.turnOff, AUTO: t.action.resumeFor };

/** Switches an outlet or a group, by a payload of the `set` topic; never TOGGLE. Resolves to whether it was done. */
export async function switchTo(path, name, payload) {
  const yes = (verbs[payload.state] ?? t.action.changeOf)(name);
  return (await agreed(guarded(`${path}/set`), { yes })) && carryOut(path, name, payload);
}

/** The same for several, after one question. */
export async function switchAll(outlets, payload, question) {
  const asked = outlets.flatMap(({ path }) => guarded(`${path}/set`));
  if (await agreed(asked, question)) for (const { path, name } of outlets) carryOut(path, name, payload);
}

async function carryOut(path, name, payload) {
  const mine = { want: payload.state, phase: "pending", payload };
  keep(path, mine);
  const answer = await send(`${path}/set`, payload);
  const done = answer.status === "ok";
  if (commands.get(path) !== mine) return done; // a newer one took its place
  if (done) {
    keep(path, null);
    const words = { ON: t.said.isOn, OFF: t.said.isOff, AUTO: t.said.follows }[payload.state] ?? t.said.done;
    say(words(name));
  } else {
    keep(path, { ...mine, phase: "failed", error: answer.error });
    say(pick(payload.state, t.said.failedOn, t.said.failedOff, t.said.failed)(name, why(answer.error)));
  }
  return done;
}

const pick = (want, on, off, other) => (want === "ON" ? on : want === "OFF" ? off : other);

/** What to show below the row of a failed command. */
export const failure = ({ want, error }) => pick(want, t.said.couldNotOn, t.said.couldNotOff, t.said.couldNot)(why(error));

export const dismiss = (path) => keep(path, null);

/** Sends a request; resolves to its data, or to null after the page showed why not. */
export const request = (name, payload = {}, question) => message(`bridge/request/${name}`, payload, question);

/** Sends a message to any other command topic; the same. */
export async function message(topic, payload, question) {
  const answer = await deliver(topic, payload, question);
  if (answer?.status === "ok") return answer.data ?? {};
  if (answer) toast(`${capital(why(answer.error))}.`, { tone: "bad" });
  return null;
}

const BUSY = 20; // times that a busy bridge is asked again

/** Reads what a page wants to show; resolves to null where the bridge cannot be asked. */
export async function ask(name, payload = {}) {
  for (let tries = 0; ; tries += 1) {
    const answer = await deliver(`bridge/request/${name}`, payload);
    if (answer?.error?.code !== "busy" || tries === BUSY) return answer?.data ?? null;
    await new Promise((done) => setTimeout(done, 250));
  }
}

/** Reads a sentence aloud, without showing it: the change is already there to see. */
export function say(words) {
  document.getElementById("said").textContent = words;
}
