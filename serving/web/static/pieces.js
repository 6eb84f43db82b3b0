// What several screens of a game show: choices, the clock, standings with movement, the podium.

import { el, svg } from "./dom.js";
import { T, number, ordinal } from "./texts.js";

export const LETTERS = "ABCDEFGH";
// A choice is told by letter, shape and place, never by colour alone.
const SHAPES = [
  () => svg("path", { d: "M12 3.500 22 20.500H2z" }),
  () => svg("path", { d: "M12 1.500 22.500 12 12 22.500 1.500 12z" }),
  () => svg("circle", { cx: 12, cy: 12, r: 10 }),
  () => svg("rect", { x: 3, y: 3, width: 18, height: 18, rx: 2 }),
];

export function shape(index) {
  return svg("svg", { viewBox: "0 0 24 24", class: "shape", "aria-hidden": "true" }, SHAPES[index % SHAPES.length]());
}

// The choices of a question, each with room for a mark (right, wrong, yours) and a count. onchoose: null on a projector.
export function choiceList(question, onchoose) {
  const tag = onchoose ? "button" : "div";
  return el("div", { id: "choices", class: "choices", role: onchoose ? "group" : "list", "aria-labelledby": "prompt" },
    question.choices.map((choice, index) => el(tag, {
      class: `choice tone-${index % 4}`, "data-choice": choice, type: onchoose ? "button" : null,
      role: onchoose ? null : "listitem", onclick: onchoose && (() => onchoose(choice)),
    },
    shape(index), el("span", { class: "letter", text: LETTERS[index] }), el("span", { class: "grow", text: choice }),
    el("span", { class: "mark" }), el("span", { class: "bar", "aria-hidden": "true" }))));
}

export const choiceNodes = () => [...document.querySelectorAll("#choices .choice")];

// Shows which choice was right, and which was one's own. counts: choice → how many took it, once that is known.
export function markChoices(answer, chosen, counts) {
  const most = counts ? Math.max(1, ...counts.values()) : 1;
  for (const node of choiceNodes()) {
    const { choice } = node.dataset;
    node.classList.toggle("right", choice === answer);
    node.classList.toggle("wrong", choice !== answer);
    const told = [choice === answer ? `✓ ${T.question.isRight}` : "", choice === chosen ? T.question.yours : ""];
    const count = counts && (counts.get(choice) || 0);
    if (counts) {
      told.push(T.question.picked(count));
      node.querySelector(".bar").style.setProperty("--part", count / most);
    }
    node.querySelector(".mark").textContent = told.filter(Boolean).join(" · ");
  }
}

// The clock of a question: a bar, and seconds beside it.
export function countdown() {
  const bar = el("progress", { max: 1000, value: 1000, "aria-label": T.question.left });
  const text = el("span", { class: "seconds", id: "seconds", role: "timer" });
  return {
    bar, text,
    set(leftMs, limitMs) {
      const left = Math.max(0, leftMs);
      bar.value = Math.round(1000 * left / limitMs);
      bar.classList.remove("over");
      text.textContent = T.question.seconds(Math.ceil(left / 1000));
      text.classList.toggle("hurry", left < 5000);
      bar.classList.toggle("hurry", left < 5000);
    },
    clear() {
      bar.classList.add("over");
      text.textContent = "";
    },
  };
}

// user_id → rank of a board on which somebody has points; else nobody has moved yet.
export function ranksOf(board) {
  const played = board && board.entries.some((entry) => entry.points);
  return new Map(played ? board.entries.map((entry) => [entry.user_id, entry.rank]) : []);
}

function movement(entry, before) {
  if (!before || before.size === 0) return null;
  const was = before.get(entry.user_id);
  const by = was === undefined ? null : was - entry.rank;
  const [kind, sign, text] = by === null ? ["fresh", "•", T.standings.fresh]
    : by > 0 ? ["up", `▲ ${by}`, T.standings.up(by)]
      : by < 0 ? ["down", `▼ ${-by}`, T.standings.down(-by)] : ["same", "–", T.standings.same];
  return el("span", { class: `move ${kind}`, title: text }, el("span", { "aria-hidden": "true", text: sign }),
    el("span", { class: "unseen", text }));
}

// Rows of a board as a list. me: this player's id; before: ranks to compare with.
export function standingsRows(entries, { me, before } = {}) {
  return entries.map((entry) => el("li", { class: entry.user_id === me ? "me" : null, "data-user": entry.user_id },
    el("span", { class: `rank rank-${entry.rank}`, text: entry.rank }),
    el("span", { class: "name", text: entry.name || T.standings.someone }),
    entry.user_id === me ? el("span", { class: "tag", text: T.standings.you }) : null,
    movement(entry, before),
    el("span", { class: "points", text: number(entry.points) })));
}

export function standings(board, options) {
  return el("ol", { id: "standings", class: "standings" }, board ? standingsRows(board.entries, options) : []);
}

// First, second, third as steps, in the order in which they stand: 2, 1, 3; read in the order of places.
export function podium(entries) {
  const steps = entries.slice(0, 3).map((entry) => el("li", { class: `step step-${entry.rank}`, "data-user": entry.user_id },
    el("span", { class: "face", "aria-hidden": "true", text: (entry.name || "?").slice(0, 1).toUpperCase() }),
    el("span", { class: "name", text: entry.name || T.standings.someone }),
    el("span", { class: "points", text: T.standings.points(entry.points) }),
    el("span", { class: "block" }, el("span", { class: "unseen", text: ordinal(entry.rank) }),
      el("span", { "aria-hidden": "true", text: entry.rank }))));
  return el("ol", { id: "podium", class: "podium" }, steps);
}

// What the final screens show: the podium, and the others below it.
export function finalBoard(board, me) {
  const entries = board ? board.entries : [];
  const rest = entries.slice(3);
  return el("div", { class: "final" },
    entries.length ? podium(entries) : el("p", { class: "muted", text: T.podium.nobody }),
    rest.length ? el("ol", { id: "standings", class: "standings", start: 4 }, standingsRows(rest, { me })) : null);
}
