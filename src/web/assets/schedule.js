// Schedule: what a group will do in the next days, as the bridge plans it, and why.

import { h, keyed, replace, set, text } from "./dom.js";
import { icon } from "./icons.js";
import { everySecond, now } from "./clock.js";
import { startOfDay, when } from "./format.js";
import { group, groups, groupState, info, outlet, topic, watch } from "./store.js";
import { ask, message, request, say } from "./commands.js";
import { empty, failureLine, modeControl, overrideBar, limitBar } from "./parts.js";
import { describeGroup, named, next } from "./words.js";
import { scheduleWords, sensorWords } from "./sentence.js";
import { DAY, week } from "./week.js";
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
    h("div.group-mode", modeControl(id, scope)),
    limitBar(id, scope),
    overrideBar(id, scope),
    problem,
  );
  const timeline = h("div");
  const list = h("ul.schedules");
  const none = h("p.muted", t.schedule.none);

  const load = async () => {
    const [plan, schedules] = await Promise.all([
      ask("plan", { group: id, days: DAYS }),
      ask("schedule/list", { group: id }),
    ]);
    if (plan) replace(timeline, week(blocks(id, plan.groups[0].changes), startOfDay()));
    const all = schedules?.groups[0].schedules ?? [];
    none.hidden = all.length > 0;
    keyed(
      scope,
      list,
      all,
      (one) => one.definition.id,
      (_, inner) => scheduleRow(id, inner),
    );
    for (const row of list.children) row.show(all.find((one) => one.definition.id === row.dataset.key).definition);
  };

  let known;
  watch(scope, [path, "structure"], () => {
    const state = groupState(id);
    const said = describeGroup(state);
    status.dataset.tone = said.tone;
    status.dataset.on = String(state.state === "ON");
    text(decided, said.decided);
    text(reason, [state.reason, next(state)].filter(Boolean).join(" · "));
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
    h("section.card", { "aria-label": t.schedule.week }, h("h2", t.schedule.week), timeline, h("p.muted", t.schedule.assumes)),
    h("section.card", { "aria-label": t.schedule.schedules }, h("h2", t.schedule.schedules), list, none),
    vacationBar(scope),
  );
}

/** When some outlet of the group is on, from the planned changes: `{ from, to, label }`. */
function blocks(id, changes) {
  const members = group(id)?.outlets ?? [];
  const on = new Set(members.filter((path) => outlet(path)?.expected === "ON"));
  const state = groupState(id);
  const list = [];
  let open = on.size > 0 ? { from: now(), label: label(state.source, state.rule) } : null;
  for (const one of changes) {
    const at = new Date(one.at).getTime();
    for (const path of one.outlets) {
      if (one.state === "ON") on.add(path);
      else on.delete(path);
    }
    if (on.size > 0) open ??= { from: at, label: label(one.source, one.rule) };
    else if (open) {
      list.push({ ...open, to: at });
      open = null;
    }
  }
  if (open) list.push({ ...open, to: startOfDay() + DAYS * DAY });
  return list;
}

const label = (source, rule) => (source === "override" ? t.schedule.byHand : rule ? named(rule) : t.action.on);

function scheduleRow(groupId, scope) {
  const name = h("span.schedule-name");
  const words = h("p.schedule-words");
  const values = h("p.muted");
  const tags = h("p.tags");
  const enabled = h("button.switch", { role: "switch", onclick: () => toggle() }, h("span.thumb"));
  const row = h("li.schedule", h("div", h("div.schedule-top", name, tags), words, values), enabled);
  let mine;
  async function toggle() {
    enabled.dataset.state = "pending";
    set(enabled, "aria-busy", true);
    const want = !mine.enabled;
    if (await message(`group/${groupId}/set/schedule/${mine.id}`, want ? "ON" : "OFF"))
      say(want ? t.schedule.isEnabled(named(mine.id)) : t.schedule.isDisabled(named(mine.id)));
    else row.show(mine); // the group's state shows a success
  }
  // What its conditions go by now.
  const showValues = () => {
    const used = new Set((mine?.when ?? []).flatMap((one) => [one.sensor, ...Object.values(one.black_ice ?? {})]));
    const sensors = (topic("bridge/sensors") ?? []).filter((one) => used.has(one.id));
    values.hidden = sensors.length === 0;
    text(values, sensors.map(sensorWords).join(" · "));
  };
  watch(scope, "bridge/sensors", showValues);
  row.show = (one) => {
    mine = one;
    text(name, named(one.id));
    text(words, scheduleWords(one));
    showValues();
    enabled.dataset.state = one.enabled ? "on" : "off";
    set(enabled, "aria-checked", one.enabled);
    set(enabled, "aria-busy", false);
    set(enabled, "aria-label", t.schedule.label(named(one.id)));
    row.dataset.off = String(!one.enabled);
    replace(
      tags,
      !one.enabled && h("span.tag", t.schedule.disabled),
      one.priority !== "normal" && h("span.tag", t.schedule.priority[one.priority] ?? one.priority),
    );
  };
  return row;
}

function vacationBar(scope) {
  const words = h("p");
  const button = h("button.link", { onclick: () => request("vacation", { enabled: !info().vacation }) });
  const bar = h("section.card.vacation", { "aria-label": t.schedule.vacation }, icon("suitcase", 22), words, button);
  watch(scope, ["bridge/info", "ready"], () => {
    const { vacation, vacation_since: since } = info();
    bar.dataset.on = String(Boolean(vacation));
    text(words, vacation ? t.schedule.vacationOn(when(since)) : t.schedule.vacationOff);
    text(button, vacation ? t.schedule.vacationEnd : t.schedule.vacationStart);
  });
  return bar;
}
