// Energy: what is drawn now and by what, today by quarter hours, the last thirty days.

import { h, keyed, replace, set, text } from "./dom.js";
import { everySecond, now } from "./clock.js";
import { clock, date, energy, power } from "./format.js";
import { outlet, outlets, total, watch } from "./store.js";
import { ask } from "./commands.js";
import { bars } from "./charts.js";
import { empty } from "./parts.js";
import { t } from "./texts.js";

export const title = t.pages.energy;

const DAYS = 30;
const DAY = 86_400_000;
const QUARTER = 900_000;
const isMetered = (one) => one.power != null || one.energy_today != null || one.energy_total != null;
const known = (values) => values.filter((one) => one != null);

export function view(scope) {
  const place = h("div");
  let inner;
  let shown;
  watch(scope, ["structure", "ready", "totals"], () => {
    const metered = outlets().map((one) => outlet(one.path)).filter(isMetered);
    const key = metered.map((one) => one.path + one.name).join();
    if (key === shown) return;
    shown = key;
    inner?.end();
    inner = scope.child();
    replace(place, metered.length ? content(metered.map((one) => one.path), inner) : empty("energy", t.energy.noMeter, t.energy.noMeterWords));
  });
  return h("div.page", h("div.page-head", h("h1", title)), place);
}

function content(paths, scope) {
  const today = h("div");
  const month = h("div");
  const select = h(
    "select",
    { "aria-label": t.energy.outlet, onchange: () => load() },
    h("option", { value: "" }, t.energy.all),
    paths.map((path) => h("option", { value: path }, outlet(path).name)),
  );
  const values = ["power", "energy_today", "energy_month"].map((key) => [key, h("span.figure-value")]);
  const figures = () => {
    const chosen = (select.value ? [select.value] : paths).map(outlet).filter(Boolean);
    const reachable = chosen.filter((one) => one.reachable);
    for (const [key, node] of values) text(node, key === "power" ? power(total(reachable, key)) : energy(total(chosen, key)));
  };
  const load = async () => {
    figures();
    const chosen = select.value;
    const one = chosen ? { outlet: chosen } : {};
    const [quarters, days] = await Promise.all([ask("history", one), ask("history", { ...one, step: "day", days: DAYS })]);
    if (select.value !== chosen) return; // another one was chosen meanwhile, whose answer may be here already
    const name = select.selectedOptions[0].textContent;
    const missing = h("p.muted", t.energy.unavailable);
    replace(today, quarters ? curve(quarters, name) : missing);
    replace(month, days ? thirty(days, name) : missing);
  };
  let quarter = Math.floor(now() / QUARTER);
  load();
  everySecond(scope, () => {
    const at = Math.floor((now() - 30_000) / QUARTER);
    if (at > quarter) load((quarter = at));
  });
  watch(scope, "totals", figures);
  const labels = [t.energy.now, t.energy.today, t.energy.month];
  return h(
    "div.stack",
    h(
      "div.summary",
      h("dl.figures", values.map(([, node], at) => h("div", h("dt", labels[at]), h("dd", node)))),
      h("div.summary-tools", select),
    ),
    h("section.card", { "aria-label": t.energy.today }, h("h2", t.energy.today), today),
    h("section.card", { "aria-label": t.energy.days }, h("h2", t.energy.days), month),
    table(paths, scope),
  );
}

/** The average power of each quarter hour of today. */
function curve({ from, step_s: step, energy: used }, name) {
  const watts = used.map((value) => (value == null ? null : (value * 3_600_000) / step));
  const at = (slot) => clock(Date.parse(from) + slot * step * 1000);
  const peak = Math.max(...known(watts), 0);
  return bars(watts, {
    label: t.energy.quarters(name),
    words: (slot) => `${at(slot)}: ${power(watts[slot])}`,
    rest: known(watts).length ? t.energy.peak(power(peak), at(watts.indexOf(peak))) : t.energy.nothing,
    axis: power,
    ends: ["00", "06", "12", "18", "24"],
  });
}

function thirty({ from, energy: used }, name) {
  // Noon, so that no change of the clocks moves a day.
  const at = (day) => date(Date.parse(`${from}T12:00:00Z`) + day * DAY);
  const average = total(known(used).map((value) => ({ value })), "value");
  return bars(used, {
    label: t.energy.daysOf(name),
    words: (day) => `${at(day)}: ${energy(used[day])}`,
    rest: average == null ? t.energy.nothing : t.energy.average(energy(average / known(used).length)),
    axis: energy,
    ends: [at(0), at(DAYS / 2), t.time.today],
  });
}

function table(paths, scope) {
  const body = h("tbody");
  const make = (path) => {
    const cells = ["power", "energy_today", "energy_month", "energy_total"].map((key, at) => [
      key,
      h("td.number", { class: at > 1 ? "wide-only" : null }),
    ]);
    const row = h("tr", h("th", { scope: "row" }, h("a", { href: `#/outlet/${path}` }, outlet(path).name)), cells.map(([, cell]) => cell));
    row.show = (one) => {
      for (const [key, cell] of cells) text(cell, key === "power" ? power(one.reachable ? one.power : null) : energy(one[key]));
      set(cells[0][1], "data-on", one.state === "ON" && one.reachable);
    };
    return row;
  };
  watch(scope, "totals", () => {
    const all = paths.map(outlet).filter(Boolean);
    all.sort((a, b) => (b.energy_today ?? 0) - (a.energy_today ?? 0));
    keyed(null, body, all, (one) => one.path, (one) => make(one.path));
    all.forEach((one, at) => body.children[at].show(one));
  });
  const head = [t.energy.outlet, t.energy.now, t.energy.today, t.energy.month, t.energy.total];
  const unmetered = outlets().filter((one) => !paths.includes(one.path)).map((one) => one.name);
  return h(
    "section.card",
    { "aria-label": t.energy.byOutlet },
    h("h2", t.energy.byOutlet),
    h(
      "table",
      h("thead", h("tr", head.map((words, at) => h("th", { scope: "col", class: at > 2 ? "number wide-only" : at ? "number" : null }, words)))),
      body,
    ),
    unmetered.length > 0 && h("p.muted", t.energy.without(unmetered.join(", "))),
  );
}
