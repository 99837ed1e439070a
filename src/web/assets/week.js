// The next days of a group, one row each, with its windows, the sun and now.

import { fresh, h } from "./dom.js";
import { now } from "./clock.js";
import { clock, day, weekday, when } from "./format.js";
import { t } from "./texts.js";

export const DAY = 86_400_000;
const TALL = 24;

const share = (time, from) => Math.min(100, Math.max(0, ((time - from) / DAY) * 100));

/** `windows` are `{ from, to, label, conditional, suspended, byHand }`, the strongest first. The first row is the day that
 * starts at `from`; `sun` has sunrise and sunset of each day. */
export function week(windows, from, sun = []) {
  const all = windows.map((one) => ({ ...one, from: Date.parse(one.from), to: Date.parse(one.to) }));
  const rows = Array.from({ length: 7 }, (_, at) => {
    const start = from + at * DAY;
    const inside = lanes(all.filter((one) => one.to > start && one.from < start + DAY));
    const id = fresh("day");
    const { sunrise, sunset } = sun.find((one) => one.date === day(start + DAY / 2)) ?? {};
    const track = h(
      "div.week-track",
      [sunrise, sunset].filter(Boolean).map((time) => placed(h("span.sun"), Date.parse(time), start)),
      inside.flatMap((lane, row) => lane.map((one) => block(one, start, row))),
      at === 0 && placed(h("span.now", h("span.now-time", clock(now()))), now(), start),
    );
    track.style.height = `${Math.max(1, inside.length) * (TALL + 2) - 2}px`;
    const name = at === 0 ? t.time.today : weekday(start + DAY / 2);
    return h("li", { class: at === 0 ? "week-day today" : "week-day", "aria-labelledby": id }, h("span.week-name", { id }, name), track);
  });
  const hours = ["00", "06", "12", "18", "24"].map((hour) => h("span", hour));
  return h("div.week", h("ol.week-list", rows), h("div.hours", { "aria-hidden": "true" }, hours));
}

/** Windows that overlap lie below each other. */
function lanes(windows) {
  const rows = [];
  for (const one of windows) {
    const row = rows.find((each) => each.every((other) => one.to <= other.from || one.from >= other.to));
    if (row) row.push(one);
    else rows.push([one]);
  }
  return rows;
}

export const kindOf = (one) =>
  one.byHand ? "byHand" : one.suspended ? "suspended" : one.conditional ? "conditional" : "on";

function block(one, start, row) {
  const words = t.schedule.block(one.label, when(one.from), clock(one.to), t.schedule.kinds[kindOf(one)]);
  const left = share(one.from, start);
  const node = h(
    "span.block",
    { role: "img", title: words, "aria-label": words, "data-kind": kindOf(one) },
    h("span.block-name", { "aria-hidden": "true" }, one.label),
  );
  node.style.left = `${left}%`;
  node.style.width = `${Math.max(0.6, share(one.to, start) - left)}%`;
  node.style.top = `${row * (TALL + 2)}px`;
  return node;
}

function placed(node, time, start) {
  node.style.left = `${share(time, start)}%`;
  return node;
}
