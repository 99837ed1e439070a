// The page itself: frame, pages by the part of the address after #, banners, keys.

import { h, replace, Scope, set, text } from "./dom.js";
import { icon } from "./icons.js";
import { now, setNow } from "./clock.js";
import { connect, open as reconnect } from "./bus.js";
import { setZone, when } from "./format.js";
import { apply, devices, forget, health, info, isReady, online, topic, touch, watch } from "./store.js";
import { dialog } from "./dialog.js";
import { open as openOutlet } from "./outlet.js";
import { showLogin } from "./login.js";
import { keysEnabled } from "./preferences.js";
import { language, t } from "./texts.js";
import * as home from "./home.js";
import * as schedule from "./schedule.js";
import * as energyPage from "./energy.js";
import * as devicesPage from "./devices.js";
import * as events from "./events.js";
import * as settings from "./settings.js";

const pages = {
  "": { icon: "home", page: home, key: "h" },
  schedule: { icon: "week", page: schedule, key: "s" },
  energy: { icon: "energy", page: energyPage, key: "e" },
  devices: { icon: "plug", page: devicesPage, key: "d" },
  events: { icon: "list", page: events, key: "v" },
  settings: { icon: "settings", page: settings, key: "t" },
};
const everything = new Scope();
const main = document.getElementById("main");
let connection = "connecting";
let lostAt = null;

// --- Frame -----------------------------------------------------------------------------------------------------------

function frame() {
  const state = h("span");
  const dot = h("span.dot");
  replace(
    document.getElementById("side"),
    h("a.brand", { href: "#/" }, h("img", { src: "icon.svg", alt: "", width: 28, height: 28 }), "tapo2mqtt"),
    h(
      "nav.nav",
      { "aria-label": t.nav.pages },
      Object.entries(pages).map(([name, one]) =>
        h("a", { href: `#/${name}`, "data-page": name }, icon(one.icon, 22), h("span", one.page.title)),
      ),
    ),
    h("p.side-state", dot, state),
  );
  watch(everything, ["structure", "bridge/health", "connection", "totals", "ready"], () => {
    const lost = connection !== "connected";
    const reachable = devices().filter((one) => online(one.id)).length;
    dot.dataset.tone = lost || health().mqtt?.connected === false ? "bad" : "good";
    const count = devices().length ? t.count.online(reachable, devices().length) : t.banner.noDevices;
    text(state, lost ? t.banner.notConnected : count);
  });
}

// --- Banners: what holds for the whole page, the worst first ------------------------------------------------------------

function banners() {
  const place = document.getElementById("banners");
  let shown = "";
  watch(everything, ["connection", "bridge/state", "bridge/info", "bridge/health", "ready"], () => {
    const list = [];
    const { mqtt } = health();
    if (connection === "lost") list.push(["bad", "unreachable", t.banner.lost(when(lostAt))]);
    else if (topic("bridge/state")?.state === "offline") list.push(["bad", "power", t.banner.stopping]);
    if (info().setup_mode) list.push(["info", "user", t.banner.setup, "#/settings", t.banner.setUp]);
    if (mqtt && !mqtt.connected && connection === "connected")
      list.push(["warn", "server", t.banner.broker(when(mqtt.since), mqtt.fault)]);
    if (info().vacation) list.push(["info", "suitcase", t.banner.vacation(when(info().vacation_since))]);
    document.documentElement.dataset.connection = connection;
    const key = JSON.stringify(list);
    if (key === shown) return;
    shown = key;
    replace(
      place,
      list.map(([tone, picture, words, href, label]) =>
        h(
          "div.banner",
          { "data-tone": tone, role: tone === "bad" ? "alert" : "status" },
          icon(picture),
          h("p", words),
          href && h("a", { href }, label),
        ),
      ),
    );
  });
}

// --- Pages -------------------------------------------------------------------------------------------------------------

let scope;
let current;

function route() {
  if (!isReady()) return;
  const [name = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  document.querySelector("dialog.panel[open]")?.close();
  if (name === "outlet") {
    if (current === undefined) show("", []);
    return showOutlet(rest.join("/"));
  }
  show(name in pages ? name : "", rest);
}

function show(name, rest) {
  const first = current === undefined;
  scope?.end();
  scope = everything.child();
  current = name;
  const { page } = pages[name];
  replace(main, page.view(scope, rest));
  document.title = `${page.title} – tapo2mqtt`;
  for (const link of document.querySelectorAll("[data-page]"))
    set(link, "aria-current", link.dataset.page === name ? "page" : null);
  if (!first) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

function showOutlet(path) {
  const inner = scope.child();
  const back = document.activeElement;
  openOutlet(path, inner, () => {
    inner.end();
    if (location.hash.startsWith("#/outlet/")) history.replaceState(null, "", `#/${current}`);
    if (back?.isConnected) back.focus();
  });
}

// --- Keys --------------------------------------------------------------------------------------------------------------

let pressed = -Infinity; // when g was

function onKey(event) {
  const busy = event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]");
  if (!keysEnabled.get() || busy || event.target.matches("input, select, textarea")) return;
  const target = Object.keys(pages).find((name) => pages[name].key === event.key);
  if (performance.now() - pressed < 1500 && target !== undefined) {
    pressed = -Infinity;
    location.hash = `#/${target}`;
  } else if (event.key === "g") pressed = performance.now();
  else if (event.key === "/") {
    document.querySelector("input[type=search]")?.focus();
    event.preventDefault();
  } else if (event.key === "?") help();
  else if (event.key === "j" || event.key === "k") {
    const rows = [...document.querySelectorAll(".row-text")];
    const at = rows.indexOf(document.activeElement.closest?.(".row")?.querySelector(".row-text"));
    rows[Math.min(rows.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)))]?.focus();
  }
}

function help() {
  const { keyboard } = t;
  const { body } = dialog(keyboard.title);
  const rows = [
    ...Object.values(pages).map(({ key, page }) => [`g ${key}`, page.title]),
    ["/", keyboard.search],
    ["j k", keyboard.rows],
    ["Space", keyboard.space],
    ["Enter", keyboard.enter],
    ["Esc", keyboard.escape],
    ["?", keyboard.help],
  ];
  replace(
    body,
    h(
      "dl.facts",
      rows.map(([key, words]) => h("div", h("dt", h("kbd", key)), h("dd", words))),
    ),
  );
}

// --- Start -------------------------------------------------------------------------------------------------------------

document.documentElement.lang = language;
text(document.getElementById("skip"), t.nav.skip);
document.getElementById("skip").addEventListener("click", () => main.focus());
addEventListener("hashchange", route);
addEventListener("keydown", onKey);
frame();
banners();
connect({
  hello({ now: time, restarts }) {
    setNow(time);
    if (restarts) forget();
  },
  message(one) {
    if (one.topic === "bridge/info") setZone(one.payload.settings.timezone); // before anything shows a time
    apply(one);
  },
  status(state) {
    if (state === "lost" && connection !== "lost") lostAt = now();
    // An attempt to connect again is not yet a connection.
    if (state !== "connecting" || connection !== "lost") connection = state;
    touch("connection");
    if (state !== "login") return;
    scope?.end();
    current = undefined;
    showLogin(main, reconnect);
  },
});
watch(everything, "ready", () => {
  if (current === undefined) route();
});
