// The next days of a group, one row each, with what is planned and now.

import { fresh, h } from "./dom.js";
import { now } from "./clock.js";
import { clock, weekday, when } from "./format.js";
import { t } from "./texts.js";

export const DAY = 86_400_000;

const share = (time, from) => Math.min(100, Math.max(0, ((time - from) / DAY) * 100));

/** `blocks` are `{ from, to, label }`; the first row is the day that starts at `from`. */
export function week(blocks, from) {
  const rows = Array.from({ length: 7 }, (_, at) => {
    const start = from + at * DAY;
    const inside = blocks.filter((one) => one.to > start && one.from < start + DAY);
    const id = fresh("day");
    const track = h(
      "div.week-track",
      inside.map((one) => block(one, start)),
      at === 0 && mark(start),
    );
    const name = at === 0 ? t.time.today : weekday(start + DAY / 2);
    return h("li", { class: at === 0 ? "week-day today" : "week-day", "aria-labelledby": id }, h("span.week-name", { id }, name), track);
  });
  const hours = ["00", "06", "12", "18", "24"].map((hour) => h("span", hour));
  return h("div.week", h("ol.week-list", rows), h("div.hours", { "aria-hidden": "true" }, hours));
}

function block(one, start) {
  const words = t.schedule.block(one.label, when(one.from), clock(one.to));
  const left = share(one.from, start);
  const node = h(
    "span.block",
    { role: "img", title: words, "aria-label": words },
    h("span.block-name", { "aria-hidden": "true" }, one.label),
  );
  node.style.left = `${left}%`;
  node.style.width = `${Math.max(0.6, share(one.to, start) - left)}%`;
  return node;
}

function mark(start) {
  const node = h("span.now", h("span.now-time", clock(now())));
  node.style.left = `${share(now(), start)}%`;
  return node;
}
