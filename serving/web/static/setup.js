// Creating a session or a challenge, and those that this device has hosted before.

import { $, el, field, form, show } from "./dom.js";
import { ownToken } from "./me.js";
import { call, hosted, takeSeat } from "./net.js";
import { T, moment } from "./texts.js";

function kind(value, title, hint, checked) {
  return el("label", { class: "kind" },
    el("input", { type: "radio", name: "kind", value, id: `kind-${value}`, checked }),
    el("span", {}, el("strong", { text: title }), el("span", { class: "hint", text: hint })));
}

export function setupScreen(_argument, query, first) {
  const wanted = query.get("quiz");
  const challenge = query.get("kind") === "challenge";
  const quiz = el("select", { id: "quiz", required: true });
  const open = el("select", { id: "open-for" }, T.setup.spans.map(([s, text]) => el("option", { value: s, text })));
  const openFor = field(T.setup.open, open);
  openFor.hidden = !challenge;
  const kinds = el("fieldset", { class: "kinds", onchange: () => { openFor.hidden = !$("kind-challenge").checked; } },
    el("legend", { text: T.setup.kind }),
    kind("hosted", T.setup.hosted, T.setup.hostedHint, !challenge),
    kind("challenge", T.setup.challenge, T.setup.challengeHint, challenge));
  const create = form("create", [
    field(T.setup.quiz, quiz), kinds, openFor,
    el("button", { class: "primary big", type: "submit", text: T.setup.go }),
  ], async () => {
    const body = { quiz_id: quiz.value };
    if ($("kind-challenge").checked) body.open_for_s = Number(open.value);
    lead({ ...(await call("/v1/sessions", { body, token: await ownToken() })), host: true });
  });
  const earlier = hosted();
  show([
    el("section", { class: "card narrow" }, el("h1", { text: T.setup.title }), el("p", { class: "muted", text: T.setup.lead }),
      create),
    earlier.length ? el("section", { class: "card narrow" }, el("h2", { text: T.setup.earlier }),
      el("ul", { class: "rows" }, earlier.map(row))) : null,
  ], { title: T.setup.title, focus: !first });
  choices(wanted).then((quizzes) => {
    quiz.replaceChildren(...quizzes.map((one) =>
      el("option", { value: one.quiz_id, text: `${one.title} · ${T.setup.words(one.questions)}` })));
  }).catch((error) => { $("create-error").textContent = `${error.message}.`; });
}

// The quizzes to choose from; the one that was asked for comes first, wherever it is in the list.
async function choices(wanted) {
  const token = await ownToken();
  const [listed, asked] = await Promise.all([call("/v1/quizzes", { token }),
    wanted ? call(`/v1/quizzes/${encodeURIComponent(wanted)}`, { token }) : null]);
  const others = listed.quizzes.filter((one) => one.quiz_id !== wanted);
  return asked ? [asked, ...others] : others;
}

function lead(me) {
  takeSeat(me);
  location.hash = "#/game";
}

function row(one) {
  return el("li", {}, el("span", { class: "grow" }, el("strong", { text: one.title }),
    el("span", { class: "hint", text: moment(new Date(one.at)) })),
  el("button", { type: "button", text: T.setup.lead_, "aria-label": `${T.setup.lead_}: ${one.title}`, onclick: () => lead(one) }),
  el("a", { class: "button", href: `/#/report/${one.session_id}`, text: T.setup.report,
    "aria-label": `${T.setup.report}: ${one.title}` }));
}
