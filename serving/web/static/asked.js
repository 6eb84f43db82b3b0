// What a question asks with: its prompt, a picture, a recording or a spoken word, and the field for a typed answer.

import { $, button, el } from "./dom.js";
import { T } from "./texts.js";

// A voice that has not begun by then is not there: some browsers have the interface and no voice.
const VOICE_MS = 2500;

export const isTyped = (question) => question.choices.length === 0;

// What the heading says: the prompt, or what there is to do where something else asks.
export const promptOf = (question) => question.prompt || T.question.asks[question.question_type] || "";

// The picture, recording or voice of a question; null where the prompt says all. aloud: speak at once (a projector's page,
// which somebody has pressed a button on; a class of phones would all speak at the same time).
export function stimulus(question, { aloud = false } = {}) {
  if (question.speech) return speaker(question, aloud);
  if (!question.media) return null;
  const { kind, url, alt } = question.media;
  if (kind === "picture") return el("img", { class: "picture", src: url, alt: alt || T.question.picture });
  return el("figure", { class: "recording" }, el("audio", { controls: true, src: url, preload: "auto", "aria-label": T.question.recording }),
    alt ? el("figcaption", { class: "muted", text: alt }) : null);
}

function speaker(question, aloud) {
  const text = el("p", { class: "spoken", hidden: true, lang: question.language, text: question.speech });
  const written = button(T.question.readInstead, () => tell(), "quiet");
  let due = null;

  function tell() {
    clearTimeout(due);
    text.hidden = false;
    written.hidden = true;
  }

  function speak() {
    if (!("speechSynthesis" in window)) return tell();
    speechSynthesis.cancel();
    const words = new SpeechSynthesisUtterance(question.speech);
    words.lang = question.language;
    words.rate = 0.9;
    words.onstart = () => clearTimeout(due);
    words.onerror = (event) => { if (!["interrupted", "canceled"].includes(event.error)) tell(); };
    clearTimeout(due);
    due = setTimeout(tell, VOICE_MS);
    return speechSynthesis.speak(words);
  }

  const listen = Object.assign(button(T.question.listen, speak, "primary"), { id: "listen" });
  if (aloud) speak();
  return el("div", { class: "speaker" }, el("p", { class: "actions centre" }, listen, written), text);
}

// The field for a typed answer. Nothing of the browser's may put it right or show what was typed before.
export function typedField(question, onsend) {
  const input = el("input", { id: "typed", type: "text", autocapitalize: "off", autocorrect: "off", autocomplete: "off",
    spellcheck: "false", enterkeyhint: "send", maxlength: 64, lang: question.language, required: true });
  return el("form", { id: "choices", class: "typed", novalidate: true, onsubmit: (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (text && !input.readOnly) onsend(text);
  } },
  el("label", { for: "typed", text: T.question.type }), el("div", { class: "copy" }, input,
    el("button", { type: "submit", class: "primary", text: T.question.send })),
  el("p", { id: "typed-answer", class: "mark" }));
}

// Locks or opens the field; what was sent stays in it.
export function lockTyped(chosen, locked) {
  const input = $("typed");
  if (!input) return;
  if (chosen !== null) input.value = chosen;
  input.readOnly = locked;
  document.querySelector("#choices button").setAttribute("aria-disabled", String(locked));
}

// The right spelling under the field; correct: whether one's own was, null if nothing was sent.
export function markTyped(answer, correct) {
  $("typed-answer").textContent = `✓ ${T.question.answerWas(answer)}`;
  $("choices").classList.toggle("right", correct === true);
  $("choices").classList.toggle("wrong", correct === false);
}
