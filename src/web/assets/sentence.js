// A schedule as one sentence, from its definition.

import { ago, length, number } from "./format.js";
import { t } from "./texts.js";

export const names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
// 2024-01-01 was a Monday.
export const dayName = (at, style) =>
  new Intl.DateTimeFormat(navigator.language, { weekday: style, timeZone: "UTC" }).format(Date.UTC(2024, 0, 1 + at));

export const kinds = ["workday", "holiday", "weekend"];

function days(list) {
  const ofKinds = kinds.filter((kind) => list?.includes(kind)).map((kind) => t.sentence[kind]);
  const ofWeek = names.some((name) => list?.includes(name));
  return [(ofWeek || !ofKinds.length) && weekdays(list), ...ofKinds].filter(Boolean).join(", ");
}

function weekdays(list) {
  const chosen = names.flatMap((name, at) => (list?.includes(name) ? [at] : []));
  if (chosen.length === 0 || chosen.length === 7) return t.sentence.everyDay;
  const first = chosen[0];
  const last = chosen.at(-1);
  if (chosen.length > 2 && last - first === chosen.length - 1)
    return t.sentence.dayRange(dayName(first, "long"), dayName(last, "long"));
  return chosen.map((at) => dayName(at, chosen.length > 2 ? "short" : "long")).join(", ");
}

/** "sunset-00:30±20m" as "30 min before sunset (±20m)". */
function edge(whole) {
  const [text, jitter] = (whole ?? "").split("±");
  return jitter ? `${exact(text)} (±${jitter})` : exact(text || undefined);
}

function exact(text) {
  const match = /^(sunrise|sunset)(?:([+-])(\d\d):(\d\d))?$/.exec(text ?? "");
  if (!match) return text ?? t.unknown;
  const sun = t.sentence[match[1]];
  const ms = (Number(match[3] ?? 0) * 60 + Number(match[4] ?? 0)) * 60_000;
  if (!ms) return sun;
  return match[2] === "-" ? t.sentence.before(length(ms), sun) : t.sentence.after(length(ms), sun);
}

/** An edge with what it is never before and never after. */
function bounded(one, key) {
  const parts = [
    edge(one[key]),
    one[`${key}_not_before`] && t.sentence.notBefore(one[`${key}_not_before`]),
    one[`${key}_not_after`] && t.sentence.notAfter(one[`${key}_not_after`]),
  ];
  return parts.filter(Boolean).join(", ");
}

function window(one) {
  if (one.all_day) return t.sentence.allDay;
  const start = bounded(one, "start");
  return one.for ? t.sentence.lasting(start, one.for) : t.sentence.fromTo(start, bounded(one, "end"));
}

function condition(one) {
  if (one.black_ice) return t.sentence.blackIce;
  if ("is" in one) return t.sentence.is(one.sensor, one.is);
  return "at_most" in one ? t.sentence.atMost(one.sensor, one.at_most) : t.sentence.atLeast(one.sensor, one.at_least);
}

export function scheduleWords(one) {
  const conditions = (one.when ?? []).map(condition);
  const target = one.target == null ? "" : t.sentence.target(number(one.target, Number.isInteger(one.target) ? 0 : 1));
  return [days(one.days), window(one), target, conditions.length && t.sentence.while(conditions)].filter(Boolean).join(", ");
}

/** A sensor with what it says now. */
export function sensorWords({ id, value, unit, at, stale }) {
  if (value == null) return t.sentence.noValue(id);
  const places = Number.isInteger(value) ? 0 : 1;
  const shown = typeof value === "number" ? `${number(value, places)} ${unit}`.trim() : t.sentence[value];
  return stale ? t.sentence.stale(id, shown, ago(at)) : t.sentence.value(id, shown);
}
