// The profile of whoever is logged in: name, picture, anonymity, password, keys, one's data, and the ways out.

import { $, announce, button, el, field, form, problem, show } from "./dom.js";
import { asMe, downloadAsMe, loggedIn, loggedOut } from "./me.js";
import { Problem } from "./net.js";
import { T, moment } from "./texts.js";

const P = T.profile;

export function picture(one, size = "") {
  return one.avatar_url ? el("img", { class: `avatar ${size}`, src: one.avatar_url, alt: "" })
    : el("span", { class: `avatar ${size}`, "aria-hidden": "true", text: (one.name || "?").slice(0, 1).toUpperCase() });
}

export async function profileScreen(first) {
  let mine = await asMe("/v1/me");
  const face = el("div", { class: "profile" });
  const told = el("p", { class: "error", role: "alert", id: "picture-error" });

  function shown(found) {
    mine = found;
    face.replaceChildren(picture(mine), el("div", { class: "grow" }, el("strong", { class: "big-name", text: mine.name }),
      el("span", { class: "hint", text: P.known(mine.login_name, mine.roles) })));
    $("take-away").hidden = !mine.avatar_url;
  }

  async function send(file) {
    told.replaceChildren();
    if (!file) return;
    face.setAttribute("aria-busy", "true");
    try {
      shown(await asMe("/v1/me/avatar", { method: "PUT", file }));
      announce(P.pictureSet);
    } catch (error) {
      told.replaceChildren(...problem(error));
    } finally {
      face.removeAttribute("aria-busy");
      $("picture").value = "";
    }
  }

  const name = el("input", { id: "name", autocomplete: "nickname", maxlength: 24, required: true, value: mine.name });
  const anonymous = el("input", { id: "anonymous", type: "checkbox", checked: mine.anonymous });
  show([
    el("section", { class: "card narrow" }, el("h1", { text: P.title }), face,
      el("div", { class: "field" }, el("label", { for: "picture", text: P.picture }),
        el("input", { id: "picture", type: "file", accept: "image/jpeg,image/png,image/webp,image/gif", "aria-describedby": "picture-hint",
          onchange: (event) => send(event.target.files[0]) }),
        el("span", { class: "hint", id: "picture-hint", text: P.pictureHint })),
      el("p", { class: "actions" }, el("button", { type: "button", id: "take-away", text: P.takeAway, onclick: async () => {
        shown(await asMe("/v1/me/avatar", { method: "DELETE" }));
      } })),
      told,
      form("profile", [
        field(P.name, name, P.nameHint),
        el("label", { class: "check" }, anonymous, el("span", {}, P.anonymous, el("span", { class: "hint", text: P.anonymousHint }))),
        el("p", { class: "actions" }, el("button", { class: "primary", type: "submit", text: P.save })),
      ], async () => {
        shown(await asMe("/v1/me", { method: "PUT", body: { name: name.value, anonymous: anonymous.checked } }));
        announce(P.saved);
        $("profile-told").textContent = P.saved;
      }), el("p", { id: "profile-told", class: "good" })),
    el("section", { class: "card narrow" }, el("p", { class: "actions" },
      el("a", { class: "button", href: "/#/history", text: T.history.title }),
      el("a", { class: "button", href: "/#/courses?mine=1", text: T.courses.mine }),
      el("a", { class: "button", href: "/#/classes", text: T.classes.title }))),
    mine.roles.includes("admin") ? el("section", { class: "card narrow" }, el("h2", { text: T.admin.title }),
      el("a", { class: "button", href: "/#/admin", text: P.toAdmin })) : null,
    passwordCard(), keysCard(mine), dataCard(),
  ], { title: P.title, focus: !first });
  shown(mine);
}

function passwordCard() {
  const input = (id, autocomplete) => el("input", { id, type: "password", autocomplete, maxlength: 128, required: true });
  return el("section", { class: "card narrow" }, el("h2", { text: P.password }),
    form("new-password-form", [
      el("input", { type: "text", autocomplete: "username", hidden: true, "aria-hidden": "true", tabindex: -1 }),
      field(P.old, input("old-password", "current-password")),
      field(T.account.newPassword, input("new-password", "new-password"), T.account.passwordHint),
      el("p", { class: "actions" }, el("button", { type: "submit", text: P.changePassword })),
    ], async () => {
      loggedIn(await asMe("/v1/auth/password", { body: { old: $("old-password").value, new: $("new-password").value } }));
      $("old-password").value = "";
      $("new-password").value = "";
      $("password-told").textContent = P.passwordChanged;
    }), el("p", { id: "password-told", class: "good", role: "status" }));
}

function keysCard(mine) {
  const list = el("ul", { class: "rows", id: "keys" });
  const fresh = el("p", { id: "fresh-key", role: "status" });
  const scopes = mine.roles.filter((role) => role !== "admin");
  const scope = el("select", { id: "scope" }, scopes.map((one) => el("option", { value: one, text: T.roles[one] })));

  async function look() {
    const { keys } = await asMe("/v1/me/keys");
    list.replaceChildren(...keys.filter((one) => !one.ended_at).map((one) => el("li", {},
      el("span", { class: "grow" }, el("strong", { text: one.name }),
        el("span", { class: "hint", text: P.keyFacts(one.scopes, one.used_at && moment(new Date(one.used_at))) })),
      button(P.endKey, async () => {
        await asMe(`/v1/me/keys/${one.key_id}`, { method: "DELETE" });
        look();
      }))));
  }

  look().catch(() => {});
  return el("section", { class: "card narrow" }, el("details", {}, el("summary", {}, el("h2", { text: P.keys })),
    el("p", { class: "muted", text: P.keysLead }), list,
    form("new-key", [
      field(P.keyName, el("input", { id: "key-name", maxlength: 60, required: true, autocomplete: "off" })),
      field(P.keyScope, scope),
      el("p", { class: "actions" }, el("button", { type: "submit", text: P.makeKey })),
    ], async () => {
      const made = await asMe("/v1/me/keys", { body: { name: $("key-name").value, scopes: [scope.value] } });
      fresh.replaceChildren(el("strong", { text: P.keyOnce }), el("code", { class: "secret", text: made.key }));
      $("key-name").value = "";
      look();
    }), fresh));
}

function dataCard() {
  const told = el("p", { class: "error", role: "alert", id: "data-error" });
  const out = async (work) => {
    told.replaceChildren();
    try {
      await work();
    } catch (error) {
      told.replaceChildren(...problem(error));
    }
  };
  const leave = (path) => out(async () => {
    await asMe(path, { body: {} });
    loggedOut();
    location.hash = "#/";
  });
  return el("section", { class: "card narrow" }, el("h2", { text: P.data }),
    el("p", { class: "actions" },
      button(P.logOut, () => leave("/v1/auth/log-out"), "primary"),
      button(P.everywhere, () => leave("/v1/auth/log-out-everywhere")),
      button(P.export, () => out(() => downloadAsMe("/v1/me/export", "lakeboard-export.zip"))),
      button(P.delete, deletion, "danger")), told);
}

function deletion() {
  const dialog = el("dialog", { "aria-labelledby": "delete-title", onclose: () => dialog.remove() },
    el("h2", { id: "delete-title", text: P.deleteTitle }), el("p", { text: P.deleteLead }),
    form("delete", [
      field(T.account.password, el("input", { id: "delete-password", type: "password", autocomplete: "current-password", required: true })),
      el("p", { class: "actions" }, el("button", { class: "danger", type: "submit", text: P.deleteYes }),
        button(T.lead.close, () => dialog.close())),
    ], async () => {
      if (!$("delete-password").value) throw new Problem(0, { title: T.account.passwordMissing });
      await asMe("/v1/me/delete", { body: { password: $("delete-password").value } });
      dialog.close();
      loggedOut();
      location.hash = "#/";
    }));
  document.body.append(dialog);
  dialog.showModal();
}
