// The host's screens: what a class sees on the big screen, and the bar that leads the game.

import { isTyped, promptOf, stimulus } from "./asked.js";
import { $, announce, button, el, problem, show } from "./dom.js";
import { call } from "./net.js";
import { choiceList, countdown, finalBoard, markChoices, standings } from "./pieces.js";
import { playersDialog, sureDialog } from "./host_dialogs.js";
import { T, pinShown } from "./texts.js";

// Names shown in the lobby; the rest is counted.
const NAMES = 48;
// Pauses between two readings of the names, for a class and for more than MANY.
const NAMES_EVERY_MS = [700, 5000];
const MANY = 200;
const PAUSABLE = ["question", "reveal", "standings"];

export function hostView(game) {
  const { me } = game;
  const path = `/v1/sessions/${me.session_id}`;
  let shown = null;
  let clock = null;
  let namesDue = null;
  let namesAt = 0;

  function once(key, build) {
    if (shown === key) return;
    shown = key;
    build();
  }

  async function move(kind) {
    $("lead-error").replaceChildren();
    try {
      // The epoch it was seen at: a move that is sent twice is done once.
      await call(`${path}/${kind}`, { body: { epoch: game.epoch }, token: me.token });
    } catch (error) {
      if (error.code !== "session_conflict") $("lead-error").replaceChildren(...problem(error));
    }
  }

  // The one button that goes on, and the others that make sense now.
  function bar() {
    const { type, question_index: index, questions, locked } = game.phase;
    const last = index + 1 >= questions;
    const next = { lobby: [T.lead.start, "next"], question: [T.lead.show, "advance"], closed: [T.lead.show, "advance"],
      reveal: [last ? T.lead.podium : T.lead.standings, "advance"], standings: [last ? T.lead.podium : T.lead.next, "advance"],
      paused: [T.lead.resume, "resume"], podium: [T.lead.end, "end"] }[type];
    const had = document.activeElement && document.activeElement.id;
    const others = [
      PAUSABLE.includes(type) && button(T.lead.pause, () => move("pause")),
      type === "question" && button(T.lead.skip, () => move("skip")),
      type !== "podium" && button(locked ? T.lead.unlock : T.lead.lock, () => move(locked ? "unlock" : "lock")),
      button(T.lead.players, () => playersDialog(game)),
      button(T.lead.full, () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen())),
      type !== "podium" && button(T.lead.end, () => sureDialog(T.lead.sure, T.lead.end, () => move("end")), "quiet"),
    ];
    const primary = Object.assign(button(next[0], () => move(next[1]), "primary"), { id: "next" });
    primary.setAttribute("aria-keyshortcuts", "ArrowRight");
    primary.title = T.lead.keys;
    $("bar").replaceChildren(...others.filter(Boolean), primary);
    if (had === "next") primary.focus();
  }

  function stage(title, ...children) {
    show([el("section", { class: "stage" }, children),
      el("div", { class: "lead" }, el("p", { id: "lead-error", class: "error", role: "alert" }),
        el("div", { id: "bar", class: "bar", role: "group", "aria-label": T.lead.bar }))], { title, wide: true });
  }

  const phases = {
    lobby(message) {
      once("lobby", () => stage(message.title,
        el("div", { class: "invite" },
          el("div", { class: "grow" },
            el("h1", { text: message.title }),
            el("p", { class: "join-at" }, `${T.lobby.joinAt} `, el("strong", { id: "address", text: location.host }),
              ` ${T.lobby.withPin}`),
            el("p", { id: "pin", class: "pin", "aria-label": message.pin.split("").join(" "), text: pinShown(message.pin) }),
            el("p", { id: "participants", class: "pill", role: "status" })),
          el("img", { id: "qr", class: "qr", alt: T.lobby.qr, src: `/v1/pins/${message.pin}/qr.svg`, width: 320, height: 320 })),
        el("ul", { id: "names", class: "names", "aria-label": T.lead.players })));
      drawNames();
    },
    question(message) {
      onQuestion(message);
    },
    closed(message) {
      onQuestion(message);
      clock.clear();
      announce(T.question.closed);
    },
    reveal(message) {
      onQuestion(message);
      clock.clear();
      if (isTyped(message)) $("right").textContent = `✓ ${message.answer}`;
      else markChoices(message.answer, null);
      announce(T.question.answerWas(message.answer));
      countChoices(message);
    },
    standings() {
      once("standings", () => stage(T.standings.title, el("div", { class: "stage-head" },
        el("h1", { text: T.standings.title }), el("p", { id: "participants", class: "muted" })), standings(game.board, { before: game.before })));
    },
    paused(message) {
      once("paused", () => stage(T.paused.title, el("div", { class: "centre" }, el("h1", { class: "huge", text: T.paused.title }),
        message.left_ms ? el("p", { class: "pill", text: T.paused.left(message.left_ms) }) : null)));
    },
    podium() {
      once("podium", () => stage(T.podium.title, el("h1", { class: "centre", text: T.podium.title }),
        el("div", { id: "final" })));
      const first = game.board && game.board.entries[0];
      if (first) announce(T.podium.won(first.name || T.standings.someone));
    },
    ended(message) {
      game.live.stop();
      once("ended", () => show([el("section", { class: "stage" }, el("h1", { class: "centre", text: T.ended.title }),
        el("p", { class: "muted centre", text: T.ended.final(message.title) }), el("div", { id: "final" }),
        el("p", { class: "actions centre" },
          el("a", { class: "button primary", href: `/#/report/${me.session_id}`, text: T.ended.report }),
          el("a", { class: "button", href: `/#/boards?scope=quiz:${me.quiz_id}`, text: T.ended.boards }),
          el("a", { class: "button", href: "/#/host", text: T.ended.hostAgain })))], { title: T.ended.title, wide: true }));
    },
  };

  function onQuestion() {
    const { question } = game;
    once(`question ${question.question_id}`, () => {
      clock = countdown();
      stage(promptOf(question),
        el("div", { class: "progress" }, el("span", { id: "count", text: T.question.count(question.question_index + 1,
          question.questions) }), clock.text),
        clock.bar,
        el("h1", { id: "prompt", class: "prompt", text: promptOf(question) }),
        stimulus(question, { aloud: true }),
        isTyped(question) ? el("div", { class: "centre" }, el("p", { class: "muted big-hint", text: T.question.typeThere }),
          el("p", { id: "right", class: "right-word", role: "status" })) : choiceList(question, null),
        el("div", { class: "tally" }, el("span", { id: "answered", class: "pill" }), el("progress", { id: "tally", max: 1, value: 0, "aria-labelledby": "answered" })));
    });
  }

  // How many took each choice: from the report, which says so once the question is over.
  async function countChoices(message) {
    if (isTyped(message)) return; // what others typed is for the report, not for a wall
    try {
      const { questions } = await call(`${path}/report`, { token: me.token });
      const row = questions.find((one) => one.question_id === message.question_id);
      if (!row || game.phase !== message) return;
      markChoices(message.answer, null, new Map(row.choices.map((one) => [one.choice, one.count])));
    } catch { /* the answer is shown all the same */ }
  }

  // While a class pours in boards come four times a second; the list of names is asked for less often.
  function drawNames() {
    if (namesDue) return;
    const wait = game.board && game.board.participants > MANY ? NAMES_EVERY_MS[1] : NAMES_EVERY_MS[0];
    namesDue = setTimeout(() => {
      namesDue = null;
      readNames();
    }, Math.max(0, namesAt + wait - Date.now()));
  }

  async function readNames() {
    namesAt = Date.now();
    if (!$("names")) return;
    const { players } = await call(`${path}/players`, { token: me.token }).catch(() => ({ players: [] }));
    const list = $("names");
    if (!list) return;
    const here = players.filter((one) => !one.removed);
    list.replaceChildren(...here.slice(0, NAMES).map((one) =>
      el("li", { class: one.connected ? "chip" : "chip away", text: one.name })),
    ...(here.length > NAMES ? [el("li", { class: "chip more", text: T.lobby.more(here.length - NAMES) })] : []));
  }

  function drawBoard() {
    const { board, phase } = game;
    if (!board || !phase) return;
    const n = board.participants;
    const count = $("participants");
    if (count && shown === "lobby") count.textContent = phase.locked ? `${T.lobby.players(n)} · ${T.lobby.locked}` : T.lobby.players(n);
    else if (count) count.textContent = T.standings.players(n);
    if (shown === "lobby") drawNames();
    const rows = game.rowsChanged(shown);
    if (shown === "standings" && rows) $("standings").replaceWith(standings(board, { before: game.before }));
    if ((shown === "podium" || shown === "ended") && rows) $("final").replaceChildren(finalBoard(board));
    const answered = $("answered");
    if (answered) {
      const got = Math.min(board.answered, n);
      answered.textContent = n > 0 && got === n ? T.question.everybody : T.question.answered(got, n);
      answered.classList.toggle("all", n > 0 && got === n);
      $("tally").max = Math.max(n, 1);
      $("tally").value = got;
    }
  }

  return {
    leave: () => clearTimeout(namesDue),
    phase(message) {
      $("who").textContent = message.type === "lobby" ? "" : `PIN ${pinShown(message.pin)}`;
      if (phases[message.type]) phases[message.type](message);
      if (message.type !== "ended") bar();
      drawBoard();
    },
    board: drawBoard,
    tick() {
      if (clock && game.phase && game.phase.type === "question") clock.set(game.leftMs(), game.question.time_limit_ms);
    },
    key(event) {
      if (event.key === "ArrowRight" && !document.querySelector("dialog[open]") && $("next")) $("next").click();
    },
  };
}
