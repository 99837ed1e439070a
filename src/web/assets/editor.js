// The editor of one schedule. It knows the shape of a schedule and nothing of what follows from it: the bridge plans the
// draft, says what is wrong with it and what saving it would switch, by the same code that will run it.

import { fresh, h, replace, set, text } from "./dom.js";
import { icon } from "./icons.js";
import { date, length, startOfDay, why } from "./format.js";
import { group, groupState, outlet, topic } from "./store.js";
import { ask, deliver, request } from "./commands.js";
import { dialog, toast } from "./dialog.js";
import { field } from "./parts.js";
import { dayName, kinds, names, scheduleWords, sensorWords } from "./sentence.js";
import { named } from "./words.js";
import { scaleOf } from "./thermostat.js";
import { week } from "./week.js";
import { t } from "./texts.js";

const words = t.editor;
const UNNAMED = "unnamed-schedule"; // what a draft without a name is planned as

const sensors = () => topic("bridge/sensors") ?? [];
const unitOf = (id) => sensors().find((one) => one.id === id)?.unit ?? "";

/** Opens the editor. `others` are the schedules of the group, `changed` is called after each change. */
export function edit(groupId, existing, others, changed) {
  const draft = existing
    ? structuredClone(existing.definition)
    : { id: "", days: [...names], start: "06:00", end: "08:00", when: [] };
  const before = JSON.stringify(draft);
  const { box, body, foot } = dialog(existing ? words.title(named(existing.id)) : words.add, {
    wide: true,
    keep: () => JSON.stringify(draft) !== before,
  });
  const result = resultOf(groupId, draft, box);
  const update = result.update;
  const isTaken = () => !existing && others.some((one) => one.id === draft.id);

  const name = h("input", {
    type: "text",
    required: true,
    maxlength: 64,
    autocomplete: "off",
    oninput: () => {
      draft.id = name.value = slug(name.value);
      name.setCustomValidity(isTaken() ? words.taken : "");
    },
  });
  const save = h("button", { type: "submit", class: "button primary", form: "schedule" }, words.save);
  const onsubmit = async (event) => {
    event.preventDefault();
    set(save, "aria-busy", true);
    const done = await request("schedule/set", { group: groupId, schedule: draft }, { yes: words.save });
    set(save, "aria-busy", false);
    if (!done) return;
    box.close();
    const undo = existing
      ? () => put(groupId, existing, changed)
      : () => request("schedule/remove", { group: groupId, schedule: draft.id }, { yes: t.action.undo }).then(changed);
    toast(words.saved(named(draft.id)), { undo });
    changed();
  };
  replace(
    body,
    h("p.muted", origin(existing)),
    h(
      "form.form",
      { id: "schedule", onsubmit },
      !existing && field(words.name, name, words.nameHint),
      days(draft, update),
      span(draft, update),
      scaleOf(groupState(groupId)) && target(draft, scaleOf(groupState(groupId)), update),
      conditions(draft, update),
      result.section,
      more(draft, update),
    ),
  );
  replace(
    foot,
    existing && h("button.link", { onclick: () => remove(groupId, existing, box, changed) }, words.remove),
    existing?.in_settings &&
      existing.origin !== "settings" &&
      h("button.link", { onclick: () => reset(groupId, existing, box, changed) }, words.reset),
    h("span.grow"),
    h("button.button", { onclick: () => box.leave() }, t.action.cancel),
    save,
  );
  foot.hidden = false;
  update();
}

/** Where it is kept: the bridge never writes the settings file. */
function origin(existing) {
  if (!existing) return words.kept;
  if (!existing.in_settings) return words.addedHere;
  return existing.origin === "request" ? words.changedHere : words.inSettings;
}

const put = (groupId, existing, changed) =>
  request("schedule/set", { group: groupId, schedule: existing.definition }, { yes: t.action.undo }).then(changed);

async function remove(groupId, existing, box, changed) {
  const plan = await ask("plan", { group: groupId, days: 1, without: existing.id });
  const switched = effectWords(groupId, plan?.effect ?? [], words.removing);
  const question = { title: words.removeTitle(named(existing.id)), words: switched.join(" "), yes: words.remove };
  if (!(await request("schedule/remove", { group: groupId, schedule: existing.id }, question))) return;
  box.close();
  toast(words.removed(named(existing.id)), { undo: () => put(groupId, existing, changed) });
  changed();
}

async function reset(groupId, existing, box, changed) {
  if (!(await request("schedule/reset", { group: groupId, schedule: existing.id }, { yes: words.reset }))) return;
  box.close();
  toast(words.wasReset(named(existing.id)), { undo: () => put(groupId, existing, changed) });
  changed();
}

/** What is switched now, as sentences. */
function effectWords(groupId, effect, sentence) {
  const members = group(groupId)?.outlets.length;
  const which = (paths) =>
    paths.length === members ? group(groupId).name : paths.map((path) => outlet(path)?.name ?? path).join(", ");
  return effect.map((one) => sentence(which(one.outlets), one.state === "ON" ? t.on : t.off));
}

/** The draft in words, what the bridge says of it, and its next days. */
function resultOf(groupId, draft, box) {
  const sentence = h("p.sentence", { "aria-live": "polite" });
  const notices = h("ul.notices");
  const preview = h("div");
  const section = h("section.check", h("h3", words.result), sentence, notices, preview);
  let wanted = 0;
  let timer;

  function show({ data, error }, id) {
    if (error) {
      replace(preview);
      return replace(notices, notice("alert", error.code === "invalid_value" ? error.message : why(error)));
    }
    const mine = data.groups[0].windows.filter((one) => one.schedule === id);
    const ms = mine.reduce((sum, one) => sum + (new Date(one.to) - new Date(one.from)), 0);
    replace(
      notices,
      data.warnings.map((one) => notice("alert", warning(one))),
      effectWords(groupId, data.effect, words.saving).map((one) => notice("power", one, "info")),
    );
    replace(
      preview,
      week(
        mine.map((one) => ({ ...one, label: "" })),
        startOfDay(),
        data.sun,
      ),
      h("p.muted", words.windows(mine.length, Math.round(ms / 3_600_000), draft.when?.length > 0)),
    );
  }

  // One question at a time: the bridge computes one plan at a time.
  async function check() {
    const mine = wanted;
    const id = draft.id || UNNAMED;
    const answer = await deliver("bridge/request/plan", { group: groupId, days: 7, draft: { ...draft, id } });
    if (!box.isConnected) return;
    const busy = answer.error?.code === "busy";
    if (!busy) show(answer, id);
    timer = busy || mine !== wanted ? setTimeout(check, 200) : undefined;
  }
  const update = () => {
    text(sentence, `${scheduleWords(draft)}.`);
    wanted += 1;
    timer ??= setTimeout(check, 200);
  };
  return { section, update };
}

function warning(one) {
  const range = (days) => [...new Set(days)].map((day) => date(`${day}T12:00Z`)).join(" – ");
  return words.warnings[one.code]?.({ ...one, dates: one.dates?.map(range).join(", ") }) ?? one.message;
}

const notice = (picture, sentence, kind) => h("li.notice", { class: kind }, icon(picture), h("p", sentence));

/** Letters that a topic can have. */
const slug = (value) =>
  value
    .toLowerCase()
    .replaceAll(/[äöüß]/g, (letter) => ({ ä: "ae", ö: "oe", ü: "ue", ß: "ss" })[letter])
    .replaceAll(/[^a-z0-9_]+/g, "-");

/** A list of choices, of which one is chosen. */
function choice(options, value, onchange, attributes) {
  const list = options.map(([key, label]) => h("option", { value: key }, label));
  const select = h("select", { ...attributes, onchange: () => onchange(select.value) }, list);
  select.value = value;
  return select;
}

function days(draft, update) {
  const choices = [...names, ...kinds];
  const chosen = new Set(draft.days ?? names);
  const apply = () => {
    draft.days = choices.filter((one) => chosen.has(one));
    buttons.forEach((button, at) => set(button, "aria-pressed", chosen.has(choices[at])));
    update();
  };
  const toggle = (one) => {
    if (!chosen.delete(one) || chosen.size === 0) chosen.add(one);
    apply();
  };
  const buttons = choices.map((one, at) =>
    h(
      "button.day",
      { "aria-pressed": chosen.has(one), onclick: () => toggle(one) },
      at < names.length ? dayName(at, "short") : t.sentence[one],
    ),
  );
  const quick = (label, list) =>
    h(
      "button.link",
      {
        onclick: () => {
          chosen.clear();
          for (const one of list) chosen.add(one);
          apply();
        },
      },
      label,
    );
  return h(
    "fieldset",
    h("legend", words.days),
    h("div.days-row", buttons.slice(0, names.length)),
    h("div.days-row.kinds", buttons.slice(names.length)),
    h(
      "p.quick",
      quick(t.sentence.everyDay, names),
      quick(words.weekdays, names.slice(0, 5)),
      quick(words.weekend, names.slice(5)),
    ),
  );
}

const SUN = /^(sunrise|sunset)(.*)$/;

/** One end of the window: a time of day, or the sun with an offset. */
function edge(draft, key, label, update) {
  const row = h("div.edge");
  const extras = [`${key}_not_before`, `${key}_not_after`, `fallback_${key}`];
  // What it strays by is kept.
  const jitter = () => /±.*$/.exec(draft[key] ?? "")?.[0] ?? "";
  const exact = () => draft[key]?.replace(/±.*$/, "");
  const change = (value) => {
    draft[key] = value + jitter();
    update();
  };
  const redraw = () => {
    const [, sun, offset] = SUN.exec(exact()) ?? [];
    const kind = choice(
      [
        ["time", words.atTime],
        ["sunrise", words.sunrise],
        ["sunset", words.sunset],
      ],
      sun ?? "time",
      (value) => {
        if (value === "time") for (const extra of extras) delete draft[extra];
        else draft[`fallback_${key}`] ??= value === "sunrise" ? "08:00" : "17:00";
        change(value === "time" ? "06:00" : value);
        redraw();
        row.querySelector("select").focus();
      },
      { "aria-label": words.kindOf(label) },
    );
    // A clock shows the end of the day as 00:00.
    const atMidnight = key === "end" ? "24:00" : "00:00";
    const time = () =>
      clockInput(exact() === "24:00" ? "00:00" : exact(), words.timeOf(label), (value) =>
        change(value === "00:00" ? atMidnight : value || "06:00"),
      );
    const bound = (extra, sentence) => {
      const input = clockInput(draft[extra], `${label}: ${sentence}`, (value) => {
        if (value) draft[extra] = value;
        else delete draft[extra];
        update();
      });
      return h("label.bound", sentence, input);
    };
    replace(
      row,
      h("span.edge-name", label),
      kind,
      sun
        ? choice(offsets(offset), offset, (value) => change(sun + value), { "aria-label": words.offsetOf(label) })
        : time(),
      jitter() && h("span.jitter", jitter()),
      sun && h("div.bounds", bound(extras[0], words.notBefore), bound(extras[1], words.notAfter)),
      sun && h("div.bounds", bound(extras[2], words.fallback)),
    );
  };
  redraw();
  return row;
}

function clockInput(value, label, onchange) {
  const attributes = { type: "time", value: value ?? "", "aria-label": label };
  const input = h("input", { ...attributes, onchange: () => onchange(input.value) });
  return input;
}

/** Up to three hours before and after, in quarters of an hour. */
function offsets(present) {
  const pad = (value) => String(value).padStart(2, "0");
  const list = [];
  for (let minutes = -180; minutes <= 180; minutes += 15) {
    const size = Math.abs(minutes);
    const sign = minutes < 0 ? "-" : "+";
    const value = minutes === 0 ? "" : `${sign}${pad(Math.floor(size / 60))}:${pad(size % 60)}`;
    list.push([value, minutes === 0 ? words.exactly : words.offset(length(size * 60_000), minutes < 0)]);
  }
  if (!list.some(([value]) => value === present)) list.push([present, present]);
  return list;
}

const LENGTHS = ["15m", "30m", "1h", "1h 30m", "2h", "3h", "4h", "6h", "8h", "12h"];

function span(draft, update) {
  const place = h("div.edges");
  const shape = choice(
    [
      ["end", words.fromTo],
      ["for", words.fromFor],
      ["all_day", t.sentence.allDay],
    ],
    draft.all_day ? "all_day" : draft.for ? "for" : "end",
    (value) => {
      for (const key of Object.keys(draft)) if (/^(all_day|for|end|end_.*|fallback_end)$/.test(key)) delete draft[key];
      if (value === "all_day") for (const key of Object.keys(draft)) if (/^(fallback_)?start/.test(key)) delete draft[key];
      if (value !== "all_day") draft.start ??= "06:00";
      draft[value] = { end: "08:00", for: "2h", all_day: true }[value];
      redraw();
      update();
    },
    { "aria-label": words.shape },
  );
  const redraw = () => {
    const lengths = [...new Set([...LENGTHS, draft.for ?? "2h"])].map((one) => [one, one]);
    const duration = choice(
      lengths,
      draft.for ?? "2h",
      (value) => {
        draft.for = value;
        update();
      },
      { id: fresh("length") },
    );
    replace(
      place,
      !draft.all_day && edge(draft, "start", words.start, update),
      draft.end && edge(draft, "end", words.end, update),
      draft.for && h("div.edge", h("label.edge-name", { for: duration.id }, words.length), duration),
    );
  };
  redraw();
  return h("fieldset", h("legend", words.window), shape, place);
}

/** What a thermostat holds while the schedule is active. */
function target(draft, { least, most }, update) {
  const input = h("input", {
    type: "number",
    step: "any",
    min: least,
    max: most,
    value: draft.target,
    oninput: () => {
      if (input.value === "") delete draft.target;
      else draft.target = input.valueAsNumber;
      update();
    },
  });
  return field(words.target, input, words.targetHint);
}

function conditions(draft, update) {
  const list = h("div.conditions");
  draft.when ??= [];
  const redraw = () => {
    replace(
      list,
      draft.when.map((one, at) => conditionRow(one, at)),
    );
    update();
  };
  const conditionRow = (one, at) => {
    const remove = h(
      "button.bare",
      {
        "aria-label": words.removeCondition(at + 1),
        onclick: () => {
          draft.when.splice(at, 1);
          redraw();
        },
      },
      icon("cross", 18),
    );
    if (one.black_ice) return h("div.condition-row", h("p", words.blackIce), remove);
    const of = { "aria-label": words.sensor };
    const sensor = choice(
      sensors().map(({ id }) => [id, named(id)]),
      one.sensor,
      (value) => {
        one.sensor = value;
        redraw();
      },
      of,
    );
    const kind = "is" in one ? String(one.is) : "at_least" in one ? "at_least" : "at_most";
    const comparison = choice(Object.entries(words.comparison), kind, (value) => compare(one, value, redraw), {
      "aria-label": words.comparisonOf,
    });
    const value = h("input", {
      type: "number",
      step: "any",
      required: true,
      value: one[kind],
      "aria-label": words.value,
      oninput: () => {
        if (value.value === "") return;
        one[kind] = Number(value.value);
        update();
      },
    });
    const current = sensors().find(({ id }) => id === one.sensor);
    return h(
      "div.condition-row",
      sensor,
      comparison,
      !("is" in one) && h("span.with-unit", value, unitOf(one.sensor)),
      current && h("span.muted", sensorWords(current)),
      remove,
    );
  };
  const add = () => {
    draft.when.push({ sensor: sensors()[0].id, at_most: 0 });
    redraw();
  };
  replace(
    list,
    draft.when.map((one, at) => conditionRow(one, at)),
  );
  return h(
    "fieldset",
    h("legend", words.onlyWhile),
    list,
    sensors().length > 0
      ? h("p.quick", h("button.link", { onclick: add }, words.addSensor))
      : h("p.muted", words.noSensors),
  );
}

/** Another comparison: a number keeps its limit, what is true has none. */
function compare(one, kind, redraw) {
  const limit = one.at_most ?? one.at_least ?? 0;
  for (const key of ["at_most", "at_least", "is"]) delete one[key];
  if (kind === "true" || kind === "false") {
    delete one.hysteresis;
    one.is = kind === "true";
  } else one[kind] = limit;
  redraw();
}

function more(draft, update) {
  const pick = (key, options, fallback) =>
    choice(Object.entries(options), draft[key] ?? fallback, (value) => {
      draft[key] = value;
      update();
    });
  return h(
    "details",
    h("summary", words.more),
    h(
      "div.form",
      field(words.priority, pick("priority", words.priorities, "normal"), words.priorityHint),
      field(words.restart, pick("catch_up", words.catchUps, "apply")),
    ),
  );
}
