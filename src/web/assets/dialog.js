// What lies above the page: panels, questions, and short sentences at its edge.

import { fresh, h } from "./dom.js";
import { icon } from "./icons.js";
import { t } from "./texts.js";

/** A native modal dialog: it holds the focus, Escape closes it. A panel at the side, on phones a sheet from below. */
export function dialog(title, { wide, onclose, keep = () => false } = {}) {
  const id = fresh("title");
  const close = h("button.bare", { "aria-label": t.action.close, onclick: () => box.leave() }, icon("cross"));
  const heading = h("h2", { id, tabindex: "-1" }, title);
  const body = h("div.dialog-body");
  const foot = h("footer.dialog-foot", { hidden: true });
  const header = h("header", heading, close);
  const box = h("dialog.panel", { class: wide && "wide", "aria-labelledby": id }, header, body, foot);
  // What is not saved is not lost by a stray key.
  box.leave = async () => {
    if (!keep() || (await confirm(t.action.discardTitle, t.action.discardWords, t.action.discard))) box.close();
  };
  box.addEventListener("cancel", (event) => {
    if (event.target !== box) return;
    event.preventDefault();
    box.leave();
  });
  box.addEventListener("close", () => {
    box.remove();
    onclose?.();
  });
  box.addEventListener("click", (event) => event.target === box && box.leave());
  document.body.append(box);
  box.showModal();
  heading.focus();
  return { box, body, foot };
}

/** A question with a yes that says what it does. Resolves to whether it was that. */
export function confirm(title, explanation, yes, { bad = true } = {}) {
  return new Promise((resolve) => {
    let answer = false;
    const id = fresh("title");
    const agree = () => {
      answer = true;
      box.close();
    };
    const box = h(
      "dialog.ask",
      { role: "alertdialog", "aria-labelledby": id, "aria-describedby": `${id}-more` },
      h("h2", { id }, title),
      h("p", { id: `${id}-more` }, explanation),
      h(
        "div.ask-buttons",
        h("button.button", { autofocus: true, onclick: () => box.close() }, t.action.cancel),
        h("button", { class: bad ? "button bad" : "button primary", onclick: agree }, yes),
      ),
    );
    box.addEventListener("close", () => {
      box.remove();
      resolve(answer);
    });
    document.body.append(box);
    box.showModal();
  });
}

/** A short sentence at the edge of the page; `undo` takes back what it says, for ten seconds. */
export function toast(words, { tone, undo } = {}) {
  const takeBack = () => {
    note.remove();
    undo();
  };
  const note = h(
    "div.toast",
    { role: tone === "bad" ? "alert" : "status", "data-tone": tone },
    icon(tone === "bad" ? "alert" : "check", 18),
    h("span", words),
    undo && h("button.link", { onclick: takeBack }, t.action.undo),
    h("button.bare", { "aria-label": t.action.dismiss, onclick: () => note.remove() }, icon("cross", 16)),
  );
  // Below an open dialog it could not be pressed.
  const panel = document.querySelector("dialog.panel[open]");
  const place = panel ? (panel.querySelector(".toasts") ?? panel.appendChild(h("div.toasts"))) : document.getElementById("toasts");
  place.append(note);
  if (tone !== "bad") setTimeout(() => !note.matches(":hover, :focus-within") && note.remove(), undo ? 10_000 : 5000);
}
