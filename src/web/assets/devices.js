// Devices: what was found, what is used, and what is wrong with it, in words.

import { fresh, h, keyed, replace, set, text } from "./dom.js";
import { bars, icon } from "./icons.js";
import { everySecond } from "./clock.js";
import { ago, capital, signal } from "./format.js";
import { device, devices, health, online, topic, watch } from "./store.js";
import { ask, message, request, say } from "./commands.js";
import { settingsOf } from "./device_settings.js";
import { toast } from "./dialog.js";
import { empty, facts, field } from "./parts.js";
import { t } from "./texts.js";

export const title = t.pages.devices;

export function view(scope, [opened]) {
  const count = h("p.muted");
  const list = h("ul.devices");
  const nothing = empty("plug", t.home.emptyTitle, t.home.emptyWords);
  const rescan = h(
    "button.button",
    {
      onclick: async () => {
        set(rescan, "aria-busy", true);
        if (await request("rescan")) say(t.devices.searching);
        set(rescan, "aria-busy", false);
      },
    },
    icon("refresh", 18),
    t.devices.search,
  );
  watch(scope, ["structure", "ready"], () => {
    const lost = devices().filter((one) => !online(one.id)).length;
    text(count, [t.count.devices(devices().length), lost && t.count.unreachable(lost)].filter(Boolean).join(", "));
    keyed(
      scope,
      list,
      devices(),
      (one) => one.id,
      (one, inner) => deviceRow(one.id, inner, one.id === opened),
    );
    list.hidden = devices().length === 0;
    nothing.hidden = devices().length > 0;
  });
  return h(
    "div.page",
    h("div.page-head", h("div", h("h1", title), count), h("div.actions", finder(scope), rescan)),
    h("div.stack", foundCard(scope), h("section.card", { "aria-label": t.devices.configured }, list, nothing)),
  );
}

function foundCard(scope) {
  const list = h("ul.devices");
  const box = h("section.card.found", { "aria-label": t.devices.found }, h("h2", t.devices.found), list);
  watch(scope, ["bridge/found", "ready"], () => {
    const found = topic("bridge/found") ?? [];
    box.hidden = found.length === 0;
    keyed(
      scope,
      list,
      found,
      (one) => one.mac,
      (one) => foundRow(one.mac),
    );
    for (const row of list.children) row.show(found.find((one) => one.mac === row.dataset.key));
  });
  return box;
}

/** A found device: it is added with a name, or not shown any more. */
function foundRow(mac) {
  const name = h("span.device-name");
  const words = h("p.device-status");
  const input = h("input", { type: "text", maxlength: 60, autocomplete: "off" });
  const submit = async (event) => {
    event.preventDefault();
    const wanted = input.value.trim();
    if (await request("device/add", wanted ? { device: mac, name: wanted } : { device: mac }))
      toast(t.devices.added(wanted || name.textContent));
  };
  const form = h(
    "form.add-form",
    { hidden: true, onsubmit: submit },
    field(t.devices.whatFor, input),
    h("button", { type: "submit", class: "button primary" }, t.devices.addDevice),
  );
  const add = h(
    "button.button",
    {
      "aria-expanded": false,
      onclick: () => {
        form.hidden = !form.hidden;
        set(add, "aria-expanded", !form.hidden);
        if (!form.hidden) input.focus();
      },
    },
    icon("plus", 18),
    t.devices.add,
  );
  const ignore = async () => {
    if (await request("device/ignore", { device: mac, ignored: true })) toast(t.devices.ignored(name.textContent));
  };
  const row = h(
    "li.device",
    h(
      "div.device-line",
      h("span.glyph", icon("outlet", 22)),
      h("div.device-text", name, words),
      add,
      h("button.button", { onclick: ignore }, t.devices.ignore),
    ),
    form,
  );
  row.show = (one) => {
    text(name, one.nickname ?? one.name ?? one.model ?? mac);
    text(words, [one.model, one.address, one.reason].filter(Boolean).join(" · "));
    set(input, "placeholder", one.nickname ?? "");
    add.hidden = Boolean(one.reason);
  };
  return row;
}

function deviceRow(id, scope, opened) {
  const name = h("span.device-name");
  const status = h("p.device-status");
  const strength = h("span.device-signal");
  const glyph = h("span.glyph");
  const list = h("dl.facts");
  const body = h("div.device-more", { id: fresh("device") });
  const toggle = h(
    "button.plain.device-toggle",
    { "aria-controls": body.id, onclick: () => open(body.hidden) },
    name,
    icon("down", 18),
  );
  const row = h("li.device", h("div.device-line", glyph, h("div.device-text", toggle, status), strength), body);
  const open = (wanted) => {
    body.hidden = !wanted;
    set(toggle, "aria-expanded", wanted);
  };
  const nameOf = () => device(id)?.name ?? id;
  const restart = async () => {
    const { restartTitle, restartWords: words, restartYes: yes } = t.devices;
    if (await message(`${id}/set/reboot`, "PRESS", { title: restartTitle(nameOf()), words, yes, bad: false })) toast(t.devices.restarts(nameOf()));
  };
  const tryNow = async () => {
    if (await request("rescan")) toast(t.devices.trying(nameOf()));
  };
  const again = h("button.chip", { onclick: tryNow }, icon("refresh", 16), t.devices.tryNow);
  const reboot = h("button.chip", { onclick: restart }, icon("power", 16), t.devices.restart);
  const own = ownership(id, nameOf);
  replace(body, list, h("div.chips", again, reboot, own.chips), own.form, settingsOf(id, scope));
  toggle.addEventListener("click", () => body.hidden || own.load());
  open(Boolean(opened));
  if (opened) own.load();

  let drawn;
  const show = () => {
    const one = device(id);
    if (!one) return;
    const reachable = online(id);
    const { level, word } = signal(topic(id)?.rssi);
    text(name, nameOf());
    again.hidden = reachable;
    reboot.hidden = !reachable;
    row.dataset.tone = reachable ? "on" : "away";
    const picture = JSON.stringify([reachable, level]);
    if (picture !== drawn) {
      replace(glyph, icon(reachable ? "outlet" : "unreachable", 22));
      replace(strength, reachable && [bars(level), h("span.signal-word", word), h("span.hidden", ` ${t.outlet.wifi}`)]);
    }
    drawn = picture;
    const figures = health().devices?.[id];
    text(status, reachable ? healthy(one, figures) : (one.last_error ?? t.devices.connecting));
    if (!body.hidden) facts(list, details(one, figures, reachable, word));
  };
  watch(scope, ["structure", `device/${id}`, "bridge/health"], show);
  everySecond(scope, () => !body.hidden && show());
  toggle.addEventListener("click", show);
  return row;
}

/** Another name, or the end, of a device that was added; one of the settings file is changed there. */
function ownership(id, nameOf) {
  const name = h("input", { type: "text", maxlength: 60, required: true, autocomplete: "off" });
  const topicOf = h("input", { type: "text", maxlength: 64, required: true, autocomplete: "off" });
  const change = (device, wanted, called) => request("device/rename", { device, id: wanted, name: called });
  const onsubmit = async (event) => {
    event.preventDefault();
    const before = nameOf();
    const wanted = topicOf.value.trim();
    if (!(await change(id, wanted, name.value.trim()))) return;
    form.hidden = true;
    toast(t.devices.renamed(name.value.trim()), { undo: () => change(wanted, id, before) });
  };
  const form = h(
    "form.form",
    { hidden: true, onsubmit },
    field(t.devices.name, name),
    field(t.outlet.topic, topicOf, t.devices.topicHint),
    h("button", { type: "submit", class: "button primary" }, t.devices.rename),
  );
  const edit = () => {
    form.hidden = !form.hidden;
    name.value = nameOf();
    topicOf.value = id;
    if (!form.hidden) name.focus();
  };
  const remove = async () => {
    const before = nameOf();
    const question = { title: t.devices.removeTitle(before), words: t.devices.removeWords, yes: t.devices.remove };
    if (await request("device/remove", { device: id }, question)) toast(t.devices.removed(before));
  };
  const chips = h("span.chips", { hidden: true });
  const load = async () => {
    const listed = (await ask("device/list")) ?? [];
    const { status } = listed.find((one) => one.id === id) ?? {};
    chips.hidden = !status;
    replace(
      chips,
      status === "added"
        ? [
            h("button.chip", { onclick: edit }, icon("edit", 16), t.devices.rename),
            h("button.chip", { onclick: remove }, icon("trash", 16), t.devices.remove),
          ]
        : h("span.muted", t.devices.inSettings),
    );
  };
  return { chips, form, load };
}

const healthy = (one, figures) =>
  [
    one.model,
    one.kind === "strip" && t.count.outlets(one.outlets.length),
    one.children && t.count.children(one.children.length),
    figures?.rtt_p50_ms && t.devices.answersIn(Math.round(figures.rtt_p50_ms)),
  ]
    .filter(Boolean)
    .join(" · ");

function details(one, figures, reachable, word) {
  const { rssi, error, status } = topic(one.id) ?? {};
  const names = [...one.outlets, ...(one.children ?? [])].map((each) => each.name ?? each.key).join(", ");
  return [
    !reachable && [t.devices.whatToDo, t.devices.advice[error?.code ?? status] ?? t.devices.adviceElse],
    [t.devices.outlets, names || t.devices.one],
    [t.devices.address, one.address],
    [t.devices.mac, one.mac],
    [t.devices.firmware, one.firmware],
    [t.devices.nickname, one.nickname],
    [t.devices.meter, one.features.includes("energy") ? t.devices.yes : t.devices.no],
    [t.outlet.wifi, rssi ? t.devices.signalOf(word, rssi) : t.unknown],
    [t.outlet.lastAnswer, figures?.last_seen ? ago(figures.last_seen) : t.time.never],
    [t.outlet.topic, one.id],
  ];
}

/** Which of four equal plugs is it? Press its button, and the page says which one that was. */
function finder(scope) {
  let listening = false;
  const button = h(
    "button.button",
    {
      "aria-pressed": false,
      onclick: () => {
        listening = !listening;
        set(button, "aria-pressed", listening);
        if (listening) toast(t.devices.findWords);
      },
    },
    icon("button", 18),
    t.devices.findByButton,
  );
  watch(scope, "event", (events) => {
    if (!listening) return;
    for (const one of events.filter((each) => each.type === "external_change")) toast(capital(one.message));
  });
  return button;
}
