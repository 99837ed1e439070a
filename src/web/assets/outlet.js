// One outlet: its switch, how long, why it is what it is, what it draws.

import { h, replace, set, text } from "./dom.js";
import { icon } from "./icons.js";
import { everySecond } from "./clock.js";
import { ago, capital, energy, lasted, left, number, power, signal, when } from "./format.js";
import { health, outlet, topic, watch } from "./store.js";
import { isPending, switchTo } from "./commands.js";
import { dialog, facts, failureLine, switchButton } from "./parts.js";
import { describe, next } from "./words.js";
import { t } from "./texts.js";

const icons = { safety: "lock", override: "hand", vacation: "suitcase", schedule: "week", manual: "hand", device: "plug" };

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
    const cause = JSON.stringify([state.source, state.reason, state.group?.id]);
    if (cause !== decided) replace(why, decision(state));
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

/** What decides, and the reason in the words of the bridge. */
function decision(one) {
  const source = one.source ?? "manual";
  const reason = one.reason ?? (one.group ? "" : t.outlet.noGroup);
  return h(
    "li.rung.decides",
    { "data-source": source },
    icon(icons[source] ?? "info", 18),
    h("div", h("strong", t.outlet.source[source] ?? source), h("span", capital(reason))),
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
