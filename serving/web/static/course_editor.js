// Making and changing a course: its title, who may enrol, and its quizzes in order.

import { $, announce, button, el, field, form, problem, show } from "./dom.js";
import { ask, failed } from "./courses.js";
import { select } from "./library.js";
import { asMe, login } from "./me.js";
import { Problem } from "./net.js";
import { T } from "./texts.js";

const C = T.courses;
const E = C.editor;
const LEVELS = ["", "A1", "A2", "B1", "B2", "C1", "C2"];
const FOUND = 12;
const SEARCH_MS = 300;

// #/course-edit, #/course-edit/ID
export function courseEditorScreen(courseId) {
  let gone = false;
  let due = null;
  let asked = 0;
  open().catch((error) => { if (!gone) failed(error); });

  async function open() {
    if (!(await login())) throw new Problem(401, { title: C.needAccount });
    const course = courseId ? await ask(`/v1/courses/${encodeURIComponent(courseId)}`)
      : { title: "", description: "", level: "", visibility: "private", quizzes: [], revision: 0 };
    if (!gone) draw(course);
  }

  function draw(course) {
    const quizzes = [...course.quizzes];
    const title = el("input", { id: "course-title", maxlength: 80, required: true, autocomplete: "off", value: course.title });
    const description = el("input", { id: "course-description", maxlength: 400, autocomplete: "off", value: course.description });
    const level = select("course-level", T.library.level, LEVELS.map((one) => [one, one || T.editor.noLevel]));
    const visible = select("course-visibility", E.visibility, Object.entries(T.visibility));
    level.querySelector("select").value = course.level;
    visible.querySelector("select").value = course.visibility;
    const steps = el("ol", { class: "rows steps", id: "steps" });
    const found = el("ul", { class: "rows", id: "found" });
    const search = el("input", { id: "course-search", type: "search", maxlength: 100, oninput: () => {
      clearTimeout(due);
      due = setTimeout(look, SEARCH_MS);
    } });

    function redraw() {
      steps.replaceChildren(...(quizzes.length ? quizzes.map(step) : [el("li", { class: "empty", text: E.none })]));
    }

    function step(quiz, place) {
      const act = (text, go, off) => el("button", { type: "button", text, "aria-label": `${text}: ${quiz.title}`, disabled: off, onclick: go });
      return el("li", { "data-quiz": quiz.quiz_id }, el("span", { class: "rank", "aria-hidden": "true", text: place + 1 }),
        el("strong", { class: "grow", text: quiz.title }), act(E.up, () => move(place, -1), place === 0),
        act(E.down, () => move(place, 1), place === quizzes.length - 1), act(E.remove, () => remove(place)));
    }

    function move(place, by) {
      const [one] = quizzes.splice(place, 1);
      quizzes.splice(place + by, 0, one);
      redraw();
      const buttons = [...steps.children[place + by].querySelectorAll("button")];
      (buttons[by < 0 ? 0 : 1].disabled ? buttons[by < 0 ? 1 : 0] : buttons[by < 0 ? 0 : 1]).focus();
    }

    function remove(place) {
      quizzes.splice(place, 1);
      redraw();
      look();
      search.focus();
    }

    async function look() {
      const mine = ++asked;
      try {
        const params = new URLSearchParams({ limit: 100, q: search.value.trim() });
        const [own, all] = await Promise.all([ask(`/v1/quizzes?${params}&mine=true`), ask(`/v1/quizzes?${params}`)]);
        if (gone || mine !== asked) return; // a later question has been asked
        const taken = new Set(quizzes.map((one) => one.quiz_id));
        const fits = new Map([...own.quizzes, ...all.quizzes].filter((one) => one.version && !one.archived && !taken.has(one.quiz_id))
          .map((one) => [one.quiz_id, one]));
        found.replaceChildren(...[...fits.values()].slice(0, FOUND).map((quiz) => el("li", {}, el("span", { class: "grow", text: quiz.title }),
          el("button", { type: "button", text: "+", "aria-label": E.add(quiz.title), onclick: () => {
            quizzes.push(quiz);
            redraw();
            announce(E.added(quiz.title));
            look();
            search.focus();
          } }))));
        if (!fits.size) found.replaceChildren(el("li", { class: "empty", text: T.library.none }));
      } catch (error) {
        found.replaceChildren(el("li", { class: "error" }, problem(error)));
      }
    }

    async function save() {
      const body = { title: title.value.trim(), description: description.value.trim(), level: level.querySelector("select").value,
        visibility: visible.querySelector("select").value, quizzes: quizzes.map((one) => one.quiz_id) };
      if (!body.title) throw new Problem(0, { title: E.nameMissing });
      if (!body.quizzes.length) throw new Problem(0, { title: E.noQuiz });
      try {
        const saved = courseId
          ? await asMe(`/v1/courses/${courseId}`, { method: "PUT", body, headers: { "If-Match": `"r${course.revision}"` } })
          : await asMe("/v1/courses", { body });
        announce(E.saved);
        location.hash = `#/courses/${saved.course_id}`;
      } catch (error) {
        if (error.code !== "edit_conflict") throw error;
        $("course-conflict").replaceChildren(el("strong", { text: E.conflict }), button(E.reload, () => open().catch(failed)));
      }
    }

    const heading = courseId ? E.title : E.make;
    show([form("course", [
      el("section", { class: "card" }, el("h1", { text: heading }), field(E.name, title), field(E.description, description),
        el("div", { class: "triple" }, level, visible)),
      el("section", { class: "card" }, el("h2", { text: E.quizzes }), steps),
      el("section", { class: "card" }, el("h2", { text: E.search }), field(T.library.search, search), found),
      el("p", { id: "course-conflict", class: "error", role: "alert" }),
      el("p", { class: "actions" }, el("button", { class: "primary", type: "submit", text: E.save }),
        el("a", { class: "button", href: "/#/courses", text: C.all })),
    ], save)], { title: heading });
    redraw();
    look();
  }

  return () => {
    gone = true;
    clearTimeout(due);
  };
}
