// My quizzes: drafts, what is published, what is archived.

import { $, button, el, problem, show } from "./dom.js";
import { account, withAccount } from "./author.js";
import { sureDialog } from "./host_dialogs.js";
import { facts } from "./library.js";
import { call } from "./net.js";
import { T } from "./texts.js";

export function quizzesScreen() {
  let gone = false;
  withAccount(() => { if (!gone) draw(); }).catch(fail);

  function fail(error) {
    show(el("section", { class: "card narrow" }, el("h1", { text: T.mine.title }), el("p", { class: "error", role: "alert" }, problem(error))),
      { title: T.mine.title });
  }

  const ask = async (path, options) => call(path, { ...options, token: (await account()).access_token });

  async function act(path, method) {
    try {
      await ask(path, { method });
      await load("");
    } catch (error) {
      $("mine-error").replaceChildren(...problem(error));
    }
  }

  async function make() {
    try {
      const made = await ask("/v1/quizzes", { body: { title: T.mine.untitled } });
      location.hash = `#/edit/${made.quiz_id}`;
    } catch (error) {
      $("mine-error").replaceChildren(...problem(error));
    }
  }

  async function load(cursor) {
    const { quizzes, next } = await ask(`/v1/quizzes?mine=true&limit=50&cursor=${encodeURIComponent(cursor)}`);
    if (!$("mine")) return;
    if (!cursor) $("mine").replaceChildren();
    $("mine").append(...quizzes.map(row));
    if (!$("mine").children.length) $("mine").append(el("li", { class: "empty", text: T.mine.none }));
    $("mine-more").replaceChildren(...(next ? [button(T.library.more, () => load(next))] : []));
  }

  function draw() {
    show([el("section", { class: "card" }, el("h1", { text: T.mine.title }), el("p", { class: "muted", text: T.mine.lead }),
      el("p", { class: "actions" }, button(T.mine.make, make, "primary"), el("a", { class: "button", href: "/#/library", text: T.library.title })),
      el("p", { id: "mine-error", class: "error", role: "alert" })),
    el("ul", { id: "mine", class: "quizzes" }), el("p", { id: "mine-more", class: "actions centre" })], { title: T.mine.title });
    load("").catch((error) => $("mine-error").replaceChildren(...problem(error)));
  }

  function row(quiz) {
    const path = `/v1/quizzes/${quiz.quiz_id}`;
    const state = quiz.archived ? T.mine.archived : quiz.version ? T.mine.published(quiz.version, T.visibility[quiz.visibility]) : T.mine.draft;
    const title = quiz.title || T.mine.untitled;
    const named = (node, text) => { node.setAttribute("aria-label", `${text}: ${title}`); return node; };
    const acts = [
      named(el("a", { class: "button primary", href: `/#/edit/${quiz.quiz_id}`, text: T.mine.edit }), T.mine.edit),
      quiz.version && !quiz.archived && named(el("a", { class: "button", href: `/#/host?quiz=${quiz.quiz_id}`, text: T.library.host }), T.library.host),
      quiz.archived && named(button(T.mine.restore, () => act(`${path}/restore`, "POST")), T.mine.restore),
      quiz.version && !quiz.archived && named(button(T.mine.archive, () => act(`${path}/archive`, "POST"), "quiet"), T.mine.archive),
      !quiz.version && named(button(T.mine.remove, () => sureDialog(T.mine.sure, T.mine.remove, () => act(path, "DELETE")), "quiet"), T.mine.remove),
    ];
    return el("li", { class: "card quiz", "data-quiz": quiz.quiz_id }, el("h2", { text: title }),
      el("p", { class: "pill small", text: state }), quiz.version ? facts(quiz) : null, el("p", { class: "actions" }, acts));
  }

  return () => { gone = true; };
}
