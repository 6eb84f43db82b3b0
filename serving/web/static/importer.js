// Bringing a list in: pasted or from a file, looked at line by line, and taken whole or not at all.

import { announce, button, el, field, problem } from "./dom.js";
import { call } from "./net.js";
import { T } from "./texts.js";

const TYPES = ["definition_to_word", "word_to_definition", "gap_in_sentence", "listening", "typed_spelling"];
const SHOWN = 12; // questions of a preview; the rest is counted

// room(): how many more questions the quiz takes; add(questions): takes them; token(): of the account.
export function importCard({ room, add, token }) {
  const text = el("textarea", { id: "paste", rows: 7, spellcheck: "false", placeholder: T.importer.example });
  const file = el("input", { id: "paste-file", type: "file", accept: ".csv,.tsv,.txt,text/*" });
  const types = TYPES.map((type, n) => el("input", { type: "checkbox", id: `import-${type}`, value: type, checked: n === 0 }));
  const swapped = el("input", { type: "checkbox", id: "import-swapped" });
  const told = el("p", { class: "error", role: "alert" });
  const found = el("div", { id: "import-found" });

  async function look() {
    told.replaceChildren();
    found.replaceChildren();
    const chosen = types.filter((one) => one.checked).map((one) => one.value);
    const params = new URLSearchParams({ types: chosen.join(",") || TYPES[0], swapped: swapped.checked });
    try {
      // A file goes as its bytes: the server reads its encoding, and says so where it cannot.
      const list = file.files[0] || text.value || " ";
      draw(await call(`/v1/quizzes/import?${params}`, { method: "POST", file: list, token: await token() }));
    } catch (error) {
      told.replaceChildren(...problem(error));
    }
  }

  function draw({ questions, errors, complete, words, format }) {
    const left = el("input", { type: "checkbox", id: "import-leave", onchange: () => { take.disabled = !left.checked; } });
    const take = button(T.importer.add(questions.length), () => {
      add(questions.map((one) => one.question));
      announce(T.importer.added(questions.length));
      found.replaceChildren(el("p", { class: "pill", text: T.importer.added(questions.length) }));
      text.value = "";
      file.value = "";
    }, "primary");
    take.id = "import-add";
    const many = questions.length > room();
    take.disabled = !complete || many || questions.length === 0;
    found.replaceChildren(...[
      el("p", { id: "import-told", role: "status", text: T.importer.found(format, words, questions.length, errors.length) }),
      errors.length ? el("ul", { id: "import-errors", class: "problems" }, errors.map((one) =>
        el("li", {}, el("strong", { text: T.importer.line(one.line) }), ` ${T.problem(one)}`))) : null,
      questions.length ? el("ol", { class: "review" }, questions.slice(0, SHOWN).map(({ question }) => el("li", {},
        el("span", { text: question.prompt }), el("strong", { text: question.answer }),
        question.wrong.length ? el("span", { class: "hint", text: question.wrong.join(" · ") }) : null))) : null,
      questions.length > SHOWN ? el("p", { class: "muted", text: T.lobby.more(questions.length - SHOWN) }) : null,
      many ? el("p", { class: "error", text: T.importer.many(room()) }) : null,
      !complete && questions.length && !many ? el("label", { class: "check" }, left, T.importer.leave(errors.length)) : null,
      questions.length ? el("p", { class: "actions" }, take) : null].filter(Boolean));
  }

  return el("details", { id: "import", class: "card" }, el("summary", {}, el("h2", { text: T.importer.title })),
    el("p", { class: "muted", text: T.importer.lead }),
    field(T.importer.paste, text), field(T.importer.file, file),
    el("fieldset", { class: "checks" }, el("legend", { text: T.importer.ask }), types.map((one) =>
      el("label", { class: "check" }, one, T.types[one.value]))),
    el("label", { class: "check" }, swapped, T.importer.swapped),
    told, el("p", { class: "actions" }, button(T.importer.look, look)), found);
}
