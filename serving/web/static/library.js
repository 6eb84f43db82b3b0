// Quizzes to play: the starter set and what others have published, by level, type and words.

import { announce, button, el, field, problem, show } from "./dom.js";
import { call } from "./net.js";
import { T } from "./texts.js";

const PAGE = 24;
const LEVELS = ["A1", "A2", "B1", "B2", "C1", "C2"];
const SEARCH_MS = 300;

// What a list says of a quiz: its level, how many questions, and of which types.
export function facts(quiz) {
  return el("p", { class: "facts" }, quiz.level ? el("span", { class: "pill small", text: quiz.level }) : null,
    el("span", { text: T.setup.words(quiz.questions) }), quiz.types.map((type) => el("span", { text: T.types[type] || type })));
}

export const select = (id, label, options, onchange) => field(label, el("select", { id, onchange },
  options.map(([value, text]) => el("option", { value, text }))));

export function libraryScreen(_argument, query, first) {
  const list = el("ul", { id: "quizzes", class: "quizzes" });
  const more = el("p", { class: "actions centre" });
  const told = el("p", { class: "error", role: "alert" });
  let asked = 0;
  let due = null;

  const words = el("input", { id: "words", type: "search", maxlength: 100, value: query.get("q") || "", oninput: () => {
    clearTimeout(due);
    due = setTimeout(() => load(""), SEARCH_MS);
  } });
  const level = select("level", T.library.level, [["", T.library.every], ...LEVELS.map((one) => [one, one])], () => load(""));
  const type = select("type", T.library.type, [["", T.library.every], ...Object.entries(T.types)], () => load(""));

  async function load(cursor) {
    const mine = ++asked;
    const value = (node) => node.querySelector("select").value;
    const params = new URLSearchParams({ limit: PAGE, cursor, q: words.value.trim(), level: value(level), type: value(type) });
    try {
      const { quizzes, next } = await call(`/v1/quizzes?${params}`);
      if (mine !== asked) return; // a later question has been asked
      told.replaceChildren();
      if (!cursor) list.replaceChildren();
      list.append(...quizzes.map(row));
      more.replaceChildren(...(next ? [button(T.library.more, () => load(next))] : []));
      if (!list.children.length) list.append(el("li", { class: "empty", text: T.library.none }));
      if (!cursor) announce(T.library.found(list.querySelectorAll("[data-quiz]").length, Boolean(next)));
    } catch (error) {
      told.replaceChildren(...problem(error));
    }
  }

  show([el("section", { class: "card" }, el("h1", { text: T.library.title }), el("p", { class: "muted", text: T.library.lead }),
    el("div", { class: "triple" }, field(T.library.search, words), level, type),
    el("p", { class: "actions" }, el("a", { class: "button", href: "/#/courses", text: T.courses.title }),
      el("a", { class: "button", href: "/#/quizzes", text: T.mine.title }))),
  told, list, more], { title: T.library.title, focus: !first });
  load("");
  return () => clearTimeout(due);
}

function row(quiz) {
  return el("li", { class: "card quiz", "data-quiz": quiz.quiz_id }, el("h2", { text: quiz.title }), facts(quiz),
    quiz.description ? el("p", { class: "hint", text: quiz.description }) : null,
    el("p", { class: "actions" }, el("a", { class: "button primary", href: `/#/host?quiz=${quiz.quiz_id}`, text: T.library.host,
      "aria-label": `${T.library.host}: ${quiz.title}` }),
    el("a", { class: "button", href: `/#/host?quiz=${quiz.quiz_id}&kind=challenge`, text: T.library.challenge,
      "aria-label": `${T.library.challenge}: ${quiz.title}` })));
}
