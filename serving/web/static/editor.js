// Editing a quiz of one's own: its questions, a look at each as players see it, lists brought in, saving, publishing.

import { $, announce, button, el, field, form, problem, show } from "./dom.js";
import { account, withAccount } from "./author.js";
import { sureDialog } from "./host_dialogs.js";
import { importCard } from "./importer.js";
import { select } from "./library.js";
import { call, download } from "./net.js";
import { questionCard } from "./question_form.js";
import { T } from "./texts.js";

const LEVELS = ["", "A1", "A2", "B1", "B2", "C1", "C2"];

export function editorScreen(quizId) {
  const path = `/v1/quizzes/${encodeURIComponent(quizId)}`;
  let quiz = null; // as the server last told it: its revision is what a save is made to
  let draft = null; // as it stands here
  let dirty = false;
  let left = false;

  const ask = async (to, options) => call(to, { ...options, token: (await account()).access_token });
  withAccount(() => open()).catch(fail);

  function fail(error) {
    show(el("section", { class: "card narrow" }, el("h1", { text: T.editor.title }), el("p", { class: "error", role: "alert" }, problem(error)),
      el("a", { class: "button", href: "/#/quizzes", text: T.mine.title })), { title: T.editor.title });
  }

  async function open() {
    try {
      took(await ask(`${path}/draft`));
      if (left) return;
      const kept = sessionStorage.getItem(`lakeboard.unsaved.${quizId}`);
      sessionStorage.removeItem(`lakeboard.unsaved.${quizId}`);
      if (kept) draft = JSON.parse(kept);
      draw();
      if (kept) changed();
    } catch (error) {
      fail(error);
    }
  }

  function took(reply) {
    quiz = reply;
    draft = structuredClone(reply.draft);
    dirty = false;
  }

  function changed() {
    dirty = true;
    $("state").textContent = T.editor.unsaved;
  }

  function stateText() {
    const version = quiz.version ? T.editor.version(quiz.version) : T.editor.never;
    return `${T.editor.saved} ${version}`;
  }

  // Saves what stands here; true if it is stored now.
  async function save() {
    $("editor-error").replaceChildren();
    try {
      took(await ask(`${path}/draft`, { method: "PUT", body: draft, headers: { "If-Match": `"r${quiz.revision}"` } }));
    } catch (error) {
      if (error.code === "edit_conflict") conflict();
      else $("editor-error").replaceChildren(...problem(error));
      return false;
    }
    redraw();
    $("state").textContent = stateText();
    announce(T.editor.saved);
    return true;
  }

  // Somebody else has saved meanwhile. Both are kept until one is chosen: theirs is stored, this one is on the page.
  function conflict() {
    const mine = draft;
    $("editor-error").replaceChildren(el("strong", { text: T.editor.conflict }), el("span", { text: T.editor.conflictLead }),
      el("span", { class: "actions" }, button(T.editor.theirs, () => { dirty = false; open(); }),
        button(T.editor.minesOver, async () => {
          try {
            took(await ask(`${path}/draft`)); // on theirs as it is now, with this page's content
            draft = mine;
            await save();
          } catch (error) {
            $("editor-error").replaceChildren(...problem(error));
          }
        })));
  }

  async function publish() {
    if (dirty && !(await save())) return;
    $("editor-error").replaceChildren();
    try {
      const reply = await ask(`${path}/publish`, { method: "POST", headers: { "If-Match": `"r${quiz.revision}"` } });
      took(reply);
      $("state").textContent = stateText();
      announce(T.editor.published(reply.version));
      drawPlay();
    } catch (error) {
      if (error.code === "edit_conflict") conflict();
      else $("editor-error").replaceChildren(...problem(error));
    }
  }

  async function showTo(visibility) {
    try {
      quiz = { ...quiz, ...(await ask(`${path}/visibility`, { method: "PUT", body: { visibility } })), draft: quiz.draft };
      announce(T.visibility[visibility]);
    } catch (error) {
      $("editor-error").replaceChildren(...problem(error));
    }
  }

  function redraw() {
    const wrong = new Map();
    for (const one of quiz.problems) wrong.set(one.question, [...(wrong.get(one.question) || []), one]);
    $("questions").replaceChildren(...draft.questions.map((question, place) =>
      questionCard(question, place, draft.questions.length, { changed, move, remove, token: async () => (await account()).access_token,
        told: dirty ? [] : wrong.get(place + 1) || [], language: draft.language })));
    $("count").textContent = T.editor.count(draft.questions.length);
    $("quiz-problems").replaceChildren(...(wrong.get(null) || []).map((one) => el("li", { text: T.problem(one) })));
    drawPlay();
  }

  function drawPlay() {
    $("play").replaceChildren(...(quiz.version ? [el("a", { class: "button", href: `/#/host?quiz=${quiz.quiz_id}`, text: T.library.host }),
      el("a", { class: "button", href: `/#/host?quiz=${quiz.quiz_id}&kind=challenge`, text: T.library.challenge })] : []));
  }

  function move(place, by) {
    const [one] = draft.questions.splice(place, 1);
    draft.questions.splice(place + by, 0, one);
    changed();
    redraw();
    const card = $("questions").children[place + by];
    card.querySelector("summary").focus();
  }

  function remove(place) {
    draft.questions.splice(place, 1);
    changed();
    redraw();
    $("add").focus();
  }

  function add(questions) {
    draft.questions.push(...questions);
    changed();
    redraw();
  }

  function text(id, label, name, most, hint) {
    const input = el("input", { id, value: draft[name], maxlength: most, oninput: () => { draft[name] = input.value; changed(); } });
    return field(label, input, hint);
  }

  function draw() {
    const level = select("quiz-level", T.library.level, LEVELS.map((one) => [one, one || T.editor.noLevel]), (event) => {
      draft.level = event.target.value;
      changed();
    });
    const visible = select("visibility", T.editor.visibility, Object.entries(T.visibility), (event) => showTo(event.target.value));
    level.querySelector("select").value = draft.level;
    visible.querySelector("select").value = quiz.visibility;
    const imported = importCard({ room: () => 200 - draft.questions.length, add, token: async () => (await account()).access_token });
    show([
      form("quiz", [el("section", { class: "card" }, el("h1", { text: T.editor.title }),
        text("quiz-title", T.editor.name, "title", 80), text("quiz-description", T.editor.description, "description", 300),
        el("div", { class: "triple" }, level, text("quiz-language", T.editor.language, "language", 20, T.editor.languageHint), visible),
        el("ul", { id: "quiz-problems", class: "problems" }),
        el("p", { class: "actions", id: "play" }))], async () => { await save(); }),
      el("section", {}, el("div", { class: "stage-head" }, el("h2", { text: T.editor.questions }), el("p", { id: "count", class: "muted" })),
        el("ol", { id: "questions", class: "question-cards" }),
        el("p", { class: "actions" }, Object.assign(button(T.editor.add, () => {
          add([fresh()]);
          const last = $("questions").lastElementChild;
          last.querySelector("details").open = true;
          last.querySelector("select").focus();
        }), { id: "add" }), button(T.editor.export_, async () => {
          if (dirty && !(await save())) return;
          await download(`${path}/draft.csv`, "quiz.csv", (await account()).access_token).catch((error) => announce(error.message));
        }))),
      imported,
      el("div", { class: "lead" }, el("p", { id: "editor-error", class: "error", role: "alert" }),
        el("div", { class: "bar", role: "group", "aria-label": T.editor.title }, el("span", { id: "state", class: "muted grow", role: "status", text: stateText() }),
          button(T.editor.save, save), button(T.editor.publish, publish, "primary"))),
    ], { title: draft.title || T.editor.title });
    redraw();
  }

  const stay = (event) => { if (dirty) event.preventDefault(); };
  addEventListener("beforeunload", stay);
  return () => {
    left = true;
    removeEventListener("beforeunload", stay);
    if (dirty && draft) sessionStorage.setItem(`lakeboard.unsaved.${quizId}`, JSON.stringify(draft));
  };
}

const fresh = () => ({ question_id: "", type: "definition_to_word", prompt: "", answer: "", wrong: ["", "", ""], also: [], word: "", part: "",
  tags: [], media: null, time_limit_s: 20 });
