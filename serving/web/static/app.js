// The page's beginning: which address shows which screen. A screen's module is loaded when it is first needed, so that a
// phone that joins a game loads no more than that.

import { $, el, offline, show } from "./dom.js";
import { T } from "./texts.js";

const SCREENS = {
  "": () => import("./join.js").then((m) => m.joinScreen),
  challenge: () => import("./join.js").then((m) => m.challengeDoor),
  host: () => import("./setup.js").then((m) => m.setupScreen),
  game: () => import("./game.js").then((m) => m.gameScreen),
  library: () => import("./library.js").then((m) => m.libraryScreen),
  quizzes: () => import("./quizzes.js").then((m) => m.quizzesScreen),
  edit: () => import("./editor.js").then((m) => m.editorScreen),
  boards: () => import("./boards.js").then((m) => m.boardsScreen),
  courses: () => import("./courses.js").then((m) => m.coursesScreen),
  "course-edit": () => import("./course_editor.js").then((m) => m.courseEditorScreen),
  classes: () => import("./classes.js").then((m) => m.classesScreen),
  history: () => import("./history.js").then((m) => m.historyScreen),
  insights: () => import("./insights.js").then((m) => m.insightsScreen),
  account: () => import("./account.js").then((m) => m.accountScreen),
  "sign-up": () => import("./account.js").then((m) => m.signUpScreen),
  ticket: () => import("./account.js").then((m) => m.ticketScreen),
  admin: () => import("./admin.js").then((m) => m.adminScreen),
  report: () => import("./report.js").then((m) => m.reportScreen),
};
const NAV = [["", T.nav.play], ["library", T.nav.library], ["host", T.nav.host], ["boards", T.nav.boards],
  ["insights", T.nav.insights], ["account", T.nav.account]];
let leave = null;
let shown = 0;

function notFound() {
  show([el("section", { class: "card narrow" }, el("h1", { text: T.notFound.title }),
    el("a", { class: "button primary", href: "/#/", text: T.notFound.back }))], { title: T.notFound.title });
}

// A screen's module could not be loaded.

// An address is #/screen/argument?name=value.
async function route(first = false) {
  const mine = ++shown;
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, argument = ""] = path.split("/");
  if (leave) leave();
  leave = null;
  const playing = name === "game";
  document.body.classList.toggle("playing", playing);
  $("who").textContent = "";
  $("line").textContent = "";
  $("nav").replaceChildren(...NAV.map(([to, text]) =>
    el("a", { href: `/#/${to}`, text, "aria-current": to === name ? "page" : null })));
  if (!Object.hasOwn(SCREENS, name)) return notFound();
  const screen = await SCREENS[name]().catch(() => offline);
  // Somebody may have gone on while the module came.
  if (mine === shown) leave = screen(decoded(argument), new URLSearchParams(query), first) || null;
  return undefined;
}

// An address that somebody has cut in the middle of a character is shown as it is.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

addEventListener("hashchange", () => route());
route(true);
