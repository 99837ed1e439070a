// The settings that a device keeps itself, where the bridge manages them: LED, auto-off, power protection, and what it is
// after a power failure. What is shown is what was read back from the device.

import { fresh, h, replace, set } from "./dom.js";
import { device, topic, watch } from "./store.js";
import { message } from "./commands.js";
import { t } from "./texts.js";

const words = t.deviceSettings;
const UNITS = { auto_off_delay: "min", power_protection_threshold: "W" };
const LARGEST = { auto_off_delay: 1440, power_protection_threshold: 5000 };
const BEHAVIORS = ["off", "on", "previous"];

/** A section, hidden while nothing is known of any setting. */
export function settingsOf(id, scope) {
  const body = h("div.form");
  const section = h("section", { hidden: true }, h("h3", words.title), body);
  let known;
  let rows = [];
  watch(scope, ["structure", `device/${id}`], () => {
    const paths = [id, ...(device(id)?.outlets ?? []).map((one) => `${id}/${one.key}`)];
    const settings = paths.flatMap((path) => Object.entries(topic(path)?.settings ?? {}).map((one) => [path, ...one]));
    const managed = settings.filter(([, key, value]) => value !== null && key in words.names);
    // The state after a power failure is in the state of every plug; only with others is it managed.
    section.hidden = !managed.some(([, key]) => key !== "power_on_behavior");
    const shape = JSON.stringify(managed.map(([path, key]) => [path, key]));
    if (shape !== known) {
      known = shape;
      rows = managed.map(([path, key]) => row(id, path, key));
      replace(body, rows);
    }
    rows.forEach((one, at) => one.show(managed[at][2]));
  });
  return section;
}

function row(id, path, key) {
  const outlet = device(id)?.outlets.find((one) => path === `${id}/${one.key}`);
  const label = [outlet && (outlet.name ?? outlet.key), words.names[key]].filter(Boolean).join(": ");
  const control = controlOf(key);
  control.id = fresh("setting");
  let shown;
  control.addEventListener("change", async () => {
    const value = valueOf(control);
    const risky = key === "power_on_behavior" && value === "on";
    const question = risky ? { title: words.onTitle, words: words.onWords, yes: words.onYes } : { yes: t.action.changeOf(label) };
    set(control, "aria-busy", true);
    if (!(await message(`${path}/set/${key}`, { [key]: value }, question))) put(shown);
    set(control, "aria-busy", false);
  });
  const put = (value) => {
    if (control.type === "checkbox") control.checked = value;
    else control.value = value;
  };
  const show = (value) => {
    shown = value;
    if (document.activeElement !== control || control.value === "" || control.type === "checkbox") put(value);
  };
  const line = h("div.check-line", control, h("label", { for: control.id }, label), UNITS[key] && `(${UNITS[key]})`);
  line.show = show;
  return line;
}

function controlOf(key) {
  if (key === "power_on_behavior")
    return h(
      "select",
      BEHAVIORS.map((one) => h("option", { value: one }, words.behaviors[one])),
    );
  if (key in UNITS) return h("input", { type: "number", min: 1, max: LARGEST[key], class: "short" });
  return h("input", { type: "checkbox" });
}

const valueOf = (control) =>
  control.type === "checkbox" ? control.checked : control.type === "number" ? Number(control.value) : control.value;
