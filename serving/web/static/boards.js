// Any board over any span of time, around a player, and where it comes from. Its address carries what is shown:
// #/boards?scope=…&span=…&on=…&from=…&to=…&k=…&around=…

import { $, announce, button, el, field, form, problem, show } from "./dom.js";
import { asMe, login } from "./me.js";
import { Problem, call, players } from "./net.js";
import { T, number, provenanceWords, shortMoment } from "./texts.js";

const SPANS = ["daily", "weekly", "monthly", "all_time", "range"];
const TOPS = [10, 25, 50, 100];
const NEIGHBOURS = 3;
const ID = /^[A-Za-z0-9_-]{1,64}$/;
const DAY_MS = 24 * 3600 * 1000;

const isoDay = (date) => date.toISOString().slice(0, 10);
const isClass = (scope) => scope.startsWith("class:");
const dayAfter = (text) => isoDay(new Date(Date.parse(text) + DAY_MS));

// The first day of the period that a day lies in; empty: the one that runs now.
export function startOf(period, text) {
  if (period === "all_time" || !text) return "current";
  const date = new Date(`${text}T00:00:00Z`);
  if (period === "weekly") date.setUTCDate(date.getUTCDate() - (date.getUTCDay() + 6) % 7);
  if (period === "monthly") date.setUTCDate(1);
  return isoDay(date);
}

// The route of what the form asks for.
export function addressOf(wanted) {
  const query = new URLSearchParams({ k: wanted.k });
  if (wanted.around) {
    query.set("around", wanted.around);
    query.set("m", NEIGHBOURS);
  }
  const scope = encodeURIComponent(wanted.scope);
  if (wanted.span !== "range") return `/v1/leaderboards/${scope}/${wanted.span}/${startOf(wanted.span, wanted.on)}?${query}`;
  query.set("from", wanted.from);
  query.set("to", dayAfter(wanted.to));
  if (wanted.fast) query.set("accuracy", "fast");
  return `/v1/leaderboards/${scope}?${query}`;
}

export function boardsScreen(_argument, query, first) {
  const known = new Map(players().map((one) => [one.name.toLowerCase(), one.user_id]));
  const me = players()[0];
  const today = isoDay(new Date());
  const given = (name, otherwise) => query.get(name) || otherwise;
  const select = (id, options, value) => el("select", { id },
    options.map(([v, text]) => el("option", { value: v, text, selected: String(v) === String(value) })));
  const date = (id, value) => el("input", { id, type: "date", value, max: today });
  const scopes = [["global", T.boards.global]];
  if (query.get("scope") && query.get("scope") !== "global") scopes.push([query.get("scope"), query.get("scope")]);
  const on = field(T.boards.on, date("on", given("on", "")), T.boards.onHint);
  const range = el("div", { class: "pair" },
    field(T.boards.from, date("from", given("from", isoDay(new Date(Date.now() - 6 * DAY_MS))))),
    field(T.boards.to, date("to", given("to", today))));
  const fast = el("label", { class: "check" }, el("input", { id: "fast", type: "checkbox", checked: query.get("fast") === "1" }),
    el("span", { text: T.boards.fast }));
  const result = el("section", { id: "board", class: "card", "aria-live": "off" });

  function fit() {
    const span = $("span").value;
    on.hidden = span === "range" || span === "all_time";
    range.hidden = fast.hidden = span !== "range";
  }

  // A user's id: as it was typed, or of a name that is on the board or played here.
  function idOf(text) {
    const found = known.get(text.toLowerCase());
    if (found || !text || ID.test(text)) return found || text;
    throw new Problem(0, { title: T.boards.notHere(text) });
  }

  function wanted() {
    return { scope: $("scope").value, span: $("span").value, on: $("on").value, from: $("from").value, to: $("to").value,
      k: $("k").value, around: idOf($("around").value.trim()), fast: $("fast").checked ? "1" : "" };
  }

  async function look(told = true) {
    const asked = wanted();
    const kept = new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== ""));
    history.replaceState(null, "", `#/boards?${kept}`);
    result.setAttribute("aria-busy", "true");
    try {
      const ask = isClass(asked.scope) ? asMe : call; // a class' board is its members' own
      if (ask === asMe && !await login()) throw new Problem(0, { title: T.classes.needAccount });
      const reply = await ask(addressOf(asked));
      for (const entry of [...reply.entries, ...reply.around]) if (entry.name) known.set(entry.name.toLowerCase(), entry.user_id);
      if (reply.me && reply.me.name) {
        known.set(reply.me.name.toLowerCase(), asked.around);
        $("around").value = reply.me.name; // nobody reads an id
      }
      draw(reply, asked, around);
      if (told) announce(`${T.boards.participants(reply.participants)} ${provenanceWords(reply.provenance)[0]}`);
    } catch (error) {
      result.replaceChildren(el("div", { class: "error", role: "alert" }, problem(error)));
    } finally {
      result.removeAttribute("aria-busy");
    }
  }

  function around(userId) {
    $("around").value = userId;
    return look();
  }

  show([el("div", { class: "split" },
    el("section", { class: "card filters" }, el("h1", { text: T.boards.title }), el("p", { class: "muted", text: T.boards.lead }),
      form("ask", [
        field(T.boards.scope, select("scope", scopes, query.get("scope"))),
        el("div", { class: "pair" },
          field(T.boards.span, select("span", SPANS.map((one) => [one, T.boards.spans[one]]), given("span", "daily"))),
          field(T.boards.top, select("k", TOPS.map((k) => [k, k]), given("k", 10)))),
        on, range,
        field(T.boards.around, el("input", { id: "around", autocomplete: "off", value: given("around", "") }), T.boards.aroundHint),
        fast,
        el("p", { class: "actions" }, el("button", { class: "primary", type: "submit", text: T.boards.show }),
          me ? button(T.boards.me(me.name), () => around(me.user_id)) : null),
      ], () => look())),
    result,
  )], { title: T.boards.title, focus: !first, wide: true });
  $("ask").addEventListener("change", fit);
  fit();
  // The classes of whoever is logged in; a guest has none, and neither list holds up the other.
  Promise.all([call("/v1/quizzes").catch(() => ({ quizzes: [] })),
    login().then((found) => (found ? asMe("/v1/classes") : { classes: [] })).catch(() => ({ classes: [] }))]).then(([{ quizzes }, { classes }]) => {
    if (!$("scope")) return; // somebody has gone on meanwhile
    const chosen = $("scope").value;
    $("scope").replaceChildren(...[["global", T.boards.global], ...quizzes.map((one) => [`quiz:${one.quiz_id}`, one.title]),
      ...classes.map((one) => [`class:${one.class_id}`, T.classes.option(one.name)])].map(([value, text]) => el("option", { value, text })));
    if (![...$("scope").options].some((one) => one.value === chosen)) $("scope").append(el("option", { value: chosen, text: chosen }));
    $("scope").value = chosen;
  })
    .finally(() => look(false));
}

function table(label, entries, me, around) {
  return el("table", { class: "board", "aria-label": label },
    el("thead", {}, el("tr", {}, el("th", { scope: "col", text: T.boards.rank }), el("th", { scope: "col", text: T.boards.player }),
      el("th", { scope: "col", class: "number", text: T.boards.points }),
      el("th", { scope: "col", class: "number wide-only", text: T.boards.reached }))),
    el("tbody", {}, entries.map((entry) => {
      const name = entry.name || entry.user_id;
      return el("tr", { class: entry.user_id === me ? "me" : null, "data-user": entry.user_id },
        el("td", {}, el("span", { class: `rank rank-${entry.rank}`, text: number(entry.rank) })),
        el("th", { scope: "row" },
          entry.avatar_url ? el("img", { class: "avatar small", src: entry.avatar_url, alt: "", loading: "lazy" }) : null,
          el("button", { type: "button", class: "link", text: name,
          "aria-label": T.boards.aroundRow(name), onclick: () => around(entry.user_id) })),
        el("td", { class: "number points", text: number(entry.points) }),
        el("td", { class: "number wide-only", text: entry.reached_at ? shortMoment(entry.reached_at) : "–" }));
    })));
}

// A board's span in words: the days it has, both included.
function when(reply, asked) {
  if (asked.span !== "range") return T.boards.when[asked.span](new Date(reply.start));
  return T.boards.from_to(new Date(asked.from), new Date(asked.to));
}

function draw(reply, asked, around) {
  const scope = $("scope").selectedOptions[0].textContent;
  const near = reply.around.length > 0;
  const here = players().find((one) => one.user_id === asked.around);
  const name = (reply.me && reply.me.name) || (here && here.name) || asked.around;
  const title = T.boards.caption(scope, when(reply, asked));
  const nearTitle = `${T.boards.neighbours} ${name}`;
  $("board").replaceChildren(
    el("h2", { text: title }),
    el("p", { class: "muted", id: "participants", text: T.boards.participants(reply.participants) }),
    el("aside", { class: "provenance", "aria-label": T.provenance.title }, el("h3", { text: T.provenance.title }),
      el("ul", { id: "provenance" }, provenanceWords(reply.provenance).map((text) => el("li", { text })))),
    reply.entries.length ? table(title, reply.entries, asked.around, around) : el("p", { class: "empty", text: T.boards.empty }),
    ...(asked.around ? [el("h2", { text: nearTitle }),
      near ? table(nearTitle, reply.around, asked.around, around) : el("p", { class: "empty", text: T.boards.notHere(name) })] : []));
}
