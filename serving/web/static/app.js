// The page: a host starts and leads a session, players join and answer; standings come over the socket (live.v1).
// It keeps no rules: points, ranks and who may answer are the server's. The line itself is live_client.js.

import { LiveClient } from "./live_client.js";

const $ = (id) => document.getElementById(id);
const KEYS = "1234";
const state = { me: null, live: null, question: null, chosen: null, answered: false, pending: null, epoch: null };

async function call(path, body, token) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const reply = await fetch(path, { method: body === undefined ? "GET" : "POST", headers,
    body: body === undefined ? undefined : JSON.stringify(body) });
  const document_ = await reply.json();
  if (!reply.ok) throw new Error(document_.title || "That did not work");
  return document_;
}

function show(part) {
  $("start").hidden = true;
  $("game").hidden = false;
  for (const id of ["lobby", "question", "ended"]) $(id).hidden = id !== part;
}

function remember(me) {
  state.me = me;
  sessionStorage.setItem("lakeboard", JSON.stringify(me));
  $("who").textContent = me.host ? `Host · PIN ${me.pin}` : me.name;
  connect();
}

function connect() {
  state.live = new LiveClient({
    token: state.me.token,
    sessionId: state.me.session_id,
    onMessage: receive,
    onLine(up) { $("line").hidden = up; },
    onEnd() {
      sessionStorage.removeItem("lakeboard");
      location.assign("/");
    },
  }).start();
}

const handlers = {
  welcome(message) {
    state.answeredId = message.answered;
  },
  lobby(message) {
    show("lobby");
    $("lobby-title").textContent = message.title;
    $("invite").hidden = !state.me.host;
    $("lobby-wait").hidden = state.me.host;
    if (state.me.host) {
      $("address").textContent = location.host;
      $("lobby-pin").textContent = message.pin;
      if (!$("qr").src) $("qr").src = `/v1/pins/${message.pin}/qr.svg`;
    }
    controls("lobby", message);
  },
  question(message) {
    const same = state.question && state.question.question_id === message.question_id;
    state.question = message;
    if (!same) {
      state.chosen = null;
      state.pending = null;
      state.answered = state.answeredId === message.question_id;
    }
    drawQuestion(message);
    say(state.answered && !state.chosen ? "You have answered this one." : same ? $("result").textContent : "", "");
    controls("question", message);
  },
  closed(message) {
    over(message);
    controls("closed", message);
  },
  reveal(message) {
    over(message);
    for (const button of $("choices").children) {
      if (button.value === message.answer) button.classList.add("right");
      else if (button.value === state.chosen) button.classList.add("wrong");
    }
    if (!state.me.host && !state.chosen && !state.answered) say("No answer this time.", "bad");
    controls("closed", message);
  },
  standings(message) {
    controls("closed", message);
  },
  paused(message) {
    state.question = state.question && { ...state.question, deadline_us: 0 };
    for (const button of $("choices").children) button.disabled = true;
    say("Paused", "");
    controls("paused", message);
  },
  podium(message) {
    finished(message);
    controls("podium", message);
  },
  ended(message) {
    finished(message);
    $("controls").hidden = true;
    sessionStorage.removeItem("lakeboard");
    state.live.stop();
  },
  board(message) {
    const rows = message.entries.map((entry) => {
      const row = document.createElement("li");
      if (entry.user_id === state.me.user_id) row.className = "me";
      for (const [name, text] of [["rank", entry.rank], ["name", entry.name || "someone"],
        ["points", entry.points.toLocaleString("en")]]) {
        const cell = document.createElement("span");
        cell.className = name;
        cell.textContent = text;
        row.append(cell);
      }
      return row;
    });
    $("standings").replaceChildren(...rows);
    const n = message.participants;
    $("participants").textContent = n === 0 ? "Nobody is here yet." : n === 1 ? "1 player" : `${n} players`;
  },
  result(message) {
    if (state.pending === message.ref) state.pending = null;
    if (!state.question || message.question_id !== state.question.question_id) return;
    state.answered = true;
    say(message.correct ? `Right! +${message.points} · place ${message.rank}` : `Not this time · place ${message.rank}`,
      message.correct ? "good" : "bad");
  },
  error(message) {
    const mine = state.pending !== null && state.pending === message.ref;
    if (mine && message.status >= 500) {
      say("One moment …", "");  // the client sends it again
      return;
    }
    if (mine) state.pending = null;
    if (message.code === "question_closed") {
      say("Too late: this question has closed.", "bad");
      return;
    }
    if (mine) {
      state.chosen = null;
      if (!$("question").hidden && state.question.deadline_us) drawQuestion(state.question);
    }
    say(message.title, "bad");
  },
};

function over(message) {
  state.question = { ...message, deadline_us: 0 };
  drawQuestion(message);
  for (const button of $("choices").children) button.disabled = true;
  $("seconds").textContent = "";
  $("clock").value = 0;
}

function finished(message) {
  show("ended");
  $("final").textContent = `${message.title} is over. The standings are final.`;
}

function receive(message) {
  if (message.epoch !== undefined) state.epoch = message.epoch;
  const handler = handlers[message.type];
  if (handler) handler(message);
}

function say(text, kind) {
  $("result").textContent = text;
  $("result").className = `result ${kind}`;
}

function drawQuestion(message) {
  show("question");
  $("count").textContent = `Question ${message.question_index + 1} of ${message.questions}`;
  $("prompt").textContent = message.prompt;
  $("choices").replaceChildren(...message.choices.map((choice, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.value = choice;
    const key = document.createElement("span");
    key.className = "key";
    key.textContent = KEYS[index] || "";
    button.append(key, choice);
    button.disabled = state.me.host || state.answered || state.chosen !== null;
    if (choice === state.chosen) button.classList.add("chosen");
    button.addEventListener("click", () => answer(choice));
    return button;
  }));
}

function answer(choice) {
  if (state.me.host || state.answered || state.chosen !== null) return;
  state.chosen = choice;
  for (const button of $("choices").children) {
    button.disabled = true;
    button.classList.toggle("chosen", button.value === choice);
  }
  state.pending = state.live.answer(state.question.question_id, choice);
}

function controls(part, message) {
  $("controls").hidden = !state.me.host;
  if (!state.me.host) return;
  const last = message.question_index + 1 >= message.questions;
  $("next").textContent = part === "lobby" ? "Start" : last ? "Finish" : "Next question";
  $("next").hidden = part === "podium";
  $("close").hidden = part !== "question";
  $("end").hidden = part === "lobby";
}

async function lead(move) {
  try {
    // The epoch it was seen at: a move that is sent twice is done once.
    await call(`/v1/sessions/${state.me.session_id}/${move}`, { epoch: state.epoch }, state.me.token);
  } catch (error) {
    say(error.message, "bad");
  }
}

function tick() {
  const question = state.question;
  if (question && question.deadline_us) {
    const left = Math.max(0, question.deadline_us / 1000 - state.live.now());
    $("clock").value = 1000 * left / question.time_limit_ms;
    $("seconds").textContent = `${Math.ceil(left / 1000)} s`;
  }
}

for (const move of ["next", "close", "end"]) $(move).addEventListener("click", () => lead(move));

document.addEventListener("keydown", (event) => {
  const index = KEYS.indexOf(event.key);
  if (index >= 0 && !$("question").hidden && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const button = $("choices").children[index];
    if (button && !button.disabled) button.click();
  }
});

$("join").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("join-error").textContent = "";
  try {
    remember(await call("/v1/join", { pin: $("pin").value.trim(), name: $("name").value.trim() }));
  } catch (error) {
    $("join-error").textContent = `${error.message}.`;
  }
});

$("create").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("create-error").textContent = "";
  try {
    remember({ ...(await call("/v1/sessions", { quiz_id: $("quiz").value })), host: true });
  } catch (error) {
    $("create-error").textContent = `${error.message}.`;
  }
});

async function begin() {
  const pin = new URLSearchParams(location.search).get("pin");
  const kept = sessionStorage.getItem("lakeboard");
  if (kept && (!pin || JSON.parse(kept).pin === pin)) return remember(JSON.parse(kept));
  if (pin && /^[0-9]{6}$/.test(pin)) {
    $("pin").value = pin;
    $("create").hidden = true;
    $("name").focus();
  }
  try {
    const { quizzes } = await call("/v1/quizzes");
    $("quiz").replaceChildren(...quizzes.map((quiz) => new Option(`${quiz.title} · ${quiz.questions} words`, quiz.quiz_id)));
  } catch (error) {
    $("create-error").textContent = `${error.message}.`;
  }
  return undefined;
}

setInterval(tick, 100);
begin();
