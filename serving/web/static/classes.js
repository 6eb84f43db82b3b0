// Classes: those one leads or is in, joining by code, making one; and one class with its code, its members and its board.

import { $, announce, button, el, field, form, problem, show } from "./dom.js";
import { sureDialog } from "./host_dialogs.js";
import { asMe, login } from "./me.js";
import { Problem } from "./net.js";
import { T, codeShown, dayOf } from "./texts.js";

const C = T.classes;
// A code that was scanned is kept through logging in.
const CODE = "lakeboard.class-code";

function kept(code) {
  try {
    if (code !== undefined) sessionStorage.setItem(CODE, code);
    return sessionStorage.getItem(CODE) || "";
  } catch {
    return code || "";
  }
}

// #/classes, #/classes?code=…, #/classes/ID
export function classesScreen(classId, query, first) {
  let gone = false;
  const here = (draw) => (...given) => (gone ? undefined : draw(...given));
  if (query.get("code")) kept(query.get("code"));
  show([el("section", { class: "card narrow" }, el("h1", { text: C.title }), el("p", { class: "muted", text: C.moment }))],
    { title: C.title, focus: !first });
  login().then(here((me) => {
    if (!me) return needAccount();
    return classId ? oneClass(classId, here) : allClasses(me, here);
  })).catch(here(failed));
  return () => { gone = true; };
}

function needAccount() {
  show([el("section", { class: "card narrow" }, el("h1", { text: C.title }), el("p", { text: C.needAccount }),
    el("p", { class: "actions" }, el("a", { class: "button primary", href: "/#/account", text: T.account.logIn }),
      el("a", { class: "button", href: "/#/sign-up", text: T.account.signUp })))], { title: C.title });
}

function failed(error) {
  show([el("section", { class: "card narrow" }, el("h1", { text: C.title }),
    el("p", { class: "error", role: "alert" }, problem(error)), el("a", { class: "button", href: "/#/classes", text: C.all }))],
  { title: C.title });
}

async function allClasses(me, here) {
  const { classes } = await asMe("/v1/classes");
  const code = el("input", { id: "code", class: "pin-input", autocomplete: "off", autocapitalize: "characters", spellcheck: "false",
    maxlength: 12, required: true, placeholder: "ABCD-1234", value: kept() && codeShown(kept()) });
  const join = form("join-class", [field(C.code, code, C.codeHint),
    el("button", { class: "primary", type: "submit", text: C.join })], async () => {
    if (!code.value.trim()) throw new Problem(0, { title: C.codeMissing });
    const joined = await asMe("/v1/classes/join", { body: { code: code.value } });
    kept("");
    announce(C.joined(joined.name));
    location.hash = `#/classes/${joined.class_id}`;
  });
  const make = form("make-class", [field(C.name, el("input", { id: "class-name", maxlength: 60, required: true, autocomplete: "off" }), C.nameHint),
    el("button", { type: "submit", text: C.make })], async () => {
    const name = $("class-name").value.trim();
    if (!name) throw new Problem(0, { title: C.nameMissing });
    const made = await asMe("/v1/classes", { body: { name } });
    location.hash = `#/classes/${made.class_id}`;
  });
  here(show)([
    el("section", { class: "card narrow" }, el("h1", { text: C.title }), el("p", { class: "muted", text: C.lead }),
      classes.length ? el("ul", { class: "rows", id: "classes" }, classes.map(row)) : el("p", { class: "empty", text: C.none })),
    el("section", { class: "card narrow" }, el("h2", { text: C.joinTitle }), join),
    me.roles.includes("host") ? el("section", { class: "card narrow" }, el("h2", { text: C.makeTitle }), make) : null,
  ], { title: C.title, focus: false });
  if (kept()) code.focus();
}

function row(one) {
  return el("li", {}, el("span", { class: "grow" }, el("strong", { text: one.name }),
    el("span", { class: "hint", text: one.leads ? C.youLead(one.members) : C.members(one.members) })),
  el("a", { class: "button", href: `/#/classes/${one.class_id}`, text: C.open, "aria-label": `${C.open}: ${one.name}` }));
}

async function oneClass(classId, here) {
  const path = `/v1/classes/${encodeURIComponent(classId)}`;
  const told = el("p", { class: "error", role: "alert", id: "class-error" });

  async function act(what, said) {
    told.replaceChildren();
    try {
      await asMe(`${path}/${what}`, { body: {} });
      if (what === "leave") { location.hash = "#/classes"; return; }
      await draw();
      announce(said);
    } catch (error) {
      told.replaceChildren(...problem(error));
    }
  }

  function invite(found) {
    if (!found.code) return [el("p", { id: "class-closed", text: C.closed }), el("p", { class: "actions" },
      button(C.reopen, () => act("code", C.newCodeTold), "primary"))];
    return [
      el("div", { class: "invite" },
        el("div", { class: "grow" }, el("p", { class: "join-at" }, `${C.joinAt} `, el("strong", { text: location.host })),
          el("p", { id: "class-code", class: "pin small", "aria-label": found.code.split("").join(" "), text: codeShown(found.code) })),
        el("img", { class: "qr", alt: C.qr, src: `/v1/class-codes/${found.code}/qr.svg`, width: 320, height: 320 })),
      el("p", { class: "actions" },
        button(C.newCode, () => sureDialog(C.newCodeSure, C.newCode, () => act("code", C.newCodeTold))),
        button(C.close, () => act("close", C.closed)))];
  }

  function member(one, leads) {
    const away = one.removed ? C.removed : one.left_at ? C.left(dayOf(one.left_at)) : C.since(dayOf(one.joined_at));
    const name = one.name || C.someone;
    const change = one.removed ? ["readmit", C.readmit, C.readmitted(name)] : ["remove", C.remove, C.removedTold(name)];
    return el("li", { "data-user": one.user_id }, el("span", { class: "grow" }, el("strong", { text: name }), el("span", { class: "hint", text: away })),
      leads && (one.removed || !one.left_at) ? el("button", { type: "button", text: change[1], "aria-label": `${change[1]}: ${name}`,
        onclick: () => {
          const go = () => act(`members/${encodeURIComponent(one.user_id)}/${change[0]}`, change[2]);
          if (one.removed) go();
          else sureDialog(C.removeSure(name), C.remove, go);
        } }) : null);
  }

  async function draw() {
    const found = await asMe(path);
    const now = found.members.filter((one) => !one.left_at);
    here(show)([
      el("section", { class: "card" }, el("h1", { text: found.name }),
        el("p", { class: "muted", text: found.leads ? C.youLead(now.length) : C.members(now.length) }),
        found.leads ? invite(found) : null,
        el("p", { class: "actions" },
          el("a", { class: "button primary", href: `/#/boards?scope=class:${found.class_id}&span=weekly`, text: C.board }),
          found.leads ? null : button(C.leave, () => sureDialog(C.leaveSure(found.name), C.leave, () => act("leave")), "quiet"),
          el("a", { class: "button", href: "/#/classes", text: C.all })),
        told),
      el("section", { class: "card" }, el("h2", { text: C.membersTitle }),
        found.members.length ? el("ul", { class: "rows", id: "members" }, found.members.map((one) => member(one, found.leads)))
          : el("p", { class: "empty", text: C.nobody })),
    ], { title: found.name, focus: false });
  }

  await draw();
}
