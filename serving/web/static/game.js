// A tab in a game: the line, what is known of the session, and which view shows it. It keeps no rules: points, ranks and who
// may answer are the server's. A view has any of phase, board, welcome, result, error, tick, key and leave.

import { $, el, offline, show } from "./dom.js";
import { LiveClient, sentAgain } from "./live_client.js";
import { forgetSeat, seat } from "./net.js";
import { ranksOf } from "./pieces.js";
import { T } from "./texts.js";

const CHOSEN = "lakeboard.chosen";
const VIEWS = {
  player: () => import("./play.js").then((m) => m.playerView),
  host: () => import("./projector.js").then((m) => m.hostView),
  challenger: () => import("./challenge.js").then((m) => m.challengerView),
  challengeHost: () => import("./challenge.js").then((m) => m.challengeHostView),
};

function viewOf(me) {
  if (me.mode === "challenge") return me.host ? VIEWS.challengeHost() : VIEWS.challenger();
  return me.host ? VIEWS.host() : VIEWS.player();
}

class Game {
  constructor(me) {
    Object.assign(this, { me, phase: null, board: null, question: null, chosen: null, pending: null, result: null,
      before: new Map(), epoch: null, last: null, view: {}, drawn: null });
  }

  start(view) {
    this.view = view;
    this.live = new LiveClient({
      token: this.me.token,
      sessionId: this.me.session_id,
      onMessage: (message) => this.receive(message),
      onLine: (up) => { $("line").textContent = up ? "" : T.line; },
      onEnd: (code) => this.gone(code),
    }).start();
  }

  receive(message) {
    if (message.epoch !== undefined && message.type !== "welcome") this.epoch = message.epoch;
    const { type } = message;
    if (type === "welcome") {
      this.last = message.last_result;
      if (this.last && this.question && this.last.question_id === this.question.question_id) this.result = this.last;
      this.tell("welcome", message);
    } else if (type === "board") {
      this.board = message;
      this.tell("board", message);
    } else if (type === "result") {
      this.settle(message);
      if (this.question && message.question_id === this.question.question_id) {
        this.result = message;
        this.tell("result", message);
      }
    } else if (type === "error") {
      const mine = this.pending !== null && this.pending === message.ref;
      if (mine && !sentAgain(message.status)) {
        this.settle(message);
        this.chosen = null;
      }
      this.tell("error", message, mine);
    } else if (type === "finished") {
      this.tell("finished", message);
    } else if (type !== "pong") {
      if (message.question_id) this.ask(message);
      this.phase = message;
      this.tell("phase", message);
    }
  }

  // A question is shown: what is known of an earlier one goes, what this tab knows of this one stays.
  ask(message) {
    if (!this.question || this.question.question_id !== message.question_id) {
      this.before = ranksOf(this.board);
      const kept = JSON.parse(sessionStorage.getItem(CHOSEN) || "{}");
      this.chosen = kept[this.me.user_id] === undefined || kept.id !== message.question_id ? null : kept[this.me.user_id];
      this.pending = null;
      this.result = this.last && this.last.question_id === message.question_id ? this.last : null;
    }
    this.question = { ...this.question, ...message };
  }

  settle(message) {
    if (this.pending === message.ref) this.pending = null;
  }

  get answered() {
    return this.chosen !== null || this.result !== null;
  }

  answer(choice) {
    if (this.answered) return;
    this.chosen = choice;
    sessionStorage.setItem(CHOSEN, JSON.stringify({ id: this.question.question_id, [this.me.user_id]: choice }));
    this.pending = this.live.answer(this.question.question_id, choice);
  }

  // ms that the open question has left, by the server's clock.
  leftMs() {
    return this.question.deadline_us / 1000 - this.live.now();
  }

  // Whether the rows are to be drawn (again) on a screen: a push that only says who is connected would start their
  // animation anew.
  rowsChanged(screen) {
    const key = JSON.stringify([screen, this.board && this.board.entries]);
    const changed = key !== this.drawn;
    this.drawn = key;
    return changed;
  }

  mine() {
    return this.board && this.board.entries.find((entry) => entry.user_id === this.me.user_id);
  }

  tell(what, ...given) {
    if (this.view[what]) this.view[what](...given);
  }

  gone(code) {
    if (!this.me.host) forgetSeat(this.me);
    const text = code === 4403 ? T.ended.removed : T.ended.gone;
    show([el("section", { class: "card narrow" }, el("h1", { text }),
      el("a", { class: "button primary", href: "/#/", text: T.ended.again }))], { title: text });
  }
}

export function gameScreen() {
  const me = seat();
  if (!me) {
    location.replace("/#/");
    return undefined;
  }
  const game = new Game(me);
  let left = false;
  const timer = setInterval(() => game.tell("tick"), 100);
  const onkey = (event) => {
    if (!event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat) game.tell("key", event);
  };
  document.addEventListener("keydown", onkey);
  viewOf(me).then((view) => {
    if (!left) game.start(view(game));
  }, () => {
    if (!left) offline();
  });
  return () => {
    left = true;
    clearInterval(timer);
    document.removeEventListener("keydown", onkey);
    if (game.live) game.live.stop();
    game.tell("leave");
  };
}
