// A thermostat: what the room has, what it should have, and how a person changes that for a while.

import { h, replace, set, text } from "./dom.js";
import { capital, number } from "./format.js";
import { group, groupState, watch } from "./store.js";
import { isPending, switchTo } from "./commands.js";
import { modeControl } from "./parts.js";
import { t } from "./texts.js";

const words = t.thermostat;
const PAUSE = 700; // from the last press to the command
const SCALES = {
  "°C": { step: 0.5, least: 5, most: 35, usual: 20 },
  "°F": { step: 1, least: 41, most: 95, usual: 68 },
};

export const scaleOf = (state) => SCALES[state.temperature_unit];

/** Auto, On, Off; for a group that heats a room, its thermostat. */
export function groupControl(id, scope) {
  const place = h("div.group-control");
  let inner;
  let heats;
  watch(scope, [`group/${id}`, "structure"], () => {
    const heatsNow = scaleOf(groupState(id)) !== undefined;
    if (heatsNow === heats) return;
    heats = heatsNow;
    inner?.end();
    inner = scope.child();
    replace(place, (heats ? thermostat : modeControl)(id, inner));
  });
  return place;
}

function thermostat(id, scope) {
  const path = `group/${id}`;
  const send = (payload) => switchTo(path, group(id).name, payload);
  const room = h("p.room");
  const doing = h("p.muted");
  const unit = h("span.muted");
  const why = h("p.muted");
  let wanted; // what is not confirmed yet
  let timer;

  const choose = (value) => {
    const { least, most } = scaleOf(groupState(id));
    if (!Number.isFinite(value)) return show();
    wanted = Math.min(most, Math.max(least, Math.round(value * 10) / 10));
    clearTimeout(timer);
    timer = setTimeout(async () => {
      timer = undefined;
      const done = await send({ target: wanted });
      if (timer === undefined) wanted = undefined;
      show();
      if (!done && timer === undefined) put(groupState(id).target);
    }, PAUSE);
    show();
  };
  const put = (value) => {
    if (input.value !== String(value ?? "")) input.value = value ?? "";
  };
  const by = (direction) => {
    const { step, usual } = scaleOf(groupState(id));
    const from = wanted ?? groupState(id).target;
    choose(from == null ? usual : from + direction * step);
  };
  const input = h("input", { type: "number", step: "any", onchange: () => choose(input.valueAsNumber) });
  const less = h("button.button", { onclick: () => by(-1) }, "−");
  const more = h("button.button", { onclick: () => by(1) }, "+");

  const choices = (names, label, payload) => {
    const make = (name) => h("button", { "data-mode": name, onclick: () => send(payload(name)) }, words[name]);
    return h("div.segments", { role: "group", "aria-label": label }, names.map(make));
  };
  const modes = choices(["auto", "heat", "off"], words.mode, (name) => ({ system_mode: name }));
  const presets = choices(["none", "away", "boost"], words.preset, (name) => ({ preset: name }));

  const show = () => {
    const state = groupState(id);
    const scale = scaleOf(state);
    if (!scale) return;
    const { temperature, target } = state;
    text(room, temperature == null ? words.noRoom : `${number(temperature, 1)} ${state.temperature_unit}`);
    text(doing, words.action[state.action] ?? t.unknown);
    text(unit, state.temperature_unit);
    text(why, state.reason ? capital(state.reason) : "");
    const name = group(id)?.name;
    set(input, "aria-label", words.target(name));
    set(less, "aria-label", words.less(name));
    set(more, "aria-label", words.more(name));
    set(input, "min", scale.least);
    set(input, "max", scale.most);
    set(input, "aria-busy", wanted !== undefined || isPending(path));
    if (document.activeElement !== input || timer) put(wanted ?? target);
    for (const button of modes.children) set(button, "aria-pressed", button.dataset.mode === state.system_mode);
    for (const button of presets.children) set(button, "aria-pressed", button.dataset.mode === state.preset);
  };
  watch(scope, [path, "structure"], show);
  return h(
    "div.thermostat",
    h("div.thermostat-room", room, doing),
    h("div.stepper", less, h("span.with-unit", input, unit), more),
    modes,
    presets,
    why,
  );
}
