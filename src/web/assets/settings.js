// Settings: what is in force, and this page's own. They are changed in the settings file.

import { fresh, h, set, text } from "./dom.js";
import { icon } from "./icons.js";
import { everySecond } from "./clock.js";
import { lasted, timezone, when } from "./format.js";
import { health, info, watch } from "./store.js";
import { request } from "./commands.js";
import { logout } from "./bus.js";
import { confirm, facts, toast } from "./parts.js";
import { keysEnabled, theme } from "./preferences.js";
import { t } from "./texts.js";

export const title = t.pages.settings;

const part = (picture, name, words, ...children) => {
  const id = fresh("part");
  return h(
    "section.card.part",
    { "aria-labelledby": id },
    h("header", icon(picture, 22), h("div", h("h2", { id }, name), h("p.muted", words))),
    children,
  );
};

export function view(scope) {
  const broker = h("p");
  const account = h("p");
  const place = h("p");
  const homeAssistant = h("dl.facts");
  const about = h("dl.facts");
  const out = h("button.button", { onclick: logout }, t.settings.logout);
  const show = () => {
    const settings = info().settings ?? {};
    const { mqtt, issues, rss_bytes: memory } = health();
    const address = `${settings.mqtt?.host}:${settings.mqtt?.port}`;
    text(broker, mqtt?.connected ? t.settings.connected(address) : t.settings.notConnected(mqtt?.fault ?? address));
    text(
      account,
      info().setup_mode ? t.settings.accountMissing : t.settings.accountSet(info().devices_online, info().devices),
    );
    text(place, timezone());
    facts(homeAssistant, [
      [t.settings.discovery, settings.homeassistant?.enabled ? t.on : t.off],
      [t.settings.prefix, settings.homeassistant?.discovery_prefix],
    ]);
    const started = info().started_at;
    facts(about, [
      [t.settings.version, info().version],
      [t.settings.runningSince, started && t.outlet.since(when(started), lasted(started))],
      [t.settings.memory, memory && `${Math.round(memory / 1e6)} MB`],
      [t.settings.baseTopic, settings.mqtt?.base_topic],
      [t.settings.attention, issues?.length ? issues.join("; ") : t.settings.nothing],
    ]);
    out.hidden = !settings.web?.login;
  };
  watch(scope, ["bridge/info", "bridge/health", "ready"], show);
  everySecond(scope, show);
  return h(
    "div.page.narrow",
    h("h1", title),
    h(
      "div.stack",
      part("server", t.settings.broker, t.settings.brokerWords, broker),
      part("user", t.settings.account, t.settings.accountWords, account),
      part("place", t.settings.place, t.settings.placeWords, place),
      part("app", t.settings.homeAssistant, t.settings.homeAssistantWords, homeAssistant),
      part("theme", t.settings.page, t.settings.pageWords, appearance()),
      part(
        "info",
        t.settings.about,
        t.settings.aboutWords,
        about,
        h(
          "div.chips",
          h("button.button", { onclick: reload }, icon("refresh", 18), t.settings.reload),
          h("button.button", { onclick: restart }, icon("power", 18), t.settings.restart),
          out,
        ),
      ),
    ),
  );
}

async function reload() {
  const done = await request("reload");
  if (!done) return;
  const restart = done.needs_restart ?? [];
  toast(restart.length ? t.settings.reloadedRestart(restart.join(", ")) : t.settings.reloaded);
}

async function restart() {
  const yes = await confirm(t.settings.restartTitle, t.settings.restartWords, t.settings.restartYes, { bad: false });
  if (yes && (await request("restart"))) toast(t.settings.restarts);
}

function appearance() {
  const choice = ([value, label]) =>
    h(
      "button",
      {
        "aria-pressed": theme.get() === value,
        onclick: (event) => {
          theme.set(value);
          for (const one of event.target.parentNode.children) set(one, "aria-pressed", one === event.target);
        },
      },
      label,
    );
  const keys = h("input", {
    type: "checkbox",
    checked: keysEnabled.get(),
    onchange: () => keysEnabled.set(keys.checked),
  });
  return h(
    "div.form",
    h(
      "div.field",
      h("span.label", t.settings.appearance),
      h(
        "div.segments",
        { role: "group", "aria-label": t.settings.appearance },
        Object.entries(t.settings.themes).map(choice),
      ),
    ),
    h("label.check-line", keys, t.settings.shortcuts),
  );
}
