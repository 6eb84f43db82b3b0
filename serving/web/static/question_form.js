// One question in the editor: its fields by type, what keeps it from being published, and a look at it as players see it.

import { $, button, el, field, problem } from "./dom.js";
import { promptOf, stimulus, typedField } from "./asked.js";
import { choiceList } from "./pieces.js";
import { upload } from "./net.js";
import { T } from "./texts.js";

const KINDS = { picture: ["picture"], audio: ["audio"], typed_spelling: ["picture", "audio"] };

let numbered = 0; // for ids of fields: a card that is drawn again has new ones

export function questionCard(question, place, of, { changed, move, remove, token, told, language }) {
  const id = `q${++numbered}`;
  const title = el("span", { class: "grow" });
  const body = el("div", { class: "question-body" });
  const card = el("details", { class: told.length ? "card wrong" : "card", open: told.length > 0 },
    el("summary", {}, el("span", { class: "rank", text: place + 1 }), title), body);

  function head() {
    const what = question.answer || question.prompt || T.editor.empty;
    title.replaceChildren(el("strong", { text: what }), el("span", { class: "hint", text: T.types[question.type] }));
  }

  function edited() {
    head();
    changed();
  }

  const text = (name, label, most, hint, get = () => question[name], set = (value) => { question[name] = value; }) => {
    const input = el("input", { id: `${id}-${name}`, value: get(), maxlength: most, oninput: () => { set(input.value); edited(); } });
    return field(label, input, hint);
  };

  function wrongChoices() {
    while (question.wrong.length < 3) question.wrong.push("");
    return el("fieldset", {}, el("legend", { text: T.editor.wrong }), question.wrong.map((_, n) =>
      text(`wrong-${n}`, T.editor.wrongOne(n + 1), 200, null, () => question.wrong[n], (value) => { question.wrong[n] = value; })));
  }

  function media() {
    const kinds = KINDS[question.type];
    const error = el("p", { class: "error", role: "alert" });
    const shown = el("div");
    const draw = () => shown.replaceChildren(...(question.media ? [
      stimulus({ media: question.media }),
      text("alt", T.editor.alt, 200, T.editor.altHint, () => question.media.alt, (value) => { question.media.alt = value; }),
      button(T.editor.noMedia, () => { question.media = null; edited(); draw(); }, "quiet")] : []));
    const file = el("input", { id: `${id}-media`, type: "file", accept: kinds.map((kind) => (kind === "picture" ? "image/*" : "audio/*")).join(","),
      onchange: async () => {
        error.replaceChildren();
        try {
          const { kind, url } = await upload(file.files[0], await token());
          question.media = { kind, url, alt: question.media ? question.media.alt : "" };
          edited();
          draw();
        } catch (failure) {
          error.replaceChildren(...problem(failure));
        }
      } });
    draw();
    return el("div", {}, field(T.editor.media(kinds), file), error, shown);
  }

  function fields() {
    const W = T.editor.fields[question.type];
    const type = el("select", { id: `${id}-type`, onchange: () => {
      question.type = type.value;
      if (!KINDS[question.type]) question.media = null;
      if (question.type === "typed_spelling") question.wrong = [];
      else question.also = [];
      edited();
      fields();
      $(`${id}-type`).focus();
    } }, Object.entries(T.types).map(([value, name]) => el("option", { value, text: name, selected: value === question.type })));
    const seen = el("div", { class: "seen", hidden: true });
    const limit = el("input", { id: `${id}-limit`, type: "number", min: 5, max: 120, value: question.time_limit_s,
      oninput: () => { question.time_limit_s = Number(limit.value) || 20; edited(); } });
    body.replaceChildren(
      ...(told.length ? [el("ul", { class: "problems" }, told.map((one) => el("li", { text: T.problem(one) })))] : []),
      field(T.editor.type, type), ...(KINDS[question.type] ? [media()] : []),
      text("prompt", W.prompt, 300, W.hint), text("answer", W.answer, 200),
      question.type === "typed_spelling" ? text("also", T.editor.also, 300, T.editor.alsoHint, () => question.also.join(", "),
        (value) => { question.also = value.split(",").map((one) => one.trim()).filter(Boolean).slice(0, 5); }) : wrongChoices(),
      el("div", { class: "triple" }, text("part", T.editor.part, 20), field(T.editor.limit, limit)),
      el("p", { class: "actions" }, button(T.editor.look, () => {
        seen.hidden = !seen.hidden;
        if (!seen.hidden) seen.replaceChildren(...asPlayed(question, language));
      }), place > 0 ? button(T.editor.up, () => move(place, -1)) : null, place < of - 1 ? button(T.editor.down, () => move(place, 1)) : null,
      button(T.editor.remove, () => remove(place), "quiet")), seen);
  }

  head();
  fields();
  return el("li", {}, card);
}

// A question as a phone shows it; nothing in it can be answered.
function asPlayed(question, language) {
  const typed = question.type === "typed_spelling";
  const spoken = question.type === "listening";
  const seen = { ...question, question_type: question.type, language, prompt: spoken ? "" : question.prompt, speech: spoken ? question.prompt : "",
    choices: typed ? [] : [question.answer, ...question.wrong].filter(Boolean).sort() };
  return [el("h3", { class: "prompt", text: promptOf(seen) }), stimulus(seen), typed ? typedField(seen, () => {}) : choiceList(seen, null)].filter(Boolean);
}
