// Courses: the list, one's own, and one course with its quizzes in order; its author sees who enrolled, day by day.

import { lineChart } from "./charts.js";
import { announce, button, el, problem, show } from "./dom.js";
import { sureDialog } from "./host_dialogs.js";
import { facts } from "./library.js";
import { asMe, login } from "./me.js";
import { call } from "./net.js";
import { T, utcDayOf } from "./texts.js";

const C = T.courses;
const PAGE = 24;

// As whoever is here: courses can be looked at without an account.
export const ask = async (path, options) => ((await login()) ? asMe(path, options) : call(path, options));

export function failed(error) {
  show([el("section", { class: "card narrow" }, el("h1", { text: C.title }), el("p", { class: "error", role: "alert" }, problem(error)),
    el("a", { class: "button", href: "/#/courses", text: C.all }))], { title: C.title });
}

// #/courses, #/courses?mine=1, #/courses/ID
export function coursesScreen(courseId, query, first) {
  const state = { gone: false, leave: null };
  const draw = courseId ? oneCourse(courseId, state) : list(query.get("mine") === "1", first, state);
  draw.catch((error) => { if (!state.gone) failed(error); });
  return () => {
    state.gone = true;
    if (state.leave) state.leave();
  };
}

async function list(mine, first, state) {
  const me = await login();
  if (state.gone) return;
  const rows = el("ul", { id: "courses", class: "quizzes" });
  const more = el("p", { class: "actions centre" });
  const told = el("p", { class: "error", role: "alert" });

  async function load(cursor) {
    try {
      const { courses, next } = await ask(`/v1/courses?${new URLSearchParams({ mine, limit: PAGE, cursor })}`);
      if (state.gone) return;
      rows.append(...courses.map(row));
      more.replaceChildren(...(next ? [button(T.library.more, () => load(next))] : []));
      if (!rows.children.length) rows.append(el("li", { class: "empty", text: mine ? C.noneOfMine : C.none }));
    } catch (error) {
      told.replaceChildren(...problem(error));
    }
  }

  const links = [mine ? el("a", { class: "button", href: "/#/courses", text: C.all }) : null,
    me && !mine ? el("a", { class: "button", href: "/#/courses?mine=1", text: C.mine }) : null,
    me && me.roles.includes("host") ? el("a", { class: "button", href: "/#/course-edit", text: C.make }) : null,
    el("a", { class: "button", href: "/#/library", text: T.library.title })];
  show([el("section", { class: "card" }, el("h1", { text: mine ? C.mine : C.title }),
    el("p", { class: "muted", text: mine ? C.minesLead : C.lead }), el("p", { class: "actions" }, links)), told, rows, more],
  { title: mine ? C.mine : C.title, focus: !first });
  await load("");
}

function row(course) {
  return el("li", { class: "card quiz", "data-course": course.course_id }, el("h2", { text: course.title }),
    el("p", { class: "facts" }, course.level ? el("span", { class: "pill small", text: course.level }) : null,
      el("span", { text: C.quizzes(course.quizzes) }), course.enrolled ? el("strong", { text: C.enrolled }) : null,
      course.archived ? el("span", { text: C.archived }) : null),
    course.description ? el("p", { class: "hint", text: course.description }) : null,
    el("p", { class: "actions" }, el("a", { class: "button primary", href: `/#/courses/${course.course_id}`, text: C.open,
      "aria-label": `${C.open}: ${course.title}` })));
}

async function oneCourse(courseId, state) {
  const path = `/v1/courses/${encodeURIComponent(courseId)}`;
  const told = el("p", { class: "error", role: "alert", id: "course-error" });
  const me = await login();
  const course = await ask(path);
  if (state.gone) return;
  const figures = course.own ? el("section", { class: "card", id: "figures" }, el("h2", { text: C.figures })) : null;

  async function act(what, said) {
    told.replaceChildren();
    try {
      await asMe(`${path}/${what}`, { body: {} });
      if (state.leave) state.leave();
      state.leave = null;
      await oneCourse(courseId, state);
      announce(said);
    } catch (error) {
      told.replaceChildren(...problem(error));
    }
  }

  const joining = !me ? el("p", { class: "hint" }, `${C.needAccount} `, el("a", { href: "/#/account", text: T.account.logIn }))
    : course.enrolled ? button(C.leave, () => sureDialog(C.leaveSure(course.title), C.leave, () => act("leave", C.leftTold(course.title))), "quiet")
      : course.archived ? null : button(C.enrol, () => act("enrol", C.enrolledTold(course.title)), "primary");
  const owns = course.own ? [el("a", { class: "button", href: `/#/course-edit/${course.course_id}`, text: C.edit }),
    course.archived ? button(C.restore, () => act("restore", C.restore)) : button(C.archive, () => act("archive", C.archived), "quiet")] : [];
  show([
    el("section", { class: "card" }, el("h1", { text: course.title }),
      el("p", { class: "facts" }, course.level ? el("span", { class: "pill small", text: course.level }) : null,
        el("span", { text: C.quizzes(course.quizzes.length) }), course.own ? el("span", { text: T.visibility[course.visibility] }) : null,
        course.enrolled ? el("strong", { id: "enrolled", text: C.enrolled }) : null, course.archived ? el("span", { text: C.archived }) : null),
      course.description ? el("p", { text: course.description }) : null,
      el("p", { class: "actions" }, joining, owns, el("a", { class: "button", href: "/#/courses", text: C.all })), told),
    el("section", { class: "card" }, el("h2", { text: C.path }), course.quizzes.length
      ? el("ol", { class: "rows steps", id: "path" }, course.quizzes.map(step)) : el("p", { class: "empty", text: C.gone })),
    figures,
  ], { title: course.title, focus: false });
  if (figures) await showFigures(path, figures, state);
}

function step(quiz, place) {
  const named = (text) => `${text}: ${quiz.title}`;
  const address = `/#/host?quiz=${encodeURIComponent(quiz.quiz_id)}`;
  return el("li", { "data-quiz": quiz.quiz_id }, el("span", { class: "rank", "aria-hidden": "true", text: place + 1 }),
    el("span", { class: "grow" }, el("strong", { text: quiz.title }), quiz.playable ? facts(quiz) : el("span", { class: "hint", text: C.away })),
    quiz.playable ? [el("a", { class: "button primary", href: `${address}&kind=challenge`, text: C.play, "aria-label": named(C.play) }),
      el("a", { class: "button", href: address, text: C.host, "aria-label": named(C.host) })] : null);
}

async function showFigures(path, place, state) {
  const shown = lineChart({ id: "enrolments", title: C.eachDay, shown: C.shown, when: (seconds) => utcDayOf(seconds * 1000) });
  state.leave = shown.leave;
  try {
    const { days, counted_through: through } = await asMe(`${path}/days`);
    if (state.gone) return;
    if (!days.length) {
      place.append(el("p", { class: "empty", text: C.figuresNever }));
      return;
    }
    place.append(el("p", { class: "muted", text: C.figuresOf(utcDayOf(through)) }), shown.node);
    await shown.draw({ times: days.map((one) => Date.parse(one.day) / 1000), series: [
      { label: C.members, values: days.map((one) => one.members) }, { label: C.joined, values: days.map((one) => one.enrolled) },
      { label: C.departed, values: days.map((one) => one.departed) }] });
  } catch (error) {
    place.append(el("p", { class: "empty" }, `${C.figuresAway} `, problem(error)));
  }
}
