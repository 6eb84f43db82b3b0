// A self-paced challenge: the player's way through it, and what its host sees.

import { sentAgain } from "./live_client.js";
import { $, button, el, problem, show } from "./dom.js";
import { sureDialog } from "./host_dialogs.js";
import { call, forgetSeat } from "./net.js";
import { finalBoard, markChoices, standings } from "./pieces.js";
import { pressChoice, questionScreen, tellResult } from "./play.js";
import { T, number, pinShown } from "./texts.js";

const when = (us) => new Date(us / 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

export function challengerView(game) {
  const { me } = game;
  let shown = null;
  let screen = null;
  let open = null; // the challenge's own phase, which says until when

  const next = () => game.live.next();

  function door() {
    shown = "door";
    // The welcome names an answered question only if one was shown before.
    const begun = game.last !== null;
    show([el("section", { class: "card narrow centre" }, el("h1", { text: T.challenge.join(open.title) }),
      el("p", { class: "muted", text: T.challenge.lead }),
      el("p", { class: "pill", text: T.challenge.open(when(open.deadline_us)) }),
      Object.assign(button(begun ? T.challenge.goOn : T.challenge.start, next, "primary big"), { id: "next" }))],
    { title: open.title });
  }

  function offerNext() {
    if ($("next")) return;
    const go = Object.assign(button(T.challenge.next, next, "primary big"), { id: "next" });
    $("result").after(el("p", { class: "actions" }, go));
    go.focus();
  }

  function onQuestion() {
    const key = `question ${game.question.question_id}`;
    if (shown !== key) {
      shown = key;
      screen = questionScreen(game, (choice) => {
        if (game.answered || game.leftMs() <= 0) return;
        game.answer(choice);
        screen.lock(choice, true);
        screen.say(T.question.sent);
      });
    }
    screen.lock(game.chosen, game.answered);
    if (game.result) result(game.result);
  }

  function result(message) {
    screen.lock(game.chosen, true);
    screen.clock.clear();
    tellResult(screen, message);
    offerNext();
    drawBoard();
  }

  function finished() {
    shown = "finished";
    show([el("section", { class: "card narrow centre" }, el("h1", { text: T.challenge.done }),
      el("p", { id: "place", class: "place" }),
      open ? el("p", { class: "muted", text: T.challenge.doneLead(when(open.deadline_us)) }) : null,
      el("h2", { text: T.standings.title }), standings(game.board, { me: me.user_id }))], { title: T.challenge.done });
    drawBoard();
  }

  async function ended() {
    shown = "ended";
    game.live.stop();
    const review = el("ol", { class: "review" });
    show([el("section", { class: "card narrow centre" }, el("h1", { text: T.challenge.closed }),
      el("p", { id: "place", class: "place" }), el("div", { id: "final" }, finalBoard(game.board, me.user_id)),
      el("p", { class: "actions" }, el("a", { class: "button primary", href: "/#/", text: T.ended.again }))),
    el("section", { class: "card narrow" }, el("h2", { text: T.challenge.review }), review)], { title: T.challenge.closed });
    drawBoard();
    try {
      const { questions } = await call(`/v1/sessions/${me.session_id}/review`, { token: me.token });
      review.append(...questions.map((one) => el("li", {}, el("span", { text: one.prompt }), el("strong", { text: one.answer }))));
    } catch (error) {
      review.replaceWith(el("p", { class: "error" }, problem(error)));
    }
    forgetSeat(me);
  }

  function drawBoard() {
    const mine = game.mine();
    const [rank, points] = mine ? [mine.rank, mine.points] : game.result ? [game.result.rank, game.result.total] : [null, 0];
    $("who").textContent = points ? `${me.name} · ${number(points)}` : me.name;
    if ($("place") && rank && game.board) $("place").textContent = T.standings.place(rank, game.board.participants);
    const rows = game.rowsChanged(shown);
    if (shown === "finished" && rows) $("standings").replaceWith(standings(game.board, { me: me.user_id }));
    if (shown === "ended" && rows) $("final").replaceChildren(finalBoard(game.board, me.user_id));
  }

  return {
    phase(message) {
      if (message.type === "challenge") {
        open = message;
        if (shown === null) door();
      } else if (message.type === "question") onQuestion();
      else if (message.type === "ended") ended();
    },
    finished,
    board: drawBoard,
    result,
    error(message, mine) {
      if (!shown || !shown.startsWith("question")) return;
      if (mine && sentAgain(message.status)) return screen.say(T.question.moment);
      screen.lock(null, message.code === "question_closed");
      screen.say(message.code === "question_closed" ? T.question.late : message.title, "bad");
      if (message.code === "question_closed") offerNext();
      return undefined;
    },
    tick() {
      if (!shown || !shown.startsWith("question") || game.result) return;
      screen.clock.set(game.leftMs(), game.question.time_limit_ms);
      if (game.leftMs() <= 0 && game.chosen === null && !$("next")) {
        screen.lock(null, true);
        screen.say(T.challenge.timeUp, "bad");
        offerNext();
      }
    },
    key(event) {
      if (shown && shown.startsWith("question")) pressChoice(event);
    },
  };
}

export function challengeHostView(game) {
  const { me } = game;
  const link = `${location.origin}/#/challenge/${me.session_id}`;
  let shown = null;

  function draw(message) {
    const over = message.type === "ended";
    if (shown === message.type) return;
    shown = message.type;
    const share = el("input", { id: "link", readonly: true, value: link, "aria-label": T.challenge.link });
    const copy = button(T.challenge.copy, async () => {
      share.select();
      // Over plain HTTP, as on a local network, a page has no clipboard but this old way.
      if (navigator.clipboard) await navigator.clipboard.writeText(link);
      else document.execCommand("copy");
      copy.textContent = T.challenge.copied;
    });
    show([
      el("section", { class: "card" }, el("h1", { text: message.title }),
        over ? el("p", { class: "muted", text: T.challenge.closed }) : el("div", { class: "invite" },
          el("div", { class: "grow" }, el("p", { class: "muted", text: T.challenge.open(when(message.deadline_us)) }),
            el("h2", { text: T.challenge.share }), el("p", { class: "copy" }, share, copy),
            el("p", { class: "join-at" }, `${T.lobby.joinAt} `, el("strong", { text: location.host }), ` ${T.lobby.withPin}`),
            el("p", { id: "pin", class: "pin small", "aria-label": message.pin.split("").join(" "), text: pinShown(message.pin) })),
          el("img", { id: "qr", class: "qr", alt: T.lobby.qr, src: `/v1/pins/${message.pin}/qr.svg`, width: 240, height: 240 })),
        el("p", { class: "actions" }, el("a", { class: "button primary", href: `/#/report/${me.session_id}`, text: T.ended.report }),
          over ? null : button(T.challenge.closeNow, () => sureDialog(T.challenge.sure, T.challenge.closeNow, close), "quiet")),
        el("p", { id: "lead-error", class: "error", role: "alert" })),
      el("section", { class: "card" }, el("h2", { text: T.standings.title }), el("p", { id: "participants", class: "muted" }),
        standings(game.board)),
    ], { title: message.title });
    board();
  }

  async function close() {
    try {
      await call(`/v1/sessions/${me.session_id}/end`, { body: {}, token: me.token });
    } catch (error) {
      $("lead-error").replaceChildren(...problem(error));
    }
  }

  function board() {
    if (!game.board || !$("participants")) return;
    $("participants").textContent = T.lobby.players(game.board.participants);
    if (game.rowsChanged(shown)) $("standings").replaceWith(standings(game.board));
  }

  return { phase: draw, board };
}
