// My history: sessions with what I got in each, one of them answer by answer, and all of it as a file.
// Its address carries what is shown: #/history?quiz=…&mode=…&from=…&to=…, #/history/SESSION

import { $, announce, button, el, field, form, problem, show } from "./dom.js";
import { asMe, downloadAsMe, login } from "./me.js";
import { call } from "./net.js";
import { T, dayOf, number, seconds, share, shortMoment } from "./texts.js";

const H = T.history;
const PAGE = 25;
const MODES = ["", "hosted", "challenge", "import"];
const DAY_MS = 24 * 3600 * 1000;
const dayAfter = (text) => new Date(Date.parse(text) + DAY_MS).toISOString().slice(0, 10);

export function historyScreen(sessionId, query, first) {
  let gone = false;
  const here = (draw) => (...given) => (gone ? undefined : draw(...given));
  show([el("section", { class: "card narrow" }, el("h1", { text: H.title }), el("p", { class: "muted", text: H.moment }))],
    { title: H.title, focus: !first });
  login().then(here((me) => {
    if (!me) return needAccount();
    return sessionId ? oneSession(me, sessionId, here) : allSessions(me, query, here);
  })).catch(here((error) => show([el("section", { class: "card narrow" }, el("h1", { text: H.title }),
    el("p", { class: "error", role: "alert" }, problem(error)))], { title: H.title })));
  return () => { gone = true; };
}

function needAccount() {
  show([el("section", { class: "card narrow" }, el("h1", { text: H.title }), el("p", { text: H.needAccount }),
    el("p", { class: "actions" }, el("a", { class: "button primary", href: "/#/account", text: T.account.logIn }),
      el("a", { class: "button", href: "/#/sign-up", text: T.account.signUp })))], { title: H.title });
}

// The filters as both routes take them; `to` is a day that is still in it.
export function filtersOf(wanted) {
  const filters = new URLSearchParams();
  for (const name of ["quiz", "mode", "from"]) if (wanted[name]) filters.set(name, wanted[name]);
  if (wanted.to) filters.set("to", dayAfter(wanted.to));
  return filters;
}

async function allSessions(me, query, here) {
  const path = `/v1/users/${me.user_id}`;
  const today = new Date().toISOString().slice(0, 10);
  const list = el("ul", { class: "rows", id: "sessions" });
  const more = el("p", { class: "actions" });
  const told = el("p", { class: "muted", role: "status", id: "history-told" });
  const select = (id, options, value) => el("select", { id }, options.map(([v, text]) => el("option", { value: v, text, selected: v === value })));
  const date = (id) => el("input", { id, type: "date", value: query.get(id) || "", max: today });
  const wanted = () => ({ quiz: $("quiz").value, mode: $("mode").value, from: $("from").value, to: $("to").value });

  async function look(cursor = "") {
    const asked = wanted();
    if (!cursor) {
      const address = new URLSearchParams(Object.entries(asked).filter(([, value]) => value));
      history.replaceState(null, "", `#/history?${address}`);
    }
    const filters = filtersOf(asked);
    filters.set("limit", PAGE);
    if (cursor) filters.set("cursor", cursor);
    const { sessions, next } = await asMe(`${path}/sessions?${filters}`);
    const rows = sessions.map(row);
    if (cursor) list.append(...rows);
    else list.replaceChildren(...rows);
    told.textContent = list.children.length ? H.shown(list.children.length, Boolean(next)) : H.none;
    more.replaceChildren(...(next ? [button(H.more, () => look(next).catch(failed))] : []));
    if (cursor && rows.length) rows[0].querySelector("a").focus();
  }

  function failed(error) {
    told.replaceChildren(...problem(error));
  }

  function save(form) {
    const filters = filtersOf(wanted());
    if (form === "csv") filters.set("format", "csv");
    else filters.set("file", "true");
    return downloadAsMe(`${path}/history?${filters}`, `lakeboard-history.${form}`).catch((error) => announce(error.message));
  }

  here(show)([
    el("section", { class: "card" }, el("h1", { text: H.title }), el("p", { class: "muted", text: H.lead }),
      form("filters", [
        el("div", { class: "pair" },
          field(H.quiz, select("quiz", [["", H.everyQuiz], ...(query.get("quiz") ? [[query.get("quiz"), query.get("quiz")]] : [])], query.get("quiz") || "")),
          field(H.mode, select("mode", MODES.map((one) => [one, H.modes[one || "all"]]), query.get("mode") || ""))),
        el("div", { class: "pair" }, field(T.boards.from, date("from")), field(T.boards.to, date("to"))),
        el("p", { class: "actions" }, el("button", { class: "primary", type: "submit", text: H.show }),
          button(H.csv, () => save("csv")), button(H.json, () => save("json"))),
      ], () => look())),
    el("section", { class: "card" }, el("h2", { text: H.sessions }), told, list, more),
  ], { title: H.title, focus: false });
  call("/v1/quizzes").then(({ quizzes }) => {
    if (!$("quiz")) return;
    const there = new Set([...$("quiz").options].map((one) => one.value));
    for (const one of quizzes) {
      if (!there.has(one.quiz_id)) $("quiz").append(el("option", { value: one.quiz_id, text: one.title }));
      else $("quiz").querySelector(`option[value="${CSS.escape(one.quiz_id)}"]`).textContent = one.title;
    }
  }).catch(() => {}); // all quizzes together can be shown all the same
  await look().catch(failed);
}

function row(one) {
  const title = one.title || one.quiz_id;
  return el("li", { "data-session": one.session_id }, el("span", { class: "grow" }, el("strong", { text: title }),
    el("span", { class: "hint", text: H.row(dayOf(one.started_at), H.modes[one.mode || "all"], one.right, one.answered, one.points) })),
  el("a", { class: "button", href: `/#/history/${encodeURIComponent(one.session_id)}`, text: H.open,
    "aria-label": `${H.open}: ${title}, ${dayOf(one.started_at)}` }));
}

async function oneSession(me, sessionId, here) {
  const path = `/v1/users/${me.user_id}/sessions/${encodeURIComponent(sessionId)}`;
  const found = await asMe(path);
  const { session, answers } = found;
  const column = (text, kind) => el("th", { scope: "col", class: kind, text });

  function table(rows) {
    return el("table", { class: "board", id: "answers", "aria-label": H.answers },
      el("thead", {}, el("tr", {}, column(H.question), column(H.choice), column(H.right), column(H.time, "number wide-only"),
        column(T.boards.points, "number"))),
      el("tbody", {}, rows.map((one) => el("tr", { "data-question": one.question_id, class: one.correct ? null : "missed" },
        el("th", { scope: "row" }, one.prompt || one.question_id, el("span", { class: "hint", text: shortMoment(one.occurred_at) })),
        el("td", { text: one.choice || "–" }),
        el("td", { text: one.correct ? H.isRight : H.isWrong }),
        el("td", { class: "number wide-only", text: seconds(one.elapsed_ms) }),
        el("td", { class: "number points", text: number(one.points) })))));
  }

  function only(which) {
    const rows = answers.filter((one) => which === "all" || one.correct === (which === "right"));
    $("table").replaceChildren(rows.length ? table(rows) : el("p", { class: "empty", text: H.noneOfThese }));
  }

  here(show)([
    el("section", { class: "card" }, el("h1", { text: session.title || session.quiz_id }),
      el("p", { class: "muted", text: H.played(dayOf(session.started_at), H.modes[session.mode || "all"]) }),
      el("dl", { class: "tiles" }, tile(T.boards.points, number(session.points)), tile(H.right, `${session.right} / ${session.answered}`),
        tile(H.share, session.answered ? share(session.right / session.answered) : "–")),
      el("p", { class: "actions" },
        el("a", { class: "button", href: "/#/history", text: H.back }),
        button(H.theseCsv, () => downloadAsMe(`/v1/users/${me.user_id}/history?session=${encodeURIComponent(sessionId)}&format=csv`,
          "lakeboard-session.csv").catch((error) => announce(error.message))))),
    el("section", { class: "card" }, el("h2", { text: H.answers }),
      field(H.which, el("select", { id: "which", onchange: (event) => only(event.target.value) },
        ["all", "right", "wrong"].map((one) => el("option", { value: one, text: H.whiches[one] })))),
      el("div", { id: "table" }, table(answers))),
  ], { title: session.title || session.quiz_id, focus: false });
}

function tile(name, value) {
  return el("div", {}, el("dt", { text: name }), el("dd", { text: value }));
}
