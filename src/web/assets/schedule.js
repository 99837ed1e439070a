// Schedule: what a group will do in the next days, as the bridge plans it, and why.

import { h, keyed, replace, set, text } from "./dom.js";
import { icon } from "./icons.js";
import { everySecond, now } from "./clock.js";
import { capital, clock, startOfDay, when } from "./format.js";
import { groups, groupState, info, topic, watch } from "./store.js";
import { ask, message, request, say } from "./commands.js";
import { edit } from "./editor.js";
import { toast } from "./dialog.js";
import { empty, facts, failureLine, overrideBar, limitBar } from "./parts.js";
import { groupControl } from "./thermostat.js";
import { describeGroup, named, next } from "./words.js";
import { scheduleWords, sensorWords } from "./sentence.js";
import { DAY, kindOf, week } from "./week.js";
import { t } from "./texts.js";

export const title = t.pages.schedule;

const DAYS = 7;

export function view(scope, [chosen]) {
  const pills = h("nav.pills", { "aria-label": t.schedule.groups });
  const place = h("div");
  const nothing = empty("week", t.schedule.emptyTitle, t.schedule.emptyWords);
  let inner;
  let shown;
  watch(scope, ["structure", "ready"], () => {
    const scheduled = groups();
    const id = (scheduled.find((one) => one.id === chosen) ?? scheduled[0])?.id;
    replace(
      pills,
      scheduled.map((one) =>
        h("a.pill", { href: `#/schedule/${one.id}`, "aria-current": one.id === id ? "page" : null }, one.name),
      ),
    );
    if (id === shown && shown !== undefined) return;
    shown = id;
    inner?.end();
    inner = scope.child();
    replace(place, id === undefined ? nothing : groupView(id, inner));
  });
  return h("div.page", h("div.page-head", h("h1", title), pills), place);
}

function groupView(id, scope) {
  const path = `group/${id}`;
  const decided = h("p.decided");
  const reason = h("p.muted");
  const problem = failureLine(path);
  const status = h(
    "section.card.group",
    { "aria-label": t.schedule.now },
    h("header.group-head", h("span.glyph", icon("week", 22)), h("div.group-title", decided, reason)),
    h("div.group-mode", groupControl(id, scope)),
    limitBar(id, scope),
    overrideBar(id, scope),
    problem,
  );
  const timeline = h("div");
  const list = h("ul.schedules");
  const none = h("p.muted", t.schedule.none);
  const removed = h("div");
  const limits = h("dl.facts.short");
  let all = [];

  const read = async () => {
    const [plan, answer] = await Promise.all([
      ask("plan", { group: id, days: DAYS }),
      ask("schedule/list", { group: id }),
    ]);
    if (!answer) return;
    const known = answer.groups[0];
    all = known.schedules;
    if (plan) drawWeek(timeline, id, plan, all);
    none.hidden = all.length > 0;
    keyed(
      scope,
      list,
      all,
      (one) => one.id,
      (_, inner) => scheduleRow(id, inner, () => all, load),
    );
    for (const row of list.children) row.show(all.find((one) => one.id === row.dataset.key));
    replace(
      removed,
      known.removed.map((one) => removedLine(id, one, load)),
    );
    facts(
      limits,
      Object.entries(t.schedule.limitNames).map(([key, name]) => [
        name,
        known.limits[key] === "none" ? t.schedule.noLimit : known.limits[key],
      ]),
    );
  };

  // One after the other, so that an older answer never takes the place of a newer one.
  let reading = false;
  let again = false;
  let loadedAt = now();
  const load = async () => {
    again = true;
    if (reading) return;
    reading = true;
    while (again) {
      again = false;
      loadedAt = now();
      await read();
    }
    reading = false;
  };
  // Whether a condition is met follows its sensor.
  watch(scope, "bridge/sensors", () => now() - loadedAt > 5000 && load());

  let known;
  watch(scope, [path, "structure"], () => {
    const state = groupState(id);
    const said = describeGroup(state);
    status.dataset.tone = said.tone;
    status.dataset.on = String(state.state === "ON");
    text(decided, said.decided);
    // A thermostat shows its reason itself.
    const own = state.temperature_unit === undefined && state.reason;
    text(reason, capital([own, next(state)].filter(Boolean).join(" · ")));
    problem.show();
    const key = JSON.stringify([state.schedules, state.override_until, state.mode, state.next_change, info().vacation]);
    if (key !== known) load((known = key));
  });
  let minute = Math.floor(now() / 60_000);
  everySecond(scope, () => {
    const at = Math.floor(now() / 60_000);
    if (at !== minute) load((minute = at));
  });

  return h(
    "div.stack",
    status,
    h("section.card", { "aria-label": t.schedule.week }, h("h2", t.schedule.week), timeline),
    h(
      "section.card",
      { "aria-label": t.schedule.schedules },
      h(
        "div.card-head",
        h("h2", t.schedule.schedules),
        h("button.button", { onclick: () => edit(id, null, all, load) }, icon("plus", 18), t.editor.add),
      ),
      list,
      none,
      removed,
    ),
    h(
      "section.card",
      { "aria-label": t.schedule.limits },
      h("h2", t.schedule.limits),
      h("p.muted", t.schedule.limitsWords),
      limits,
    ),
    vacationBar(scope),
  );
}

const STRONGEST = ["critical", "normal", "low"];

/** The windows of the schedules, and what was switched by hand. */
function drawWeek(place, id, plan, schedules) {
  const rank = ({ schedule }) => {
    const at = schedules.findIndex((one) => one.id === schedule);
    return STRONGEST.indexOf(schedules[at]?.definition.priority ?? "normal") * 1000 + at;
  };
  const ofSchedules = plan.groups[0].windows.map((one) => ({ ...one, label: named(one.schedule) }));
  ofSchedules.sort((one, other) => rank(one) - rank(other));
  const { mode, override_until: until } = groupState(id);
  const end = until ?? new Date(startOfDay() + DAYS * DAY);
  const manual =
    mode === "on" ? [{ byHand: true, label: t.schedule.byHand, from: new Date(now()).toISOString(), to: end }] : [];
  const windows = [...manual, ...ofSchedules];
  const kinds = new Set(windows.map(kindOf));
  const today = plan.sun[0];
  replace(
    place,
    week(windows, startOfDay(), plan.sun),
    h(
      "ul.legend",
      Object.entries(t.schedule.kinds)
        .filter(([kind]) => kinds.has(kind))
        .map(([kind, name]) => h("li", h("span.key", { "data-kind": kind }), name)),
      today?.sunrise &&
        today.sunset &&
        h("li", h("span.key", { "data-kind": "sun" }), t.schedule.sun(clock(today.sunrise), clock(today.sunset))),
    ),
  );
}

/** A schedule of the settings file that was deleted here. */
function removedLine(groupId, schedule, changed) {
  const restore = () => request("schedule/reset", { group: groupId, schedule }, { yes: t.schedule.restore }).then(changed);
  return h("p.muted", t.schedule.removed(named(schedule)), " ", h("button.link", { onclick: restore }, t.schedule.restore));
}

function scheduleRow(groupId, scope, others, changed) {
  const name = h("span");
  const open = () => edit(groupId, mine, others(), changed);
  const opener = h("button.plain.schedule-name", { onclick: open }, name, " ", icon("edit", 16));
  const words = h("p.schedule-words");
  const values = h("p.muted");
  const tags = h("p.tags");
  const enabled = h("button.switch", { role: "switch", onclick: () => toggle() }, h("span.thumb"));
  const row = h("li.schedule", h("div", h("div.schedule-top", opener, tags), words, values), enabled);
  let mine;
  async function toggle() {
    enabled.dataset.state = "pending";
    set(enabled, "aria-busy", true);
    const want = !mine.definition.enabled;
    const yes = t.action.changeOf(t.schedule.label(named(mine.id)));
    if (await message(`group/${groupId}/set/schedule/${mine.id}`, want ? "ON" : "OFF", { yes }))
      say(want ? t.schedule.isEnabled(named(mine.id)) : t.schedule.isDisabled(named(mine.id)));
    else row.show(mine); // the group's state shows a success
  }
  // What its conditions go by now.
  const showValues = () => {
    const used = new Set((mine?.definition.when ?? []).flatMap((one) => [one.sensor, ...Object.values(one.black_ice ?? {})]));
    const sensors = (topic("bridge/sensors") ?? []).filter((one) => used.has(one.id));
    values.hidden = sensors.length === 0;
    text(values, sensors.map(sensorWords).join(" · "));
  };
  watch(scope, "bridge/sensors", showValues);
  row.show = (one) => {
    mine = one;
    const { definition } = one;
    text(name, named(one.id));
    text(words, scheduleWords(definition));
    showValues();
    enabled.dataset.state = definition.enabled ? "on" : "off";
    set(enabled, "aria-checked", definition.enabled);
    set(enabled, "aria-busy", false);
    set(enabled, "aria-label", t.schedule.label(named(one.id)));
    row.dataset.off = String(!definition.enabled);
    replace(
      tags,
      one.active && h("span.tag.on", t.schedule.active),
      !definition.enabled && h("span.tag", t.schedule.disabled),
      definition.priority !== "normal" && h("span.tag", t.schedule.priority[definition.priority] ?? definition.priority),
      definition.when.map((condition, at) => conditionTag(condition, one.met[at])),
      one.origin === "request" && h("span.tag", one.in_settings ? t.schedule.changedHere : t.schedule.addedHere),
    );
  };
  return row;
}

/** Whether a condition is met is the first question when a heater is cold. */
function conditionTag(condition, met) {
  const name = condition.sensor ? named(condition.sensor) : t.editor.iceTag;
  const [picture, words] = met ? ["check", t.schedule.met] : met === false ? ["cross", t.schedule.notMet] : ["info", t.unknown];
  return h("span.tag", icon(picture, 12), `${name}: ${words}`);
}

function vacationBar(scope) {
  const words = h("p");
  const button = h("button.link", {
    onclick: async () => {
      const enabled = !info().vacation;
      const change = (wanted) =>
        request("vacation", { enabled: wanted }, { yes: wanted ? t.schedule.vacationStart : t.schedule.vacationEnd });
      if (!(await change(enabled))) return;
      const undo = () => change(!enabled);
      toast(enabled ? t.schedule.vacationStarted : t.schedule.vacationEnded, { undo });
    },
  });
  const bar = h("section.card.vacation", { "aria-label": t.schedule.vacation }, icon("suitcase", 22), words, button);
  watch(scope, ["bridge/info", "ready"], () => {
    const { vacation, vacation_since: since } = info();
    bar.dataset.on = String(Boolean(vacation));
    text(words, vacation ? t.schedule.vacationOn(when(since)) : t.schedule.vacationOff);
    text(button, vacation ? t.schedule.vacationEnd : t.schedule.vacationStart);
  });
  return bar;
}
