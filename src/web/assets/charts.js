// Bars over time, drawn by hand: the drawing stretches, its words are beside it. Arrow keys move the mark.

import { h, set, svg, text } from "./dom.js";

/** 1, 2, 5 and so on times a power of ten, so that the grid has round names. */
const round = (value) => {
  const unit = 10 ** Math.floor(Math.log10(value || 1));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * unit).find((top) => top >= value * 0.9999);
};

/** `words(at)` says a bar, `rest` all of them, `axis(value)` a height, `ends` stand below. What is not known has no bar. */
export function bars(values, { label, words, rest, axis, ends }) {
  const top = round(Math.max(...values, 0.001));
  const place = (value) => 100 - (value / top) * 100;
  const rects = values.map(
    (value, at) =>
      value != null &&
      svg("rect", { x: at * 10 + 1, y: Math.min(place(value), 99), width: 8, height: Math.max(100 - place(value), 1) }),
  );
  const read = h("output.chart-read", rest);
  const last = values.length - 1;
  const plot = h(
    "div.chart-plot",
    { tabindex: 0, role: "slider", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": last },
    svg(
      "svg",
      { viewBox: `0 0 ${values.length * 10} 100`, preserveAspectRatio: "none", "aria-hidden": "true" },
      [0.5, 50, 99.5].map((y) => svg("line", { class: "grid", x1: 0, x2: values.length * 10, y1: y, y2: y })),
      rects,
    ),
  );
  let at = last;
  const mark = (next) => {
    if (rects[at]) rects[at].classList.remove("lit");
    at = Math.min(last, Math.max(0, next));
    if (rects[at]) rects[at].classList.add("lit");
    text(read, words(at));
    set(plot, "aria-valuenow", at);
    set(plot, "aria-valuetext", words(at));
  };
  const leave = () => {
    if (rects[at]) rects[at].classList.remove("lit");
    text(read, rest);
  };
  mark(at);
  leave();
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    mark(Math.floor(((event.clientX - box.left) / box.width) * values.length));
  });
  plot.addEventListener("pointerleave", leave);
  plot.addEventListener("blur", leave);
  plot.addEventListener("focus", () => mark(at));
  plot.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageDown: -4, PageUp: 4, Home: -last, End: last }[event.key];
    if (!by) return;
    event.preventDefault();
    mark(at + by);
  });
  return h(
    "figure.chart",
    read,
    h("div.chart-frame", h("div.chart-y", { "aria-hidden": "true" }, [top, top / 2, 0].map((value) => h("span", axis(value)))), plot),
    h("div.hours", { "aria-hidden": "true" }, ends.map((end) => h("span", end))),
  );
}
