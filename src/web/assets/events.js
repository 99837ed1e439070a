// Events: what happened, newest first.

import { h, replace, set, text } from "./dom.js";
import { icon } from "./icons.js";
import { capital, clock, day, dayName, seconds } from "./format.js";
import { EVENTS, events, watch } from "./store.js";
import { ask } from "./commands.js";
import { everySecond } from "./clock.js";
import { empty } from "./parts.js";
import { t } from "./texts.js";

export const title = t.pages.events;

const kinds = {
  switching: { icon: "power", types: ["schedule_on", "schedule_off", "load_finished", "standby_off"] },
  manual: { icon: "hand", types: ["override_set", "override_ended", "external_change", "vacation"] },
  limits: { icon: "lock", types: ["safety_trip", "refused_by_safety", "interlock", "protection"] },
  trouble: {
    icon: "alert",
    types: [
      "command_failed",
      "device_offline",
      "device_schedule_failed",
      "discovery_removed",
      "meter_silent",
      "retained_command",
      "sensor_stale",
      "state_mismatch",
    ],
  },
};
const kindOf = (type) => Object.keys(kinds).find((kind) => kinds[kind].types.includes(type)) ?? "other";
const icons = {
  schedule_on: "week",
  schedule_off: "week",
  load_finished: "check",
  device_offline: "unreachable",
  device_online: "check",
  meter_back: "check",
  sensor_back: "thermo",
  sensor_stale: "thermo",
  address_changed: "place",
  vacation: "suitcase",
};
const SHOWN = 200;
const identity = (one) => `${one.at} ${one.message}`;

/** All events that the bridge knows, the newest first: more than it sends to each page. */
async function askAll() {
  const all = [];
  for (let page = 1, pages = 1; page <= pages; page += 1) {
    const answer = await ask("events", { page });
    all.push(...(answer?.events ?? []));
    pages = answer?.pages ?? 0;
  }
  return all;
}

export function view(scope, [tab]) {
  const isLog = tab === "log";
  const link = (href, words, shown) => h("a.pill", { href, "aria-current": shown ? "page" : null }, words);
  const tabs = h(
    "nav.pills",
    { "aria-label": title },
    link("#/events", title, !isLog),
    link("#/events/log", t.events.log, isLog),
  );
  return h("div.page", h("div.page-head", h("h1", title), tabs), isLog ? logView(scope) : eventsView(scope));
}

const LINES = 300;
const EVERY = 5;

/** The last lines of the log, in the words of the bridge. */
function logView(scope) {
  const lines = h("pre.log", { tabindex: 0, "aria-label": t.events.log });
  const load = async () => {
    const log = await ask("log", { lines: LINES });
    text(lines, log?.lines.join("\n") ?? t.events.noLog);
  };
  let second = 0;
  everySecond(scope, () => ++second % EVERY || load());
  load().then(() => lines.scrollTo(0, lines.scrollHeight));
  return h("section.card", { "aria-label": t.events.log }, lines);
}

function eventsView(scope) {
  let kind = "";
  let paused = false;
  let shown = SHOWN;
  let asked; // what the bridge knew when it was asked
  const more = h(
    "button.link.more",
    {
      onclick: async () => {
        asked ??= await askAll();
        shown += SHOWN;
        draw();
      },
    },
    t.events.older,
  );
  const place = h("div.stack");
  const search = h("input", {
    type: "search",
    class: "filter",
    placeholder: t.events.search,
    "aria-label": t.events.searchLabel,
    oninput: () => draw(),
  });
  const choose = (chosen) => {
    kind = chosen;
    for (const chip of chips) set(chip, "aria-pressed", chip.dataset.kind === kind);
    draw();
  };
  const chips = [["", t.events.all], ...Object.entries(t.events.kinds)].map(([key, label]) =>
    h("button.chip", { "aria-pressed": key === kind, "data-kind": key, onclick: () => choose(key) }, label),
  );
  const pause = h("button.button", { "aria-pressed": false, onclick: () => toggle() });
  const toggle = () => {
    paused = !paused;
    label();
    draw();
  };
  const label = () => {
    set(pause, "aria-pressed", paused);
    replace(pause, icon(paused ? "play" : "pause", 18), paused ? t.events.go : t.events.pause);
  };

  const draw = () => {
    const wanted = search.value.trim().toLowerCase();
    const sent = asked && new Set(events().map(identity));
    const all = asked ? [...events(), ...asked.filter((one) => !sent.has(identity(one)))] : events();
    const fits = all.filter(
      (one) => (!kind || kindOf(one.type) === kind) && (!wanted || one.message.toLowerCase().includes(wanted)),
    );
    more.hidden = fits.length <= shown && (asked || events().length < EVENTS);
    if (fits.length === 0) {
      const [title, words] = all.length
        ? [t.events.noFit, t.events.noFitWords]
        : [t.events.nothing, t.events.nothingWords];
      return replace(place, empty("list", title, words), more);
    }
    const days = new Map();
    for (const one of fits.slice(0, shown)) {
      const key = day(one.at);
      days.set(key, [...(days.get(key) ?? []), one]);
    }
    replace(
      place,
      [...days.values()].map((list) => h("section.card", h("h2", dayName(list[0].at)), h("ul.events", list.map(row)))),
      more,
    );
  };
  label();
  watch(scope, ["event", "ready"], () => paused || draw());
  return h(
    "div.stack",
    h("div.toolbar", h("div.chips", { role: "group", "aria-label": t.events.kind }, chips), h("div.actions", search, pause)),
    place,
  );
}

function row(one) {
  const kind = kindOf(one.type);
  return h(
    "li.event",
    { "data-kind": kind },
    h("span.event-mark", icon(icons[one.type] ?? kinds[kind]?.icon ?? "info", 18)),
    h("p", capital(one.message)),
    h("time", { datetime: one.at, title: seconds(one.at) }, clock(one.at)),
  );
}
