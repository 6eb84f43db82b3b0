// The door to what needs an account: whoever has logged in passes, others log in or sign up here and go on.

import { el, field, form, show } from "./dom.js";
import { loggedIn, login } from "./me.js";
import { Problem, call } from "./net.js";
import { T } from "./texts.js";

// The log-in of this browser. Raises Problem without one.
export async function account() {
  const one = await login();
  if (!one) throw new Problem(401, { title: T.author.logIn.title });
  return { access_token: one.token };
}

// Calls `then(token)` for somebody who has logged in; others are shown the door first.
export async function withAccount(then) {
  const one = await login();
  if (one) return then(one.token);
  return door(then, false);
}

function door(then, fresh) {
  const name = el("input", { id: "login-name", autocomplete: "username", autocapitalize: "off", required: true, maxlength: 64 });
  const password = el("input", { id: "password", type: "password", required: true, maxlength: 512,
    autocomplete: fresh ? "new-password" : "current-password" });
  const shown = el("input", { id: "shown-name", autocomplete: "nickname", maxlength: 24, required: true });
  const W = fresh ? T.author.signUp : T.author.logIn;
  show(el("section", { class: "card narrow" }, el("h1", { text: W.title }), el("p", { class: "muted", text: T.author.lead }),
    form("account", [field(T.author.name, name), field(T.author.password, password), fresh ? field(T.author.shown, shown) : null,
      el("button", { class: "primary big", type: "submit", text: W.go })].filter(Boolean), async () => {
      const body = { login_name: name.value.trim(), password: password.value };
      if (fresh) body.name = shown.value.trim() || name.value.trim();
      const one = loggedIn(await call(fresh ? "/v1/auth/sign-up" : "/v1/auth/log-in", { body }));
      then(one.token);
    }),
    el("p", { class: "actions" }, el("button", { type: "button", class: "quiet", text: W.other, onclick: () => door(then, !fresh) }))),
  { title: W.title });
}
