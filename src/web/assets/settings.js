// Settings: what is in force, and this page's own. They are changed in the settings file.

import { fresh, h, replace, set, text } from "./dom.js";
import { icon } from "./icons.js";
import { everySecond } from "./clock.js";
import { capital, lasted, timezone, when, why } from "./format.js";
import { health, info, watch } from "./store.js";
import { deliver, request } from "./commands.js";
import { logout } from "./bus.js";
import { toast } from "./dialog.js";
import { facts, field } from "./parts.js";
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
  const account = h("div");
  let asks;
  const place = h("p");
  const homeAssistant = h("dl.facts");
  const about = h("dl.facts");
  const out = h("button.button", { onclick: logout }, t.settings.logout);
  const show = () => {
    const settings = info().settings ?? {};
    const { mqtt, issues, rss_bytes: memory } = health();
    const address = (settings.mqtt?.brokers ?? []).join(', ');
    if (settings.mqtt?.enabled === false) text(broker, t.settings.noBroker);
    else text(broker, mqtt?.connected ? t.settings.connected(mqtt.broker ?? address) : t.settings.notConnected(mqtt?.fault ?? address));
    if (asks !== info().setup_mode) replace(account, (asks = info().setup_mode) ? accountForm() : h("p"));
    if (!asks) text(account.firstChild, t.settings.accountSet(info().devices_online, info().devices));
    text(place, timezone());
    facts(homeAssistant, [
      [t.settings.discovery, settings.homeassistant?.enabled && settings.mqtt?.enabled ? t.on : t.off],
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
          h("button.button", { onclick: backup }, t.settings.backup),
          h("button.button", { onclick: diagnostics }, t.settings.diagnostics),
          out,
        ),
      ),
    ),
  );
}

/** E-mail and password, tried with a device before they are kept. */
function accountForm() {
  const mail = h("input", { type: "email", autocomplete: "username", required: true });
  const password = h("input", { type: "password", autocomplete: "current-password", required: true });
  const answer = h("p.answer", { role: "status" });
  const button = h("button", { type: "submit", class: "button primary" }, t.settings.accountTry);
  const submit = async (event) => {
    event.preventDefault();
    set(button, "disabled", true);
    text(answer, t.settings.accountTrying);
    const payload = { username: mail.value, password: password.value };
    const done = await deliver("bridge/request/account", payload, {}, 60_000);
    set(button, "disabled", false);
    if (done.status !== "ok") return text(answer, `${capital(why(done.error))}.`);
    password.value = "";
    toast(t.settings.accountKept);
  };
  return h(
    "form.form",
    { onsubmit: submit },
    h("p", t.settings.accountMissing),
    field(t.settings.mail, mail),
    field(t.settings.password, password),
    answer,
    h("div", button),
  );
}

async function reload() {
  const done = await request("reload");
  if (!done) return;
  const restart = done.needs_restart ?? [];
  toast(restart.length ? t.settings.reloadedRestart(restart.join(", ")) : t.settings.reloaded);
}

async function restart() {
  const { restartTitle: title, restartWords: words, restartYes: yes } = t.settings;
  if (await request("restart", {}, { title, words, yes, bad: false })) toast(t.settings.restarts);
}

/** As `tapo2mqtt restore` takes it. */
async function backup() {
  const data = await request("backup");
  if (data) download("backup.json", JSON.stringify(data), "application/json");
}

async function diagnostics() {
  const data = await request("diagnostics");
  if (data) download("diagnostics.zip", Uint8Array.from(atob(data.zip), (byte) => byte.charCodeAt(0)), "application/zip");
}

function download(name, content, type) {
  const href = URL.createObjectURL(new Blob([content], { type }));
  const day = new Date().toISOString().slice(0, 10);
  h("a", { href, download: `tapo2mqtt-${day}-${name}` }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
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
