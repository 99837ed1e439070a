// Home: what is on, why, and for how long. Groups first, because that is what people think in.

import { h, keyed, replace, text } from "./dom.js";
import { icon } from "./icons.js";
import { energy, power } from "./format.js";
import { devices, group, groups, groupState, guarded, isReady, outlet, outlets, total, touch, watch } from "./store.js";
import { switchAll } from "./commands.js";
import { empty, failureLine, limitBar, outletRow, overrideBar } from "./parts.js";
import { groupControl } from "./thermostat.js";
import { describeGroup, next } from "./words.js";
import { t } from "./texts.js";

export const title = t.pages.home;

const FEW = 10; // as many outlets without a group are a card among the others; more have the whole width
const MANY = 8; // of a group's outlets are shown until all are wanted
const PAGE = 120; // rows at once: a list of a thousand is for searching, not for looking

export function view(scope) {
  const page = h("div.page.roomy");
  const filter = h("input", {
    type: "search",
    class: "filter",
    placeholder: t.nav.find,
    "aria-label": t.nav.find,
    oninput: () => touch("filter"),
  });
  const columns = h("div.columns");
  const below = h("div");
  const nothing = h("p.muted", { hidden: true }, t.nav.none);
  const body = h("div.stack", attention(scope), columns, below, nothing);
  const wanted = () => filter.value.trim().toLowerCase();
  const fits = (one) =>
    !wanted() || `${one.name} ${one.group?.name ?? ""} ${one.path}`.toLowerCase().includes(wanted());
  const make = (one, inner) => (one.loose ? looseCard(inner, fits, one.inColumn) : groupCard(one.id, inner, fits));

  const widths = ["(min-width: 900px)", "(min-width: 1600px)"].map((query) => matchMedia(query));
  for (const width of widths) {
    width.onchange = () => touch("filter");
    scope.add(() => (width.onchange = null));
  }

  watch(scope, ["structure", "filter", "ready"], () => {
    if (!isReady()) return;
    if (devices().length === 0)
      return replace(page, h("h1.hidden", title), empty("plug", t.home.emptyTitle, t.home.emptyWords));
    if (!body.isConnected) replace(page, h("h1.hidden", title), summary(scope, filter), body);
    filter.hidden = outlets().length <= MANY;
    const shown = outlets().filter(fits);
    const loose = shown.filter((one) => !one.group).length;
    const cards = groups().filter((one) => shown.some((each) => each.group === one));
    const count = 1 + widths.filter((one) => one.matches).length;
    const few = count < 3 && outlets().filter((one) => !one.group).length <= FEW;
    if (loose && few) cards.push({ id: "~loose", loose: true, inColumn: true, outlets: { length: loose } });
    share(cards, count).forEach((list, at) => {
      columns.children[at] ?? columns.append(h("div.column"));
      keyed(scope, columns.children[at], list, (one) => one.id, make);
    });
    for (const column of [...columns.children]) column.hidden = column.children.length === 0;
    keyed(scope, below, loose && !few ? [{ id: "~loose", loose: true }] : [], (one) => one.id, make);
    nothing.hidden = shown.length > 0;
  });
  return page;
}

/** Deals cards out to columns, each to the shortest so far. It depends on how many outlets a card has and on nothing
 * that changes while the page is open, so that no card jumps to the other side. */
function share(cards, count) {
  const columns = Array.from({ length: 3 }, () => []);
  const heights = Array.from({ length: count }, () => 0);
  for (const one of cards) {
    const at = heights.indexOf(Math.min(...heights));
    columns[at].push(one);
    heights[at] += (one.loose ? 70 : 180) + 60 * Math.min(one.outlets.length, MANY);
  }
  return columns;
}

function looseCard(scope, fits, inColumn) {
  // A change lays out its own list only.
  const lists = h("div.lists");
  const make = (_, inner) => {
    const list = h("ul.rows", { class: inColumn ? null : "two-columns" });
    list.fill = (all) => keyed(inner, list, all, (one) => one.path, (one, inner) => outletRow(one.path, inner));
    return list;
  };
  let shown = PAGE;
  const more = h("button.link.more", {
    onclick: () => {
      shown += PAGE;
      touch("filter");
    },
  });
  watch(scope, ["structure", "filter"], () => {
    const all = outlets().filter((one) => !one.group && fits(one));
    more.hidden = all.length <= shown;
    text(more, t.home.showMore(Math.min(PAGE, all.length - shown), all.length));
    const starts = Array.from({ length: Math.ceil(Math.min(all.length, shown) / PAGE) }, (_, at) => at * PAGE);
    keyed(scope, lists, starts, String, make);
    starts.forEach((from, at) => lists.children[at].fill(all.slice(from, from + PAGE)));
  });
  return h("section.card", { "aria-label": t.home.loose }, h("h2", t.home.loose), lists, more);
}

/** The three numbers that people look for first. */
function summary(scope, filter) {
  const watts = h("span.figure-value");
  const on = h("span.figure-value");
  const today = h("span.figure-value");
  watch(scope, ["totals", "structure", "ready"], () => {
    const all = outlets().map((one) => outlet(one.path));
    const reachable = all.filter((one) => one.reachable);
    text(watts, power(total(reachable, "power")));
    text(on, t.count.of(reachable.filter((one) => one.state === "ON").length, all.length));
    text(today, energy(total(all, "energy_today")));
  });
  const figure = (label, value) => h("div", h("dt", label), h("dd", value));
  return h(
    "div.summary",
    h("dl.figures", figure(t.home.now, watts), figure(t.home.outletsOn, on), figure(t.home.today, today)),
    h("div.summary-tools", filter, h("button.button", { onclick: allOff }, icon("power", 18), t.home.allOff)),
  );
}

function allOff() {
  const running = outlets()
    .map((one) => outlet(one.path))
    .filter((one) => one.reachable && one.state === "ON");
  if (running.length === 0) return;
  const asks = (one) => guarded(`${one.path}/set`).length;
  running.sort((a, b) => asks(b) - asks(a)); // what must not go off by mistake is named
  const first = running
    .slice(0, 4)
    .map((one) => one.name)
    .join(", ");
  const names = running.length > 4 ? t.home.andMore(first, running.length - 4) : first;
  const title = t.home.allOffTitle(t.count.outlets(running.length));
  switchAll(running, { state: "OFF" }, { title, words: t.home.allOffWords(names), yes: t.home.allOffYes });
}

/** Only what a person should look at; a limit that did its work is not an alarm and stays at its group. */
function attention(scope) {
  const list = h("ul.notices");
  watch(scope, ["structure", "ready"], () => {
    const lost = devices().filter((one) => one.availability === "offline" && one.last_error);
    const notice = (words, href, label) => h("li.notice", icon("unreachable"), words, h("a", { href }, label));
    replace(
      list,
      lost
        .slice(0, 3)
        .map((one) =>
          notice(
            h("p", h("strong", one.name ?? one.id), t.home.lost(one.last_error)),
            `#/devices/${one.id}`,
            t.action.details,
          ),
        ),
      lost.length > 3 && notice(h("p", t.home.lostMore(lost.length - 3)), "#/devices", t.pages.devices),
    );
    list.hidden = lost.length === 0;
  });
  return list;
}

function groupCard(id, scope, fits) {
  const path = `group/${id}`;
  const name = h("h2");
  const decided = h("p.decided");
  const watts = h("span.group-power");
  const coming = h("p.coming");
  const rows = h("ul.rows");
  const more = h("button.link.more", {
    onclick: () => {
      more.dataset.open = "";
      touch("filter");
    },
  });
  const problem = failureLine(path);
  const box = h(
    "section.card.group",
    h("header.group-head", h("span.glyph", icon("outlet", 22)), h("div.group-title", name, decided), watts),
    h("div.group-mode", groupControl(id, scope), coming),
    limitBar(id, scope),
    overrideBar(id, scope),
    problem,
    rows,
    more,
  );
  watch(scope, [path, "structure"], () => {
    const one = group(id);
    if (!one) return;
    const state = groupState(id);
    const said = describeGroup(state);
    text(name, one.name);
    box.setAttribute("aria-label", one.name);
    text(decided, said.decided);
    text(coming, (state.source !== "override" && next(state)) || "");
    box.dataset.tone = said.tone;
    box.dataset.on = String(state.state === "ON");
    problem.show();
  });
  watch(scope, ["structure", "filter"], () => {
    const members = outlets()
      .filter((one) => one.group?.id === id && fits(one))
      .map((one) => one.path);
    const open = more.dataset.open !== undefined || members.length <= MANY;
    more.hidden = open;
    text(more, t.home.showAll(members.length));
    keyed(scope, rows, open ? members : members.slice(0, MANY), (one) => one, outletRow);
  });
  watch(scope, ["totals", "structure", "ready"], () => {
    const drawn = outlets()
      .filter((one) => one.group?.id === id)
      .map((one) => outlet(one.path))
      .filter((one) => one.reachable && one.power != null);
    text(watts, drawn.length ? power(drawn.reduce((sum, one) => sum + one.power, 0)) : "");
  });
  return box;
}
