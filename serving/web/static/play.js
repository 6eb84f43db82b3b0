// A player's screens in a led game. The question's pieces serve the self-paced challenge too.

import { sentAgain } from "./live_client.js";
import { isTyped, lockTyped, markTyped, promptOf, stimulus, typedField } from "./asked.js";
import { $, announce, el, show } from "./dom.js";
import { forgetSeat } from "./net.js";
import { choiceList, choiceNodes, countdown, finalBoard, markChoices, standings } from "./pieces.js";
import { T, number } from "./texts.js";

// One question as a player sees it. Built once a question, so that an answer, the closing and the reveal change it where it
// stands, and no focus is lost.
export function questionScreen(game, onchoose) {
  const { question } = game;
  const typed = isTyped(question);
  const clock = countdown();
  const verdict = el("p", { id: "result", class: "verdict" });
  show([el("section", { class: "question" },
    el("div", { class: "progress" }, el("span", { id: "count", class: "muted",
      text: T.question.count(question.question_index + 1, question.questions) }), clock.text),
    clock.bar,
    el("h1", { id: "prompt", class: "prompt", text: promptOf(question) }),
    stimulus(question),
    typed ? typedField(question, onchoose) : choiceList(question, onchoose),
    verdict,
    typed ? null : el("p", { class: "hint keys", text: T.question.keys }))], { title: promptOf(question) });
  return {
    clock,
    say(text, kind = "", detail = "") {
      if (verdict.dataset.told === text + detail) return;
      verdict.dataset.told = text + detail;
      verdict.className = `verdict ${kind}`;
      verdict.replaceChildren(el("strong", { text }), detail ? el("span", { text: detail }) : "");
      if (text) announce(detail ? `${text}. ${detail}` : text);
    },
    // Disabled by aria, so that a button that has the focus keeps it.
    lock(chosen, locked) {
      if (typed) return lockTyped(chosen, locked);
      for (const node of choiceNodes()) {
        node.setAttribute("aria-disabled", String(locked));
        node.classList.toggle("chosen", node.dataset.choice === chosen);
        if (chosen !== null) node.setAttribute("aria-pressed", String(node.dataset.choice === chosen));
      }
      return undefined;
    },
  };
}

// What an answer was worth, as it is told at once.
export function tellResult(screen, result, known = true) {
  if (!result) return;
  const place = result.rank ? T.question.place(result.rank, result.total) : "";
  screen.say(result.correct ? T.question.right(result.points) : T.question.wrong, result.correct ? "good" : "bad",
    known ? place : `${T.question.already} ${place}`);
}

// Keys 1 to 8 press the choices; in a field they are only digits.
export function pressChoice(event) {
  const node = choiceNodes()["12345678".indexOf(event.key)];
  if (event.key.length === 1 && node && !/INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) node.click();
}

export function playerView(game) {
  const { me } = game;
  let shown = null;
  let screen = null;
  let placeTold = null;

  function once(key, build) {
    if (shown === key) return;
    shown = key;
    screen = build();
  }

  function onQuestion() {
    once(`question ${game.question.question_id}`, () => questionScreen(game, choose));
    screen.lock(game.chosen, game.answered || game.phase.type !== "question");
  }

  function choose(choice) {
    if (game.answered || game.phase.type !== "question") return;
    game.answer(choice);
    screen.lock(choice, true);
    screen.say(T.question.sent);
  }

  const phases = {
    lobby() {
      once("lobby", () => {
        show([el("section", { class: "card narrow centre" },
          el("span", { class: "face big", "aria-hidden": "true", text: me.name.slice(0, 1).toUpperCase() }),
          el("h1", { text: T.lobby.you(me.name) }), el("p", { class: "muted", text: T.lobby.wait }),
          el("p", { id: "participants", class: "pill" }))], { title: game.phase.title });
      });
    },
    question() {
      onQuestion();
      if (game.result) tellResult(screen, game.result, game.chosen !== null);
    },
    closed() {
      onQuestion();
      screen.clock.clear();
      if (!game.answered) screen.say(T.question.closed);
    },
    reveal(message) {
      onQuestion();
      screen.clock.clear();
      if (isTyped(message)) markTyped(message.answer, game.result ? game.result.correct : null);
      else markChoices(message.answer, game.chosen);
      if (!game.answered) screen.say(T.question.none, "bad", T.question.answerWas(message.answer));
      else announce(T.question.answerWas(message.answer));
    },
    standings() {
      once("standings", () => {
        show([el("section", { class: "card narrow centre" }, el("h1", { text: T.standings.title }),
          el("p", { id: "place", class: "place" }), el("p", { class: "muted", text: T.standings.keepOn }),
          standings(game.board, { me: me.user_id, before: game.before }))], { title: T.standings.title });
      });
    },
    paused(message) {
      once("paused", () => {
        show([el("section", { class: "card narrow centre" }, el("h1", { text: T.paused.title }),
          el("p", { class: "muted", text: T.paused.wait }),
          message.left_ms ? el("p", { class: "pill", text: T.paused.left(message.left_ms) }) : null)],
        { title: T.paused.title });
      });
    },
    podium: () => final("podium", T.podium.title),
    ended(message) {
      forgetSeat(me);
      game.live.stop();
      final("ended", T.ended.title, T.ended.final(message.title));
    },
  };

  function final(key, title, lead) {
    once(key, () => {
      show([el("section", { class: "card narrow centre" }, el("h1", { text: title }),
        lead ? el("p", { class: "muted", text: lead }) : null,
        el("p", { id: "place", class: "place" }), el("div", { id: "final" }, finalBoard(game.board, me.user_id)),
        key === "ended" ? el("p", { class: "actions" },
          el("a", { class: "button primary", href: "/#/", text: T.ended.again }),
          el("a", { class: "button", href: `/#/boards?around=${me.user_id}`, text: T.ended.boards })) : null)], { title });
    });
    drawBoard();
  }

  function drawBoard() {
    const mine = game.mine();
    const [rank, points] = mine ? [mine.rank, mine.points]
      : game.result ? [game.result.rank, game.result.total] : [null, 0];
    $("who").textContent = points ? `${me.name} · ${number(points)}` : me.name;
    if (!game.board) return;
    const count = $("participants");
    if (count) count.textContent = T.lobby.players(game.board.participants);
    const place = $("place");
    if (place && rank) {
      place.textContent = shown === "standings" ? T.standings.place(rank, game.board.participants)
        : T.podium.yours(rank, points);
      // Once a screen: the heading has the focus, and the place is what one wants to hear.
      if (placeTold !== `${shown} ${game.epoch}`) announce(place.textContent);
      placeTold = `${shown} ${game.epoch}`;
    }
    const rows = game.rowsChanged(shown);
    if (shown === "standings" && rows) $("standings").replaceWith(standings(game.board, { me: me.user_id, before: game.before }));
    if ((shown === "podium" || shown === "ended") && rows) $("final").replaceChildren(finalBoard(game.board, me.user_id));
  }

  return {
    phase(message) {
      if (phases[message.type]) phases[message.type](message);
      drawBoard();
    },
    board: drawBoard,
    welcome: drawBoard,
    result(message) {
      if (!shown || !shown.startsWith("question")) return;
      screen.lock(game.chosen, true);
      tellResult(screen, message);
      drawBoard();
    },
    error(message, mine) {
      if (!screen || !screen.say) return;
      if (mine && sentAgain(message.status)) return screen.say(T.question.moment); // it is sent again by itself
      if (mine) screen.lock(game.chosen, game.phase.type !== "question");
      return screen.say(message.code === "question_closed" ? T.question.late : message.title, "bad");
    },
    tick() {
      if (game.phase && game.phase.type === "question" && screen) screen.clock.set(game.leftMs(), game.question.time_limit_ms);
    },
    key: pressChoice,
  };
}
