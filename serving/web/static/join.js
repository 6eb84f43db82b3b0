// Getting into a game: by PIN, by a challenge's link, or back into a seat that this browser had.

import { $, button, el, field, form, show } from "./dom.js";
import { ownToken } from "./me.js";
import { Problem, call, rememberPlayer, seats, takeSeat } from "./net.js";
import { T } from "./texts.js";

function enter(me) {
  takeSeat(me);
  if (!me.host) rememberPlayer(me);
  // Without ?pin=…: a reload then comes back into the game, not to the door.
  history.replaceState(null, "", "/#/game");
  dispatchEvent(new HashChangeEvent("hashchange"));
}

// What was typed; a PIN or a name that cannot be one is told before the server is asked.
function typedName() {
  const name = $("name").value.trim();
  if (!name) throw new Problem(0, { title: T.join.nameMissing });
  return name;
}

function typedPin() {
  const pin = $("pin").value.replace(/\s/g, "");
  if (!/^[0-9]{6}$/.test(pin)) throw new Problem(0, { title: T.join.pinWrong });
  return pin;
}

function nameInput() {
  return el("input", { id: "name", autocomplete: "nickname", maxlength: 24, required: true, enterkeyhint: "go" });
}

// A seat of this browser in the same session: a phone that lost its tab.
function wayBack(known) {
  return known && el("section", { class: "card narrow back" }, el("p", { text: T.join.backLead(known.title) }),
    button(T.join.back(known.name), () => enter(known), "primary"));
}

export function joinScreen(_argument, _query, first) {
  const asked = new URLSearchParams(location.search).get("pin") || "";
  const pin = /^[0-9]{6}$/.test(asked) ? asked : "";
  const known = seats().find((one) => (pin ? one.pin === pin : true));
  const card = el("section", { class: "card narrow" },
    el("h1", { text: T.join.title }),
    el("p", { class: "muted", text: T.join.lead }),
    form("join", [
      field(T.join.pin, el("input", { id: "pin", class: "pin-input", inputmode: "numeric", autocomplete: "off", maxlength: 7,
        placeholder: "000 000", required: true, value: pin })),
      field(T.join.name, nameInput(), T.join.nameHint),
      el("button", { class: "primary big", type: "submit", text: T.join.go }),
    ], async () => {
      enter(await call("/v1/join", { body: { pin: typedPin(), name: typedName() }, token: await ownToken() }));
    }));
  show([wayBack(known), card, pin ? null : el("p", { class: "aside" }, `${T.join.hostLead} `,
    el("a", { href: "/#/host", text: T.join.hostGo }))], { title: T.join.title, focus: !first });
  if (pin) $("name").focus();
}

// #/challenge/SESSION: the link that a challenge's host shares.
export function challengeDoor(sessionId, _query, first) {
  const known = seats().find((one) => one.session_id === sessionId);
  const head = el("h1", { text: T.challenge.join("…") });
  const until = el("p", { class: "muted" });
  const card = el("section", { class: "card narrow" }, head, el("p", { class: "muted", text: T.challenge.lead }), until,
    form("join", [
      field(T.join.name, nameInput(), T.join.nameHint),
      el("button", { class: "primary big", type: "submit", text: T.join.go }),
    ], async () => {
      enter(await call(`/v1/sessions/${encodeURIComponent(sessionId)}/join`,
        { body: { name: typedName() }, token: await ownToken() }));
    }));
  show([wayBack(known), card], { title: T.challenge.join(""), focus: !first });
  call(`/v1/sessions/${encodeURIComponent(sessionId)}`).then(({ title, current }) => {
    head.textContent = T.challenge.join(title);
    document.title = `${T.challenge.join(title)} · Lakeboard`;
    if (current.deadline_us) {
      until.textContent = T.challenge.open(new Date(current.deadline_us / 1000).toLocaleString("en-GB",
        { dateStyle: "medium", timeStyle: "short" }));
    }
  }).catch((error) => {
    $("join-error").textContent = `${error.message}.`;
  });
}
