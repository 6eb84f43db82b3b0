// Logging in, signing up (also out of a game that was played as a guest), and setting a password with a ticket.

import { $, el, field, form, show } from "./dom.js";
import { loggedIn, login } from "./me.js";
import { Problem, call, seats } from "./net.js";
import { T } from "./texts.js";

function loginName() {
  return field(T.account.loginName, el("input", { id: "login-name", autocomplete: "username", autocapitalize: "none",
    spellcheck: "false", maxlength: 254, required: true }), T.account.loginNameHint);
}

function password(id, label, autocomplete, hint) {
  return field(label, el("input", { id, type: "password", autocomplete, maxlength: 128, required: true }), hint);
}

function typed(id, missing) {
  const found = $(id).value;
  if (!found.trim()) throw new Problem(0, { title: missing });
  return found;
}

const go = (to) => { location.hash = to; };

// #/account: the profile of whoever is logged in, else the way in.
export function accountScreen(argument, query, first) {
  let gone = false;
  const leave = () => { gone = true; };
  show([el("section", { class: "card narrow" }, el("h1", { text: T.account.title }), el("p", { class: "muted", text: T.account.moment }))],
    { title: T.account.title, focus: !first });
  login().then(async (found) => {
    if (gone) return;
    if (!found) return logInScreen(first);
    const { profileScreen } = await import("./profile.js");
    return gone ? undefined : await profileScreen(first);
  }).catch(() => { if (!gone) logInScreen(first); });
  return leave;
}

function logInScreen(first) {
  show([el("section", { class: "card narrow" },
    el("h1", { text: T.account.logIn }),
    form("log-in", [
      loginName(), password("password", T.account.password, "current-password"),
      el("button", { class: "primary big", type: "submit", text: T.account.logIn }),
    ], async () => {
      const body = { login_name: typed("login-name", T.account.loginNameMissing), password: typed("password", T.account.passwordMissing) };
      loggedIn(await call("/v1/auth/log-in", { body }));
      dispatchEvent(new HashChangeEvent("hashchange"));
    }),
    el("p", { class: "hint", text: T.account.forgotten })),
  el("p", { class: "aside" }, `${T.account.noAccount} `, el("a", { href: "/#/sign-up", text: T.account.signUp }))],
  { title: T.account.logIn, focus: !first });
}

// #/sign-up: with a seat of this browser's last day, its player becomes the account's.
export function signUpScreen(_argument, _query, first) {
  const guests = seats().filter((one, index, all) => all.findIndex((other) => other.user_id === one.user_id) === index);
  const keep = el("select", { id: "keep" }, [...guests.map((one, index) =>
    el("option", { value: index, text: `${one.name} · ${one.title}` })), el("option", { value: "", text: T.account.keepNobody })]);
  show([el("section", { class: "card narrow" },
    el("h1", { text: T.account.signUp }), el("p", { class: "muted", text: T.account.signUpLead }),
    form("sign-up", [
      loginName(),
      password("password", T.account.password, "new-password", T.account.passwordHint),
      field(T.account.name, el("input", { id: "name", autocomplete: "nickname", maxlength: 24, required: true,
        value: guests.length ? guests[0].name : "" }), T.account.nameHint),
      guests.length ? field(T.account.keep, keep, T.account.keepHint) : null,
      el("button", { class: "primary big", type: "submit", text: T.account.signUp }),
    ], async () => {
      const body = { login_name: typed("login-name", T.account.loginNameMissing), password: typed("password", T.account.passwordMissing),
        name: typed("name", T.join.nameMissing) };
      const guest = guests.length && keep.value !== "" ? guests[Number(keep.value)] : null;
      loggedIn(await call("/v1/auth/sign-up", { body, token: guest ? guest.token : undefined }));
      go("#/account");
    })),
  el("p", { class: "aside" }, `${T.account.hasAccount} `, el("a", { href: "/#/account", text: T.account.logIn }))],
  { title: T.account.signUp, focus: !first });
}

// #/ticket/…: as an admin or the operator hands it out.
export function ticketScreen(ticket, _query, first) {
  show([el("section", { class: "card narrow" },
    el("h1", { text: T.account.ticket }), el("p", { class: "muted", text: T.account.ticketLead }),
    form("ticket", [
      password("password", T.account.newPassword, "new-password", T.account.passwordHint),
      el("button", { class: "primary big", type: "submit", text: T.account.setPassword }),
    ], async () => {
      loggedIn(await call("/v1/auth/ticket", { body: { ticket, password: typed("password", T.account.passwordMissing) } }));
      // Without the ticket in the address: nobody finds it in the browser's history.
      history.replaceState(null, "", "/#/account");
      dispatchEvent(new HashChangeEvent("hashchange"));
    }))], { title: T.account.ticket, focus: !first });
}
