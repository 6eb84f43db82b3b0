// The class report of a session that this device hosts: hardest questions first, players, both as CSV.

import { announce, button, el, problem, show } from "./dom.js";
import { call, download, hosted, takeSeat } from "./net.js";
import { T, moment, number, share } from "./texts.js";

export function reportScreen(sessionId) {
  const host = hosted().find((one) => one.session_id === sessionId);
  if (!host) {
    show([el("section", { class: "card narrow" }, el("h1", { text: T.report.title }),
      el("p", { class: "error", text: T.report.noToken }), el("a", { class: "button", href: "/#/host", text: T.nav.host }))],
    { title: T.report.title });
    return;
  }
  const path = `/v1/sessions/${sessionId}/report`;

  async function load(told) {
    try {
      draw(await call(path, { token: host.token }));
      if (told) announce(T.report.title);
    } catch (error) {
      show([el("section", { class: "card narrow" }, el("h1", { text: T.report.title }),
        el("p", { class: "error", role: "alert" }, problem(error)), button(T.report.refresh, () => load(true)))],
      { title: T.report.title });
    }
  }

  function save(what) {
    return download(`${path}?format=csv&table=${what}`, `lakeboard-${what}.csv`, host.token).catch((error) =>
      announce(error.message));
  }

  function draw(report) {
    const running = !["ended", "sealed"].includes(report.state);
    const asked = report.questions.filter((row) => row.answered);
    const right = asked.reduce((sum, row) => sum + row.right, 0);
    show([
      el("section", { class: "card" }, el("h1", { text: T.report.title }),
        el("p", { class: "muted" }, T.report.of(report.title), " ", T.report.asOf(moment(new Date(report.as_of)))),
        running ? el("p", { class: "pill", text: T.report.running }) : null,
        el("dl", { class: "tiles" }, tile(T.report.players, number(report.participants)), tile(T.report.answers, number(report.answers)),
          tile(T.report.right, report.answers ? share(right / report.answers) : "–")),
        el("p", { class: "actions" }, button(T.report.csvQuestions, () => save("questions")),
          button(T.report.csvPlayers, () => save("players")), button(T.report.refresh, () => load(true)),
          running ? button(T.report.back, () => { takeSeat(host); location.hash = "#/game"; }, "primary") : null)),
      el("section", { class: "card" }, el("h2", { text: T.report.hardest }), el("p", { class: "muted", text: T.report.hardestLead }),
        report.questions.length ? el("ol", { id: "questions", class: "hardest" }, report.questions.map(question))
          : el("p", { class: "empty", text: T.report.none })),
      el("section", { class: "card" }, el("h2", { text: T.report.players }), players(report.players)),
    ], { title: T.report.title });
  }

  load(false);
}

function tile(name, value) {
  return el("div", {}, el("dt", { text: name }), el("dd", { text: value }));
}

function question(row) {
  const facts = [
    row.median_ms !== null && T.report.median(row.median_ms),
    row.most_chosen_wrong && T.report.wrong(row.most_chosen_wrong),
    row.open && T.report.stillOpen,
  ].filter(Boolean);
  const bar = el("span", { class: "share", "aria-hidden": "true" });
  bar.style.setProperty("--part", row.share_right || 0);
  return el("li", { "data-question": row.question_id, class: row.answered ? null : "unanswered" },
    el("div", { class: "head" }, el("span", { class: "muted", text: T.report.number(row.number) }),
      el("strong", { class: "percent", text: row.share_right === null ? "–" : share(row.share_right) })),
    el("p", { class: "asked", text: row.prompt }), bar,
    el("p", { class: "facts" }, el("span", { text: row.answered ? T.report.ofAnswered(row.right, row.answered) : T.report.unanswered }),
      row.answer ? el("span", { text: T.report.answer(row.answer) }) : null, facts.map((text) => el("span", { text }))));
}

function players(rows) {
  const column = (text, kind) => el("th", { scope: "col", class: kind, text });
  return el("table", { id: "players", class: "board" },
    el("thead", {}, el("tr", {}, column(T.report.place), column(T.report.name), column(T.report.right, "number"),
      column(T.report.answers, "number wide-only"), column(T.report.points, "number"))),
    el("tbody", {}, rows.map((row) => el("tr", { "data-user": row.user_id },
      el("td", {}, el("span", { class: `rank rank-${row.rank}`, text: row.rank === null ? "–" : row.rank })),
      el("th", { scope: "row" }, row.name || row.user_id, row.removed ? el("span", { class: "hint", text: T.report.removed }) : null),
      el("td", { class: "number", text: row.right }), el("td", { class: "number wide-only", text: row.answered }),
      el("td", { class: "number points", text: number(row.points) })))));
}
