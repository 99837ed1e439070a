// The pieces that every page uses: switch, outlet row, mode and override controls.

import { fresh, h, replace, set, text } from "./dom.js";
import { icon } from "./icons.js";
import { everySecond, now } from "./clock.js";
import { atWhen, capital, left, power, when } from "./format.js";
import { group, groupState, outlet, watch } from "./store.js";
import { command, dismiss, failure, isPending, switchTo } from "./commands.js";
import { describe } from "./words.js";
import { t } from "./texts.js";

/** A switch that shows what the device confirmed. While a command is under way its thumb waits in the middle. */
export function switchButton(path, label) {
  const thumb = h("span.thumb");
  const button = h("button.switch", { role: "switch", "aria-checked": false, ...label }, thumb);
  let shown;
  button.addEventListener("click", () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    const one = outlet(path);
    const on = isPending(path) ? command(path).want === "ON" : one.state === "ON";
    switchTo(path, one.name, { state: on ? "OFF" : "ON" });
  });
  button.show = (one) => {
    const pending = isPending(path);
    const locked = new Date(one.cooldown_until ?? 0) > now();
    const state = pending ? "pending" : !one.reachable ? "away" : one.state === "ON" ? "on" : locked ? "locked" : "off";
    if (state === shown) return;
    shown = state;
    button.dataset.state = state;
    set(button, "aria-checked", one.state === "ON");
    set(button, "aria-busy", pending);
    set(button, "aria-disabled", !one.reachable && !pending);
    replace(thumb, state === "locked" && icon("lock", 12));
  };
  return button;
}

/** On or off, where it is not known which it is: a switch has no third position. */
function twoButtons(path, name) {
  const make = (state, words, label) =>
    h("button.small", { "aria-label": label, onclick: () => switchTo(path, name, { state }) }, words);
  return h("span.two", make("OFF", t.action.off, t.action.turnOff(name)), make("ON", t.action.on, t.action.turnOn(name)));
}

/** One outlet in a list: what it is called, what it does and why, what it draws, and its switch. */
export function outletRow(path, scope) {
  const id = fresh("name");
  const name = h("span.row-name", { id });
  const mark = h("span.row-mark");
  const words = h("span.row-words");
  const link = h("a.row-text", { href: `#/outlet/${path}` }, name, h("span.row-why", mark, words));
  const draw = h("span.row-power");
  const button = switchButton(path, { "aria-labelledby": id });
  const control = h("span.row-control", button);
  const problem = failureLine(path);
  const row = h("li.row", link, draw, control, problem);
  let drawn;
  let counts;

  const show = () => {
    const one = outlet(path);
    if (!one) return;
    const said = describe(one);
    counts = said.counts;
    text(name, one.name);
    text(words, said.words);
    row.dataset.tone = said.tone;
    row.dataset.on = String(one.state === "ON" && one.reachable);
    if (drawn !== said.icon) replace(mark, (drawn = said.icon) && icon(said.icon, 14));
    text(draw, one.reachable && one.power != null ? power(one.power) : "");
    const known = one.state != null || !one.reachable || isPending(path);
    if (known !== button.isConnected) replace(control, known ? button : twoButtons(path, one.name));
    button.show(one);
    problem.show();
  };
  watch(scope, `outlet/${path}`, show);
  // Of a long list only what is near counts the seconds.
  let far = false;
  row.addEventListener("contentvisibilityautostatechange", ({ skipped }) => {
    far = skipped;
    if (!far) show();
  });
  everySecond(scope, () => counts && !far && show());
  return row;
}

/** Why the last command failed, below what it was for, until it is dismissed or tried again. */
export function failureLine(path) {
  const words = h("span");
  const code = h("code");
  const again = () => {
    const name = outlet(path)?.name ?? group(path.slice("group/".length))?.name;
    switchTo(path, name, command(path).payload);
  };
  const line = h(
    "div.failure",
    { hidden: true, role: "alert" },
    icon("alert", 16),
    h("p", words, " ", code),
    h("button.link", { onclick: again }, t.action.again),
    h("button.bare", { "aria-label": t.action.dismiss, onclick: () => dismiss(path) }, icon("cross", 16)),
  );
  line.show = () => {
    const mine = command(path);
    line.hidden = mine?.phase !== "failed";
    if (line.hidden) return;
    text(words, capital(failure(mine)));
    text(code, mine.error.code);
  };
  return line;
}

/** Auto, On, Off. Buttons and not radios: an arrow key must not switch a heater. */
export function modeControl(id, scope) {
  const path = `group/${id}`;
  const make = (mode, label) =>
    h(
      "button",
      {
        "aria-pressed": false,
        "data-mode": mode,
        onclick: () => switchTo(path, group(id).name, { state: mode.toUpperCase() }),
      },
      label,
    );
  const auto = make("auto", t.action.auto);
  const buttons = [auto, make("on", t.action.on), make("off", t.action.off)];
  const control = h("div.segments", { role: "group" }, buttons);
  watch(scope, [path, "structure"], () => {
    const scheduled = group(id)?.schedules.length > 0;
    set(control, "aria-label", t.home.mode(group(id)?.name));
    auto.hidden = !scheduled;
    const state = groupState(id);
    const mode = scheduled ? state.mode : state.state?.toLowerCase();
    const pending = isPending(path) ? command(path).want?.toLowerCase() : null;
    for (const button of buttons) {
      set(button, "aria-pressed", button.dataset.mode === mode);
      set(button, "aria-busy", button.dataset.mode === pending);
    }
  });
  return control;
}

/** What an override does, to be sent again with another length. */
function held({ mode, preset, system_mode: heating, target }) {
  if (mode === "on" || mode === "off") return { state: mode.toUpperCase() };
  if (preset !== "none") return { preset };
  return heating === "off" ? { system_mode: heating } : { target };
}

/** How long an override lasts, and the way back to the schedules. Hidden while the schedules decide. */
export function overrideBar(id, scope) {
  const path = `group/${id}`;
  const words = h("span.override-words");
  const menu = h("div.chips", { hidden: true, id: fresh("lengths") });
  const open = (wanted) => {
    menu.hidden = !wanted;
    set(change, "aria-expanded", wanted);
  };
  const change = h(
    "button.link",
    { "aria-expanded": false, "aria-controls": menu.id, onclick: () => open(menu.hidden) },
    t.action.change,
  );
  const resume = h(
    "button.link",
    { onclick: () => switchTo(path, group(id).name, { state: "AUTO" }) },
    t.action.resume,
  );
  const bar = h(
    "div.override",
    { hidden: true },
    h("p", icon("hand", 18), words),
    h("span.override-actions", change, resume),
    menu,
  );
  const again = (payload) => {
    open(false);
    change.focus();
    switchTo(path, group(id).name, { ...held(groupState(id)), ...payload });
  };
  const { h1, h2, h4, hold, until, untilTime } = t.home.lengths;
  const time = h("input", {
    type: "time",
    class: "chip-time",
    "aria-label": untilTime,
    onchange: () => time.value && again({ until: time.value }),
  });
  const lengths = [
    [h1, { for: "1h" }],
    [h2, { for: "2h" }],
    [h4, { for: "4h" }],
    [hold, { override: "hold" }],
  ];
  menu.append(
    ...lengths.map(([label, payload]) => h("button.chip", { onclick: () => again(payload) }, label)),
    h("label.chip", until, time),
  );

  const show = () => {
    const state = groupState(id);
    const { mode, override_until: end } = state;
    const heats = state.temperature_unit && state.source === "override";
    bar.hidden = mode !== "on" && mode !== "off" && !heats;
    if (bar.hidden) return;
    const [timed, kept] = {
      on: [t.home.onByHand, t.home.onHeld],
      off: [t.home.offByHand, t.home.offHeld],
    }[mode] ?? [t.home.setByHand, t.home.setHeld];
    text(words, end ? timed(when(end), left(end)) : kept);
  };
  watch(scope, path, show);
  everySecond(scope, show);
  return bar;
}

/** A limit that keeps a group off, with the time that is left. */
export function limitBar(id, scope) {
  const words = h("span");
  const bar = h("div.limit", { hidden: true }, h("p", icon("lock", 18), words));
  const show = () => {
    const state = groupState(id);
    bar.hidden = state.safety !== "tripped" || !state.reason;
    if (bar.hidden) return;
    const reason = capital(state.reason);
    const end = state.cooldown_until;
    text(words, end ? t.home.limitBar(reason.split(", off until")[0], atWhen(end), left(end)) : `${reason}.`);
  };
  watch(scope, `group/${id}`, show);
  everySecond(scope, show);
  return bar;
}

/** Nothing here yet, and what to do about it. */
export const empty = (picture, title, words) =>
  h("div.empty", h("span.empty-mark", icon(picture, 28)), h("h2", title), h("p", words));

/** A control of a form with its label. */
export function field(label, control, hint) {
  control.id ||= fresh("field");
  return h("div.field", h("label", { for: control.id }, label), control, hint && h("p.muted", hint));
}

/** Names and values. Rows that stay keep their elements. */
export function facts(list, rows) {
  const shown = rows.filter(Boolean);
  const same = shown.length === list.children.length;
  if (!same || shown.some(([label], at) => list.children[at].firstChild.textContent !== label))
    replace(
      list,
      shown.map(([label]) => h("div", h("dt", label), h("dd"))),
    );
  shown.forEach(([, words], at) => text(list.children[at].lastChild, words ?? t.dash));
}
