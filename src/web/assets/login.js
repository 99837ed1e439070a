// The login, in place of the page, until the password is right.

import { h, replace, set, text } from "./dom.js";
import { icon } from "./icons.js";
import { login } from "./bus.js";
import { t } from "./texts.js";

const errors = { wrong_password: t.login.wrong, too_many_tries: t.login.tooMany, lost: t.login.lost };

/** Shows it, and calls `done` once it succeeded. */
export function showLogin(place, done) {
  if (place.querySelector(".login")) return;
  const password = h("input", { type: "password", id: "password", autocomplete: "current-password", required: true });
  const answer = h("p.answer", { role: "alert" });
  const button = h("button", { type: "submit", class: "button primary" }, t.login.button);
  const submit = async (event) => {
    event.preventDefault();
    set(button, "disabled", true);
    const code = await login(password.value);
    set(button, "disabled", false);
    if (code === null) return done();
    text(answer, errors[code] ?? code);
    password.select();
  };
  replace(
    place,
    h(
      "div.page.narrow.login",
      h(
        "section.card.part",
        { "aria-labelledby": "login" },
        h("header", icon("lock", 22), h("div", h("h1", { id: "login" }, t.login.title), h("p.muted", t.login.words))),
        h(
          "form.form",
          { onsubmit: submit },
          h("div.field", h("label", { for: "password" }, t.login.password), password),
          answer,
          h("div", button),
        ),
      ),
    ),
  );
  password.focus();
}
