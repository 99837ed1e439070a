// One outlet: its switch, how long, why it is what it is, what it draws.

import { h, replace, set, text } from "./dom.js";
import { icon } from "./icons.js";
import { everySecond } from "./clock.js";
import { ago, atWhen, capital, energy, lasted, left, number, power, signal, when } from "./format.js";
import { health, outlet, topic, watch } from "./store.js";
import { isPending, switchTo } from "./commands.js";
import { dialog } from "./dialog.js";
import { facts, failureLine, switchButton } from "./parts.js";
import { describe, next } from "./words.js";
import { t } from "./texts.js";

const icons = { safety: "lock", override: "hand", vacation: "suitcase", schedule: "week", manual: "hand", device: "hand" };

export function open(path, scope, onclose) {
  const one = outlet(path);
  if (!one) return onclose();
  const { box, body } = dialog(one.name, { onclose });
  const words = h("p.big-words");
  const draw = h("p.big-power");
  const button = switchButton(path, { "aria-label": one.name });
  const problem = failureLine(path);
  const why = h("ol.ladder");
  const list = h("dl.facts");
  let counts;
  let decided;

  const show = () => {
    const state = outlet(path);
    if (!state) return text(words, t.outlet.gone);
    const said = describe(state);
    counts = said.counts;
    text(words, said.words);
    box.dataset.tone = said.tone;
    const drawn = state.power == null ? (state.state ? t.action[state.state.toLowerCase()] : t.dash) : power(state.power);
    text(draw, state.reachable ? drawn : t.dash);
    button.show(state);
    problem.show();
    const cause = JSON.stringify([state.why, state.reason, state.group]);
    if (cause !== decided) replace(why, ladder(state));
    decided = cause;
    facts(list, details(state));
  };
  replace(
    body,
    h("div.big", h("div", draw, words), button),
    problem,
    durations(path, scope),
    h("section", h("h3", t.outlet.why), why),
    h("section", h("h3", t.outlet.detailsTitle), list),
  );
  watch(scope, [`outlet/${path}`, "structure", "bridge/health"], show);
  everySecond(scope, () => counts && show());
}

/** All that says what the outlet should be, the strongest first, in the words of the bridge; with schedules also what does not. */
function ladder(one) {
  const why = one.why ?? [];
  const scheduled = one.group?.schedules.length > 0;
  if (why.length === 0 && !scheduled)
    return rung({ source: "manual", state: one.state, reason: one.reason ?? (one.group ? "" : t.outlet.noGroup), decides: true });
  const absent = (source) => scheduled && !why.some((layer) => icons[layer.source] === icons[source]);
  const order = ["safety", "override", "vacation", "schedule"];
  const rank = ({ source }) => order.findIndex((one) => icons[one] === icons[source]);
  const layers = [...why, ...order.filter(absent).map((source) => ({ source, reason: t.outlet.nothing }))];
  return layers.sort((a, b) => rank(a) - rank(b)).map(rung);
}

function rung({ source, state, reason, decides }) {
  return h(
    decides ? "li.rung.decides" : "li.rung",
    { "data-source": source },
    icon(icons[source] ?? "info", 18),
    h("div", h("strong", t.outlet.source[source] ?? source, decides && h("span.tag", t.outlet.decides)), h("span", capital(reason))),
    state && h("span", capital(state === "ON" ? t.on : t.off)),
  );
}

/** On or off for a while: an override where there are schedules, a timer elsewhere. */
function durations(path, scope) {
  const chip = (label, payload) =>
    h("button.chip", { onclick: () => switchTo(path, outlet(path).name, payload) }, label);
  const off = chip(t.outlet.offFor("1 h"), { state: "OFF", for: "1h" });
  const cancel = chip(t.outlet.cancelTimer, { countdown: 0 });
  const resume = chip(t.action.resume, { state: "AUTO" });
  const box = h(
    "div.chips",
    { role: "group", "aria-label": t.outlet.forAWhile },
    chip(t.outlet.onFor("30 min"), { state: "ON", on_time: "30m" }),
    chip(t.outlet.onFor("1 h"), { state: "ON", on_time: "1h" }),
    chip(t.outlet.onFor("2 h"), { state: "ON", on_time: "2h" }),
    off,
    cancel,
    resume,
  );
  watch(scope, [`outlet/${path}`, "structure"], () => {
    const one = outlet(path);
    if (!one) return;
    // Without schedules nothing turns it on again.
    off.hidden = !one.group?.schedules.length;
    resume.hidden = one.source !== "override";
    cancel.hidden = !one.timer_until;
    for (const each of box.children) set(each, "disabled", !one.reachable || isPending(path));
  });
  return box;
}

function details(one) {
  const coming = next(one);
  const device = topic(one.device.id) ?? {};
  const seen = health().devices?.[one.device.id]?.last_seen;
  return [
    [t.outlet.next, coming ? t.outlet.nextIn(coming, left(one.next_change)) : t.outlet.nonePlanned],
    one.state === "ON" && one.on_since && [t.outlet.onSince, t.outlet.since(when(one.on_since), lasted(one.on_since))],
    one.limit_at && [t.outlet.limit, t.outlet.limitAt(atWhen(one.limit_at), left(one.limit_at))],
    t.outlet.failsafe[one.failsafe] && [t.outlet.safetyTimer, t.outlet.failsafe[one.failsafe]],
    one.energy_today != null && [
      t.outlet.energy,
      t.outlet.energyWords(energy(one.energy_today), energy(one.energy_month), energy(one.energy_total)),
    ],
    one.voltage != null && [t.outlet.voltage, `${number(one.voltage, 1)} V, ${number(one.current ?? 0, 2)} A`],
    [t.outlet.device, [one.device.name, one.device.model].filter(Boolean).join(", ")],
    [t.outlet.lastAnswer, seen ? ago(seen) : t.dash],
    [t.outlet.wifi, signal(device.rssi).word],
    [t.outlet.topic, one.path],
  ];
}
